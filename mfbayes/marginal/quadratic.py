"""A function near its mode: the quadratic that stands for it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]
type Differentiable = Callable[[Floats], tuple[float, Floats]]
"""From a point to a function's value and gradient there."""

_STEP = 1e-4


class Quadratic(NamedTuple):
    """A function near a point: its gradient there and its curvature, minus the matrix of second derivatives."""

    point: Floats
    gradient: Floats
    curvature: Floats


def expand(function: Differentiable, point: Floats, *, roughly: bool = False) -> Quadratic:
    """The quadratic of a function at a point, by central differences of its gradient.

    Directions in which the function bends upwards count as flat: there nothing is known, and a prior decides.

    Parameters
    ----------
    function : callable
        From a point to value and gradient.
    point : ndarray, shape (n,)
    roughly : bool
        Differences to one side only, at half the cost: the curvature is that of half a step (5e-5) away.
    """
    _, gradient = function(point)
    curvature = np.empty((point.size, point.size))
    for i, step in enumerate(np.eye(point.size) * _STEP):
        before, width = (gradient, _STEP) if roughly else (function(point - step)[1], 2 * _STEP)
        curvature[i] = (before - function(point + step)[1]) / width
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    return Quadratic(point, gradient, (vectors * np.maximum(values, 0.0)) @ vectors.T)
