"""Placebo centres: the balanced contrast around other points than the balance point, and where it peaks."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.trajectories import Trajectories
from mfbayes.vacillation.contrasts import MIN_ITEMS, subtract_sides
from mfbayes.vacillation.measures import CLAIMS, COMMITTED
from mfbayes.vacillation.regions import FEW_GROUPS, Redraws
from mfbayes.vacillation.summaries import POOLED, bound, pool_subjects

type Floats = NDArray[np.float64]

# Centres and reach are whole numbers of steps, so that every region is a union of the same bins.
_STEP, _FURTHEST, _REACH_STEPS = 0.1, 15, 5
CENTRES = np.round(np.arange(-_FURTHEST, _FURTHEST + 1) * _STEP, 10)
NEAR = 0.25


def move_centre(
    trajectories: Trajectories, columns: Mapping[str, Floats], redraws: Redraws, *, ci_prob: float
) -> tuple[xr.Dataset, xr.Dataset]:
    """Balanced contrast with its centre moved over a grid of dH, and the place of its peak.

    Centres of a subject are points of dH; those of "all" are distances from each subject's balance point.

    Returns
    -------
    placebos : Dataset
        `mean`, `lower`, `upper` over (subject, measure, centre); NaN where a region has fewer than 10 traces, and at
        centres where one of the draws has an empty one, for "all" in one of its subjects.
    peaks : Dataset
        `peak`, `peak_lower`, `peak_upper` and `peak_near` (probability that it is within 0.25 of b) over (subject,
        measure). "all" is measured from b, so that b is 0.
    """
    n = len(trajectories.subjects)
    known = np.isfinite(redraws.centre[:, 0])
    own = _contrast_on_grid(trajectories, columns, redraws, np.zeros(n))
    relative = _contrast_on_grid(trajectories, columns, redraws, np.where(known, redraws.centre[:, 0], 0.0))
    relative[~known] = np.nan
    usable = np.isfinite(relative).all(axis=-1)
    # The same subjects at every centre of the pooled curve: else it would move with who is in it.
    inside = known & usable[:, 0, _FURTHEST]
    usable = usable & inside[:, None, None]
    everywhere = usable[inside].all(axis=0) if inside.any() else np.zeros(usable.shape[1:], dtype=bool)
    pooled = pool_subjects(relative, usable & everywhere)[-1]
    contrasts = np.concatenate([own, pooled[None]])
    mean, lower, upper, _ = bound(contrasts, ci_prob=ci_prob)
    target = np.concatenate([redraws.centre, _shift(redraws, inside)[None]])
    place = _find_peaks(contrasts)
    peak, peak_lower, peak_upper, _ = bound(place, ci_prob=ci_prob)
    distance = np.abs(place - target[:, None])[..., 1:]
    near = np.where(np.isfinite(distance), distance <= NEAR + 1e-9, np.nan)
    finite = np.isfinite(near).mean(axis=-1) >= 0.9
    near_b = np.where(finite, np.nansum(near, axis=-1) / np.maximum(np.isfinite(near).sum(axis=-1), 1), np.nan)
    coordinates = {
        names.SUBJECT: np.array([*trajectories.subjects, POOLED], dtype=object),
        "measure": np.array(CLAIMS, dtype=object),
    }
    dims, by_claim = (names.SUBJECT, "measure", "centre"), (names.SUBJECT, "measure")
    placebos = xr.Dataset(
        {"mean": (dims, mean), "lower": (dims, lower), "upper": (dims, upper)},
        coords=coordinates | {"centre": CENTRES},
        attrs={"ci_prob": ci_prob},
    )
    peaks = xr.Dataset(
        {
            "peak": (by_claim, peak),
            "peak_lower": (by_claim, peak_lower),
            "peak_upper": (by_claim, peak_upper),
            "peak_near": (by_claim, near_b),
        },
        coords=coordinates,
    )
    return placebos, peaks


def _contrast_on_grid(
    trajectories: Trajectories, columns: Mapping[str, Floats], redraws: Redraws, origin: Floats
) -> Floats:
    """Balanced contrasts around centres that do not move, shape (n_subjects, n_claims, n_centres, 1 + n_draws)."""
    n_groups, n_draws = len(trajectories.groups), redraws.weight.shape[0]
    n_bins = 2 * (_FURTHEST + _REACH_STEPS) + 2
    names_of = (COMMITTED, *CLAIMS)
    found = np.full((len(trajectories.subjects), len(CLAIMS), CENTRES.size, n_draws), np.nan)
    first = np.arange(CENTRES.size) + 1
    last = first + 2 * _REACH_STEPS
    for subject in range(found.shape[0]):
        rows = (trajectories.subject == subject) & ~trajectories.is_control
        if not rows.any():
            continue
        distance = trajectories.uncertainty[rows] - origin[subject]
        edges = (np.arange(n_bins - 1) - _FURTHEST - _REACH_STEPS) * _STEP
        bins = np.searchsorted(edges, distance, side="right")
        code = trajectories.group[rows] * n_bins + bins
        cumulated = []
        for name in names_of:
            by_bin = np.bincount(code, weights=columns[name][rows], minlength=n_groups * n_bins)
            drawn = redraws.weight @ by_bin.reshape(n_groups, n_bins)
            cumulated.append(np.column_stack([np.zeros(n_draws), np.cumsum(drawn, axis=1)]))
        parts = [
            np.stack([total[:, first], total[:, last] - total[:, first], total[:, -1:] - total[:, last]], axis=-1)
            for total in cumulated
        ]
        occupied = np.unique(trajectories.group[rows & (columns[COMMITTED] > 0)]).size
        enough = (parts[0][0] >= MIN_ITEMS).all(axis=-1) & (occupied >= FEW_GROUPS)
        for j in range(len(CLAIMS)):
            balanced = subtract_sides(parts[1 + j].transpose(1, 0, 2), parts[0].transpose(1, 0, 2))[:, 0]
            found[subject, j] = np.where(enough[:, None], balanced, np.nan)
    return found


def _find_peaks(contrasts: Floats) -> Floats:
    """Centre of the largest contrast in every draw, among centres that the estimate has too."""
    candidates = np.where(np.isfinite(contrasts[..., :1]) & np.isfinite(contrasts), contrasts, -np.inf)
    place = CENTRES[candidates.argmax(axis=-2)]
    return np.where(np.isfinite(candidates).sum(axis=-2) > 1, place, np.nan)


def _shift(redraws: Redraws, inside: NDArray[np.bool_]) -> Floats:
    """How far the balance points of the pooled subjects lie from their medians, on average, in every draw."""
    if not inside.any():
        return np.full(redraws.centre.shape[1], np.nan)
    moved: Floats = (redraws.centre[inside] - redraws.centre[inside, :1]).mean(axis=0)
    return moved
