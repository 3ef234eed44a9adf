"""The forest of balance points: posterior densities, intervals and the zone of practical equivalence."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from mfbayes.reports.axes import Rows, draw_x_axis
from mfbayes.reports.evidence import Evidence, Reading, Subject
from mfbayes.reports.figures import WIDTHS, Cell, Drawing, Figure, Panel, Table
from mfbayes.reports.numerals import DASH, count, decimal, interval, listing, numeral
from mfbayes.reports.svg import Canvas, Scale

KNOWN = ("ok", "not-converged")
"""Statuses whose interval says where the balance point may lie."""

SHORTENED = " Names are shortened to what tells them apart; the data below has them whole."

WORDS: dict[Reading, str] = {
    "text": "leans to the text",
    "image": "leans to the image",
    "even": "even",
    "unclear": "cannot tell",
    "none": "",
}


def describe(subject: Subject) -> str:
    """The state of a subject in two or three words."""
    if subject.status == "one-sided":
        return f"always the {subject.only_side}" if subject.only_side else "neither answer"
    if subject.status == "outside":
        return "outside the data"
    if subject.status == "not-converged":
        return "not converged"
    if subject.defies_the_law:
        return "law fails"
    laws = {"unclear": "law unclear", "unknown": "law untested"}
    return laws.get(subject.law) or WORDS[subject.reading]


def readings_title(subjects: Sequence[Subject], *, noun: str = "model") -> str:
    """How many models lean to which side, as a title.

    Counts only, so that it stays short with any number of models.
    """
    counts = {reading: sum(s.reading == reading for s in subjects) for reading in ("text", "image", "even", "unclear")}
    words = {"text": "lean{s} to the text", "image": "lean{s} to the image", "even": "weigh{s} both evenly"}
    parts = [
        f"{numeral(counts[key])} {words[key].format(s='s' if counts[key] == 1 else '')}" for key in words if counts[key]
    ]
    open_ones = len(subjects) - sum(counts[key] for key in words)
    if open_ones:
        parts.append(f"{numeral(open_ones)} cannot be placed")
    total = "One model" if len(subjects) == 1 else f"Of {numeral(len(subjects))} {noun}s"
    if len(subjects) == 1:
        verb = parts[0].removeprefix("one ")
        return f"{total} that {verb}"
    return f"{total}, {listing(parts)}"


def draw_forest(evidence: Evidence) -> Figure:
    """Draw where each model tips from one side to the other."""
    drawings = tuple(Drawing(_draw(evidence, width=width), shown) for shown, width in WIDTHS.items())
    noun = f"model-{evidence.setting} pair" if evidence.several_tasks else "model"
    title = readings_title(evidence.subjects, noun=noun) if evidence.converged else "Draws that did not converge"
    alt = "Balance points: " + "; ".join(
        f"{s.key} {decimal(s.median)}, interval {decimal(s.lower)} to {decimal(s.upper)}, {describe(s)}"
        if s.status in KNOWN
        else f"{s.key} {describe(s)}"
        for s in evidence.subjects
    )
    caption = (
        "Balance point b: the relative uncertainty dH at which a model follows text and image equally often. "
        f"Line: {evidence.level} interval; marker: median; shape: the posterior, each to its own height. "
        f"Strip: |b| < {evidence.zone:g}, no preference worth the name."
    )
    if any(s.name != s.model for s in evidence.subjects):
        caption += SHORTENED
    return Figure("balance-points", title, alt, (Panel(drawings),), (_data(evidence),), caption=caption)


def _data(evidence: Evidence) -> Table:
    head = ["Model", "Median b", f"{evidence.level} interval", "Slope", "Trials", "Text", "Image", "Other", "Reading"]
    if evidence.several_tasks:
        head[0] = f"Model / {evidence.setting}"
    rows = tuple(
        tuple(
            Cell(text)
            for text in (
                s.key,
                decimal(s.median),
                interval(s.lower, s.upper),
                f"{decimal(s.slope)} {interval(s.slope_lower, s.slope_upper)}",
                count(s.n_trials),
                count(s.n_text),
                count(s.n_image),
                count(s.n_other),
                describe(s),
            )
        )
        for s in evidence.subjects
    )
    return Table("Balance points and slopes", tuple(head), rows)


def _domain(evidence: Evidence) -> tuple[float, float]:
    """What the axis must hold: the located intervals, zero and the zone; never beyond what dH can be."""
    ends = [edge for s in evidence.subjects if s.status in KNOWN for edge in (s.lower, s.upper) if np.isfinite(edge)]
    low, high = min([-0.3, *ends]), max([0.3, *ends])
    margin = 0.12 * (high - low)
    return max(-2.0, low - margin), min(2.0, high + margin)


def _draw(evidence: Evidence, *, width: float) -> Markup:
    rows = Rows(evidence, width=width, top=26, height=44)
    canvas = Canvas(width, rows.bottom + 44)
    values = 0.0 if rows.stacked else (330.0 if width > 900 else 178.0)
    scale = Scale(*_domain(evidence), rows.name_width + 8, width - values - 8)
    _draw_ground(canvas, scale, rows, zone=evidence.zone)
    draw_x_axis(
        canvas, scale, top=26, bottom=rows.bottom, label="balance point b (dH at which both sides are followed equally)"
    )
    canvas.line((scale(0), 26), (scale(0), rows.bottom), "zero")
    rows.draw_names(canvas)
    for subject, y in rows.places:
        _draw_row(canvas, scale, evidence, subject, y)
        _write_values(canvas, subject, y, evidence=evidence, stacked=rows.stacked)
    if not rows.stacked:
        canvas.text(width - values + 20, 16, f"median b, {evidence.level} interval", "axis")
    return canvas.markup()


def _draw_ground(canvas: Canvas, scale: Scale, rows: Rows, *, zone: float) -> None:
    top, height = 26, rows.bottom - 26
    canvas.rectangle(scale.start, top, scale(0) - scale.start, height, "image-side")
    canvas.rectangle(scale(0), top, scale.end - scale(0), height, "text-side")
    canvas.rectangle(scale(-zone), top, scale(zone) - scale(-zone), height, "zone")
    canvas.text(scale.start, 16, "← leans to the image", "axis image-word")
    canvas.text(scale.end, 16, "leans to the text →", "axis text-word", anchor="end")
    room = min(scale(0) - scale.start, scale.end - scale(0))
    if room > 160:
        canvas.text(scale(0), 16, "even", "axis", anchor="middle")


def _draw_row(canvas: Canvas, scale: Scale, evidence: Evidence, subject: Subject, y: float) -> None:
    css = f"m{subject.colour}"
    if subject.status in ("one-sided", "outside"):
        _draw_beyond(canvas, scale, subject, y)
        return
    if not np.isfinite([subject.median, subject.lower, subject.upper]).all():
        canvas.text(scale.start + 8, y + 8, "no number to draw", "note")
        return
    faint = "" if subject.located and evidence.converged else " faint"
    base, rise = y + 9, 20 if canvas.width < 500 else 27
    density = evidence.table("balance_density")
    if density is not None:
        own = density.sel(subject=subject.key)
        value, height = own["value"].values, own["density"].values
        # Half of the points do on a small drawing, and keep the page light.
        value, height = (v[:: 1 if canvas.width > 900 else 2] for v in (value, height))
        shown = np.isfinite(value) & np.isfinite(height) & (value >= scale.low) & (value <= scale.high)
        if shown.any() and height[shown].max() > 0:
            at = [scale(v) for v in value[shown]]
            peaks = base - rise * height[shown] / height[shown].max()
            canvas.band(at, [base] * len(at), peaks.tolist(), f"slab {css}{faint}")
    left, right = scale(subject.lower), scale(subject.upper)
    canvas.line((left, base), (right, base), f"bar {css}{faint}")
    for edge, x, way in ((subject.lower, left, -1), (subject.upper, right, 1)):
        if not scale.holds(edge):
            canvas.polyline([(x - 6 * way, base - 4), (x, base), (x - 6 * way, base + 4)], f"open {css}{faint}")
    if scale.holds(subject.median):
        words = f"{subject.key}: {decimal(subject.median)} {interval(subject.lower, subject.upper)}"
        canvas.marker(subject.shape, scale(subject.median), base, f"dot {css}{faint}", size=5.4, title=words)


def _draw_beyond(canvas: Canvas, scale: Scale, subject: Subject, y: float) -> None:
    """An arrow to the side on which the balance point must lie, in place of an interval that says nothing."""
    to_text = subject.n_text > subject.n_image
    edge, way = (scale.end, 1) if to_text else (scale.start, -1)
    css = f"m{subject.colour}"
    canvas.line((edge - 60 * way, y + 4), (edge - 4 * way, y + 4), f"bar dashed {css}")
    canvas.polyline([(edge - 12 * way, y - 2), (edge - 4 * way, y + 4), (edge - 12 * way, y + 10)], f"open {css}")
    side = "text" if to_text else "image"
    words = f"always the {side}" if subject.status == "one-sided" else "beyond the observed dH"
    canvas.text(edge - 68 * way, y + 8, words, "note", anchor="end" if to_text else "start")


def _write_values(canvas: Canvas, subject: Subject, y: float, *, evidence: Evidence, stacked: bool) -> None:
    words = describe(subject)
    known = subject.status in KNOWN and np.isfinite(subject.median)
    numbers = f"{decimal(subject.median)} {interval(subject.lower, subject.upper)}" if known else DASH
    tone = {"text": " text-word", "image": " image-word"}.get(subject.reading, "")
    right = canvas.width
    if stacked:
        if known:
            canvas.text(right - 14, y - 18, numbers, "value", anchor="end")
    elif right > 900:
        canvas.text(right - 310, y + 7, numbers, "value")
        canvas.text(right - 140, y + 7, words, f"value{tone}")
    else:
        canvas.text(right - 158, y - 1, numbers, "value")
        canvas.text(right - 158, y + 16, words, f"note{tone}")
