"""What conditions do to balance points: shifts against the baseline, each with its interval."""

from dataclasses import dataclass

import xarray as xr
from markupsafe import Markup

from mfbayes.reports.axes import draw_x_axis
from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import MIDDLING, Drawing, Figure, Panel, Table
from mfbayes.reports.lettering import shorten
from mfbayes.reports.marks import draw_estimate, span
from mfbayes.reports.numerals import decimal, interval, numeral, probability
from mfbayes.reports.svg import Canvas, Scale


@dataclass(frozen=True)
class Shift:
    """A balance point under a condition minus that under the baseline."""

    model: str
    condition: str
    baseline: str
    task: str
    mean: float
    lower: float
    upper: float
    p_positive: float

    @property
    def what(self) -> str:
        """Condition against baseline, in words."""
        return f"{self.condition} against {self.baseline}" + (f", {self.task}" if self.task else "")


def draw_conditions(evidence: Evidence) -> Figure | None:
    """Draw the shifts of balance points between conditions, or nothing where there is one condition."""
    table = evidence.table("condition_shifts")
    if table is None or not table.sizes.get("shift", 0):
        return None
    shifts = _read(table)
    drawings = tuple(Drawing(_draw(evidence, shifts, width=width), kind) for kind, width in MIDDLING.items())
    alt = "Shifts of the balance point. " + "; ".join(
        f"{s.model}, {s.what}: {decimal(s.mean)}, interval {decimal(s.lower)} to {decimal(s.upper)}" for s in shifts
    )
    caption = (
        "Balance point under a condition minus that under the baseline: above zero, the condition turns the model "
        f"to the text. Lines: {evidence.level} intervals."
    )
    return Figure(
        "conditions",
        _title(evidence, shifts),
        alt,
        (Panel(drawings),),
        (_data(evidence, shifts),),
        caption=caption,
        grid="mid",
    )


def _read(table: xr.Dataset) -> list[Shift]:
    def words(name: str) -> list[str]:
        return [str(v) for v in table[name].values] if name in table.variables else [""] * table.sizes["shift"]

    tasks = words("task")
    named = tasks if len(set(tasks)) > 1 else [""] * len(tasks)
    return [
        Shift(*row)
        for row in zip(
            [model or "all models" for model in words("model")], words("condition"), words("baseline"), named,
            *(table[name].values.astype(float).tolist() for name in ("mean", "lower", "upper", "p_positive")),
            strict=True,
        )
    ]  # fmt: skip


def _title(evidence: Evidence, shifts: list[Shift]) -> str:
    if not evidence.converged:
        return "Shifts of a fit that did not converge"
    text, image = sum(s.lower > 0 for s in shifts), sum(s.upper < 0 for s in shifts)
    if not text and not image:
        return "No condition clearly shifts a balance point"
    parts = [f"{numeral(n)} to the {side}" for n, side in ((text, "text"), (image, "image")) if n]
    many = "shift" if len(shifts) == 1 else "shifts"
    return f"Of {numeral(len(shifts))} {many} between conditions, {' and '.join(parts)}"


def _draw(evidence: Evidence, shifts: list[Shift], *, width: float) -> Markup:
    stacked = width < 500
    names, height, top = (0.0 if stacked else 250.0), (54.0 if stacked else 40.0), 26.0
    bottom = top + height * len(shifts)
    canvas = Canvas(width, bottom + 44)
    values = 0.0 if stacked else 150.0
    scale = Scale(*span([v for s in shifts for v in (s.lower, s.upper)]), names + 8, width - values - 8)
    canvas.rectangle(scale.start, top, scale(0) - scale.start, bottom - top, "image-side")
    canvas.rectangle(scale(0), top, scale.end - scale(0), bottom - top, "text-side")
    draw_x_axis(canvas, scale, top=top, bottom=bottom, label="shift of the balance point", ticks=4 if stacked else 5)
    canvas.line((scale(0), top), (scale(0), bottom), "zero")
    canvas.text(scale.start, 16, "← to the image", "axis image-word")
    canvas.text(scale.end, 16, "to the text →", "axis text-word", anchor="end")
    looks = {s.model: (s.colour, s.shape) for s in evidence.subjects}
    short = {s.model: s.name for s in evidence.subjects}
    for i, shift in enumerate(shifts):
        y = top + height * (i + 0.5) + (12 if stacked else 0)
        name = short.get(shift.model, shift.model)
        numbers = f"{decimal(shift.mean)} {interval(shift.lower, shift.upper)}"
        if stacked:
            text = shorten(f"{name}: {shift.what}", width - 112, size=13)
            canvas.text(0, y - 14, text, "value", full=f"{shift.model}: {shift.what}")
            canvas.text(width, y - 14, numbers, "note", anchor="end")
        else:
            canvas.text(0, y - 3, shorten(name, names), "name", full=shift.model)
            canvas.text(0, y + 14, shorten(shift.what, names, size=12), "note", full=shift.what)
            canvas.text(width, y + 5, numbers, "value", anchor="end")
        colour, shape = looks.get(shift.model, (None, "diamond"))
        css = "neutral" if colour is None else f"m{colour}"
        draw_estimate(
            canvas, scale, y + 2, (shift.mean, shift.lower, shift.upper),
            css=css, shape=shape, title=f"{shift.model}, {shift.what}: {numbers}",
        )  # fmt: skip
    return canvas.markup()


def _data(evidence: Evidence, shifts: list[Shift]) -> Table:
    head = ["Model", "Condition", "Baseline", "Shift", f"{evidence.level} interval", "P(shift > 0)"]
    rows = [
        [s.model, s.condition + (f", {s.task}" if s.task else ""), s.baseline, decimal(s.mean),
         interval(s.lower, s.upper), probability(s.p_positive)]
        for s in shifts
    ]  # fmt: skip
    return Table.of("Shifts of the balance point between conditions", head, rows)
