"""How often intervals of the hazard model cover the truth, on simulated traces whose hazards are known.

`python -m mfbayes.switching.rates` measures it and writes docs/switching.jsonl and the table of docs/switching.md;
finished data sets are kept and not made again.
"""

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes.storage import write_text
from mfbayes.switching.estimates import describe_effects
from mfbayes.switching.fit import SwitchingFit, fit_switching
from mfbayes.switching.pairs import AGES, OLD
from mfbayes.switching.simulation import Hazards, simulate_switching
from mfbayes.switching.structure import GROUP_SDS, LEVEL
from mfbayes.switching.terms import DEFAULT_TERMS, DISTANCE

SEED, CI_PROB = 20_261_124, 0.95
_ALL = "all with effects of groups"
_MARK, _END = "<!-- coverage -->", "<!-- end of coverage -->"


@dataclass(frozen=True, kw_only=True)
class Study:
    """Size and truth of simulated traces, and whether the fit gives groups effects."""

    n_layers: tuple[int, ...] = (8, 8, 8)
    n_groups: int
    n_items: int = 25
    hazards: Hazards = field(default_factory=Hazards)
    groups: bool = True


STUDIES = {
    "10 groups": Study(n_groups=10),
    "40 groups": Study(n_groups=40),
    "40 groups, depths of 12, 8 and 6": Study(n_groups=40, n_layers=(12, 8, 6)),
    "40 groups, more alike": Study(n_groups=40, hazards=Hazards(group_sd=0.1, group_model_sd=0.1)),
    "40 groups, a third of layers reads neither": Study(n_groups=40, hazards=Hazards(other_share=0.33)),
    "40 groups, distance has no effect": Study(n_groups=40, hazards=Hazards(by_closeness=(0.0, 0.0))),
    "40 groups, fitted without their effects": Study(n_groups=40, groups=False),
}
QUANTITIES = ("x", DISTANCE, "age", LEVEL, "group_sds")


def measure(name: str, replicate: int) -> dict[str, Any]:
    """Coverage of 95 % intervals of one data set, by quantity, with what the fit took."""
    study = STUDIES[name]
    rng = np.random.default_rng([SEED, list(STUDIES).index(name), replicate])
    traces, points, truth = simulate_switching(
        n_layers=study.n_layers, n_groups=study.n_groups, n_items=study.n_items, rng=rng, hazards=study.hazards
    )
    started = time.process_time()
    fit = fit_switching(traces, points, groups=study.groups, seed=replicate)
    seconds = time.process_time() - started
    effects = describe_effects(fit, ci_prob=CI_PROB)
    convergence = fit.sample.convergence
    return {
        "study": name,
        "replicate": replicate,
        "coverage": _cover(fit, effects, truth),
        # Means over subjects: told to be positive or negative with more than 97.5 %.
        "told_distance": float((abs(effects["mean_p_positive"].sel(term=DISTANCE) - 0.5) > CI_PROB / 2).mean()),
        "passed": bool(fit.sample.passed),
        "attempts": int(convergence.attrs["attempts"]),
        "max_r_hat": round(float(convergence["r_hat"].max()), 4),
        "min_ess": round(float(min(convergence["ess_bulk"].min(), convergence["ess_tail"].min()))),
        "cpu_seconds": round(seconds, 1),
    }


def _cover(fit: SwitchingFit, effects: xr.Dataset, truth: xr.Dataset) -> dict[str, float]:
    posterior = fit.posterior
    ends = [(1 - CI_PROB) / 2, (1 + CI_PROB) / 2]
    tails = posterior[LEVEL].quantile(ends, dim=("chain", "draw"), skipna=False)
    found = {LEVEL: _share(truth[LEVEL], tails[0], tails[1])}
    by_age = []
    for term in (*DEFAULT_TERMS, *AGES[:OLD]):
        own = effects.sel(term=term)
        share = _share(truth[term], own["lower"], own["upper"])
        if term in DEFAULT_TERMS:
            found[term] = share
        else:
            by_age.append(share)
    found["age"] = float(np.mean(by_age))
    sds = [
        _share(truth[name], *(effects[f"sd_{end}"].sel(scale=name) for end in ("lower", "upper")))
        for name in GROUP_SDS
        if name in posterior
    ]
    return found | ({"group_sds": float(np.mean(sds))} if sds else {})


def _share(truth: xr.DataArray, lower: xr.DataArray, upper: xr.DataArray) -> float:
    """Share of known truths that lie between the bounds."""
    covered = ((lower <= truth) & (truth <= upper)).where(np.isfinite(truth) & np.isfinite(lower))
    return float(covered.mean())


def describe(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown, with Monte Carlo errors from the spread between data sets."""
    head = (*QUANTITIES, "distance told", "passed", "R-hat, largest", "ESS, smallest")
    lines = [f"| truth and fit | data sets | {' | '.join(head)} |", "|---" * (2 + len(head)) + "|"]
    table = pd.DataFrame([{**row, **row["coverage"]} for row in rows])
    with_groups = table[table["study"].isin([name for name, study in STUDIES.items() if study.groups])]
    together = [(_ALL, with_groups)] if with_groups["study"].nunique() > 1 else []
    for name, own in [*table.groupby("study", sort=False), *together]:
        cells = []
        for quantity in QUANTITIES:
            values = own[quantity].dropna() if quantity in own else pd.Series(dtype=float)
            known = len(values) > 1
            cells.append(f"{values.mean():.3f} ({values.std() / len(values) ** 0.5:.3f})" if known else "-")
        cells.append(f"{own['told_distance'].mean():.2f}" if name != _ALL else "-")
        cells.append(f"{own['passed'].mean():.2f}")
        cells.append(f"{own['max_r_hat'].max():.3f}")
        cells.append(f"{own['min_ess'].min()}")
        lines.append(f"| {name} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _jobs(replicates: int) -> Iterator[tuple[str, int]]:
    for replicate in range(replicates):
        for name in STUDIES:
            yield name, replicate


def main() -> None:
    """Measure what is not there yet and write the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/switching.jsonl"))
    parser.add_argument("--page", type=Path, default=Path("docs/switching.md"))
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["study"], row["replicate"]) for row in rows}
    jobs = [job for job in _jobs(options.replicates) if job not in done]
    with ProcessPoolExecutor(options.processes) as pool:
        for row in pool.map(measure, *zip(*jobs, strict=True)) if jobs else []:
            rows.append(row)
            with options.out.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")
    page = options.page.read_text(encoding="utf-8")
    before, after = page.split(_MARK)[0], page.split(_END)[1]
    write_text(options.page, f"{before}{_MARK}\n{describe(rows)}\n{_END}{after}")


if __name__ == "__main__":
    main()
