"""Answers that are neither: what leaving them out does to the balance points, and how far it could go."""

import xarray as xr
from markupsafe import Markup

from mfbayes.reports.axes import Rows, draw_x_axis
from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import MIDDLING, Drawing, Figure, Key, Panel, Table
from mfbayes.reports.lookup import Numbers
from mfbayes.reports.marks import draw_estimate, draw_key, span
from mfbayes.reports.numerals import count, decimal, interval, percent, probability
from mfbayes.reports.palette import SHAPES
from mfbayes.reports.svg import Canvas, Scale

TITLES = {
    "no sign against it": "Leaving out answers that are neither moves no balance point",
    "not ignorable": "Answers that are neither cannot be ignored",
}
UNCLEAR = "It is unclear whether answers that are neither can be ignored"
FITS = {
    "balance_point_two_outcomes": "left out",
    "balance_point": "modelled",
    "balance_point_if_text": "as if all were text",
    "balance_point_if_image": "as if all were image",
}
LEVELS = {"group": "groups", "group_model": "groups of one model"}


def draw_outcomes(evidence: Evidence) -> Figure | None:
    """Draw balance points with `other` left out, modelled, and given to either side, or nothing."""
    table = evidence.table("outcomes")
    if table is None:
        return None
    numbers = Numbers(table, "subject")
    drawings = tuple(Drawing(_draw(evidence, numbers, width=width), kind) for kind, width in MIDDLING.items())
    alt = "Balance points by what is done with answers that are neither. " + "; ".join(
        f"{evidence.short(s.key)}: "
        + ", ".join(f"{words} {decimal(numbers(fit, s.key))}" for fit, words in FITS.items())
        for s in evidence.subjects
    )
    correlations = evidence.table("outcome_correlations")
    data = [_data(evidence, numbers)] + ([_correlations(evidence, correlations)] if correlations is not None else [])
    return Figure(
        "outcomes",
        TITLES.get(str(table.attrs.get("ignorable", "")), UNCLEAR) if evidence.converged else UNCLEAR,
        alt,
        (Panel(drawings),),
        tuple(data),
        caption=(
            f"Verdict: {table.attrs.get('rule', 'none was kept')}. Trials can tell only whether groups that lean to "
            "one side get more such answers; the hollow marks, as if all of them were text or image, need no "
            f"assumption. Lines: {evidence.level} intervals."
        ),
        grid="mid",
        keys=tuple(
            Key(draw_key(SHAPES[i % len(SHAPES)], "hollow neutral" if i > 1 else "fill neutral"), words)
            for i, words in enumerate(FITS.values())
        ),
    )


def _read(numbers: Numbers, fit: str, key: str) -> tuple[float, float, float]:
    return numbers(fit, key), numbers(f"{fit}_lower", key), numbers(f"{fit}_upper", key)


def _draw(evidence: Evidence, numbers: Numbers, *, width: float) -> Markup:
    gap, stacked = 11.0, width < 500
    rows = Rows(evidence, width=width, top=12, height=gap * len(FITS) * (2 if stacked else 1) + (0 if stacked else 16))
    canvas = Canvas(width, rows.bottom + 44)
    low, high = span([end for s in evidence.subjects for fit in FITS for end in _read(numbers, fit, s.key)])
    scale = Scale(max(-2.0, low), min(2.0, high), rows.name_width + 8, width - 8)
    draw_x_axis(canvas, scale, top=12, bottom=rows.bottom, label="balance point b")
    canvas.line((scale(0), 12), (scale(0), rows.bottom), "zero")
    rows.draw_names(canvas)
    # Names stand above stacked rows: marks begin below them.
    first = -7.0 if rows.stacked else -gap * (len(FITS) - 1) / 2
    for subject, y in rows.places:
        for i, (fit, words) in enumerate(FITS.items()):
            value, lower, upper = _read(numbers, fit, subject.key)
            draw_estimate(
                canvas, scale, y + first + gap * i, (value, lower, upper),
                css=f"m{subject.colour}", shape=SHAPES[i % len(SHAPES)], hollow=i > 1, size=3.8,
                title=f"{subject.name}, {words}: {decimal(value)} {interval(lower, upper)}",
            )  # fmt: skip
    return canvas.markup()


def _data(evidence: Evidence, numbers: Numbers) -> Table:
    head = ["Model", "Neither answer", "b, left out", "b, modelled", "Shift of b", f"{evidence.level} interval"]
    head += ["b if all text", "b if all image", "Trials"]
    rows = [
        [
            evidence.short(s.key),
            percent(numbers("p_other", s.key)),
            decimal(numbers("balance_point_two_outcomes", s.key)),
            decimal(numbers("balance_point", s.key)),
            decimal(numbers("shift", s.key)),
            interval(numbers("shift_lower", s.key), numbers("shift_upper", s.key)),
            decimal(numbers("balance_point_if_text", s.key)),
            decimal(numbers("balance_point_if_image", s.key)),
            count(numbers("n_trials", s.key)),
        ]
        for s in evidence.subjects
    ]
    return Table.of("Balance points of three outcomes and of two", head, rows)


def _correlations(evidence: Evidence, table: xr.Dataset) -> Table:
    numbers = Numbers(table, "level")
    rows = [
        [
            LEVELS.get(level, level),
            decimal(numbers("correlation", level)),
            interval(numbers("correlation_lower", level), numbers("correlation_upper", level)),
            probability(numbers("p_positive", level)),
        ]
        for level in numbers.labels["level"]
    ]
    head = ["Between", "Correlation", f"{evidence.level} interval", "P(correlation > 0)"]
    return Table.of("Do groups that lean to the text get more answers that are neither?", head, rows)
