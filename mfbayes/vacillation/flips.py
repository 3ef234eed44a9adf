r"""Sign flips: tests of the contrasts that flip the scores of whole groups, and how often they err on nulls.

Within a linear model of region means, the score of a contrast is a sum of contributions of groups,
:math:`S = \sum_g \sum_{i \in g} \tilde x_i e_i`, with residuals e under the null and the contrast's regressor
:math:`\tilde x` orthogonal to all others. Without a contrast each contribution is as likely the one way as the
other, so flipping their signs shows what S does by chance, however traces of a group resemble each other [1]_. Flipped
scores vary a little less than S, since e was fitted without flips; each is divided by its standard error for
traces with a common variance and a common correlation within groups, after [2]_.

References
----------
.. [1] Hemerik, Goeman, Finos, "Robust testing in generalized linear models by sign flipping score contributions",
   JRSS B 82 (2020), doi:10.1111/rssb.12369.
.. [2] De Santis, Goeman, Hemerik, Davenport, Finos, "Inference in generalized linear models with robustness to
   misspecified variances" (2022), arXiv:2209.13918.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mfbayes import names
from mfbayes.trajectories import Trajectories
from mfbayes.vacillation.contrasts import BALANCED, IMAGE_SIDE, TEXT_SIDE, judge_cells
from mfbayes.vacillation.measures import CLAIMS, COMMITTED
from mfbayes.vacillation.regions import place_in_regions

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

TESTED = (BALANCED, TEXT_SIDE, IMAGE_SIDE)
N_FLIPS = 999
N_NULLS = 400
LEVEL = 0.05
_SIDES = {BALANCED: (0, 1, 2), TEXT_SIDE: (0, 1), IMAGE_SIDE: (1, 2)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """Contributions of groups to a contrast, in its own unit.

    Attributes
    ----------
    observed : ndarray, shape (n_groups,)
        Contributions; their sum is the contrast.
    nulls : ndarray, shape (n_groups, n_nulls)
        The same of simulated traces without a contrast.
    variance : ndarray, shape (1 + n_flips,)
        Variance of the sum without flips and of each flipped one.
    """

    observed: Floats
    nulls: Floats
    variance: Floats


def flip_scores(
    trajectories: Trajectories,
    columns: Mapping[str, Floats],
    centre: Floats,
    *,
    rng: np.random.Generator,
    n_flips: int = N_FLIPS,
    n_nulls: int = N_NULLS,
) -> xr.Dataset:
    """P-values of the contrasts by sign flips of groups, with the size that the test has on data like these.

    The size is measured on simulated nulls: traces keep group, region and the spread of residuals between and
    within groups, resampled, but all regions have one mean.

    Parameters
    ----------
    trajectories : Trajectories
        Traces.
    columns : mapping of str to ndarray
        As `measures.measure_traces` gives them.
    centre : ndarray, shape (n_subjects,)
        Balance points, NaN where unknown.
    rng : numpy.random.Generator
        Randomness.
    n_flips, n_nulls : int
        Flips of a test, and nulls.

    Returns
    -------
    Dataset
        `p` (two-sided) and `size` (share of nulls rejected at 0.05) over (subject, measure, contrast); the last
        subject is "all", pooled as `contrasts.contrast_regions` does, groups flipped jointly. NaN where a region has
        fewer than 10 traces or 6 groups.
    """
    n_groups, n_subjects = len(trajectories.groups), len(trajectories.subjects)
    flips = np.vstack([np.ones(n_groups), rng.choice([-1.0, 1.0], size=(n_flips, n_groups))])
    shuffled = rng.integers(n_groups, size=(n_groups, n_nulls))
    shape = (n_subjects + 1, len(CLAIMS), len(TESTED))
    p, size = np.full(shape, np.nan), np.full(shape, np.nan)
    for j, measure in enumerate(CLAIMS):
        scores: list[dict[str, Scores]] = []
        for i in range(n_subjects):
            own = (trajectories.subject == i) & (columns[COMMITTED] > 0) & ~trajectories.is_control
            if np.isnan(centre[i]) or not own.any():
                scores.append({})
                continue
            region = place_in_regions(
                trajectories.uncertainty[own], centre=centre[i], is_control=np.zeros(own.sum(), bool)
            )
            scores.append(_score(columns[measure][own], trajectories.group[own], region, flips, shuffled, rng))
        # As contrasts are pooled: where any subject has all regions, over those that have them.
        pooled = [found for found in scores if BALANCED in found] or scores
        for k, contrast in enumerate(TESTED):
            present = [found[contrast] for found in pooled if contrast in found]
            for i, found in enumerate(scores):
                if contrast in found:
                    p[i, j, k], size[i, j, k] = _judge([found[contrast]], flips)
            if present:
                p[-1, j, k], size[-1, j, k] = _judge(present, flips)
    dims = (names.SUBJECT, "measure", "contrast")
    return xr.Dataset(
        {"p": (dims, p), "size": (dims, size)},
        coords={
            names.SUBJECT: np.array([*trajectories.subjects, names.POOLED], dtype=object),
            "measure": np.array(CLAIMS, dtype=object),
            "contrast": np.array(TESTED, dtype=object),
        },
        attrs={"n_flips": n_flips, "n_nulls": n_nulls, "level": LEVEL},
    )


def _score(
    values: Floats, group: Indices, region: Indices, flips: Floats, shuffled: Indices, rng: np.random.Generator
) -> dict[str, Scores]:
    n_groups, n_nulls = shuffled.shape
    cells = np.bincount(region, minlength=3)
    groups = np.array([np.unique(group[region == place]).size for place in range(3)])
    usable = dict(zip((BALANCED, TEXT_SIDE, IMAGE_SIDE), judge_cells(cells[None], groups[None])[0], strict=False))
    between, within, spread = split_residuals(values, group, region, n_groups)
    null = between[shuffled][group] + _redraw_within(within, region, n_nulls, rng)
    found = {}
    for contrast in TESTED:
        if not usable[contrast]:
            continue
        rows = np.isin(region, _SIDES[contrast])
        tested = (region[rows] == 1).astype(np.float64)
        nuisance = np.ones((rows.sum(), 1))
        if contrast == BALANCED:
            nuisance = np.column_stack([nuisance, region[rows] - 1.0])
        found[contrast] = _contribute(values[rows], null[rows], group[rows], tested, nuisance, flips, spread)
    return found


def split_residuals(
    values: Floats, group: Indices, region: Indices, n_groups: int
) -> tuple[Floats, Floats, tuple[float, float]]:
    """Residuals of groups (shrunk to the spread of their effects) and within groups, and both variances.

    Parameters
    ----------
    values : ndarray, shape (n,)
        A measure of traces.
    group, region : ndarray of int, shape (n,)
        Codes; of regions 0, 1 and 2.
    n_groups : int
        Number of groups.
    """
    cells = np.bincount(region, minlength=3)
    residual = values - (np.bincount(region, weights=values, minlength=3) / np.maximum(cells, 1))[region]
    counts = np.bincount(group, minlength=n_groups)
    level = np.bincount(group, weights=residual, minlength=n_groups) / np.maximum(counts, 1)
    inside = residual - level[group]
    # Groups lie unevenly over the regions, so taking out their means moves those of the regions.
    inside -= (np.bincount(region, weights=inside, minlength=3) / np.maximum(cells, 1))[region]
    present = counts > 0
    variance = float((inside**2).sum() / max(int(values.size - present.sum()), 1))
    common = max(float((level[present] ** 2).mean() - (variance / counts[present]).mean()), 0.0)
    shrunk = level * np.sqrt(common / np.maximum(common + variance / np.maximum(counts, 1), 1e-12))
    # Means of groups took their share of the variance within.
    return shrunk, inside * np.sqrt(variance / max(float((inside**2).mean()), 1e-12)), (common, variance)


def _redraw_within(within: Floats, region: Indices, n_nulls: int, rng: np.random.Generator) -> Floats:
    redrawn = np.empty((within.size, n_nulls))
    for place in range(3):
        rows = np.flatnonzero(region == place)
        if rows.size:
            redrawn[rows] = within[rng.choice(rows, size=(rows.size, n_nulls))]
    return redrawn


def _contribute(
    values: Floats,
    null: Floats,
    group: Indices,
    tested: Floats,
    nuisance: Floats,
    flips: Floats,
    spread: tuple[float, float],
) -> Scores:
    n_groups = flips.shape[1]
    solve = np.linalg.pinv(nuisance)
    x = tested - nuisance @ (solve @ tested)
    power = float(x @ x)
    place = np.arange(group.size)
    members = csr_array((np.ones(group.size), (group, place)), shape=(n_groups, group.size))
    scored = csr_array((x, (group, place)), shape=(n_groups, group.size))
    cross, own, level = scored @ nuisance, members @ x, members @ nuisance

    def contributions(outcome: Floats) -> Floats:
        found: Floats = (scored @ outcome - cross @ (solve @ outcome)) / power
        return found

    common, variance = spread
    moved = flips @ cross @ np.linalg.inv(nuisance.T @ nuisance)
    within = power - np.einsum("fk,fk->f", flips @ cross, moved)
    between = ((flips * own - moved @ level.T) ** 2).sum(axis=1)
    return Scores(
        observed=contributions(values),
        nulls=contributions(null),
        variance=(variance * within + common * between) / power**2,
    )


def _judge(scores: list[Scores], flips: Floats) -> tuple[float, float]:
    """Two-sided p-value and size of the mean contrast of some subjects."""
    error = np.sqrt(np.maximum(np.add.reduce([score.variance for score in scores]), 1e-300))
    columns = np.column_stack(
        [
            np.add.reduce([score.observed for score in scores]),
            np.add.reduce([score.nulls for score in scores]),
        ]
    )
    standardised = np.abs(flips @ columns) / error[:, None]
    if not standardised[0, 0] > 0:
        return 1.0, np.nan
    # What is equal up to rounding is as extreme.
    extreme = (standardised[1:] >= standardised[0] * (1 - 1e-9)).sum(axis=0)
    p = (1 + extreme) / flips.shape[0]
    return float(p[0]), float((p[1:] <= LEVEL).mean())
