r"""Peaks: where a contrast is highest as its centre moves, and whether chance makes one as high somewhere.

Around centres at the edge of dH few items are on one side, and chance alone makes the largest contrasts there. So
contrasts are compared in standard errors, for traces with a common variance and a common correlation within groups.
Errors from the few residuals at hand would be small where, by chance, contrasts are large. Whether there is a peak at
all is judged by flipping the signs of whole groups' contributions (`mfbayes.vacillation.flips`): the highest of all
centres is held against the highest of all centres in every flip, which is right for centres that are many and
correlated [1]_.

References
----------
.. [1] Westfall, Young, "Resampling-Based Multiple Testing", Wiley (1993), for the maximum of the statistics.
"""

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]

BALANCE = np.array([-0.5, 1.0, -0.5])
"""Weights of the regions text-clear, ambiguous and image-clear in the balanced contrast."""


def score_groups(sums: Floats, counts: Floats) -> Floats:
    """Contributions of groups to the balanced contrast, of residuals where there is none; their sum is the contrast.

    Parameters
    ----------
    sums, counts : ndarray, shape (n_groups, n_centres, 3)
        Sums of a measure and numbers of traces by group and region.

    Returns
    -------
    ndarray, shape (n_groups, n_centres)
        NaN where a region is empty.
    """
    n = counts.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where((n > 0).all(axis=-1, keepdims=True), BALANCE / n, np.nan)
        mean = sums.sum(axis=0) / n
        contrast = (BALANCE * mean).sum(axis=-1, keepdims=True)
        # Means of the regions by least squares, held to have no contrast.
        null = mean - contrast * weight / (BALANCE * weight).sum(axis=-1, keepdims=True)
    scores: Floats = ((sums - null * counts) * weight).sum(axis=-1)
    return scores


def measure_error(counts: Floats, spread: tuple[float, float]) -> Floats:
    """Standard errors of the balanced contrast, shape (n_centres,).

    Parameters
    ----------
    counts : ndarray, shape (n_groups, n_centres, 3)
        Numbers of traces by group and region.
    spread : tuple of float
        Variance between groups, and within.
    """
    between, within = spread
    n = counts.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = BALANCE / n
        own = ((counts * weight).sum(axis=-1) ** 2).sum(axis=0)
        error: Floats = np.sqrt(within * (weight**2 * n).sum(axis=-1) + between * own)
    return error


def find_peaks(contrasts: Floats, error: Floats, *, centres: Floats) -> Floats:
    """Centre of the largest contrast in standard errors, of every draw, among centres that the estimate has too.

    Parameters
    ----------
    contrasts : ndarray, shape (..., n_centres, 1 + n_draws)
        The estimate, then its draws.
    error : ndarray, shape (..., n_centres)
        Standard errors of the estimate.
    centres : ndarray, shape (n_centres,)

    Returns
    -------
    ndarray, shape (..., 1 + n_draws)
        NaN with fewer than two centres.
    """
    known = np.isfinite(contrasts[..., :1]) & (error > 0)[..., None] & np.isfinite(contrasts)
    height = np.where(known, contrasts / np.where(error > 0, error, 1.0)[..., None], -np.inf)
    place = centres[height.argmax(axis=-2)]
    return np.where(known.sum(axis=-2) > 1, place, np.nan)


def judge_height(scores: Floats, error: Floats, *, flips: Floats) -> float:
    """Share of sign flips whose highest contrast in standard errors, over all centres, is as high as that seen.

    Parameters
    ----------
    scores : ndarray, shape (n_groups, n_centres)
        Contributions of groups; centres that are NaN are left out.
    error : ndarray, shape (n_centres,)
        Standard errors.
    flips : ndarray, shape (1 + n_flips, n_groups)
        Signs; those of the first row are all 1.

    Returns
    -------
    float
        The p-value; NaN with fewer than two centres.
    """
    known = np.isfinite(scores).all(axis=0) & (error > 0)
    if known.sum() < 2:
        return float("nan")
    highest = (flips @ scores[:, known] / error[known]).max(axis=1)
    # What is equal up to rounding is as high.
    return float((highest >= highest[0] - 1e-9 * abs(highest[0])).mean())
