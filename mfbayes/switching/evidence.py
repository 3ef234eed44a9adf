"""The evidence of the hazard model: how likely traces are with every parameter integrated out, by Laplace's method.

In the coordinates of `mfbayes.switching.informed` the posterior is about standard normal, which is where the method is
at its best. Standard deviations enter by the normal quantile of their prior, so that what the data do not tell is
normal, too, and those near zero have a mode.

References
----------
Tierney and Kadane, "Accurate Approximations for Posterior Moments and Marginal Densities", Journal of the American
Statistical Association 81, 1986: errors of a ratio of two such integrals cancel to first order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtri_exp

from mfbayes.switching.informed import Coordinates
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.operator import SwitchingDensity
from mfbayes.switching.structure import Structure

type Floats = NDArray[np.float64]

_ROUNDS, _STEPS = 4, 20
_SETTLED = 1e-8  # nats that another step would win
_WIDTH = 1e-4
_REFUSED = 1e3  # nats below the lowest value met, where there is none


class Integral(NamedTuple):
    """An integral over all parameters.

    Attributes
    ----------
    log_evidence : float
        In nats; NaN where the posterior has no mode that its curvature vouches for.
    mode : ndarray, shape (n,)
        Prior normal quantiles of the standard deviations, then coordinates.
    precision : ndarray, shape (n, n)
        Negative curvature there.
    """

    log_evidence: float
    mode: Floats
    precision: Floats


class Posterior:
    """Log-posterior, up to a constant, of prior normal quantiles of standard deviations and of coordinates.

    Parameters
    ----------
    likelihood : SwitchingLikelihood
        Of the pairs.
    structure, place
        As `SwitchingDensity` takes them.
    """

    def __init__(self, likelihood: SwitchingLikelihood, structure: Structure, place: Coordinates) -> None:
        self._density = SwitchingDensity(likelihood, structure, place)
        self._scales = structure.scale_priors
        self.n_scales = self._scales.size
        self.n = self.n_scales + structure.n_parts

    def evaluate(self, point: Floats) -> tuple[float, Floats]:
        """Value and gradient at a point, shape (n,); NaN where a group's effects have no mode.

        The value is the log-likelihood plus the log-density of standard normals, less what the latter is at zero.
        """
        quantile, coordinate = point[: self.n_scales], point[self.n_scales :]
        standardised = -ndtri_exp(log_ndtr(-quantile) - np.log(2))
        value, _, by_spread, by_coordinate = self._density.evaluate(standardised * self._scales, coordinate)
        slope = np.exp((standardised**2 - quantile**2) / 2) / 2
        gradient = np.concatenate([by_spread * self._scales * slope, by_coordinate]) - point
        return value - 0.5 * float(point @ point), gradient

    def place(self, spread: Floats) -> Floats:
        """The point of standard deviations, shape (n_scales,), at coordinates of zero."""
        return np.concatenate(
            [-ndtri_exp(log_ndtr(-spread / self._scales) + np.log(2)), np.zeros(self.n - self.n_scales)]
        )

    def measure_precision(self, point: Floats) -> Floats:
        """Negative second derivatives at a point, from differences of the gradient; shape (n, n)."""
        here = self.evaluate(point)[1]
        precision = np.stack([(here - self.evaluate(point + move)[1]) / _WIDTH for move in _WIDTH * np.eye(self.n)])
        return (precision + precision.T) / 2


def integrate(posterior: Posterior, start: Floats, precision: Floats | None = None) -> Integral:
    """Climb to the mode and integrate around it.

    Parameters
    ----------
    posterior : Posterior
        What is integrated.
    start : ndarray, shape (n,)
        Where to start from.
    precision : ndarray, shape (n, n), optional
        A guess of the negative curvature: the better, the faster, and nothing else.

    Returns
    -------
    Integral
        Its precision is that at the mode itself, from where another of Newton's steps would win nothing.
    """
    mode, known = start, precision
    for _ in range(_ROUNDS):
        mode = _climb(posterior, mode, known)
        measured = posterior.measure_precision(mode)
        try:
            lower = cholesky(measured, lower=True)
        except (LinAlgError, ValueError):
            # A saddle or nothing finite: on from there in plain coordinates.
            known = None
            continue
        value, gradient = posterior.evaluate(mode)
        if gradient @ cho_solve((lower, True), gradient) < _SETTLED:
            return Integral(float(value - np.log(np.diag(lower)).sum()), mode, measured)
        known = measured
    return Integral(np.nan, mode, measured)


def _climb(posterior: Posterior, start: Floats, precision: Floats | None) -> Floats:
    """Ascend from a point in coordinates in which the precision is one, then by Newton's steps as far as they win."""
    scale, lowest = np.eye(posterior.n), -np.inf
    if precision is not None:
        scale = solve_triangular(cholesky(precision, lower=True), scale, lower=True).T

    def descend(step: Floats) -> tuple[float, Floats]:
        nonlocal lowest
        value, gradient = posterior.evaluate(start + scale @ step)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            # Low enough to be left, and not so low that a line search learns nothing from it.
            return _REFUSED + lowest, np.zeros_like(step)
        lowest = max(lowest, -value)
        return -value, -scale.T @ gradient

    options = {"maxcor": 30, "ftol": 1e-13, "gtol": 1e-6, "maxiter": 1000}
    found = minimize(descend, np.zeros(posterior.n), jac=True, method="L-BFGS-B", options=options)
    mode: Floats = start + scale @ found.x
    if precision is None:
        return mode
    value, gradient = posterior.evaluate(mode)
    for _ in range(_STEPS):
        step = scale @ (scale.T @ gradient)
        further, at = posterior.evaluate(mode + step)
        if not (further > value and np.isfinite(at).all()):
            break
        mode, value, gradient = mode + step, further, at
    return mode
