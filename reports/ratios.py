"""The puzzle: models that meet the same relative uncertainty and yet follow the text to very different degrees."""

from itertools import combinations

import numpy as np
from markupsafe import Markup

from mfbayes.reports.axes import Rows, draw_x_axis
from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.figures import WIDTHS, Drawing, Figure, Panel, Table
from mfbayes.reports.numerals import count, decimal, interval, percent
from mfbayes.reports.svg import Canvas, Scale

ALIKE = 0.8
"""Shared area of two dH histograms from which the models met much the same cases."""


def draw_ratios(evidence: Evidence) -> Figure | None:
    """Draw text-following ratios beside the distributions of dH."""
    if evidence.table("dH_histogram") is None:
        return None
    drawings = tuple(Drawing(_draw(evidence, width=width), shown) for shown, width in WIDTHS.items())
    ratios = "; ".join(f"{s.key} {decimal(s.tfr)}" for s in evidence.subjects)
    caption = (
        "Text-following ratio (TFR): the share of text answers among text and image answers, "
        f"with its {evidence.level} interval. Histograms: the dH of the fitted trials, each to its own height; "
        "the upright stroke is the model's balance point."
    )
    return Figure(
        "ratios",
        _title(evidence),
        f"Text-following ratios: {ratios}. Beside them a histogram of relative uncertainty for each model.",
        (Panel(drawings),),
        (_data(evidence), _histogram_data(evidence)),
        intro=_intro(evidence),
        caption=caption,
    )


def shared_area(evidence: Evidence, a: Subject, b: Subject) -> float:
    """The part of two histograms of dH that coincides: 1 where they are the same."""
    histogram = evidence.estimates["dH_histogram"]
    first, second = (np.nan_to_num(histogram["count"].sel(subject=s.key).values.astype(float)) for s in (a, b))
    edges = [histogram["edge_lower"].sel(subject=s.key).values if "subject" in histogram["edge_lower"].dims
             else histogram["edge_lower"].values for s in (a, b)]  # fmt: skip
    if first.sum() == 0 or second.sum() == 0 or not np.allclose(edges[0], edges[1], equal_nan=True):
        return 0.0
    return float(np.minimum(first / first.sum(), second / second.sum()).sum())


def _puzzle(evidence: Evidence) -> tuple[Subject, Subject] | None:
    """The two models on like trials whose TFR differ most, with intervals apart."""
    found = [
        (abs(a.tfr - b.tfr), a, b)
        for a, b in combinations(evidence.subjects, 2)
        if a.task == b.task
        and a.located
        and b.located
        and (a.tfr_upper < b.tfr_lower or b.tfr_upper < a.tfr_lower)
        and shared_area(evidence, a, b) >= ALIKE
    ]
    if not found:
        return None
    _, a, b = max(found, key=lambda entry: entry[0])
    return (a, b) if a.tfr > b.tfr else (b, a)


def _title(evidence: Evidence) -> str:
    puzzle = _puzzle(evidence)
    if puzzle:
        return (
            f"On much the same cases, one model follows the text {percent(puzzle[0].tfr)} of the time, "
            f"another {percent(puzzle[1].tfr)}"
        )
    known = [s.tfr for s in evidence.subjects if np.isfinite(s.tfr)]
    if len(known) < 2:
        return (
            f"The text is followed {percent(known[0])} of the time"
            if known
            else "No trial follows the text or the image"
        )
    if max(known) - min(known) < 0.1:
        return f"Text-following ratios are close, from {percent(min(known))} to {percent(max(known))}"
    return f"Text-following ratios run from {percent(min(known))} to {percent(max(known))}"


def _intro(evidence: Evidence) -> str:
    puzzle = _puzzle(evidence)
    if not puzzle:
        return (
            "A ratio mixes two things: how uncertain the cases were for the model, and which side the model leans to."
        )
    high, low = puzzle
    shared = percent(shared_area(evidence, high, low))
    return (
        f"{high.name} and {low.name} met much the same relative uncertainty: {shared} of their histograms "
        "coincides. Yet they part in their ratios. Uncertainty alone does not explain it; the balance point does."
    )


