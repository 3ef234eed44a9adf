"""Why ratios differ: what part of a TFR difference is owed to balance points, slopes and the dH that models met."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
from markupsafe import Markup

from mfbayes.reports.axes import draw_x_axis
from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.figures import MIDDLING, Drawing, Figure, Key, Panel, Table
from mfbayes.reports.lettering import shorten
from mfbayes.reports.lookup import Numbers
from mfbayes.reports.marks import span
from mfbayes.reports.numerals import decimal, interval, listing
from mfbayes.reports.svg import Canvas, Scale

PARTS = {"by_balance_point": "balance point", "by_slope": "slope", "by_composition": "the dH it met"}
"""Parts of a modelled difference in the order of the drawing, in words."""

SHOWN = 10
"""Most pairs a drawing holds; where there are more, neighbours in the order of their ratios stand for them."""

type Couple = tuple[Subject, Subject]


def explain_ratios(evidence: Evidence) -> Figure | None:
    """Draw the parts of the TFR differences, or nothing where no two models are compared."""
    table = evidence.table("decomposition")
    if table is None:
        return None
    numbers = Numbers(table, "subject", "other_subject")
    every = _couple(evidence, numbers)
    if not every:
        return None
    shown = _choose(every)
    drawings = tuple(Drawing(_draw(evidence, numbers, shown, width=width), kind) for kind, width in MIDDLING.items())
    widest = max(shown, key=lambda couple: abs(numbers("tfr_difference", couple[0].key, couple[1].key)))
    title = _word(evidence, numbers, *widest) if evidence.converged else "Parts of a fit that did not converge"
    alt = "Differences of text-following ratios and their parts, in points. " + " ".join(
        f"{_word(evidence, numbers, *couple)}." for couple in shown
    )
    caption = (
        "Points: hundredths of the text-following ratio. Upright stroke: the observed difference. "
        f"Bars: its parts, each with its {evidence.level} interval; both models' dH are taken as reference by turns, "
        "and group effects are averaged over. What the parts leave is in the data as unexplained."
    )
    if len(shown) < len(every):
        caption += " Drawn: neighbours in the order of their ratios; the data has every pair."
    return Figure(
        "reasons",
        title,
        alt,
        (Panel(drawings),),
        (_data(evidence, numbers, every),),
        intro="Two models part in their ratios because they weigh text and image differently, or because the cases "
        "were not equally uncertain for both.",
        caption=caption,
        grid="mid",
        keys=tuple(Key(_key(part), words) for part, words in PARTS.items()),
    )


def _couple(evidence: Evidence, numbers: Numbers) -> list[Couple]:
    """Pairs with a known difference, the model of the higher ratio first; by task, in the order of ratios."""
    found = []
    for task in evidence.tasks:
        ordered = sorted(evidence.of_task(task), key=lambda s: -np.nan_to_num(s.tfr, nan=-1.0))
        found += [(a, b) for a, b in combinations(ordered, 2) if np.isfinite(numbers("tfr_difference", a.key, b.key))]
    return found


def _choose(every: Sequence[Couple]) -> list[Couple]:
    if len(every) <= SHOWN:
        return list(every)
    known = {(a.key, b.key) for a, b in every}
    ordered = list(dict.fromkeys(subject for couple in every for subject in couple))
    ordered.sort(key=lambda s: (s.task, -s.tfr))
    return [(a, b) for a, b in pairwise(ordered) if (a.key, b.key) in known][: 2 * SHOWN]


def _points(value: float) -> str:
    return decimal(100 * value, digits=0)


def _word(evidence: Evidence, numbers: Numbers, a: Subject, b: Subject) -> str:
    """One pair in a sentence: x follows the text 18 points more often than y, and what that is owed to."""
    total = numbers("tfr_difference", a.key, b.key)
    first, second = evidence.short(a.key), evidence.short(b.key)
    if round(100 * total) == 0:
        return f"{first} follows the text as often as {second}"
    left = numbers("unexplained", a.key, b.key)
    parts = {part: numbers(part, a.key, b.key) for part in PARTS}
    known = {part: value for part, value in parts.items() if np.isfinite(value)}
    order = sorted(known, key=lambda part: -abs(known[part]))
    words = [f"{_points(known[part])} to {'its ' if part != 'by_composition' else ''}{PARTS[part]}" for part in order]
    if not words:
        return f"{first} follows the text {_points(total)} points more often than {second}"
    if abs(left) > abs(total) / 2:
        return (
            f"{first} follows the text {_points(total)} points more often than {second}, and the law in dH leaves "
            f"{_points(left)} of them unexplained"
        )
    first_word, *rest = words
    number, _, owed = first_word.partition(" ")
    unit = "point is" if number == "1" else "points are"
    told = listing([f"{number} {unit} owed {owed}", *rest])
    many = "point" if _points(total) == "1" else "points"
    return f"{first} follows the text {_points(total)} {many} more often than {second}: {told}"


def _draw(evidence: Evidence, numbers: Numbers, shown: Sequence[Couple], *, width: float) -> Markup:
    stacked = width < 500
    names, height, top = (0.0 if stacked else 230.0), (62.0 if stacked else 46.0), 12.0
    bottom = top + height * len(shown)
    canvas = Canvas(width, bottom + 44)
    ends = [
        100 * numbers(f"{part}{suffix}", a.key, b.key)
        for a, b in shown
        for part in ("tfr_difference", *PARTS)
        for suffix in (("",) if part == "tfr_difference" else ("", "_lower", "_upper"))
    ]
    scale = Scale(*span(ends, least=3), names + 8, width - (8 if stacked else 62))
    draw_x_axis(canvas, scale, top=top, bottom=bottom, label="difference in TFR, points", ticks=4 if stacked else 6)
    canvas.line((scale(0), top), (scale(0), bottom), "zero")
    for i, (a, b) in enumerate(shown):
        middle = top + height * (i + 0.5) + (10 if stacked else 0)
        _write_couple(canvas, evidence, a, b, middle, limit=width * 0.44 if stacked else names, stacked=stacked)
        for row, part in enumerate(PARTS):
            _draw_part(canvas, scale, numbers, part, (a, b), middle + 11 * (row - 1))
        total = numbers("tfr_difference", a.key, b.key)
        canvas.line((scale(100 * total), middle - 17), (scale(100 * total), middle + 17), "mark neutral")
        words = f"+{_points(total)}" if round(100 * total) > 0 else _points(total)
        canvas.text(width, middle - 20 if stacked else middle + 5, words, "value", anchor="end")
    return canvas.markup()


def _write_couple(
    canvas: Canvas, evidence: Evidence, a: Subject, b: Subject, middle: float, *, limit: float, stacked: bool
) -> None:
    first, second = evidence.short(a.key), evidence.short(b.key)
    if stacked:
        half = limit - 26
        text = f"{shorten(first, half, size=13)} over {shorten(second, half, size=13)}"
        canvas.text(0, middle - 20, text, "value over", full=f"{a.key} over {b.key}")
        return
    canvas.text(0, middle - 3, shorten(first, limit), "name", full=a.key)
    canvas.text(0, middle + 14, shorten(f"over {second}", limit), "note", full=f"over {b.key}")


def _draw_part(canvas: Canvas, scale: Scale, numbers: Numbers, part: str, couple: Couple, y: float) -> None:
    value, lower, upper = (
        100 * numbers(f"{part}{end}", couple[0].key, couple[1].key) for end in ("", "_lower", "_upper")
    )
    if not np.isfinite(value):
        return
    left, right = sorted((scale(0), scale(value)))
    canvas.rectangle(left, y - 3.5, right - left, 7, f"part-{part.replace('_', '-')}")
    if np.isfinite(lower) and np.isfinite(upper):
        canvas.line((scale(lower), y), (scale(upper), y), "whisker neutral")
        inside = max(left, scale(lower)), min(right, scale(upper))
        if part != "by_composition" and inside[0] < inside[1]:
            canvas.line((inside[0], y), (inside[1], y), "whisker inside")


def _key(part: str) -> Markup:
    canvas = Canvas(14, 14)
    canvas.rectangle(1, 3.5, 12, 7, f"part-{part.replace('_', '-')}")
    return canvas.markup("swatch")


def _data(evidence: Evidence, numbers: Numbers, every: Sequence[Couple]) -> Table:
    columns = ("tfr_difference", *PARTS, "unexplained")
    rows = []
    for a, b in every:
        row = [f"{evidence.short(a.key)} over {evidence.short(b.key)}"]
        for name in columns:
            value, lower, upper = (100 * numbers(f"{name}{end}", a.key, b.key) for end in ("", "_lower", "_upper"))
            bounds = f" {interval(lower, upper, digits=1)}" if np.isfinite(lower) and np.isfinite(upper) else ""
            row.append(f"{decimal(value, digits=1)}{bounds}")
        rows.append(row)
    head = ["Pair", "TFR difference", "Balance point", "Slope", "dH met", "Unexplained"]
    return Table.of(f"Differences in TFR and their parts, points, with {evidence.level} intervals", head, rows)
