"""How often intervals of the hidden model cover the truth where groups differ, and how far its estimates are from it.

Part of `python -m mfbayes.switching.rates`. Groups differ in what they add to the log-odds of leaving a side, of which
the model knows nothing: intervals are measured as the model has them, and widened for the influence of groups.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.switching.hidden_codes import Coded, encode
from mfbayes.switching.hidden_estimates import describe_effects, describe_hazards
from mfbayes.switching.hidden_fit import fit_hidden
from mfbayes.switching.hidden_simulation import draw_truth, simulate_hidden
from mfbayes.switching.hidden_tables import Parameters
from mfbayes.switching.recovery import compare_with_truth, describe_errors

SEED, CI_PROB = 20_261_201, 0.95
_HAZARDS, _EFFECTS = "hazards by layer", "effects of x and distance"
_BEFORE, _AFTER = "as the model has them", "widened"


@dataclass(frozen=True, kw_only=True)
class HiddenStudy:
    """Size of simulated traces of the hidden model, and how much their groups differ."""

    n_layers: tuple[int, ...] = (8, 8)
    n_groups: int
    n_items: int
    group_sd: float = 0.5


STUDIES: Mapping[str, HiddenStudy] = {
    "hidden, 15 groups of 167": HiddenStudy(n_groups=15, n_items=167),
    "hidden, 40 groups of 20": HiddenStudy(n_groups=40, n_items=20),
}


def measure(name: str, replicate: int) -> dict[str, Any]:
    """Coverage of 95 % intervals and errors of estimates of one data set, with what the fit took."""
    study = STUDIES[name]
    rng = np.random.default_rng([SEED, list(STUDIES).index(name), replicate])
    truth = draw_truth(study.n_layers, rng=rng)
    trajectories, points, _ = simulate_hidden(
        truth,
        n_layers=study.n_layers,
        n_traces=study.n_groups * study.n_items,
        n_groups=study.n_groups,
        group_sd=study.group_sd,
        rng=rng,
    )
    started = time.process_time()
    tree = fit_hidden(trajectories, points, seed=replicate, ci_prob=CI_PROB)
    seconds = time.process_time() - started
    posterior, coded = tree["posterior"].to_dataset(), encode(trajectories, points)
    true = _find_truth(truth, coded, posterior)
    bounds = {
        _BEFORE: {
            _HAZARDS: describe_hazards(posterior, coded, ci_prob=CI_PROB)[0],
            _EFFECTS: describe_effects(posterior, ci_prob=CI_PROB),
        },
        _AFTER: {
            _HAZARDS: tree["estimates/hidden_hazard_by_depth"].to_dataset(),
            _EFFECTS: tree["estimates/hidden_effects"].to_dataset(),
        },
    }
    draws = {name: posterior["effect"].sel(covariate=name) for name in posterior["covariate"].to_numpy().tolist()}
    convergence = tree["convergence"].to_dataset()
    return {
        "study": name,
        "replicate": replicate,
        "coverage": {
            way: {what: _share(true[what], own) for what, own in each.items()} for way, each in bounds.items()
        },
        "recovery": {
            f"{term}, {direction}": compare_with_truth(
                _draws_first(values.sel(direction=direction)),
                true[_EFFECTS].sel(covariate=term, direction=direction).to_numpy(),
            )
            for term, values in draws.items()
            for direction in values["direction"].to_numpy().tolist()
        },
        "passed": bool(convergence.attrs["passed"]),
        "max_r_hat": round(float(convergence["r_hat"].max()), 4),
        "min_ess": round(float(min(convergence["ess_bulk"].min(), convergence["ess_tail"].min()))),
        "cpu_seconds": round(seconds, 1),
    }


def describe(rows: list[dict[str, Any]]) -> str:
    """Both tables in Markdown: coverage, then errors; Monte Carlo errors are from the spread between data sets."""
    shares = [(way, what) for what in (_HAZARDS, _EFFECTS) for way in (_BEFORE, _AFTER)]
    head = [*(f"{what}, {way}" for way, what in shares), "passed", "R-hat, largest"]
    lines = [f"| groups a model | data sets | {' | '.join(head)} |", "|---" * (2 + len(head)) + "|"]
    by_study = {name: [row for row in rows if row["study"] == name] for name in STUDIES}
    for name, own in by_study.items():
        if not own:
            continue
        cells = [_with_error(np.array([row["coverage"][way][what] for row in own])) for way, what in shares]
        cells += [f"{np.mean([row['passed'] for row in own]):.2f}", f"{max(row['max_r_hat'] for row in own):.3f}"]
        lines.append(f"| {name} | {len(own)} | {' | '.join(cells)} |")
    lines += [
        "",
        "| groups a model | effect, and the switch | bias | RMSE | bias in posterior sds | RMSE in posterior sds |",
        "|---" * 6 + "|",
    ]
    for name, own in by_study.items():
        for term in own[0]["recovery"] if own else ():
            cells = describe_errors(row["recovery"][term] for row in own)
            lines.append(f"| {name} | {term} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _find_truth(truth: Parameters, coded: Coded, posterior: xr.Dataset) -> dict[str, xr.DataArray]:
    """Hazards by layer at x = 0 and effects, of a group without effect."""
    dims = {
        "hazard": ("direction", names.SUBJECT, "knot"),
        "effect": ("direction", names.SUBJECT, "covariate"),
    }
    one = xr.Dataset(
        {name: (("chain", "draw", *own), getattr(truth, name)[None, None]) for name, own in dims.items()},
        coords={name: posterior[name] for name in ("direction", names.SUBJECT, "covariate")},
    )
    by_depth, _ = describe_hazards(one, coded, ci_prob=CI_PROB)
    return {_HAZARDS: by_depth["mean"], _EFFECTS: one["effect"].isel(chain=0, draw=0, drop=True)}


def _share(truth: xr.DataArray, bounds: xr.Dataset) -> float:
    covered = (bounds["lower"] <= truth) & (truth <= bounds["upper"])
    return float(covered.where(np.isfinite(truth) & np.isfinite(bounds["lower"])).mean())


def _draws_first(values: xr.DataArray) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.stack(sample=("chain", "draw")).transpose("sample", ...).to_numpy()
    return found


def _with_error(values: NDArray[np.float64]) -> str:
    said = f"{values.mean():.3f}"
    return f"{said} ({values.std(ddof=1) / len(values) ** 0.5:.3f})" if len(values) > 1 else said
