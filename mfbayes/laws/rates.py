"""How often the judgements on the law err: rates of verdicts on data whose law is known.

`python -m mfbayes.laws.rates` measures them and writes docs/law.jsonl and the tables of docs/law.md; finished
data sets are kept and not made again.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from mfbayes import names
from mfbayes.laws.comparison import compare_laws
from mfbayes.laws.monotonicity import FALLS, NOT_MONOTONE, UNCLEAR, judge_monotonicity
from mfbayes.storage import write_text
from mfbayes.uncertainty import relative_uncertainty

type Floats = NDArray[np.float64]
type Curve = Callable[[Floats], Floats]

SEED = 20_261_123
_GROUP_SD, _GROUP_MODEL_SD = 0.8, 0.6
_MARK, _END = "<!-- rates -->", "<!-- end of rates -->"


def bump(rise: float) -> Curve:
    """Log-odds that fall, rise by `rise` between dH -.4 and .4, and fall again."""
    height = [2.5 - rise / 2, -rise / 2, rise / 2, rise / 2 - 2.5]
    return lambda dH: np.interp(dH, [-2, -0.4, 0.4, 2], height)


CURVES: dict[str, Curve] = {
    "logistic, slope 2.5": lambda dH: -2.5 * dH,
    "logistic, slope 0.8": lambda dH: -0.8 * dH,
    "two steps, flat between": lambda dH: -3 * np.tanh(4 * (dH + 1)) - 3 * np.tanh(4 * (dH - 1)),
    "flat": np.zeros_like,
    "rises by 1 from dH -.4 to .4": bump(1.0),
    "rises by 2 from dH -.4 to .4": bump(2.0),
    "steep: -3 tanh(8 dH)": lambda dH: -3 * np.tanh(8 * dH),
    "slope 15 between shares .1 and .9": lambda dH: logit(0.1 + 0.8 * expit(-15 * dH)),
}
"""Log-odds of following the text by dH, for the verdicts on monotonicity; the last is that of a model with lapses."""
_SIZES = (60, 200)
_LARGE = 800
_STEEP = tuple(CURVES)[-2:]
"""Also judged with many groups, which tell a smooth fit to such a curve from the curve."""

LAWS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "dH, slope 2": lambda text, image: -2 * relative_uncertainty(text, image),
    "dH, slope 1": lambda text, image: -relative_uncertainty(text, image),
    "entropies, slopes 1 and .5": lambda text, image: image / 2 - text,
    "log ratio, slope 1": lambda text, image: np.log(image / text),
    "dH, slope 2, and total entropy, slope .5": lambda text, image: (
        -2 * relative_uncertainty(text, image) - 0.5 * (text + image - 1)
    ),
}
"""Log-odds by H_text and H_image, for the verdict on whether dH is enough."""


def simulate_law(
    log_odds: Callable[[Floats, Floats], Floats],
    *,
    n_groups: int,
    n_models: int,
    n: int,
    rng: np.random.Generator,
    along_dH: bool = False,
) -> pd.DataFrame:
    """Trials of models that share one law, with effects of groups (sd .8) and of groups and models (.6).

    Parameters
    ----------
    log_odds : callable
        From H_text and H_image, shape (n_trials,) each, to the log-odds of following the text.
    n_groups, n_models, n : int
        Size; `n` trials a group and model.
    rng : numpy.random.Generator
        Randomness.
    along_dH : bool
        Entropies are 2 + dH and 2 - dH with dH = 2 tanh(.8 z), z normal, over nearly all of [-2, 2];
        otherwise both are log-normal.
    """
    group = np.repeat(np.arange(n_groups), n)
    shared = _GROUP_SD * rng.standard_normal(n_groups)
    tables = []
    for model in range(n_models):
        if along_dH:
            dH = 2 * np.tanh(0.8 * rng.standard_normal(group.size))
            text, image = 2 + dH, 2 - dH
        else:
            text, image = np.exp(rng.normal(-1, 0.7, (2, group.size)))
        effect = (shared + _GROUP_MODEL_SD * rng.standard_normal(n_groups))[group]
        is_text = rng.random(group.size) < 1 / (1 + np.exp(-log_odds(text, image) - effect))
        label = f"m{model}"
        tables.append(
            pd.DataFrame(
                {
                    names.MODEL: label,
                    names.SUBJECT: label,
                    names.TASK: "task",
                    names.GROUP: [f"g{g:03d}" for g in group],
                    names.H_TEXT: text,
                    names.H_IMAGE: image,
                    names.DH: relative_uncertainty(text, image),
                    names.CHOICE: np.where(is_text, names.TEXT, names.IMAGE),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def judge_curve(name: str, *, n_groups: int, replicate: int) -> dict[str, int]:
    """Verdicts on the monotonicity of eight models that follow one of `CURVES`, counted."""
    number = list(CURVES).index(name)
    trials = simulate_law(
        lambda text, image: CURVES[name]((text - image) / 2),
        n_groups=n_groups,
        n_models=8,
        n=25,
        rng=np.random.default_rng([SEED, number, n_groups, replicate]),
        along_dH=True,
    )
    return Counter(judge_monotonicity(trials, seed=replicate)["verdict"].to_numpy().tolist())


def judge_law(name: str, *, n_groups: int, replicate: int) -> dict[str, int]:
    """The verdict on whether dH is enough for four models that follow one of `LAWS`."""
    number = 100 + list(LAWS).index(name)
    rng = np.random.default_rng([SEED, number, n_groups, replicate])
    trials = simulate_law(LAWS[name], n_groups=n_groups, n_models=4, n=20, rng=rng)
    return Counter([compare_laws(trials, seed=replicate).attrs["dH_suffices"]])


_JUDGES: dict[str, Callable[..., dict[str, int]]] = {"monotone": judge_curve, "dH_suffices": judge_law}
_VERDICTS = {"monotone": (FALLS, UNCLEAR, NOT_MONOTONE), "dH_suffices": ("yes", "unclear", "no")}


def _jobs(curves: int, laws: int) -> Iterator[tuple[str, str, int, int]]:
    truths = [("monotone", name, n_groups, curves) for n_groups in _SIZES for name in CURVES]
    truths += [("monotone", name, _LARGE, curves) for name in _STEEP]
    truths += [("dH_suffices", name, n_groups, laws) for n_groups in _SIZES for name in LAWS]
    for judgement, name, n_groups, replicates in truths:
        for replicate in range(replicates):
            yield judgement, name, n_groups, replicate


def _work(job: tuple[str, str, int, int]) -> dict[str, Any]:
    judgement, name, n_groups, replicate = job
    verdicts = _JUDGES[judgement](name, n_groups=n_groups, replicate=replicate)
    return {"judgement": judgement, "truth": name, "groups": n_groups, "replicate": replicate, "verdicts": verdicts}


def describe(rows: list[dict[str, Any]]) -> str:
    """Both tables of rates in Markdown, with Monte Carlo errors from the spread between data sets."""
    lines = []
    for judgement, verdicts in _VERDICTS.items():
        lines += ["", f"| truth | groups | data sets | {' | '.join(verdicts)} |", "|---" * (3 + len(verdicts)) + "|"]
        table = pd.DataFrame([row | row["verdicts"] for row in rows if row["judgement"] == judgement])
        if table.empty:
            continue
        counts = table.reindex(columns=table.columns.union(list(verdicts), sort=False)).fillna(
            dict.fromkeys(verdicts, 0)
        )
        for (n_groups, truth), own in counts.groupby(["groups", "truth"], sort=False):
            shares = own[list(verdicts)].div(own[list(verdicts)].sum(axis=1), axis=0)
            errors = shares.std() / len(own) ** 0.5
            cells = [f"{shares[v].mean():.3f} ({errors[v]:.3f})" for v in verdicts]
            lines.append(f"| {truth} | {n_groups} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines).strip()


def main() -> None:
    """Measure what is not there yet and write the tables."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/law.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/law.md"))
    parser.add_argument("--curves", type=int, default=20, help="data sets of eight models a curve")
    parser.add_argument("--laws", type=int, default=20, help="data sets of four models a law")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["judgement"], row["truth"], row["groups"], row["replicate"]) for row in rows}
    jobs = [job for job in _jobs(options.curves, options.laws) if job not in done]
    with ProcessPoolExecutor(options.processes) as pool:
        for row in pool.map(_work, jobs):
            rows.append(row)
            with options.out.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")
    page = options.page.read_text(encoding="utf-8")
    before, after = page.split(_MARK)[0], page.split(_END)[1]
    write_text(options.page, f"{before}{_MARK}\n{describe(rows)}\n{_END}{after}")


if __name__ == "__main__":
    main()
