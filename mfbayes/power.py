"""Power: how narrow the intervals of balance points get with the number of groups, by simulation.

For each number of groups, studies are simulated and fitted by the fast tier. The half-width of their
intervals falls nearly as a power of the number of groups, so that between two numbers it is interpolated
on logarithmic axes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes._version import __version__
from mfbayes.design import MAX_SUBJECTS, lay_out
from mfbayes.errors import InputError
from mfbayes.marginal.fast import approximate
from mfbayes.selection import select_trials
from mfbayes.simulation import Scenario, simulate_trials
from mfbayes.storage import hash_content, read_json, write_json

type Floats = NDArray[np.float64]
type Row = dict[str, float]

BALANCE_POINT, DIFFERENCE = "balance_point", "difference"
ESTIMATES = (BALANCE_POINT, DIFFERENCE)
_DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How many groups make an interval as narrow as asked.

    Attributes
    ----------
    estimate : {"balance_point", "difference"}
        What the interval is of.
    n_groups : float
        Number of groups; NaN where it lies outside of what was simulated.
    error : float
        Its Monte Carlo standard error.
    bound : str
        "below 40" or "above 400" where it lies outside, else empty.
    """

    estimate: str
    n_groups: float
    error: float
    bound: str


def measure_power(
    scenario: Scenario,
    *,
    groups: Sequence[int],
    replicates: int,
    seed: int = 0,
    ci_prob: float = 0.95,
    progress: Path | None = None,
    overwrite: bool = False,
    on_replicate: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Simulate studies of several sizes and measure half-width and coverage of their intervals.

    Parameters
    ----------
    scenario : Scenario
        The study; its number of groups is replaced. Balance points that are not given are drawn anew in
        every replicate.
    groups : sequence of int
        Numbers of groups (of each task).
    replicates : int
        Studies for each number, at least 2.
    seed : int
        With the number of groups and of the replicate it is the seed of a study.
    ci_prob : float
        Probability of the intervals.
    progress : Path, optional
        A file that keeps what is finished, so that the same call goes on where it was interrupted, or adds
        further numbers of groups and replicates.
    overwrite : bool
        Begin anew where that file is of another scenario, seed or probability.
    on_replicate : callable, optional
        Called with the number of finished replicates.

    Returns
    -------
    DataFrame
        A row for each number of groups: `n_groups, n_trials, replicates`, and for balance points and for
        differences of two models the mean `_half_width` and the `_coverage`, with their Monte Carlo
        standard errors `_error` from the spread between replicates, and `failures`, fits that did not pass.

    Raises
    ------
    InputError
        With fewer than 2 replicates or models, more than 200 subjects, or a file of other content.
    """
    _check(scenario, groups, replicates, ci_prob)
    content = hash_content(repr(asdict(scenario)), str(seed), str(ci_prob), __version__)
    rows = _resume(progress, content, overwrite=overwrite)
    done = {(row["n_groups"], row["replicate"]) for row in rows}
    jobs = [(size, replicate) for replicate in range(replicates) for size in sorted(set(groups))]
    for number, (size, replicate) in enumerate(jobs, start=1):
        if (size, replicate) not in done:
            rows.append(measure_study(replace(scenario, n_groups=size), replicate, seed=seed, ci_prob=ci_prob))
            if progress is not None:
                write_json(progress, {"content": content, "rows": rows})
        if on_replicate is not None:
            on_replicate(number)
    wanted = set(jobs)
    return summarise([row for row in rows if (row["n_groups"], row["replicate"]) in wanted])


def measure_study(scenario: Scenario, replicate: int, *, seed: int = 0, ci_prob: float = 0.95) -> Row:
    """Simulate and fit one study: mean half-width and coverage of its intervals.

    Parameters
    ----------
    scenario : Scenario
        The study.
    replicate, seed : int
        Say, with the number of groups, which random numbers are used.
    ci_prob : float
        Probability of the intervals.
    """
    rng = np.random.default_rng([seed, scenario.n_groups, replicate])
    trials, truth = simulate_trials(scenario, rng=rng)
    design = lay_out(select_trials(trials).trials)
    drawn = approximate(design, seed=replicate, draws=_DRAWS)
    points = drawn.posterior["balance_point"].sel(subject=truth["subject"])
    draws = points.stack(sample=("chain", "draw")).to_numpy()
    true = truth["balance_point"].to_numpy()
    first, second = _pairs(truth["task"].to_numpy(), truth["condition"].to_numpy())
    row: Row = {"n_groups": scenario.n_groups, "replicate": replicate, "n_trials": design.n_trials}
    compared = {BALANCE_POINT: (draws, true), DIFFERENCE: (draws[first] - draws[second], true[first] - true[second])}
    for name, (values, target) in compared.items():
        lower, upper = np.quantile(values, [(1 - ci_prob) / 2, (1 + ci_prob) / 2], axis=1)
        row[f"{name}_half_width"] = float((upper - lower).mean() / 2)
        row[f"{name}_coverage"] = float(((lower <= target) & (target <= upper)).mean())
    return row | {"failures": float(not drawn.passed)}


def summarise(rows: Sequence[Row]) -> pd.DataFrame:
    """Means over replicates and their Monte Carlo errors, a row for each number of groups.

    Parameters
    ----------
    rows : sequence of dict
        Of `measure_study`, at least two for each number of groups.
    """
    by_size = pd.DataFrame(rows).groupby("n_groups")
    table = by_size.agg(
        n_trials=("n_trials", "mean"), replicates=("replicate", "nunique"), failures=("failures", "sum")
    )
    for name in ESTIMATES:
        for measure in ("half_width", "coverage"):
            column = f"{name}_{measure}"
            table[column] = by_size[column].mean()
            table[f"{column}_error"] = by_size[column].std(ddof=1) / np.sqrt(table["replicates"])
    return table.reset_index()


def find_groups(table: pd.DataFrame, width: float, *, estimate: str = BALANCE_POINT) -> Answer:
    """Answer how many groups an interval of +-`width` needs, interpolated on logarithmic axes.

    Parameters
    ----------
    table : DataFrame
        Of `measure_power`.
    width : float
        Half-width of the interval, in units of dH.
    estimate : {"balance_point", "difference"}
        What the interval is of.

    Raises
    ------
    InputError
        Where the width is not above zero.

    Examples
    --------
    >>> sizes = pd.DataFrame({"n_groups": [100, 400], "balance_point_half_width": [0.2, 0.1]})
    >>> round(find_groups(sizes.assign(balance_point_half_width_error=0.0), 0.125).n_groups)
    256
    """
    if not 0 < width < np.inf:
        raise InputError(f"Expected a width above 0, in units of dH, got {width}.")
    table = table.sort_values("n_groups")
    size = table["n_groups"].to_numpy(np.float64)
    half, error = (table[f"{estimate}_half_width{part}"].to_numpy(np.float64) for part in ("", "_error"))
    if half[0] < width:
        return Answer(estimate=estimate, n_groups=np.nan, error=np.nan, bound=f"below {size[0]:.0f}")
    narrow = np.flatnonzero(half <= width)
    if not narrow.size:
        return Answer(estimate=estimate, n_groups=np.nan, error=np.nan, bound=f"above {size[-1]:.0f}")
    right = max(int(narrow[0]), 1)
    if size.size == 1:
        return Answer(estimate=estimate, n_groups=float(size[0]), error=np.nan, bound="")
    left = right - 1
    run, fall = log(size[right] / size[left]), log(half[left] / half[right])
    share = log(half[left] / width) / fall if fall else 0.0
    n_groups = size[left] * exp(share * run)
    # Delta method: how the answer moves with either end's half-width, whose errors are independent.
    slope = run / fall if fall else 0.0
    moved = n_groups * slope * np.array([(1 - share) * error[left] / half[left], share * error[right] / half[right]])
    return Answer(estimate=estimate, n_groups=float(n_groups), error=float(np.hypot(*moved)), bound="")


def _pairs(task: NDArray[Any], condition: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of subjects that differ in their model only."""
    first, second = np.triu_indices(task.size, 1)
    same = (task[first] == task[second]) & (condition[first] == condition[second])
    return first[same], second[same]


def _resume(progress: Path | None, content: str, *, overwrite: bool) -> list[Row]:
    if progress is None or not progress.exists():
        return []
    kept = read_json(progress)
    if isinstance(kept, dict) and kept.get("content") == content:
        return list(kept["rows"])
    if not overwrite:
        raise InputError(
            f"{progress} is of another scenario, seed or version. Pass --overwrite to begin anew, or choose another "
            "output path."
        )
    return []


def _check(scenario: Scenario, groups: Sequence[int], replicates: int, ci_prob: float) -> None:
    if not groups or min(groups) < 2:
        raise InputError(f"Expected numbers of groups from 2, got {list(groups)}.")
    if replicates < 2:
        raise InputError(f"Expected at least 2 replicates, to tell their Monte Carlo error, got {replicates}.")
    if len(scenario.model_names) < 2:
        raise InputError("Expected at least 2 models, since differences of models are measured too.")
    n_subjects = len(scenario.model_names) * len(scenario.tasks) * max(len(scenario.conditions), 1)
    if n_subjects > MAX_SUBJECTS:
        raise InputError(f"Expected at most {MAX_SUBJECTS} models (times tasks and conditions), got {n_subjects}.")
    if not 0 < ci_prob < 1:
        raise InputError(f"Expected ci_prob between 0 and 1, got {ci_prob}.")
