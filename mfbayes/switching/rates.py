"""How often intervals of the hazard model cover the truth, and how far its estimates are from it, on simulated traces.

`python -m mfbayes.switching.rates` measures it, and the same of the hidden model (`mfbayes.switching.hidden_rates`),
and writes docs/switching.jsonl, the tables of docs/switching.md and what every fit says of them (`measured.json`);
finished data sets are kept and not made again.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mfbayes.storage import write_text
from mfbayes.switching import hidden_rates
from mfbayes.switching.estimates import describe_effects
from mfbayes.switching.fit import SwitchingFit, fit_switching
from mfbayes.switching.pairs import AGES, OLD, SIDES
from mfbayes.switching.points import carry_points
from mfbayes.switching.recovery import compare_with_truth, describe_errors
from mfbayes.switching.simulation import Hazards, simulate_switching
from mfbayes.switching.structure import EFFECT, EFFECT_MEAN, GROUP_SDS, LEVEL
from mfbayes.switching.terms import DEFAULT_TERMS, DISTANCE, SIGNED

SEED, CI_PROB = 20_261_124, 0.95
_ALL = "all with effects of groups"
_MARKS = ("coverage", "recovery", "recovery by study", "hidden")
_N_POINTS = 1000
_OUT = Path("docs/switching.jsonl")
MEASURED = Path(__file__).with_name("measured.json")
"""What fits tell of all that was measured."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Size and truth of simulated traces, whether the fit gives groups effects, and the standard error of b in it."""

    n_layers: tuple[int, ...] = (8, 8, 8)
    n_groups: int
    n_items: int = 25
    hazards: Hazards = field(default_factory=Hazards)
    groups: bool = True
    b_sd: float = 0.0


STUDIES = {
    "10 groups": Study(n_groups=10),
    "40 groups": Study(n_groups=40),
    "40 groups, depths of 12, 8 and 6": Study(n_groups=40, n_layers=(12, 8, 6)),
    "40 groups, more alike": Study(n_groups=40, hazards=Hazards(group_sd=0.1, group_model_sd=0.1)),
    "40 groups, a third of layers reads neither": Study(n_groups=40, hazards=Hazards(other_share=0.33)),
    "40 groups, distance has no effect": Study(n_groups=40, hazards=Hazards(by_closeness=(0.0, 0.0))),
    "40 groups, fitted without their effects": Study(n_groups=40, groups=False),
    "40 groups, b with a standard error of 0.1": Study(n_groups=40, b_sd=0.1),
    "40 groups, b with a standard error of 0.25": Study(n_groups=40, b_sd=0.25),
}
QUANTITIES = ("x", DISTANCE, "age", LEVEL, "group_sds")


