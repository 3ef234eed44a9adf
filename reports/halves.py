"""Whether the law holds among cases of low and of high total entropy, and where balance points go."""

import numpy as np
from markupsafe import Markup

from mfbayes.reports.axes import Rows, draw_x_axis
from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import MIDDLING, Drawing, Figure, Key, Panel, Table
from mfbayes.reports.lookup import Numbers, read_words
from mfbayes.reports.marks import draw_estimate, draw_key, span
from mfbayes.reports.numerals import count, decimal, interval, numeral, probability
from mfbayes.reports.svg import Canvas, Scale
from mfbayes.reports.verdict import CERTAIN

HALVES = ("low", "high")
ENDS = ("mean", "lower", "upper")


def draw_halves(evidence: Evidence) -> Figure | None:
    """Draw balance points of the low and the high half of total entropy, or nothing without them."""
    table = evidence.table("halves")
    if table is None:
        return None
    numbers, shifts = Numbers(table, "subject", "half"), Numbers(table, "subject")
    status = read_words(table, "status", ("subject", "half"))
    drawings = tuple(Drawing(_draw(evidence, numbers, status, width=width), kind) for kind, width in MIDDLING.items())
    alt = "Balance points in the low and the high half of total entropy. " + "; ".join(
        f"{evidence.short(s.key)} " + " and ".join(decimal(numbers("mean", s.key, half)) for half in HALVES)
        for s in evidence.subjects
    )
    caption = (
        "Halves are split at each model's median of H_text + H_image and fitted together. "
        f"Lines: {evidence.level} intervals. Halves without a balance point, since one side is never chosen or it lies "
        "outside the data, are not drawn."
    )
    keys = (
        Key(draw_key("circle", "hollow neutral"), "low total entropy"),
        Key(draw_key("circle", "fill neutral"), "high total entropy"),
    )
    return Figure(
        "halves",
        _title(evidence, shifts),
        alt,
        (Panel(drawings),),
        (_data(evidence, numbers, shifts, status),),
        caption=caption,
        grid="mid",
        keys=keys,
    )


def _title(evidence: Evidence, shifts: Numbers) -> str:
    if not evidence.converged:
        return "Halves of a fit that did not converge"
    known = [p for s in evidence.subjects if np.isfinite(p := shifts("p_towards_zero", s.key))]
    towards, away = sum(p >= CERTAIN for p in known), sum(p <= 1 - CERTAIN for p in known)
    if not known:
        return "Balance points cannot be compared between low and high total entropy"
    if len(known) == 1:
        where = "moves towards zero" if towards else "moves away from zero" if away else "does not clearly move"
        return f"Where total entropy is high, the balance point {where}"
    if towards == len(known):
        return "Where total entropy is high, every balance point moves towards zero"
    if not towards and not away:
        return "Between low and high total entropy, no balance point clearly moves towards zero or away"
    words = f"Where total entropy is high, {numeral(towards)} of {numeral(len(known))} balance points move towards zero"
    return f"{words}, {numeral(away)} away" if away else words


def _draw(evidence: Evidence, numbers: Numbers, status: dict[tuple[str, ...], str], *, width: float) -> Markup:
    rows = Rows(evidence, width=width, top=12, height=36)
    canvas = Canvas(width, rows.bottom + 44)
    places = [(s.key, half) for s in evidence.subjects for half in HALVES if status.get((s.key, half), "ok") == "ok"]
    low, high = span([numbers(end, *place) for place in places for end in ENDS])
    scale = Scale(max(-2.0, low), min(2.0, high), rows.name_width + 8, width - 8)
    draw_x_axis(canvas, scale, top=12, bottom=rows.bottom, label="balance point b")
    canvas.line((scale(0), 12), (scale(0), rows.bottom), "zero")
    rows.draw_names(canvas)
    for subject, y in rows.places:
        found = {half: numbers("mean", subject.key, half) for half in HALVES if (subject.key, half) in places}
        css = f"m{subject.colour}"
        if len(found) == 2 and all(np.isfinite(value) for value in found.values()):
            canvas.line((scale(found["low"]), y + 2), (scale(found["high"]), y + 2), f"link {css}")
        for half, rise in (("low", -3.0), ("high", 7.0)):
            if half in found:
                value, lower, upper = (numbers(end, subject.key, half) for end in ENDS)
                words = f"{subject.name}, {half} total entropy: {decimal(value)} {interval(lower, upper)}"
                draw_estimate(
                    canvas, scale, y + rise, (value, lower, upper),
                    css=css, shape=subject.shape, hollow=half == "low", size=4.4, title=words,
                )  # fmt: skip
    return canvas.markup()


def _data(evidence: Evidence, numbers: Numbers, shifts: Numbers, status: dict[tuple[str, ...], str]) -> Table:
    head = ["Model", "Low: b", "Low: trials", "High: b", "High: trials", "Towards zero by", "P(towards zero)"]
    rows = []
    for s in evidence.subjects:
        row = [evidence.short(s.key)]
        for half in HALVES:
            value, lower, upper = (numbers(end, s.key, half) for end in ENDS)
            said = status.get((s.key, half), "ok")
            row += [
                f"{decimal(value)} {interval(lower, upper)}" + ("" if said == "ok" else f" ({said})"),
                count(numbers("n_trials", s.key, half)),
            ]
        moved, lower, upper = (shifts(f"towards_zero{end}", s.key) for end in ("", "_lower", "_upper"))
        row += [f"{decimal(moved)} {interval(lower, upper)}", probability(shifts("p_towards_zero", s.key))]
        rows.append(row)
    return Table.of(f"Balance points by half of total entropy, with {evidence.level} intervals", head, rows)
