"""What the balance points owe to choices of the analyst: one mark for each analysis."""

import numpy as np
from markupsafe import Markup

from mfbayes.reports.axes import Rows, draw_x_axis
from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import MIDDLING, Drawing, Figure, Key, Panel, Table
from mfbayes.reports.lookup import Numbers, read_words
from mfbayes.reports.marks import draw_estimate, draw_key, span
from mfbayes.reports.numerals import count, decimal, interval, numeral
from mfbayes.reports.palette import SHAPES
from mfbayes.reports.svg import Canvas, Scale

ENDS = ("mean", "lower", "upper")


def draw_sensitivity(evidence: Evidence) -> Figure | None:
    """Draw each balance point under every analysis, or nothing where there is one analysis."""
    table = evidence.table("sensitivity")
    if table is None or table.sizes.get("analysis", 0) < 2:
        return None
    numbers = Numbers(table, "subject", "analysis")
    status = read_words(table, "status", ("subject", "analysis"))
    analyses = numbers.labels["analysis"]
    drawings = tuple(
        Drawing(_draw(evidence, numbers, status, analyses, width=width), kind) for kind, width in MIDDLING.items()
    )
    alt = "Balance points by analysis. " + "; ".join(
        f"{evidence.short(s.key)}: " + ", ".join(f"{a} {decimal(numbers('mean', s.key, a))}" for a in analyses)
        for s in evidence.subjects
    )
    caption = (
        f"The first analysis is the one as asked; the others change one choice each. Lines: {evidence.level} "
        "intervals, by the fast tier. Each index of uncertainty has its own relative uncertainty: compare signs and "
        "orders across indices, not distances."
    )
    hidden = sum(status.get((s.key, a), "ok") not in ("ok", "absent") for s in evidence.subjects for a in analyses)
    if hidden:
        caption += (
            f" Not drawn: {numeral(hidden)} whose balance point lies beyond the dH of its trials or that "
            f"{'follows' if hidden == 1 else 'follow'} one side only."
        )
    keys = tuple(
        Key(draw_key(SHAPES[i % len(SHAPES)], "fill neutral" if i == 0 else "hollow neutral"), analysis)
        for i, analysis in enumerate(analyses)
    )
    return Figure(
        "sensitivity",
        _title(evidence, numbers, status, analyses),
        alt,
        (Panel(drawings),),
        (_data(evidence, numbers, status, analyses),),
        caption=caption,
        grid="mid",
        keys=keys,
    )


def _side(numbers: Numbers, status: dict[tuple[str, ...], str], key: str, analysis: str) -> int:
    """1 where the whole interval leans to the text, -1 to the image, 0 where neither or unknown."""
    if status.get((key, analysis), "ok") != "ok":
        return 0
    return int(numbers("lower", key, analysis) > 0) - int(numbers("upper", key, analysis) < 0)


def _title(evidence: Evidence, numbers: Numbers, status: dict[tuple[str, ...], str], analyses: list[str]) -> str:
    if not evidence.converged:
        return "Other analyses of a fit that did not converge"
    turned = 0
    for subject in evidence.subjects:
        sides = {_side(numbers, status, subject.key, analysis) for analysis in analyses}
        turned += {1, -1} <= sides
    if turned:
        who = "One model leans" if turned == 1 else f"{numeral(turned).capitalize()} models lean"
        return f"{who} to the other side under another analysis"
    title = f"No model leans to the other side under any of {numeral(len(analyses))} analyses"
    main = analyses[0]
    known = [(s.key, a) for s in evidence.subjects for a in analyses if status.get((s.key, a), "ok") == "ok"]
    unsure = {
        key
        for key, analysis in known
        if (key, main) in known and _side(numbers, status, key, main) and not _side(numbers, status, key, analysis)
    }
    if unsure:
        title += f"; {numeral(len(unsure))} {'does' if len(unsure) == 1 else 'do'} not clearly lean under each"
    return title


def _draw(
    evidence: Evidence, numbers: Numbers, status: dict[tuple[str, ...], str], analyses: list[str], *, width: float
) -> Markup:
    gap = 10.0
    rows = Rows(
        evidence,
        width=width,
        top=12,
        height=gap * len(analyses) * (2 if width < 500 else 1) + (0 if width < 500 else 16),
    )
    canvas = Canvas(width, rows.bottom + 44)
    places = [(s.key, a) for s in evidence.subjects for a in analyses if status.get((s.key, a), "ok") == "ok"]
    low, high = span([numbers(end, *place) for place in places for end in ENDS])
    scale = Scale(max(-2.0, low), min(2.0, high), rows.name_width + 8, width - 8)
    draw_x_axis(canvas, scale, top=12, bottom=rows.bottom, label="balance point b")
    canvas.line((scale(0), 12), (scale(0), rows.bottom), "zero")
    rows.draw_names(canvas)
    # Names stand above stacked rows: marks begin below them.
    first = -7.0 if rows.stacked else -gap * (len(analyses) - 1) / 2
    for subject, y in rows.places:
        for i, analysis in enumerate(analyses):
            if (subject.key, analysis) in places:
                value, lower, upper = (numbers(end, subject.key, analysis) for end in ENDS)
                draw_estimate(
                    canvas, scale, y + first + gap * i, (value, lower, upper),
                    css=f"m{subject.colour}", shape=SHAPES[i % len(SHAPES)], hollow=i > 0, size=3.8,
                    title=f"{subject.name}, {analysis}: {decimal(value)} {interval(lower, upper)}",
                )  # fmt: skip
    return canvas.markup()


def _data(evidence: Evidence, numbers: Numbers, status: dict[tuple[str, ...], str], analyses: list[str]) -> Table:
    rows = []
    for s in evidence.subjects:
        for analysis in analyses:
            value, lower, upper = (numbers(end, s.key, analysis) for end in ENDS)
            trials = numbers("n_trials", s.key, analysis)
            known = status.get((s.key, analysis), "ok")
            if np.isfinite(value) or known != "absent":
                rows.append(
                    [evidence.short(s.key), analysis, decimal(value), interval(lower, upper), count(trials), known]
                )
    head = ["Model", "Analysis", "b", f"{evidence.level} interval", "Trials", "Status"]
    return Table.of("Balance points by analysis", head, rows)
