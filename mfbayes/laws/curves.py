"""Curves of the laws in dH: P(text) for a trial of a new group, averaged over the effects of groups."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes import names
from mfbayes.design import Design
from mfbayes.errors import InputError
from mfbayes.laws.bases import rising_splines, stack
from mfbayes.laws.catalogue import DH, FREE_SPLINE, MONOTONE_SPLINE, build_law, prepare, spline_law
from mfbayes.laws.laplace import LawFit, fit_law
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]

CURVES = (DH, MONOTONE_SPLINE, FREE_SPLINE)
GRID = np.linspace(-2, 2, 81)
_DRAWS = 400
_NODES = 15
_QUANTILES = (0.005, 0.995)


def law_curves(
    trials: pd.DataFrame,
    *,
    seed: int,
    ci_prob: float = 0.95,
    index: str = names.ENTROPY,
    priors: Priors | None = None,
) -> xr.Dataset:
    """P(text) along dH under the logistic law, a spline that only falls, and a free one.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    seed : int
        The same seed gives the same numbers.
    ci_prob : float
        Probability of the pointwise equal-tailed bands, in (0, 1).
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that their dH is made of.
    priors : Priors, optional
        Only the groups' standard deviations are used.

    Returns
    -------
    Dataset
        `mean`, `lower`, `upper` over (law, subject, dH), averaged over the effects of groups; NaN outside
        the middle 99 % of a subject's dH, and where a law's mode was not found.

    Raises
    ------
    InputError
        As `mfbayes.laws.catalogue.prepare`; where ci_prob is no probability.
    """
    check_probability(ci_prob)
    design = prepare(trials, index=index)
    seen = np.array([_is_seen(own) for own in split_subjects(design)])
    shares = []
    for number, label in enumerate(CURVES):
        if label == DH:
            law, columns = build_law(label, trials, design, index=index), _logistic_columns(design)
        else:
            law, columns = spline_law(design, falling=label == MONOTONE_SPLINE), stack([rising_splines(GRID)])
        fit = fit_law(law, design, priors=priors)
        points = fit.draw(_DRAWS, rng=np.random.default_rng([seed, number]))
        by_subject = [predict(fit, points, columns, subject=subject) for subject in range(design.n_subjects)]
        share = average_share(np.stack(by_subject, axis=1), fit.spread(points))
        tails = np.quantile(share, [(1 - ci_prob) / 2, (1 + ci_prob) / 2], axis=0)
        shares.append(np.where(seen & fit.found, np.stack([share.mean(axis=0), *tails]), np.nan))
    mean, lower, upper = np.stack(shares, axis=1)
    dims = ("law", names.SUBJECT, names.DH)
    return xr.Dataset(
        {"mean": (dims, mean), "lower": (dims, lower), "upper": (dims, upper)},
        coords={
            "law": np.array(CURVES, dtype=object),
            names.SUBJECT: np.array(design.subjects, dtype=object),
            names.DH: GRID,
        },
        attrs={"ci_prob": ci_prob, "seed": seed, "index": index},
    )


def predict(fit: LawFit, points: Floats, columns: Floats, *, subject: int) -> Floats:
    """Log-odds of a subject at columns (n_features, n) for each draw, shape (n_draws, n)."""
    law = fit.target.law
    log_odds: Floats = law.coefficients(fit.theta(points)[:, subject]) @ columns
    return log_odds


def average_share(log_odds: Floats, spread: Floats) -> Floats:
    """P(text) averaged over normal effects of groups by Gauss-Hermite quadrature, shape of `log_odds`.

    Parameters
    ----------
    log_odds : ndarray, shape (n_draws, ...)
    spread : ndarray, shape (n_draws,)
        Standard deviation of the effects together.
    """
    nodes, weights = hermegauss(_NODES)
    wide = spread.reshape(-1, *[1] * (log_odds.ndim - 1))
    share = np.zeros_like(log_odds)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        share += weight * expit(log_odds + node * wide)
    return share


def split_subjects(design: Design) -> Iterator[Floats]:
    """DH of the trials of each subject."""
    for subject in range(design.n_subjects):
        yield design.uncertainty[design.trial_subject == subject]


def check_probability(ci_prob: float) -> None:
    """Refuse what is no probability of an interval."""
    if not 0 < ci_prob < 1:
        raise InputError(f"Expected ci_prob between 0 and 1, got {ci_prob}.")


def _is_seen(dH: Floats) -> NDArray[np.bool_]:
    if not dH.size:
        return np.zeros(GRID.size, dtype=bool)
    lower, upper = np.quantile(dH, _QUANTILES)
    return np.asarray((lower <= GRID) & (upper >= GRID))


def _logistic_columns(design: Design) -> Floats:
    dH = design.uncertainty
    return stack([((GRID - dH.mean()) / (float(dH.std()) or 1.0))[None, :]])
