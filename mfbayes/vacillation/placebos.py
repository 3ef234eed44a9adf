"""Placebo centres: the balanced contrast around other points than the balance point, and where it peaks."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.clusters import FEW_GROUPS
from mfbayes.trajectories import Trajectories
from mfbayes.vacillation.contrasts import MIN_ITEMS, subtract_sides
from mfbayes.vacillation.flips import LEVEL, N_FLIPS, split_residuals
from mfbayes.vacillation.measures import CLAIMS, COMMITTED
from mfbayes.vacillation.peaks import find_peaks, judge_height, measure_error, score_groups
from mfbayes.vacillation.regions import Redraws, place_in_regions
from mfbayes.vacillation.summaries import bound, pool_subjects

type Floats = NDArray[np.float64]

# Centres and reach are whole numbers of steps, so that every region is a union of the same bins.
_STEP, _FURTHEST, _REACH_STEPS = 0.1, 15, 5
CENTRES = np.round(np.arange(-_FURTHEST, _FURTHEST + 1) * _STEP, 10)
NEAR = 0.25


class _Curves(NamedTuple):
    """Balanced contrasts around centres that do not move.

    Attributes
    ----------
    contrast : ndarray, shape (n_subjects, n_claims, n_centres, 1 + n_draws)
        NaN where a region has too few traces or groups.
    scores : ndarray, shape (n_subjects, n_claims, n_groups, n_centres)
        Contributions of groups to the estimate; NaN where that is.
    error : ndarray, shape (n_subjects, n_claims, n_centres)
        Its standard errors.
    """

    contrast: Floats
    scores: Floats
    error: Floats


def move_centre(
    trajectories: Trajectories,
    columns: Mapping[str, Floats],
    redraws: Redraws,
    *,
    ci_prob: float,
    rng: np.random.Generator,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Balanced contrast with its centre moved over a grid of dH, and the place of its peak where it has one.

    Centres of a subject are points of dH; those of "all" are distances from each subject's balance point.

    Returns
    -------
    placebos : Dataset
        `mean`, `lower`, `upper` over (subject, measure, centre); NaN where a region has fewer than 10 traces or 6
        groups, and at centres where one of the draws has an empty one, for "all" in one of its subjects.
    peaks : Dataset
        Over (subject, measure): `peak`, the centre of the largest contrast in standard errors, `peak_lower`,
        `peak_upper` and `peak_near` (probability that it is within 0.25 of b). "all" is measured from b, so that b is
        0. `peak_p` is the p-value of a contrast at any centre by sign flips of groups; above 0.05 there is no peak to
        place, and all else is NaN.
    """
    known = np.isfinite(redraws.centre[:, 0])
    own = _contrast_on_grid(trajectories, columns, redraws, np.zeros(known.size))
    relative = _contrast_on_grid(trajectories, columns, redraws, np.where(known, redraws.centre[:, 0], 0.0))
    usable = np.isfinite(relative.contrast).all(axis=-1) & known[:, None, None]
    # The same subjects at every centre of the pooled curve: else it would move with who is in it.
    inside = known & usable[:, 0, _FURTHEST]
    usable = usable & inside[:, None, None]
    everywhere = usable[inside].all(axis=0) if inside.any() else np.zeros(usable.shape[1:], dtype=bool)
    curves = _append_pooled(own, relative, usable & everywhere)
    mean, lower, upper, _ = bound(curves.contrast, ci_prob=ci_prob, n_groups=len(trajectories.groups))
    flips = np.vstack([np.ones(len(trajectories.groups)), rng.choice([-1.0, 1.0], (N_FLIPS, len(trajectories.groups)))])
    p = np.array(
        [
            [judge_height(*each, flips=flips) for each in zip(scores, error, strict=True)]
            for scores, error in zip(curves.scores, curves.error, strict=True)
        ]
    )
    place = find_peaks(curves.contrast, curves.error, centres=CENTRES)
    place[~(p <= LEVEL)] = np.nan
    peak, peak_lower, peak_upper, _ = bound(place, ci_prob=ci_prob, n_groups=len(trajectories.groups))
    target = np.concatenate([redraws.centre, _shift(redraws, inside)[None]])
    distance = np.abs(place - target[:, None])[..., 1:]
    near = np.where(np.isfinite(distance), distance <= NEAR + 1e-9, np.nan)
    finite = np.isfinite(near).mean(axis=-1) >= 0.9
    near_b = np.where(finite, np.nansum(near, axis=-1) / np.maximum(np.isfinite(near).sum(axis=-1), 1), np.nan)
    coordinates = {
        names.SUBJECT: np.array([*trajectories.subjects, names.POOLED], dtype=object),
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
            "peak_p": (by_claim, p),
        },
        coords=coordinates,
    )
    return placebos, peaks


