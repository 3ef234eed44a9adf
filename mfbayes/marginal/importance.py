"""Draws of an approximation, drawn again as often as the true density says.

Intervals of a normal approximation, leaned and stretched along each parameter's own line, are a few per cent too
narrow where groups are few: parameters bend together. Where the true density is cheap to compute, draws with heavier
tails are weighed by its ratio to theirs, the largest weights smoothed, and drawn again.

References
----------
Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto Smoothed Importance Sampling", Journal of Machine Learning Research
25(72), 2024, arXiv:1507.02646.
"""

from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from numpy.typing import NDArray

from mfbayes.marginal.spreads import resample

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_LEAST_POSSIBLE = 250

TAIL = 8.0
"""Degrees of freedom of the draws to be weighed: tails heavier than those of the truth."""

MAX_K_HAT = 1.0
"""Weights with a heavier tail than this have no mean, and are not used."""

_LEAST_DRAWS = 2000
_MOST_WORK, _MOST_WORK_FEW, _FEW_GROUPS = 4e7, 2e8, 100


class Weighing(NamedTuple):
    """Which draws are kept, how often, and how near the approximation was.

    Attributes
    ----------
    rows : ndarray of int, shape (n_draws,)
        Rows of the draws, in random order; a row occurs as often as it weighs.
    effective_share : float
        Effective draws over draws after smoothing.
    k_hat : float
        Shape of the weights' tail.
    """

    rows: Indices
    effective_share: float
    k_hat: float


def count_affordable(n_draws: int, n_trials: int, n_groups: int) -> int:
    """Draws to be weighed, each of which takes a look at every trial; zero where too few could be.

    Up to 100 groups more work is worth it, for the fewer the groups, the further from normal is the posterior.
    """
    work = _MOST_WORK_FEW if n_groups <= _FEW_GROUPS else _MOST_WORK
    affordable = min(n_draws, int(work / max(n_trials, 1)))
    return affordable if affordable >= min(n_draws, _LEAST_DRAWS) else 0


def weigh(log_ratios: Floats, n_draws: int, *, rng: np.random.Generator) -> Weighing | None:
    """Draw again by importance; None where weights cannot be trusted at all.

    Weights are trusted to a k-hat of 1 rather than the usual .7: between the two they are not exact, yet measured
    against sampling much nearer than the draws without them (docs/calibration.md).

    Parameters
    ----------
    log_ratios : ndarray, shape (n_weighed,)
        Logarithm of the true density over that of the draws, up to a constant.
    n_draws : int
        Draws wanted.
    rng : numpy.random.Generator
        Source of randomness.
    """
    # A draw that cannot be has no weight and no part in the tail.
    possible = np.flatnonzero(np.isfinite(log_ratios))
    if possible.size < _LEAST_POSSIBLE:
        return None
    # Takes minus the logarithms.
    log_weights, k_hat = array_stats.psislw(-log_ratios[possible])  # type: ignore[no-untyped-call]
    if not k_hat <= MAX_K_HAT:
        return None
    weights = np.exp(log_weights - log_weights.max())
    share = float(weights.sum() ** 2 / (weights**2).sum() / log_ratios.size)
    rows = possible[resample(weights, n_draws, rng=rng)]
    return Weighing(rng.permutation(rows), share, float(k_hat))