def _draw(evidence: Evidence, *, width: float) -> Markup:
    rows = Rows(evidence, width=width, top=26, height=40 if width > 500 else 46)
    canvas = Canvas(width, rows.bottom + 42)
    left, right = rows.name_width + 8, width - (8 if rows.stacked else 128)
    middle = left + (right - left) * 0.58
    histogram = evidence.estimates["dH_histogram"]
    lows, highs = histogram["edge_lower"].values.astype(float), histogram["edge_upper"].values.astype(float)
    dH = Scale(float(np.nanmin(lows)), float(np.nanmax(highs)), left, middle - 18)
    tfr = Scale(0, 1, middle + 18, right)
    few = 3 if rows.stacked else 5
    draw_x_axis(canvas, dH, top=26, bottom=rows.bottom, label=evidence.uncertainty, ticks=few, grid=False)
    draw_x_axis(canvas, tfr, top=26, bottom=rows.bottom, label="TFR", ticks=2 if rows.stacked else 4)
    canvas.line((dH(0), 26), (dH(0), rows.bottom), "zero")
    canvas.text(dH.start, 16, "what it met", "axis")
    canvas.text(tfr.start, 16, "what it followed", "axis")
    rows.draw_names(canvas)
    for subject, y in rows.places:
        _draw_histogram(canvas, dH, evidence, subject, y + 13)
        _draw_ratio(canvas, tfr, subject, y + (6 if rows.stacked else 2))
        words = percent(subject.tfr)
        if rows.stacked:
            canvas.text(width, y - 18, words, "value", anchor="end")
        else:
            canvas.text(width - 96, y + 7, words, "value")
    return canvas.markup()


def _draw_histogram(canvas: Canvas, scale: Scale, evidence: Evidence, subject: Subject, base: float) -> None:
    own = evidence.estimates["dH_histogram"].sel(subject=subject.key)
    counts = np.nan_to_num(own["count"].values.astype(float))
    lower, upper = own["edge_lower"].values, own["edge_upper"].values
    css = f"m{subject.colour}"
    rise = 22 if canvas.width < 500 else 27
    canvas.line((scale.start, base), (scale.end, base), "grid")
    if counts.max() > 0:
        outline = [f"M{scale(float(lower[0])):.1f} {base:.1f}"]
        for low, high, number in zip(lower, upper, counts, strict=True):
            if np.isfinite(low) and np.isfinite(high):
                top = base - rise * number / counts.max()
                outline.append(f"V{top:.1f}H{scale(float(high)):.1f}")
        canvas.path("".join([*outline, f"V{base:.1f}Z"]), f"slab {css}")
    if subject.located and scale.holds(subject.median):
        canvas.line((scale(subject.median), base + 3), (scale(subject.median), base - rise - 3), f"mark {css}")


def _draw_ratio(canvas: Canvas, scale: Scale, subject: Subject, y: float) -> None:
    css = f"m{subject.colour}"
    if not np.isfinite(subject.tfr):
        return
    canvas.line((scale.start, y), (scale(subject.tfr), y), f"stem {css}")
    if np.isfinite(subject.tfr_lower) and np.isfinite(subject.tfr_upper):
        canvas.line((scale(subject.tfr_lower), y), (scale(subject.tfr_upper), y), f"bar {css}")
    words = f"{subject.key}: {decimal(subject.tfr)} {interval(subject.tfr_lower, subject.tfr_upper)}"
    canvas.marker(subject.shape, scale(subject.tfr), y, f"dot {css}", size=5, title=words)


def _data(evidence: Evidence) -> Table:
    head = ["Model", "TFR", f"{evidence.level} interval", "Text", "Image", "Other (not counted)"]
    rows = [
        [s.key, decimal(s.tfr), interval(s.tfr_lower, s.tfr_upper), count(s.n_text), count(s.n_image), count(s.n_other)]
        for s in evidence.subjects
    ]
    return Table.of("Text-following ratios", head, rows)


def _histogram_data(evidence: Evidence) -> Table:
    histogram = evidence.estimates["dH_histogram"]
    rows = []
    for s in evidence.subjects:
        own = histogram.sel(subject=s.key)
        counts = np.nan_to_num(own["count"].values.astype(float))
        for low, high, number in zip(own["edge_lower"].values, own["edge_upper"].values, counts, strict=True):
            if number > 0:
                rows.append([s.key, f"{decimal(float(low))} to {decimal(float(high))}", count(float(number))])
    return Table.of("Trials by relative uncertainty", ["Model", "dH", "Trials"], rows)
