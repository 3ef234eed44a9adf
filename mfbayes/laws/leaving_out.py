"""Leave-one-group-out: how well a law foretells the choices in a group that it has not seen.

References
----------
Vehtari, Gelman and Gabry, "Practical Bayesian model evaluation using leave-one-out cross-validation
and WAIC", Statistics and Computing 27(5), 2017, doi:10.1007/s11222-016-9696-4.
Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto Smoothed Importance Sampling", Journal of Machine
Learning Research 25(72), 2024, arXiv:1507.02646.
"""

from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.special import expit, logsumexp

from mfbayes.laws.laplace import LawFit, Target, draw_normal

type Floats = NDArray[np.float64]

MAX_K_HAT = 0.7


class LeftOut(NamedTuple):
    """Log predictive density of each group from all the others.

    Attributes
    ----------
    elpd, lpd : ndarray, shape (n_groups,)
        From the others, and from all with the group itself.
    k_hat : ndarray, shape (n_groups,)
        Shape of the importance weights' tail; above .7 they were not used.
    """

    elpd: Floats
    lpd: Floats
    k_hat: Floats


def leave_groups_out(fit: LawFit, *, n_draws: int, rng: np.random.Generator) -> LeftOut:
    """Weigh draws so that they stand for a fit without the group; where they cannot, move the fit.

    Weights are Pareto-smoothed importance sampling. Where their k-hat exceeds .7, the group's own
    quadratic is taken out of the posterior's instead: one Newton step to the mode without the group,
    and fresh draws from there.

    Parameters
    ----------
    fit : LawFit
        Of all groups.
    n_draws : int
        Draws to weigh.
    rng : numpy.random.Generator
        Source of randomness.
    """
    points = fit.draw(n_draws, rng=rng)
    by_draw = fit.target.by_group(points).T
    # Takes log-likelihoods; the weights are their inverses.
    log_weights, k_hat = array_stats.psislw(by_draw)  # type: ignore[no-untyped-call]
    elpd = logsumexp(log_weights + by_draw, axis=1)
    lpd = logsumexp(by_draw, axis=1) - np.log(n_draws)
    for group in np.flatnonzero(~(k_hat <= MAX_K_HAT)):
        elpd[group] = _foretell(fit, int(group), n_draws=n_draws, rng=rng)
    return LeftOut(elpd, lpd, k_hat)


def _foretell(fit: LawFit, group: int, *, n_draws: int, rng: np.random.Generator) -> float:
    """Log predictive density of a group from the fit with that group's quadratic taken out."""
    alone = fit.target.restrict(group)
    _, gradient = alone.likelihood_at(fit.mode)
    told = fit.factor @ fit.factor.T
    try:
        factor = np.linalg.cholesky(told - tell(alone, fit.mode))
    except np.linalg.LinAlgError:
        # A group far from normal can seem to tell more than there is; then only the mode is moved.
        factor = fit.factor
    mode = fit.mode - cho_solve((factor, True), gradient)
    by_draw = alone.by_group(draw_normal(mode, factor, n_draws, rng=rng))
    return float(logsumexp(by_draw) - np.log(n_draws))


def tell(alone: Target, point: Floats) -> Floats:
    """What one group tells of the coefficients: its expected curvature, effects integrated out; (n, n).

    X'WX - X'W Z (Sigma^-1 + Z'WZ)^-1 Z'WX with the weights W at the mode of the effects. Never negative,
    and zero for the standard deviations.
    """
    theta, scales = alone.split(point)
    law, design = alone.law, alone.likelihood.design
    offset, coefficients = law.offset(theta), law.coefficients(theta)
    scores, weights = alone.likelihood.settle(coefficients, scales, offset=offset)
    of_group, of_branch, of_cell = scales**2
    same_branch = design.cell_branch[:, None] == design.cell_branch
    together = of_group + of_branch * same_branch + of_cell * np.eye(scores.size)
    effects = (together @ scores)[design.trial_cell]
    log_odds = (coefficients[design.trial_subject] * law.features.T).sum(axis=1) + effects
    p = expit(log_odds + offset if offset.size else log_odds)
    slopes = law.jacobian(theta)
    weighed = slopes * (p * (1 - p))
    known = together @ np.linalg.inv(np.eye(scores.size) + weights[:, None] * together)
    n = theta.shape[1]
    curvature = np.zeros((point.size, point.size))
    by_cell = np.zeros((point.size, scores.size))
    for cell, subject in enumerate(design.cell_subject):
        own, block = design.trial_cell == cell, slice(subject * n, (subject + 1) * n)
        curvature[block, block] = weighed[:, own] @ slopes[:, own].T
        by_cell[block, cell] = weighed[:, own].sum(axis=1)
    result: Floats = curvature - by_cell @ (known + known.T) @ by_cell.T / 2
    return result
