"""Whether P(text) falls all the way in dH: judged on a spline that is free to rise."""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.laws.bases import jumps, rising_splines, stack
from mfbayes.laws.catalogue import level_law, prepare, spline_law
from mfbayes.laws.curves import split_subjects
from mfbayes.laws.laplace import LawFit, fit_law
from mfbayes.laws.law import LinearLaw
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]

FALLS, UNCLEAR, NOT_MONOTONE = "falls", "unclear", "not monotone"

_DRAWS = 2000
_POINTS = 41
_QUANTILES = (0.025, 0.975)
_ACCUSED_BELOW = 0.01
_ACCUSED_RISE = 0.99
_FALLS_ABOVE = 0.5
_FALLS_FACTOR = 10.0
_FALLS_DROP = 0.975
_FEWEST_TRIALS = 10


def judge_monotonicity(
    trials: pd.DataFrame,
    *,
    seed: int,
    tolerance: float = 0.2,
    index: str = names.ENTROPY,
    priors: Priors | None = None,
) -> xr.Dataset:
    """Probability that the log-odds of following the text never rise by more than a tolerance.

    The curve is a free cubic spline in dH with knots every .5; the range is the middle 95 % of the
    subject's dH. The verdict of a subject is "not monotone" where that probability is below .01, the rise between
    some two points is above the tolerance with probability .99 (the first alone accuses flat models), and so is
    the rise between some two of 16 levels, over stretches of dH, that are fitted instead of the spline (which cannot
    fall within less than a knot or two, and swings about a curve that does); "falls" where the probability
    is above .5 and its odds are at least 10 times what they were before the data, and the curve
    is lower at the end than at the beginning by more than the tolerance with probability .975; and
    "unclear" otherwise, also with fewer than ten trials. docs/law.md has the measured error rates.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    seed : int
        The same seed gives the same numbers.
    tolerance : float
        In log-odds, > 0. A free curve is never exactly monotone, so that without it nothing would be.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that their dH is made of.
    priors : Priors, optional
        Only the groups' standard deviations are used.

    Returns
    -------
    Dataset
        Over `subject`: `p_monotone` and `prior_p_monotone` (the same without data), `bayes_factor` (ratio of
        their odds, for monotone), `p_rise` (of a rise by more than the tolerance between the two points where that is
        likeliest), `p_level_rise` (the same between two of the levels), `p_drop` (that the curve ends lower by more
        than the tolerance), `largest_rise` (posterior median, log-odds), `dH_lower`, `dH_upper` (the range),
        `n_trials`, `verdict`.
        NaN with fewer than ten trials, a constant dH, or where the mode was not found.

    Raises
    ------
    InputError
        As `mfbayes.laws.catalogue.prepare`; where the tolerance is not above zero.
    """
    if not 0 < tolerance < np.inf:
        raise InputError(f"Expected a tolerance in log-odds above zero, got {tolerance}.")
    design = prepare(trials, index=index)
    law = spline_law(design, falling=False)
    fit, levels = (fit_law(one, design, priors=priors) for one in (law, level_law(design)))
    rng = np.random.default_rng(seed)
    theta, before = _draw(fit, rng), _draw_prior(law, rng)
    of_levels = _draw(levels, rng)
    rows = []
    for subject, dH in enumerate(split_subjects(design)):
        row = dict.fromkeys(_MEASURES, np.nan)
        if fit.found and levels.found and dH.size >= _FEWEST_TRIALS and np.ptp(dH) > 0:
            row |= _measure(theta[:, subject], of_levels[:, subject], before, dH, tolerance=tolerance)
        rows.append(row | {"n_trials": dH.size, "verdict": _decide(row)})
    return xr.Dataset(
        {name: (names.SUBJECT, np.array([row[name] for row in rows])) for name in (*_MEASURES, "n_trials")}
        | {"verdict": (names.SUBJECT, np.array([row["verdict"] for row in rows], dtype=object))},
        coords={names.SUBJECT: np.array(design.subjects, dtype=object)},
        attrs={"tolerance": tolerance, "seed": seed, "index": index},
    )


_MEASURES = (
    "p_monotone",
    "prior_p_monotone",
    "bayes_factor",
    "p_rise",
    "p_level_rise",
    "p_drop",
    "largest_rise",
    "dH_lower",
    "dH_upper",
)


def largest_rise(curves: Floats) -> Floats:
    """The most that each curve rises from any point to any later one, shape (n_curves,).

    Parameters
    ----------
    curves : ndarray, shape (n_curves, n_points)

    Examples
    --------
    >>> largest_rise(np.array([[3.0, 1.0, 2.0, 0.0], [3.0, 2.0, 1.0, 0.0]]))
    array([1., 0.])
    """
    risen: Floats = (curves - np.minimum.accumulate(curves, axis=1)).max(axis=1)
    return risen


def likeliest_rise(curves: Floats, *, tolerance: float) -> float:
    """Largest share of curves, over all pairs of points, that rise by more than a tolerance from one to the other."""
    shares = [
        (curves[:, first + 1 :] - curves[:, first, None] > tolerance).mean(axis=0).max()
        for first in range(curves.shape[1] - 1)
    ]
    return float(max(shares))


def _draw(fit: LawFit, rng: np.random.Generator) -> Floats:
    """Coefficients, shape (n_draws, n_subjects, n_features)."""
    drawn: Floats = fit.theta(fit.draw(_DRAWS, rng=rng))
    return drawn


def _measure(theta: Floats, of_levels: Floats, before: Floats, dH: Floats, *, tolerance: float) -> dict[str, float]:
    lower, upper = np.quantile(dH, _QUANTILES)
    points = np.linspace(lower, upper, _POINTS)
    columns = stack([rising_splines(points)])
    curves = theta @ columns
    rise = largest_rise(curves)
    after, prior = (_share(rises <= tolerance) for rises in (rise, largest_rise(before @ columns)))
    return {
        "p_monotone": float((rise <= tolerance).mean()),
        "prior_p_monotone": prior,
        "bayes_factor": after / (1 - after) * (1 - prior) / prior,
        "p_rise": likeliest_rise(curves, tolerance=tolerance),
        "p_level_rise": likeliest_rise(of_levels @ stack([jumps(points)]), tolerance=tolerance),
        "p_drop": float((curves[:, 0] - curves[:, -1] > tolerance).mean()),
        "largest_rise": float(np.median(rise)),
        "dH_lower": float(lower),
        "dH_upper": float(upper),
    }


def _draw_prior(law: LinearLaw, rng: np.random.Generator) -> Floats:
    factor = np.linalg.cholesky(np.linalg.inv(law.prior_precision))
    drawn: Floats = law.prior_mean + rng.standard_normal((4 * _DRAWS, law.prior_mean.size)) @ factor.T
    return drawn


def _share(hits: NDArray[np.bool_]) -> float:
    """Share that is neither 0 nor 1, so that odds exist."""
    return float((hits.sum() + 0.5) / (hits.size + 1))


def _decide(row: dict[str, float]) -> str:
    rises = row["p_rise"] > _ACCUSED_RISE and row["p_level_rise"] > _ACCUSED_RISE
    if row["p_monotone"] < _ACCUSED_BELOW and rises:
        return NOT_MONOTONE
    falls = row["p_monotone"] > _FALLS_ABOVE and row["bayes_factor"] > _FALLS_FACTOR and row["p_drop"] > _FALLS_DROP
    return FALLS if falls else UNCLEAR
