"""Axes, zones and the rows that several figures share: one place for their look."""

from collections.abc import Sequence

from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.lettering import wrap
from mfbayes.reports.numerals import decimal
from mfbayes.reports.svg import Canvas, Scale


def tick_label(value: float, step: float) -> str:
    """A tick's number with as many digits as the step needs."""
    digits = 0 if step >= 1 and float(step).is_integer() else 2 if step < 0.1 else 1
    return decimal(value, digits=digits)


def draw_x_axis(
    canvas: Canvas, scale: Scale, *, top: float, bottom: float, label: str = "", ticks: int = 5, grid: bool = True
) -> None:
    """Grid lines, tick numbers and a label below the drawing."""
    values = scale.ticks(ticks)
    step = values[1] - values[0] if len(values) > 1 else 1.0
    for value in values:
        x = scale(value)
        if grid:
            canvas.line((x, top), (x, bottom), "grid")
        canvas.text(x, bottom + 17, tick_label(value, step), "tick", anchor="middle")
    if label:
        canvas.text((scale.start + scale.end) / 2, bottom + 37, label, "axis", anchor="middle")


def draw_y_axis(canvas: Canvas, scale: Scale, *, left: float, right: float, ticks: int = 4) -> None:
    """Grid lines and tick numbers at the left of the drawing."""
    values = scale.ticks(ticks)
    step = values[1] - values[0] if len(values) > 1 else 1.0
    for value in values:
        y = scale(value)
        canvas.line((left, y), (right, y), "grid")
        canvas.text(left - 7, y + 4, tick_label(value, step), "tick", anchor="end")


class Rows:
    """One row a subject, with its name on the left, or above where the drawing is narrow.

    With several tasks a heading row names each of them.
    """

    def __init__(self, evidence: Evidence, *, width: float, top: float, height: float) -> None:
        self.stacked = width < 500
        self.name_width = 0.0 if self.stacked else (196.0 if width > 900 else 150.0)
        self.height = height + (22 if self.stacked else 0)
        self.headings: list[tuple[str, float]] = []
        self.places: list[tuple[Subject, float]] = []
        y = top
        for task in evidence.tasks:
            if evidence.several_tasks:
                self.headings.append((task, y + 20))
                y += 28
            for subject in evidence.of_task(task):
                self.places.append((subject, y + self.height / 2 + (11 if self.stacked else 0)))
                y += self.height
        self.bottom = y

    def draw_names(self, canvas: Canvas) -> None:
        """Markers and names of all rows."""
        limit = (canvas.width * 0.62 if self.stacked else self.name_width) - 22
        for task, y in self.headings:
            canvas.text(0, y, task, "name", full=task)
        for subject, y in self.places:
            lines = wrap(subject.name, limit, lines=1 if self.stacked else 2)
            base = y - 18 if self.stacked else y + 7 - 8.5 * (len(lines) - 1)
            canvas.marker(subject.shape, 7, base - 5, f"fill m{subject.colour}", size=4.6)
            for i, line in enumerate(lines):
                canvas.text(20, base + 17 * i, line, "name", full=subject.model)


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones that keep at least `gap` apart, between `low` and `high` if there is room.

    Examples
    --------
    >>> spread([10, 12, 50], gap=10, low=0, high=60)
    [6.0, 16.0, 50.0]
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])

    def centre(block: list[int]) -> float:
        half = gap * (len(block) - 1) / 2
        middle = sum(wanted[i] for i in block) / len(block)
        return max(min(middle, high - half), low + half)

    blocks: list[list[int]] = []
    for i in order:
        blocks.append([i])
        while len(blocks) > 1:
            first, second = blocks[-2:]
            if centre(second) - centre(first) >= gap * (len(first) + len(second)) / 2:
                break
            blocks[-2:] = [first + second]
    placed = [0.0] * len(wanted)
    for block in blocks:
        for rank, i in enumerate(block):
            placed[i] = centre(block) + gap * (rank - (len(block) - 1) / 2)
    return placed
