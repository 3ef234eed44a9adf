"""Regions of dH around the balance point, and sums of traces within them for every draw of point and groups."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfbayes.trajectories import Trajectories

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

REGIONS = ("text-clear", "ambiguous", "image-clear", "clear", "control")
SIDES = ("text-clear", "ambiguous", "image-clear")
AMBIGUOUS_REACH = 0.5
N_DRAWS = 1000
# A multiple of three, so that thirds are whole numbers of bins.
ENTROPY_BINS = 24
_CONTROL, _UNKNOWN, _SLOTS = 3, 4, 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Redraws:
    """Balance points and weights of groups, drawn together; the first of them is the estimate itself.

    Attributes
    ----------
    centre : ndarray, shape (n_subjects, 1 + n_draws)
        Balance points: the median, then draws of the posterior; NaN where a subject is one-sided.
    weight : ndarray, shape (1 + n_draws, n_groups)
        How often each group counts: once, then as often as it was drawn.
    """

    centre: Floats
    weight: Floats


def redraw(
    draws: Floats, *, n_groups: int, rng: np.random.Generator, median: Floats | None = None, n_draws: int = N_DRAWS
) -> Redraws:
    """Pair draws of the balance points with groups drawn anew, the same ones for every subject.

    One group less than there are is drawn with replacement, which makes the variance unbiased [1]_.

    Parameters
    ----------
    draws : ndarray, shape (n_subjects, n)
        Joint posterior draws of the balance points.
    n_groups : int
        Number of groups.
    rng : numpy.random.Generator
        Randomness.
    median : ndarray, optional
        Where the estimate itself is taken, shape (n_subjects,); by default the median of the draws.
    n_draws : int
        How many draws.

    References
    ----------
    .. [1] Rao, Wu, "Resampling inference with complex survey data", JASA 83 (1988),
       doi:10.1080/01621459.1988.10478591.
    """
    chosen = np.linspace(0, draws.shape[1] - 1, n_draws).round().astype(np.int64)
    centre = np.column_stack([np.median(draws, axis=1) if median is None else median, draws[:, chosen]])
    drawn = rng.multinomial(max(n_groups - 1, 1), np.full(n_groups, 1 / n_groups), size=n_draws)
    return Redraws(centre=centre, weight=np.vstack([np.ones(n_groups), drawn]))


def place_in_regions(uncertainty: Floats, *, centre: float, is_control: NDArray[np.bool_]) -> Indices:
    """Codes of the regions: 0 text-clear, 1 ambiguous, 2 image-clear, 3 control, 4 unknown; shape (n,)."""
    if np.isnan(centre):
        return np.where(is_control, _CONTROL, _UNKNOWN)
    distance = uncertainty - centre
    side = 1 + (distance >= AMBIGUOUS_REACH).astype(np.int64) - (distance <= -AMBIGUOUS_REACH)
    return np.where(is_control, _CONTROL, side)


def place_in_entropy_bins(trajectories: Trajectories) -> Indices:
    """Bins of about equal numbers of conflict traces of each subject by H_text + H_image, lowest first; shape (n,)."""
    total = trajectories.h_text + trajectories.h_image
    bins = np.zeros(len(trajectories), dtype=np.int64)
    for subject in range(len(trajectories.subjects)):
        own = (trajectories.subject == subject) & ~trajectories.is_control
        if own.any():
            edges = np.quantile(total[own], np.arange(1, ENTROPY_BINS) / ENTROPY_BINS)
            # Trials that share their prompts have the same entropies and stay together.
            bins[own] = np.searchsorted(edges, total[own], side="left")
    return bins


@dataclass(frozen=True, kw_only=True, eq=False)
class Tally:
    """Sums over traces by region and bin of total entropy, for every draw.

    Attributes
    ----------
    sums : mapping of str to ndarray, shape (n_subjects, 1 + n_draws, 4, ENTROPY_BINS)
        Sums of each column over the regions text-clear, ambiguous, image-clear, control.
    n_groups : mapping of str to ndarray of int, shape (n_subjects, 4)
        Groups with anything but zero of each column, at the estimate itself.
    n_resampled : int
        All groups, of which one less was drawn for each draw.
    has_entropies : ndarray of bool, shape (n_subjects,)
        Whether the total entropy of all conflicts of a subject is known; where not, bins of it mean nothing.
    """

    sums: Mapping[str, Floats]
    n_groups: Mapping[str, Indices]
    n_resampled: int
    has_entropies: NDArray[np.bool_]


def tally_regions(trajectories: Trajectories, columns: Mapping[str, Floats], redraws: Redraws) -> Tally:
    """Sum columns (a value a trace) over regions that move with every draw of the balance point."""
    n_draws = redraws.weight.shape[0]
    shape = (len(trajectories.subjects), n_draws, _SLOTS, ENTROPY_BINS)
    sums = {name: np.zeros(shape) for name in columns}
    n_groups = {name: np.zeros((shape[0], _CONTROL + 1), dtype=np.int64) for name in columns}
    bins = place_in_entropy_bins(trajectories)
    for subject in range(shape[0]):
        own = np.flatnonzero(trajectories.subject == subject)
        group, dH = trajectories.group[own], trajectories.uncertainty[own]
        is_control, bin_of = trajectories.is_control[own], bins[own]
        values = {name: column[own] for name, column in columns.items()}
        for draw in range(n_draws):
            region = place_in_regions(dH, centre=float(redraws.centre[subject, draw]), is_control=is_control)
            code, weight = region * ENTROPY_BINS + bin_of, redraws.weight[draw, group]
            for name, value in values.items():
                counted = np.bincount(code, weights=weight * value, minlength=_SLOTS * ENTROPY_BINS)
                sums[name][subject, draw] = counted.reshape(shape[2:])
            if draw == 0:
                for name, value in values.items():
                    for place in range(_CONTROL + 1):
                        rows = (region == place) & (value != 0)
                        n_groups[name][subject, place] = np.unique(group[rows]).size
    return Tally(
        sums={name: found[:, :, : _CONTROL + 1] for name, found in sums.items()},
        n_groups=n_groups,
        n_resampled=redraws.weight.shape[1],
        has_entropies=~np.isin(np.arange(shape[0]), trajectories.subject[_lacks_entropies(trajectories)]),
    )


def _lacks_entropies(trajectories: Trajectories) -> NDArray[np.bool_]:
    """Conflict traces without a total entropy: trials may come with another index of uncertainty alone."""
    lacks: NDArray[np.bool_] = ~np.isfinite(trajectories.h_text + trajectories.h_image) & ~trajectories.is_control
    return lacks


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """Quotients, NaN where there is nothing to divide by."""
    quotient: Floats = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return quotient
