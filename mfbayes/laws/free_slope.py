"""The law put to the test: whether P(text) falls in dH when the fit does not force it to.

The following model has slopes above zero by construction. Here the slope is free.

References
----------
Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference", Journal of Human Resources
50(2), 2015, doi:10.3368/jhr.50.2.317.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from scipy.stats import t as student

type Law = Literal["falls", "unclear", "rises", "unknown"]

_PRIOR_SD = 5.0
_STEPS = 50


class FreeSlope(NamedTuple):
    """Change of the log-odds of following the text as dH rises by one, with its interval."""

    slope: float
    lower: float
    upper: float

    @property
    def law(self) -> Law:
        """Whether the slope is clearly below zero ("falls"), clearly above ("rises"), neither, or beyond telling."""
        if np.isnan(self.lower):
            return "unknown"
        if self.upper < 0:
            return "falls"
        return "rises" if self.lower > 0 else "unclear"


def estimate_free_slope(dH: ArrayLike, is_text: ArrayLike, group: ArrayLike, *, ci_prob: float = 0.95) -> FreeSlope:
    """Logistic slope of P(text) in dH, of either sign, with a cluster-robust interval.

    Intercept and slope have N(0, 5) priors, which only matter where text and image choices separate
    perfectly or dH hardly varies. The interval treats the trials of a group as one cluster, corrects for a small
    number of them (CR1), adds what the priors' pull may be wrong by and takes its quantile from Student's t with
    n_groups - 1 degrees of freedom. It is NaN with a single group, where dH is constant and where every trial follows
    the same side: none of these can tell.

    Parameters
    ----------
    dH, is_text, group : array_like, shape (n_trials,)
        Relative uncertainty, whether the text was followed, and the group of each trial.
    ci_prob : float
        Probability of the interval.

    Examples
    --------
    >>> found = estimate_free_slope([-1, 1, -1, 1, -1, 1], [1, 0, 1, 0, 0, 1], ["a", "a", "b", "b", "c", "c"])
    >>> round(found.slope, 2), found.law
    (-0.67, 'unclear')
    """
    design = np.column_stack([np.ones(len(np.atleast_1d(dH))), np.asarray(dH, dtype=np.float64)])
    hits = np.asarray(is_text, dtype=np.float64)
    if not hits.size:
        return FreeSlope(np.nan, np.nan, np.nan)
    penalty = np.eye(2) / _PRIOR_SD**2
    beta = np.zeros(2)
    for _ in range(_STEPS):
        p = expit(design @ beta)
        step = np.linalg.solve(_information(design, p) + penalty, design.T @ (hits - p) - penalty @ beta)
        beta = beta + step * min(1.0, 2.0 / float(np.abs(step).max() or 1.0))
        if np.abs(step).max() < 1e-10:
            break
    p = expit(design @ beta)
    codes, index = np.unique(np.asarray(group), return_inverse=True)
    n_groups, n_trials = codes.size, hits.size
    if n_groups < 2 or hits.min() == hits.max() or np.ptp(design[:, 1]) == 0:
        return FreeSlope(float(beta[1]), np.nan, np.nan)
    scores = np.zeros((n_groups, 2))
    np.add.at(scores, index, design * (hits - p)[:, None])
    bread = np.linalg.inv(_information(design, p) + penalty)
    correction = n_groups / (n_groups - 1) * (n_trials - 1) / max(n_trials - 2, 1)
    # The pull's variance is that of the coefficients a priori: where trials say nothing, the interval is the prior's.
    variance = float((bread @ (correction * scores.T @ scores + penalty) @ bread)[1, 1])
    reach = float(student.ppf((1 + ci_prob) / 2, n_groups - 1)) * variance**0.5
    return FreeSlope(float(beta[1]), float(beta[1]) - reach, float(beta[1]) + reach)


def _information(design: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    information: NDArray[np.float64] = design.T @ (design * (p * (1 - p))[:, None])
    return information
