"""Summaries of redrawn estimates, and the labels of subjects and of all of them together."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.clusters import FEW_GROUPS, expand_tails
from mfbayes.estimates.draws import name_subjects

type Floats = NDArray[np.float64]
type Flags = NDArray[np.bool_]

# A region must be there in so many of the draws for an interval over them to mean something.
_ENOUGH = 0.9


def bound(
    values: Floats, *, ci_prob: float, n_groups: int, usable: Flags | None = None
) -> tuple[Floats, Floats, Floats, Floats]:
    """Estimate, bounds and probability to be above zero of redrawn values.

    Parameters
    ----------
    values : ndarray, shape (..., 1 + n_draws)
        The estimate, then its draws.
    ci_prob : float
        Probability of the interval: percentiles, expanded as Student's t is wider than the normal.
    n_groups : int
        Groups there are, of which one less was drawn for each draw.
    usable : ndarray of bool, shape (...), optional
        Where bounds may be given.

    Returns
    -------
    mean, lower, upper, probability : ndarray, shape (...)
        Bounds and probability are NaN where they may not be given or a tenth of the draws is NaN.
    """
    mean, draws = values[..., 0], values[..., 1:]
    enough = np.isfinite(mean) & (np.isfinite(draws).mean(axis=-1) >= _ENOUGH)
    if usable is not None:
        enough &= usable
    if n_groups < FEW_GROUPS:
        enough &= False
    ends = expand_tails(ci_prob, max(n_groups, 2), n_drawn=max(n_groups - 1, 1))
    lower, upper, probability = (np.full(mean.shape, np.nan) for _ in range(3))
    for place in zip(*np.nonzero(enough), strict=True):
        finite = draws[place][np.isfinite(draws[place])]
        lower[place], upper[place] = np.quantile(finite, ends)
        probability[place] = (finite > 0).mean() + (finite == 0).mean() / 2
    return mean, lower, upper, probability


def pool_subjects(values: Floats, usable: Flags) -> Floats:
    """Mean over usable subjects with equal weights, appended as one subject more.

    Parameters
    ----------
    values : ndarray, shape (n_subjects, ..., 1 + n_draws)
        Estimates and their draws.
    usable : ndarray of bool, shape (n_subjects, ...)
        Which of them have intervals.

    Returns
    -------
    ndarray, shape (n_subjects + 1, ..., 1 + n_draws)
        A draw in which a usable subject is NaN, rare by what makes it usable, is the mean of the others.
    """
    inside = usable[..., None]
    there = inside & np.isfinite(values)
    n = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    mean = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return np.concatenate([values, mean[None]])


def choose_pooled(usable: Flags) -> Flags:
    """Which subjects each contrast is pooled over: the same in all, so that "balanced" is the mean of its two sides.

    Parameters
    ----------
    usable : ndarray of bool, shape (n_subjects, ..., n_contrasts)
        Which subjects have each contrast, the balanced one first.

    Returns
    -------
    ndarray of bool, shape (n_subjects, ..., n_contrasts)
        Those that have the balanced one, in every contrast that they have; where none has it, as they are.
    """
    whole = usable[..., :1]
    return usable & (whole | ~whole.any(axis=0))


def pool_flags(usable: Flags) -> Flags:
    """Whether each subject is usable, and at last whether any of them is; shape (n_subjects + 1, ...)."""
    return np.concatenate([usable, usable.any(axis=0)[None]])


def align(estimate: xr.Dataset, points: xr.Dataset) -> xr.Dataset:
    """The same estimate over all subjects of a fit, with their labels, and over all together where it has that.

    Subjects without traces are NaN, counts 0 and words empty.
    """
    subjects = points[names.SUBJECT].to_numpy().astype(object)
    if names.POOLED in estimate[names.SUBJECT].to_numpy():
        subjects = np.append(subjects, names.POOLED)
    empty: dict[object, object] = {
        name: 0 if values.dtype.kind in "iu" else "" if values.dtype.kind in "OU" else np.nan
        for name, values in estimate.data_vars.items()
    }
    filled = estimate.reindex({names.SUBJECT: subjects}, fill_value=empty)
    return filled.assign_coords(name_subjects(points, subjects))
