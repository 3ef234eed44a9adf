r"""What a normal approximation misses of each parameter: its lean and its tails, measured and put back.

A balance point far from where a model's trials lie is a ratio with a long tail on one side, and the
logarithm of a small standard deviation has one downwards. Along the line on which a parameter moves
and the others follow as the normal approximation says, the true log density is computed at a few
points; draws are then moved so that the parameter has that density and the ranks of all stay.

References
----------
Rue, Martino and Chopin, "Approximate Bayesian inference for latent Gaussian models", Journal of the
Royal Statistical Society B 71(2), 2009, section 3.2, for densities along such lines.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

type Floats = NDArray[np.float64]

_NODES = np.array([-2.5, -1.25, 1.25, 2.5])
_POWERS = np.array([1, 2, 3, 4])
_GRID = np.linspace(-6, 6, 481)
_FARTHEST = 5.0


def reshape(points: Floats, *, density: Callable[[Floats], float], mean: Floats, covariance: Floats) -> Floats:
    """Give every parameter of normal draws the density that it has along its own line.

    Parameters
    ----------
    points : ndarray, shape (n_draws, n_parameters)
        Draws of the normal approximation, or of a mixture of such around it.
    density : callable
        Log density at a point, up to a constant.
    mean, covariance : ndarray, shape (n_parameters,), (n_parameters, n_parameters)
        Of the normal approximation.

    Returns
    -------
    ndarray, shape (n_draws, n_parameters)
    """
    middle = density(mean)
    moved = np.empty_like(points)
    for i, width in enumerate(np.sqrt(np.diag(covariance))):
        line = covariance[:, i] / width
        heights = np.array([density(mean + node * line) for node in _NODES])
        standardised = np.clip((points[:, i] - mean[i]) / width, -_FARTHEST, _FARTHEST)
        moved[:, i] = mean[i] + width * _transport(heights - middle + _NODES**2 / 2, standardised)
    return moved


def _transport(excess: Floats, standardised: Floats) -> Floats:
    """Move standard normal values to the density exp(-t^2 / 2 + excess(t)); as they are where that fails."""
    if not np.isfinite(excess).all():
        return standardised
    bend = np.linalg.solve(_NODES[:, None] ** _POWERS, excess)
    inside = np.clip(_GRID, _NODES[0], _NODES[-1])
    # Beyond the outermost points the excess goes on as a straight line, and never grows faster than it fell.
    slope = (inside[:, None] ** (_POWERS - 1) * _POWERS) @ bend
    log_density = -(_GRID**2) / 2 + (inside[:, None] ** _POWERS) @ bend + slope * (_GRID - inside)
    density = np.exp(log_density - log_density.max())
    cumulated = np.cumsum(density)
    cumulated = (cumulated - 0.5 * density) / cumulated[-1]
    values: Floats = np.interp(norm.cdf(standardised), cumulated, _GRID)
    return values
