"""An estimate with its interval as a mark on a horizontal axis, and the legend entry that explains it."""

from collections.abc import Iterable

import numpy as np
from markupsafe import Markup

from mfbayes.reports.svg import Canvas, Scale


def draw_estimate(
    canvas: Canvas,
    scale: Scale,
    y: float,
    numbers: tuple[float, float, float],
    *,
    css: str,
    shape: str = "circle",
    hollow: bool = False,
    size: float = 5.0,
    title: str = "",
) -> None:
    """A marker at the estimate on a line from its lower to its upper bound; nothing where it is unknown."""
    value, lower, upper = numbers
    if not np.isfinite(value):
        return
    if np.isfinite(lower) and np.isfinite(upper):
        canvas.line((scale(lower), y), (scale(upper), y), f"bar thin {css}")
    canvas.marker(shape, scale(value), y, f"{'hollow' if hollow else 'dot'} {css}", size=size, title=title)


def draw_key(shape: str, css: str) -> Markup:
    """A marker for a legend."""
    canvas = Canvas(14, 14)
    canvas.marker(shape, 7, 7, css, size=4.6)
    return canvas.markup("swatch")


def span(values: Iterable[float], *, around: float = 0.0, least: float = 0.3) -> tuple[float, float]:
    """Ends of an axis that holds all finite values and `least` to both sides of `around`, with some air.

    Examples
    --------
    >>> span([0.5, float("nan")], least=0.5)
    (-0.58, 0.58)
    """
    known = [value for value in values if np.isfinite(value)]
    low, high = min([around - least, *known]), max([around + least, *known])
    air = 0.08 * (high - low)
    return low - air, high + air