def measure(name: str, replicate: int) -> dict[str, Any]:
    """Coverage of 95 % intervals and errors of estimates of one data set, by quantity, with what the fit took.

    Where b is known up to an error, the fit has b with that error, and its draws carry it; `coverage_at_b` is that of
    the draws without.
    """
    study = STUDIES[name]
    rng = np.random.default_rng([SEED, list(STUDIES).index(name), replicate])
    traces, points, truth = simulate_switching(
        n_layers=study.n_layers, n_groups=study.n_groups, n_items=study.n_items, rng=rng, hazards=study.hazards
    )
    points = {label: b + study.b_sd * rng.standard_normal() for label, b in points.items()} if study.b_sd else points
    started = time.process_time()
    fit, more = fit_switching(traces, points, groups=study.groups, seed=replicate), {}
    if study.b_sd:
        more["coverage_at_b"] = _cover(fit, describe_effects(fit, ci_prob=CI_PROB), truth)
        fit = carry_points(fit, _draw_points(points, study.b_sd, rng), rng=rng)
    seconds = time.process_time() - started
    effects = describe_effects(fit, ci_prob=CI_PROB)
    convergence = fit.sample.convergence
    return {
        "study": name,
        "replicate": replicate,
        "coverage": _cover(fit, effects, truth),
        **more,
        "recovery": _recover(fit, truth, study.hazards),
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


def _draw_points(points: dict[str, float], sd: float, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Draws of what is known of every b: normal around what the fit has."""
    return {label: b + sd * rng.standard_normal(_N_POINTS) for label, b in points.items()}


def _recover(fit: SwitchingFit, truth: xr.Dataset, hazards: Hazards) -> dict[str, dict[str, dict[str, float]]]:
    """Errors by parameter and side."""
    posterior = fit.posterior.stack(sample=("chain", "draw"))
    population = {SIGNED: hazards.by_x, DISTANCE: hazards.by_closeness}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for number, side in enumerate(SIDES):
        own = posterior.sel(side=side).transpose("sample", ...)
        true = truth.sel(side=side)
        parts = {LEVEL: (own[LEVEL], true[LEVEL])}
        parts |= {term: (own[EFFECT].sel(term=term), true[term]) for term in (*DEFAULT_TERMS, *AGES[:OLD])}
        parts |= {
            f"mean of {term}": (own[EFFECT_MEAN].sel(term=term), xr.DataArray(mean[number]))
            for term, mean in population.items()
        }
        parts |= {name: (own[name], true[name]) for name in GROUP_SDS if name in own}
        for name, (draws, known) in parts.items():
            found.setdefault(name, {})[side] = compare_with_truth(draws.to_numpy(), known.to_numpy())
    return found


def _share(truth: xr.DataArray, lower: xr.DataArray, upper: xr.DataArray) -> float:
    """Share of known truths that lie between the bounds."""
    covered = ((lower <= truth) & (truth <= upper)).where(np.isfinite(truth) & np.isfinite(lower))
    return float(covered.mean())


def describe(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown, with Monte Carlo errors from the spread between data sets."""
    head = (*QUANTITIES, "distance told", "passed", "R-hat, largest", "ESS, smallest")
    lines = [f"| truth and fit | data sets | {' | '.join(head)} |", "|---" * (2 + len(head)) + "|"]
    table = pd.DataFrame([{**row, **row["coverage"]} for row in rows])
    with_groups = table[
        table["study"].isin([name for name, study in STUDIES.items() if study.groups and not study.b_sd])
    ]
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


def describe_recovery(rows: list[dict[str, Any]]) -> str:
    """Errors by parameter and side in Markdown, over all data sets fitted with effects of groups and with b known."""
    own = [row for row in rows if STUDIES[row["study"]].groups and not STUDIES[row["study"]].b_sd]
    lines = [
        "| parameter | side left | data sets | bias | RMSE | bias in posterior sds | RMSE in posterior sds |",
        "|---" * 7 + "|",
    ]
    for name in own[0]["recovery"] if own else ():
        for side in SIDES:
            errors = [row["recovery"][name][side] for row in own if name in row["recovery"]]
            lines.append(f"| {name} | {side} | {len(errors)} | {' | '.join(describe_errors(errors))} |")
    return "\n".join(lines)


def describe_recovery_by_study(rows: list[dict[str, Any]]) -> str:
    """Root mean squared errors in Markdown, by study and parameter, and the same in posterior deviations."""
    columns = (LEVEL, *DEFAULT_TERMS, *AGES[:OLD], *GROUP_SDS)
    lines = [f"| truth and fit | data sets | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    for study in STUDIES:
        own = [row for row in rows if row["study"] == study]
        if not own:
            continue
        cells = []
        for name in columns:
            errors = [row["recovery"][name][side] for row in own for side in SIDES if name in row["recovery"]]
            told = describe_errors(errors) if errors else []
            cells.append(f"{told[1]} ({told[3]})" if told else "-")
        lines.append(f"| {study} | {len(own)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sum_up(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What a fit tells of simulated traces: of data sets fitted with effects of groups and with b known.

    Returns
    -------
    dict
        By term, `coverage` of 95 % intervals and `bias` in posterior standard deviations, of the side where it is
        larger: the mean, its Monte Carlo error, and the number of data sets.
    """
    own = [row for row in rows if STUDIES[row["study"]].groups and not STUDIES[row["study"]].b_sd]
    recovered = [row["recovery"] for row in own if "recovery" in row]
    found: dict[str, Any] = {"coverage": {}, "bias": {}}
    for term in DEFAULT_TERMS:
        found["coverage"][term] = _average([row["coverage"][term] for row in own])
        by_side = [_average([row[term][side]["z"] for row in recovered]) for side in SIDES]
        found["bias"][term] = max(by_side, key=lambda bias: abs(bias[0]))
    return found


def _average(values: list[float]) -> tuple[float, float, int]:
    """Mean, its error from the spread of the values, and their number."""
    error = np.std(values, ddof=1) / len(values) ** 0.5
    return round(float(np.mean(values)), 4), round(float(error), 4), len(values)


def _measure_any(name: str, replicate: int) -> dict[str, Any]:
    return (measure if name in STUDIES else hidden_rates.measure)(name, replicate)


def write_page(page: Path, rows: list[dict[str, Any]]) -> None:
    """Put the tables between their marks; a page without some of the marks goes without those tables."""
    own = [row for row in rows if row["study"] in STUDIES]
    recovered = [row for row in own if "recovery" in row]
    tables = (
        describe(own),
        describe_recovery(recovered),
        describe_recovery_by_study(recovered),
        hidden_rates.describe([row for row in rows if row["study"] in hidden_rates.STUDIES]),
    )
    text = page.read_text(encoding="utf-8")
    for mark, table in zip(_MARKS, tables, strict=True):
        start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
        if start in text and end in text:
            text = f"{text.split(start)[0]}{start}\n{table}\n{end}{text.split(end)[1]}"
    write_text(page, text)


def main() -> None:
    """Measure what is not there yet and write the tables."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=_OUT)
    parser.add_argument("--page", type=Path, default=Path("docs/switching.md"))
    parser.add_argument("--measured", type=Path, help="what fits tell of it; by default only with the default --out")
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--hidden-replicates", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    rows = {(row["study"], row["replicate"]): row for row in map(json.loads, lines)}
    # Data sets of before errors were recorded are made again.
    done = {key for key, row in rows.items() if "recovery" in row}
    wanted = [(name, r) for r in range(options.replicates) for name in STUDIES]
    wanted += [(name, r) for r in range(options.hidden_replicates) for name in hidden_rates.STUDIES]
    jobs = sorted((job for job in wanted if job not in done), key=lambda job: job[1])
    with ProcessPoolExecutor(options.processes) as pool:
        for row in pool.map(_measure_any, *zip(*jobs, strict=True)) if jobs else []:
            rows[row["study"], row["replicate"]] = row
            write_text(options.out, "".join(json.dumps(each) + "\n" for each in rows.values()))
    write_page(options.page, list(rows.values()))
    told = options.measured or (MEASURED if options.out == _OUT else None)
    if told:
        measured = sum_up([row for row in rows.values() if row["study"] in STUDIES])
        write_text(told, json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
