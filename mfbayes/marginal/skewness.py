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
_GRID = np.linspace(-12, 12, 961)
_FARTHEST = 4.0


def reshape(
    points: Floats, *, log_density: Callable[[Floats], Floats], mean: Floats, covariance: Floats
) -> tuple[Floats, Floats]:
    """Give every parameter of normal draws the density that it has along its own line.

    Parameters
    ----------
    points : ndarray, shape (n_draws, n_parameters)
        Draws of the normal approximation, or of a mixture of such around it.
    log_density : callable
        From points, shape (n, n_parameters), to their log densities, shape (n,), up to a constant.
    mean, covariance : ndarray, shape (n_parameters,), (n_parameters, n_parameters)
        Of the normal approximation.

    Returns
    -------
    moved : ndarray, shape (n_draws, n_parameters)
        The draws.
    log_stretch : ndarray, shape (n_draws,)
        Logarithm of how much a volume around each draw has grown.
    """
    widths = np.sqrt(np.diag(covariance))
    lines = (mean + _NODES[:, None] * line for line in (covariance / widths).T)
    heights = log_density(np.concatenate([mean[None], *lines]))
    excesses = heights[1:].reshape(len(mean), -1) - heights[0] + _NODES**2 / 2
    moved, log_stretch = np.empty_like(points), np.zeros(len(points))
    for i, (width, excess) in enumerate(zip(widths, excesses, strict=True)):
        standardised = (points[:, i] - mean[i]) / width
        values, stretch = _transport(excess, standardised)
        moved[:, i] = mean[i] + width * values
        log_stretch += stretch
    return moved, log_stretch


def _transport(excess: Floats, standardised: Floats) -> tuple[Floats, Floats]:
    """Move standard normal values to the density exp(-t^2 / 2 + excess(t)), and the log derivative of the move.

    They stay as they are where the excess is not finite.
    """
    if not np.isfinite(excess).all():
        return standardised, np.zeros_like(standardised)
    bend = np.linalg.solve(_NODES[:, None] ** _POWERS, excess)
    inside = np.clip(_GRID, _NODES[0], _NODES[-1])
    # Beyond the outermost points the excess goes on as a straight line, and never grows faster than it fell.
    slope = (inside[:, None] ** (_POWERS - 1) * _POWERS) @ bend
    log_density = -(_GRID**2) / 2 + (inside[:, None] ** _POWERS) @ bend + slope * (_GRID - inside)
    density = np.exp(log_density - log_density.max())
    cumulated = np.cumsum(density)
    cumulated = (cumulated - 0.5 * density) / cumulated[-1]
    inner = np.clip(standardised, -_FARTHEST, _FARTHEST)
    values = np.interp(norm.cdf(inner), cumulated, _GRID)
    log_total = np.log(density.sum() * (_GRID[1] - _GRID[0])) + log_density.max()
    log_derivative = norm.logpdf(inner) - np.interp(values, _GRID, log_density) + log_total
    # Farther out they move along with what is innermost there.
    return values + (standardised - inner) * np.exp(log_derivative), log_derivative
