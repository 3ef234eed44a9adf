"""Shapes as polygons in the unit square [-1, 1] x [-1, 1], y pointing down."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

type Points = NDArray[np.float64]


def _regular(n_corners: int, *, start: float = -np.pi / 2) -> Points:
    angles = start + np.arange(n_corners) * 2 * np.pi / n_corners
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _heart() -> Points:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(angles) ** 3
    y = -(13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles) - np.cos(4 * angles))
    return np.stack([x / 16, (y - y.min()) / (y.max() - y.min()) * 2 - 1], axis=1)


_ARM = 0.34  # half the width of the cross's arms

POLYGONS: Final[dict[str, Points]] = {
    "square": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=float),
    "circle": _regular(64),
    "triangle": np.array([(0, -1), (1, 1), (-1, 1)], dtype=float),
    "diamond": np.array([(0, -1), (0.7, 0), (0, 1), (-0.7, 0)], dtype=float),
    "pentagon": _regular(5),
    "hexagon": _regular(6),
    "cross": np.array(
        [
            (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
            (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
        ]
    ),
    "heart": _heart(),
}  # fmt: skip
SHAPES: Final = tuple(POLYGONS)
