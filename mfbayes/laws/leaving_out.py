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
from arviz_stats.base import array_stats
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.special import logsumexp

from mfbayes.laws.laplace import LawFit, draw_normal
from mfbayes.marginal.quadratic import expand

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

    Weights are Pareto-smoothed importance sampling. Where their k-hat exceeds .7 (or the lower bound
    that so few draws ask for), the group's own quadratic is taken out of the posterior's instead: one
    Newton step to the mode without the group, and fresh draws from there.

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
    by_draw = np.array([fit.target.by_group(point) for point in points]).T
    log_weights, k_hat = array_stats.psislw(-by_draw)
    elpd = logsumexp(log_weights + by_draw, axis=1)
    lpd = logsumexp(by_draw, axis=1) - np.log(n_draws)
    limit = min(1 - 1 / np.log10(n_draws), MAX_K_HAT)
    for group in np.flatnonzero(~(k_hat <= limit)):
        elpd[group] = _foretell(fit, int(group), n_draws=n_draws, rng=rng)
    return LeftOut(elpd, lpd, k_hat)


def _foretell(fit: LawFit, group: int, *, n_draws: int, rng: np.random.Generator) -> float:
    """Log predictive density of a group from the fit with that group's quadratic taken out."""
    alone = fit.target.restrict(group)
    quadratic = expand(alone.likelihood_at, fit.mode)
    told = fit.factor @ fit.factor.T
    left = told - quadratic.curvature
    # A group far from normal can seem to tell more than there is; then only the mode is moved.
    factor = np.linalg.cholesky(left if np.linalg.eigvalsh(left)[0] > 0.02 * np.linalg.eigvalsh(told)[0] else told)
    mode = fit.mode - cho_solve((factor, True), quadratic.gradient)
    by_draw = [alone.by_group(point)[0] for point in draw_normal(mode, factor, n_draws, rng=rng)]
    return float(logsumexp(by_draw) - np.log(n_draws))

