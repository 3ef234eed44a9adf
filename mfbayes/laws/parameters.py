"""Parameters of the laws that have some worth reading: slopes, balance points, the ideal arbiter's kappa and r.

References
----------
Fieller, "Some Problems in Interval Estimation", Journal of the Royal Statistical Society B 16(2), 1954,
doi:10.1111/j.2517-6161.1954.tb00159.x.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.special import expit
from scipy.stats import norm

from mfbayes import names
from mfbayes.design import Design
from mfbayes.laws.catalogue import (
    DH,
    IDEAL_ARBITER,
    LOG_RATIO,
    TWO_ENTROPIES,
    build_law,
    list_laws,
    prepare,
    raw_columns,
)
from mfbayes.laws.curves import check_probability
from mfbayes.laws.laplace import LawFit, fit_law
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]

LEVEL, SLOPE, BALANCE_POINT = "level", "slope", "balance point"
TEXT_SLOPE, IMAGE_SLOPE, SUM_OF_SLOPES = "text slope", "image slope", "sum of slopes"
KAPPA, R = "kappa", "r"
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    DH: (LEVEL, SLOPE, BALANCE_POINT),
    LOG_RATIO: (LEVEL, SLOPE, BALANCE_POINT),
    TWO_ENTROPIES: (LEVEL, TEXT_SLOPE, IMAGE_SLOPE, SUM_OF_SLOPES),
    IDEAL_ARBITER: (LEVEL, KAPPA, R),
}
"""Parameters of each law."""


def law_parameters(
    trials: pd.DataFrame,
    *,
    ci_prob: float = 0.95,
    index: str = names.ENTROPY,
    priors: Priors | None = None,
) -> xr.Dataset:
    r"""Coefficients of the laws in dH, in the log ratio, in two entropies and of the ideal arbiter.

    With effects of groups u, of groups on one model v, and so on, log-odds of following the text are

    - dH, log ratio: level + slope x, x = dH or log(H_text / H_image); the balance point is the x where
      level + slope x = 0,
    - two entropies: level + text slope H_text + image slope H_image; the sum of slopes is zero where both
      entropies weigh alike and against each other,
    - ideal arbiter: level + kappa (log q_text - log q_image), q = r p_image_only + (1 - r) p_text_only,

    plus u + v. Intervals are equal-tailed, from the normal approximation to the posterior at its mode, effects of
    groups integrated out and their standard deviations among its parameters. That of r is made for logit r; that
    of a balance point, the ratio of two coefficients, is Fieller's. Priors are those of the comparison: N(0, 2.5)
    on the level at mean uncertainty and on slopes a standard deviation of x; N(1, 1) on kappa, N(0, 1.5) on logit r.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`; the arbiter needs the columns `names.UNIMODAL_PROBABILITIES`, too.
    ci_prob : float
        Probability of the intervals, in (0, 1).
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty, in the place of both entropies.
    priors : Priors, optional
        Only the groups' standard deviations are used.

    Returns
    -------
    Dataset
        `median`, `lower`, `upper` over (subject, law, parameter). Level in log-odds, slopes in log-odds a unit of
        their uncertainty (nats) or of x, balance points in units of x, kappa without a unit, r from 0 to 1. NaN where
        the law has no such parameter, trials lack its columns or its mode was not found; where a subject's choices are
        all of one side, or its trials do not tell the coefficients apart, such as with an uncertainty that does not
        vary; and for a balance point where the interval of the slope reaches zero. Attributes `ci_prob`, `index`.

    Raises
    ------
    InputError
        As `mfbayes.laws.catalogue.prepare`; where ci_prob is no probability.
    """
    check_probability(ci_prob)
    design = prepare(trials, index=index)
    reach = float(norm.ppf((1 + ci_prob) / 2))
    parameters = list(dict.fromkeys(name for own in PARAMETERS.values() for name in own))
    found = np.full((3, design.n_subjects, len(PARAMETERS), len(parameters)), np.nan)
    for number, (label, own) in enumerate(PARAMETERS.items()):
        if label not in list_laws(trials):
            continue
        fit = fit_law(build_law(label, trials, design, index=index), design, priors=priors)
        if not fit.found:
            continue
        weights = np.eye(3) if label == IDEAL_ARBITER else _weigh(raw_columns(label, trials, design, index=index))
        places = [parameters.index(name) for name in own]
        for subject in np.flatnonzero(_is_told(fit, design)):
            mean, covariance = _read_subject(fit, int(subject), weights)
            found[:, subject, number, places] = _describe(label, mean, covariance, reach=reach)
    dims = (names.SUBJECT, "law", "parameter")
    return xr.Dataset(
        {name: (dims, values) for name, values in zip(("median", "lower", "upper"), found, strict=True)},
        coords={
            names.SUBJECT: np.array(design.subjects, dtype=object),
            "law": np.array(list(PARAMETERS), dtype=object),
            "parameter": np.array(parameters, dtype=object),
        },
        attrs={"ci_prob": ci_prob, "index": index},
    )


def find_zero(mean: Floats, covariance: Floats, *, reach: float) -> tuple[float, float, float]:
    """Where level + slope x is zero, with Fieller's interval; NaN where the slope's own interval reaches zero.

    Parameters
    ----------
    mean : ndarray, shape (2,)
        Level and slope.
    covariance : ndarray, shape (2, 2)
    reach : float
        Standard deviations to either side.

    Examples
    --------
    >>> find_zero(np.array([1.0, -2.0]), np.diag([0.04, 0.0]), reach=2.0)
    (0.5, 0.3, 0.7)
    >>> find_zero(np.array([1.0, -2.0]), np.eye(2), reach=2.0)
    (nan, nan, nan)
    """
    # Points x with (level + slope x)^2 <= reach^2 times its variance lie between the roots of a quadratic.
    constant, half_linear, _, square = (np.outer(mean, mean) - reach**2 * covariance).ravel()
    if square <= 0:
        return np.nan, np.nan, np.nan
    root = np.sqrt(max(half_linear**2 - square * constant, 0.0))
    ends = (-half_linear - root) / square, (-half_linear + root) / square
    return float(-mean[0] / mean[1]), float(ends[0]), float(ends[1])


def _weigh(columns: list[Floats]) -> Floats:
    """From coefficients of standardised columns to those of the columns themselves, level first."""
    centres = np.array([values.mean() for values in columns])
    scales = np.array([float(values.std()) or 1.0 for values in columns])
    weights = np.diag([1.0, *1 / scales])
    weights[0, 1:] = -centres / scales
    return weights


def _is_told(fit: LawFit, design: Design) -> NDArray[np.bool_]:
    """Whether the trials of each subject tell its coefficients apart, and not by the prior alone."""
    slopes = fit.target.law.jacobian(fit.theta(fit.mode[None])[0])
    told = []
    for subject in range(design.n_subjects):
        own = design.trial_subject == subject
        is_text = design.is_text[own]
        varies = is_text.size > 0 and is_text.min() < is_text.max()
        told.append(varies and np.linalg.matrix_rank(slopes[:, own]) == len(slopes))
    return np.array(told)


def _read_subject(fit: LawFit, subject: int, weights: Floats) -> tuple[Floats, Floats]:
    """Mean and covariance of weighed coefficients of a subject."""
    n = fit.target.shape[1]
    block = slice(subject * n, (subject + 1) * n)
    covariance = cho_solve((fit.factor, True), np.eye(fit.mode.size)[:, block])[block]
    return weights @ fit.mode[block], weights @ covariance @ weights.T


def _describe(label: str, mean: Floats, covariance: Floats, *, reach: float) -> Floats:
    """Median and bounds of a law's parameters from its coefficients, shape (3, n_parameters)."""
    if label == TWO_ENTROPIES:
        weights = np.vstack([np.eye(3), [0.0, 1.0, 1.0]])
        mean, covariance = weights @ mean, weights @ covariance @ weights.T
    away = reach * np.sqrt(np.diag(covariance))
    result = np.stack([mean, mean - away, mean + away])
    if label == IDEAL_ARBITER:
        result[:, 2] = expit(result[:, 2])
    if label in (DH, LOG_RATIO):
        result = np.column_stack([result, find_zero(mean, covariance, reach=reach)])
    return result
