"""A canvas that draws SVG by class names: colours come from the page's style sheet, so dark and print follow."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

type Point = tuple[float, float]


def _number(value: float) -> str:
    # Adding zero turns -0.0 into 0.0.
    return f"{round(float(value), 1) + 0.0:.1f}".removesuffix(".0")


@dataclass(frozen=True)
class Scale:
    """A linear map from data to pixels that stops at its ends."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixel of a value, held within the drawn range."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether the value lies within the drawn range."""
        return self.low <= value <= self.high

    def ticks(self, target: int = 5) -> list[float]:
        """Round values, about `target` of them, within the range."""
        step = _round_step((self.high - self.low) / max(1, target))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 10) for i in range(first, last + 1)]


def _round_step(rough: float) -> float:
    magnitude: float = 10.0 ** math.floor(math.log10(rough))
    return next((m * magnitude for m in (1.0, 2.0, 5.0) if m * magnitude >= rough * 0.999), 10 * magnitude)


@dataclass
class Canvas:
    """Marks collected in drawing order; `markup` closes them into one `<svg>`."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def line(self, a: Point, b: Point, css: str) -> None:
        """A straight line."""
        x1, y1, x2, y2 = (_number(v) for v in (*a, *b))
        self.parts.append(f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{css}"/>')

    def rectangle(self, x: float, y: float, width: float, height: float, css: str) -> None:
        """An axis-parallel rectangle."""
        x_, y_, w_, h_ = (_number(v) for v in (x, y, max(0.0, width), max(0.0, height)))
        self.parts.append(f'<rect x="{x_}" y="{y_}" width="{w_}" height="{h_}" class="{css}"/>')

    def polyline(self, points: Iterable[Point], css: str, *, closed: bool = False) -> None:
        """Line segments through the points, closed into an area where asked."""
        steps = [f"{_number(x)} {_number(y)}" for x, y in points]
        if steps:
            self.path("M" + "L".join(steps) + ("Z" if closed else ""), css)

    def band(self, x: Sequence[float], lower: Sequence[float], upper: Sequence[float], css: str) -> None:
        """The area between two lines."""
        there = list(zip(x, upper, strict=True))
        back = list(zip(x, lower, strict=True))[::-1]
        self.polyline([*there, *back], css, closed=True)

    def path(self, data: str, css: str) -> None:
        """A path given as SVG path data."""
        self.parts.append(f'<path d="{data}" class="{css}"/>')

    def shared(self, ident: str, lines: Iterable[Iterable[Point]], css: str) -> None:
        """Many lines as one shape with an id, to be drawn again by `reuse`."""
        data = "".join("M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in line) for line in lines)
        self.parts.append(f'<path id="{ident}" d="{data}" class="{css}"/>')

    def reuse(self, ident: str) -> None:
        """A shape that another drawing of this page has defined."""
        self.parts.append(f'<use href="#{ident}"/>')

    def text(self, x: float, y: float, content: str, css: str, *, anchor: str = "start", full: str = "") -> None:
        """Text with its baseline at `y`; `full` is what a shortened text stands for."""
        title = f"<title>{escape(full)}</title>" if full and full != content else ""
        side = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(
            f'<text x="{_number(x)}" y="{_number(y)}"{side} class="{css}">{title}{escape(content)}</text>'
        )

    def marker(self, shape: str, x: float, y: float, css: str, *, size: float = 5.0, title: str = "") -> None:
        """A marker of half-width `size`, with words shown on hover."""
        words = f"<title>{escape(title)}</title>" if title else ""
        if shape == "circle":
            at = f'cx="{_number(x)}" cy="{_number(y)}" r="{_number(size)}"'
            self.parts.append(f'<circle {at} class="{css}">{words}</circle>')
            return
        outline = "L".join(f"{_number(x + dx * size)} {_number(y + dy * size)}" for dx, dy in OUTLINES[shape])
        self.parts.append(f'<path d="M{outline}Z" class="{css}">{words}</path>')

    def markup(self, css: str = "") -> Markup:
        """The finished drawing, hidden from screen readers: its figure carries the words."""
        box = f"0 0 {_number(self.width)} {_number(self.height)}"
        name = f' class="{css}"' if css else ""
        return Markup(  # noqa: S704  every string that came from outside went through escape above
            f'<svg viewBox="{box}" width="{_number(self.width)}" height="{_number(self.height)}" '
            f'aria-hidden="true" focusable="false"{name}>{"".join(self.parts)}</svg>'
        )


OUTLINES: dict[str, tuple[Point, ...]] = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "diamond": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
    "up": ((0, -1.2), (1.15, 0.85), (-1.15, 0.85)),
    "down": ((0, 1.2), (1.15, -0.85), (-1.15, -0.85)),
    "cross": (
        (-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4),
        (0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4),
    ),
}  # fmt: skip