def _contrast_on_grid(
    trajectories: Trajectories, columns: Mapping[str, Floats], redraws: Redraws, origin: Floats
) -> _Curves:
    """Balanced contrasts around every centre, counted from each subject's origin."""
    n_groups, n_draws = len(trajectories.groups), redraws.weight.shape[0]
    n_bins = 2 * (_FURTHEST + _REACH_STEPS) + 2
    shape = (len(trajectories.subjects), len(CLAIMS))
    contrast = np.full((*shape, CENTRES.size, n_draws), np.nan)
    scores = np.full((*shape, n_groups, CENTRES.size), np.nan)
    error = np.full((*shape, CENTRES.size), np.nan)
    edges = (np.arange(n_bins - 1) - _FURTHEST - _REACH_STEPS) * _STEP
    for subject in range(shape[0]):
        rows = (trajectories.subject == subject) & ~trajectories.is_control & (columns[COMMITTED] > 0)
        if not rows.any():
            continue
        distance, group = trajectories.uncertainty[rows] - origin[subject], trajectories.group[rows]
        code = group * n_bins + np.searchsorted(edges, distance, side="right")
        centre = np.nan_to_num(redraws.centre[subject, 0]) - origin[subject]
        region = place_in_regions(distance, centre=float(centre), is_control=np.zeros(rows.sum(), dtype=bool))
        counts = np.bincount(code, minlength=n_groups * n_bins).reshape(n_groups, n_bins).astype(np.float64)
        of_group, drawn = _add_regions(counts), _add_regions(redraws.weight @ counts)
        enough = (of_group.sum(axis=0) >= MIN_ITEMS).all(axis=-1)
        enough &= ((of_group > 0).sum(axis=0) >= FEW_GROUPS).all(axis=-1)
        for j, claim in enumerate(CLAIMS):
            values = columns[claim][rows]
            by_bin = np.bincount(code, weights=values, minlength=n_groups * n_bins).reshape(n_groups, n_bins)
            sums = _add_regions(redraws.weight @ by_bin)
            balanced = subtract_sides(sums.transpose(1, 0, 2), drawn.transpose(1, 0, 2))[:, 0]
            contrast[subject, j] = np.where(enough[:, None], balanced, np.nan)
            scores[subject, j] = np.where(enough, score_groups(_add_regions(by_bin), of_group), np.nan)
            _, _, spread = split_residuals(values, group, region, n_groups)
            error[subject, j] = np.where(enough, measure_error(of_group, spread), np.nan)
    return _Curves(contrast, scores, error)


def _add_regions(by_bin: Floats) -> Floats:
    """Sums over the regions around every centre, shape (..., n_centres, 3), from those over bins, (..., n_bins)."""
    total = np.concatenate([np.zeros((*by_bin.shape[:-1], 1)), np.cumsum(by_bin, axis=-1)], axis=-1)
    first = np.arange(CENTRES.size) + 1
    last = first + 2 * _REACH_STEPS
    text, ambiguous, image = total[..., first], total[..., last] - total[..., first], total[..., -1:] - total[..., last]
    return np.stack([text, ambiguous, image], axis=-1)


def _append_pooled(own: _Curves, relative: _Curves, usable: NDArray[np.bool_]) -> _Curves:
    """Curves of all subjects together, around distances from their balance points, after those of each."""
    n = usable.sum(axis=0)
    share = np.where(n > 0, 1 / np.maximum(n, 1), np.nan)
    scores = np.where(usable[:, :, None], relative.scores, 0.0).sum(axis=0) * share[:, None]
    error = np.sqrt(np.where(usable, relative.error**2, 0.0).sum(axis=0)) * share
    return _Curves(
        contrast=np.concatenate([own.contrast, pool_subjects(relative.contrast, usable)[-1:]]),
        scores=np.concatenate([own.scores, scores[None]]),
        error=np.concatenate([own.error, error[None]]),
    )


def _shift(redraws: Redraws, inside: NDArray[np.bool_]) -> Floats:
    """How far the balance points of the pooled subjects lie from their medians, on average, in every draw."""
    if not inside.any():
        return np.full(redraws.centre.shape[1], np.nan)
    moved: Floats = (redraws.centre[inside] - redraws.centre[inside, :1]).mean(axis=0)
    return moved
