"""Bases: smooth functions of dH and of the plane of both entropies, as columns to be weighed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline

from mfbayes.uncertainty import relative_uncertainty

type Floats = NDArray[np.float64]

N_STEPS = 10
N_LEVELS = 16
_DEGREE = 3
_EDGE = 2.0
_FALL_MEAN, _FALL_SD = 0.3, 1.2

_ACROSS, _ALONG = 5, 4
_AMPLITUDE = 1.0
_REACH = 0.8
_JITTER = 1e-6


def rising_splines(dH: ArrayLike) -> Floats:
    """Ten I-splines in dH: each rises once, from one constant to another, over a range of two.

    They are the tail sums of the cubic B-splines with knots every .5 from -2 to 2, shifted to be zero
    at dH = 0. A weighted sum with no positive weight falls everywhere; with free weights and a level
    it is any cubic spline on these knots.

    Parameters
    ----------
    dH : array_like, shape (n,)
        In [-2, 2].

    Returns
    -------
    ndarray, shape (10, n)

    Examples
    --------
    >>> rising_splines([0.0, 2.0]).round(3)[:, 0].any(), bool((rising_splines([2.0]) > rising_splines([-2.0])).all())
    (np.False_, True)

    References
    ----------
    Ramsay, "Monotone Regression Splines in Action", Statistical Science 3(4), 1988, doi:10.1214/ss/1177012761.
    """
    return _tail_sums(np.asarray(dH, dtype=np.float64)) - _tail_sums(np.zeros(1))


def _tail_sums(dH: Floats) -> Floats:
    width = 2 * _EDGE / (N_STEPS + 1 - _DEGREE)
    knots = -_EDGE + width * np.arange(-_DEGREE, N_STEPS + 2)
    splines = BSpline.design_matrix(np.clip(dH, -_EDGE, _EDGE), knots, _DEGREE).toarray().T
    tails: Floats = np.cumsum(splines[::-1], axis=0)[::-1]
    return tails[1:]


def jumps(dH: ArrayLike) -> Floats:
    """Fifteen jumps from zero to one, .25 apart: weighted, they are any curve of 16 levels of equal width.

    Fitted to a curve that falls, levels are about its means over stretches of dH, and means of what falls fall
    however steep it is. A smooth basis swings before and after a fall steeper than itself.

    Parameters
    ----------
    dH : array_like, shape (n,)
        In [-2, 2].

    Returns
    -------
    ndarray, shape (15, n)

    Examples
    --------
    >>> jumps([-2.0, -1.7, 2.0]).sum(axis=0)
    array([ 0.,  1., 15.])
    """
    edges = np.linspace(-_EDGE, _EDGE, N_LEVELS + 1)[1:-1]
    return (np.asarray(dH, dtype=np.float64) >= edges[:, None]).astype(np.float64)


def free_steps_precision(n: int, *, sd: float, bend_sd: float) -> Floats:
    """Prior precision of free weights, shape (n, n): steps have an sd about zero, differences of neighbours another."""
    differences = np.diff(np.eye(n), axis=0)
    return np.eye(n) / sd**2 + differences.T @ differences / bend_sd**2


def falling_steps_prior() -> tuple[Floats, Floats]:
    """Prior mean and precision of theta where a step is log(1 + exp(theta)) down: median .85 log-odds."""
    return np.full(N_STEPS, _FALL_MEAN), np.eye(N_STEPS) / _FALL_SD**2


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A smooth surface over both uncertainties: linear in dH and in the log of their sum, plus what bends.

    dH and log(H_text + H_image) are polar coordinates of the plane: dH tells the ray from the origin,
    the sum how far out. So the law in dH is the surface that does not change along a ray. What bends
    is a Gaussian process of standard deviation 1 in log-odds and a reach of .8 standard deviations of either
    coordinate, through 20 points.

    Attributes
    ----------
    lower, upper, centre, scale : float
        Range, mean and standard deviation of log(H_text + H_image); beyond its range nothing changes.
    ray_centre, ray_scale : float
        Mean and standard deviation of dH.
    points : ndarray, shape (20, 2)
        In standard deviations.
    """

    lower: float
    upper: float
    centre: float
    scale: float
    ray_centre: float
    ray_scale: float
    points: Floats

    @property
    def n_features(self) -> int:
        """Number of columns without the level."""
        return 2 + len(self.points)

    def features(self, H_text: ArrayLike, H_image: ArrayLike) -> Floats:
        """Columns of the surface without the level, for weights with N(0, 1) priors on what bends; (22, n)."""
        place = self._place(H_text, H_image)
        factor = np.linalg.cholesky(_covariance(self.points, self.points) + _JITTER * np.eye(len(self.points)))
        bends: Floats = np.linalg.solve(factor, _covariance(self.points, place))
        return np.vstack([place.T, bends])

    def _place(self, H_text: ArrayLike, H_image: ArrayLike) -> Floats:
        total = _log_total(H_text, H_image)
        outwards = (np.clip(total, self.lower, self.upper) - self.centre) / self.scale
        return np.column_stack([(relative_uncertainty(H_text, H_image) - self.ray_centre) / self.ray_scale, outwards])


def span_plane(H_text: ArrayLike, H_image: ArrayLike) -> Plane:
    """The surface whose points are spread over these trials: 5 across the rays, 4 along them.

    Parameters
    ----------
    H_text, H_image : array_like, shape (n_trials,)
        Uncertainties, not both zero.
    """
    dH, total = relative_uncertainty(H_text, H_image), _log_total(H_text, H_image)
    lower, upper = np.quantile(total, [0.01, 0.99])
    total = np.clip(total, lower, upper)
    plane = Plane(
        lower=float(lower),
        upper=float(upper),
        centre=float(total.mean()),
        scale=float(total.std()) or 1.0,
        ray_centre=float(dH.mean()),
        ray_scale=float(dH.std()) or 1.0,
        points=np.zeros((0, 2)),
    )
    across = (_spread(dH, _ACROSS) - plane.ray_centre) / plane.ray_scale
    along = (_spread(total, _ALONG) - plane.centre) / plane.scale
    points = np.array([(x, y) for x in across for y in along])
    return Plane(**{**plane.__dict__, "points": points})


def _spread(values: Floats, n: int) -> Floats:
    """Points evenly between the 2nd and the 98th percentile."""
    first, last = np.quantile(values, [0.02, 0.98])
    points: Floats = np.linspace(first, last, n)
    return points


def _log_total(H_text: ArrayLike, H_image: ArrayLike) -> Floats:
    total: Floats = np.log(np.asarray(H_text, dtype=np.float64) + np.asarray(H_image, dtype=np.float64))
    return total


def _covariance(first: Floats, second: Floats) -> Floats:
    apart = ((first[:, None, :] - second[None, :, :]) ** 2).sum(axis=-1)
    covariance: Floats = _AMPLITUDE**2 * np.exp(-0.5 * apart / _REACH**2)
    return covariance


def standardise(values: Floats) -> Floats:
    """Values in standard deviations from their mean."""
    centred: Floats = (values - values.mean()) / (float(values.std()) or 1.0)
    return centred


def stack(columns: Sequence[Floats]) -> Floats:
    """Columns behind a level of one."""
    return np.vstack([np.ones(np.shape(columns[0])[-1]), *columns])
