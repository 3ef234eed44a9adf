"""The law: P(text) against relative uncertainty, a small multiple a model, over what was observed."""

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mfbayes.reports.axes import draw_x_axis, draw_y_axis
from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.figures import Drawing, Figure, Panel, Table, Width
from mfbayes.reports.lookup import read_words
from mfbayes.reports.numerals import count, decimal, listing, numeral
from mfbayes.reports.svg import Canvas, Point, Scale

type Values = NDArray[np.float64]

SPLINE = "free spline"
"""The law drawn over the curve: the one that may bend where it likes."""

SIZES: tuple[tuple[Width, float, float], ...] = (("wide", 332.0, 216.0), ("narrow", 172.0, 150.0))


def draw_curves(evidence: Evidence) -> Figure | None:
    """Draw the fitted curves with their bands over the binned choices."""
    curves = evidence.table("curves")
    if curves is None:
        return None
    subjects = [s for s in evidence.subjects if s.key in set(curves["subject"].values.tolist())]
    panels = tuple(
        Panel(
            tuple(Drawing(_draw(evidence, subject, subjects, width=w, height=h), shown) for shown, w, h in SIZES),
            subject=subject,
            aside=f"b = {decimal(subject.median)}" if subject.located else _law_word(subject),
        )
        for subject in subjects
    )
    alt = "Probability of following the text against relative uncertainty. " + " ".join(
        f"{s.key}: {_course(evidence, s)}." for s in subjects
    )
    caption = (
        f"Line: posterior mean averaged over the group effects; band: {evidence.level} interval. "
        f"Dots: observed share in bins of dH, with {evidence.level} intervals. "
        "Dotted: the balance point. Grey: the other models."
    ) + (
        " Dashed, on wide screens: a free spline in dH, which need not fall."
        if evidence.table("law_curves") is not None
        else ""
    )
    tables = tuple(t for t in (_curve_data(evidence, subjects), _bin_data(evidence, subjects)) if t is not None)
    return Figure(
        "curves",
        _title(evidence, subjects) + _word_bends(evidence, subjects),
        alt,
        panels,
        tables,
        intro=_intro(evidence),
        caption=caption,
        grid="multiples",
    )


def _title(evidence: Evidence, subjects: list[Subject]) -> str:
    if not evidence.converged:
        return "Curves of a fit that did not converge"
    exceptions = [s for s in subjects if s.law != "falls" or s.status == "one-sided"]
    falling = len(subjects) - len(exceptions)
    if len(subjects) == 1:
        one = subjects[0]
        name = one.name
        if one.law == "falls":
            return f"{name} follows the text less, the less certain the text is"
        return f"The law fails for {name}" if one.law == "rises" else f"No clear law for {name}"
    if not exceptions:
        both = "Both models follow" if len(subjects) == 2 else "Every model follows"
        return f"{both} the text less, the less certain the text is"
    if not falling:
        return "No model clearly follows the text less where the text is less certain"
    if len(exceptions) < 3:
        return f"All but {listing([s.name for s in exceptions])} follow the text less, the less certain the text is"
    return (
        f"{numeral(falling).capitalize()} of {numeral(len(subjects))} models follow the text less, the "
        "less certain it is"
    )


def _word_bends(evidence: Evidence, subjects: list[Subject]) -> str:
    """Which of the models that follow the law on average do not follow it all along."""
    monotone = evidence.table("monotone")
    if monotone is None or not evidence.converged:
        return ""
    verdicts = read_words(monotone, "verdict", ("subject",))
    bent = [s.name for s in subjects if s.law == "falls" and verdicts.get((s.key,)) == "not monotone"]
    if not bent:
        return ""
    whom = "" if len(subjects) == 1 else f" in {listing(bent) if len(bent) < 3 else f'{numeral(len(bent))} of them'}"
    return f", though not all along{whom}"


def _intro(evidence: Evidence) -> str:
    measure = evidence.measure
    values = measure.plural + (f" (by {measure.word})" if measure.word else "")
    return (
        f"dH compares the {values} of the model's answers to the text alone and to the image alone. "
        "Left of zero the text is the surer side, right of zero the image."
    )


def _law_word(subject: Subject) -> str:
    if subject.status == "one-sided":
        return f"always the {subject.only_side}" if subject.only_side else "neither answer"
    if subject.status == "outside":
        return "b outside the data"
    return {"rises": "law fails", "unclear": "law unclear", "unknown": "law untested"}.get(subject.law, "")


def _course(evidence: Evidence, subject: Subject) -> str:
    own = evidence.estimates["curves"].sel(subject=subject.key)["mean"].dropna("dH")
    if own.size == 0:
        return "no curve"
    first, last = float(own[0]), float(own[-1])
    low, high = float(own["dH"][0]), float(own["dH"][-1])
    return f"from {decimal(first)} at dH {decimal(low)} to {decimal(last)} at dH {decimal(high)}"


def _draw(evidence: Evidence, subject: Subject, others: list[Subject], *, width: float, height: float) -> Markup:
    curves = evidence.estimates["curves"]
    dH = curves["dH"].values.astype(float)
    small = width < 250
    canvas = Canvas(width, height)
    x = Scale(float(dH.min()), float(dH.max()), 30, width - 8)
    y = Scale(0, 1, height - (24 if small else 42), 10)
    draw_x_axis(canvas, x, top=y.end, bottom=y.start, label="" if small else evidence.uncertainty, ticks=4, grid=False)
    draw_y_axis(canvas, y, left=x.start, right=x.end, ticks=2)
    _draw_ghosts(canvas, x, y, evidence, subject, others)
    css = f"m{subject.colour}"
    own = curves.sel(subject=subject.key)
    lower, upper = own["lower"].values, own["upper"].values
    known = np.isfinite(lower) & np.isfinite(upper)
    known[1:-1:2] &= not small
    pixels = [x(v) for v in dH[known]]
    canvas.band(pixels, [y(v) for v in lower[known]], [y(v) for v in upper[known]], f"area {css}")
    if subject.located and x.holds(subject.median):
        canvas.line((x(subject.median), y(0.5)), (x(subject.median), y.start), f"drop {css}")
        canvas.line((x.start, y(0.5)), (x(subject.median), y(0.5)), f"drop {css}")
    _draw_bins(canvas, x, y, evidence, subject, small=small)
    canvas.polyline(_points(x, y, dH, np.where(known, own["mean"].values, np.nan)), f"curve {css}")
    if not small:
        _draw_spline(canvas, x, y, evidence, subject)
    if not small and subject.located:
        # Each word stays away where the curve or its dotted line would cross it.
        if x(subject.median) > x.start + 122:
            canvas.text(x.start + 6, y(0) - 7, "follows the image", "note image-word")
        if x(subject.median) < x.end - 84:
            canvas.text(x.end - 2, y(1) + 14, "follows the text", "note text-word", anchor="end")
    return canvas.markup()


def _draw_spline(canvas: Canvas, x: Scale, y: Scale, evidence: Evidence, subject: Subject) -> None:
    splines = evidence.table("law_curves")
    if splines is None or SPLINE not in splines["law"].values or subject.key not in splines["subject"].values:
        return
    own = splines["mean"].sel(law=SPLINE, subject=subject.key)
    canvas.polyline(_points(x, y, own["dH"].values.astype(float)[::2], own.values[::2]), "spline")


def _points(x: Scale, y: Scale, at: Values, values: Values) -> list[Point]:
    known = np.isfinite(values)
    return [(x(a), y(v)) for a, v in zip(at[known], values[known], strict=True)]


def _draw_ghosts(
    canvas: Canvas, x: Scale, y: Scale, evidence: Evidence, subject: Subject, others: list[Subject]
) -> None:
    """All curves of the task in grey, laid once in its first panel: what a dozen panels repeat would fill the page."""
    curves = evidence.estimates["curves"]
    dH = curves["dH"].values.astype(float)
    fellows = [other for other in others if other.task == subject.task]
    ident = f"ghosts-{evidence.tasks.index(subject.task)}-{canvas.width:.0f}"
    if subject.key != fellows[0].key:
        canvas.reuse(ident)
    elif len(fellows) > 1:
        lines = [_points(x, y, dH, curves["mean"].sel(subject=other.key).values) for other in fellows]
        canvas.shared(ident, [line for line in lines if line], "ghost")


def _draw_bins(canvas: Canvas, x: Scale, y: Scale, evidence: Evidence, subject: Subject, *, small: bool) -> None:
    binned = evidence.table("binned")
    if binned is None:
        return
    css = f"m{subject.colour}"
    own = binned.sel(subject=subject.key)
    for i in range(own.sizes["bin"]):
        row = {name: float(own[name].values[i]) for name in ("dH_mean", "share", "share_lower", "share_upper", "n")}
        if not (row["n"] > 0 and np.isfinite(row["share"]) and np.isfinite(row["dH_mean"])):
            continue
        at = x(row["dH_mean"])
        if np.isfinite(row["share_lower"]) and np.isfinite(row["share_upper"]):
            canvas.line((at, y(row["share_lower"])), (at, y(row["share_upper"])), f"whisker {css}")
        words = f"dH {decimal(row['dH_mean'])}: {decimal(row['share'])} of {count(row['n'])} trials follow the text"
        # A phone has no pointer to hover with.
        canvas.marker(
            "circle", at, y(row["share"]), f"hollow {css}", size=2.4 if small else 3.2, title="" if small else words
        )


def _curve_data(evidence: Evidence, subjects: list[Subject]) -> Table:
    curves = evidence.estimates["curves"]
    every = np.unique(np.linspace(0, curves.sizes["dH"] - 1, 9).round().astype(int))
    points = curves["dH"].values[every]
    head = ["Model", *(f"dH {decimal(float(v))}" for v in points)]
    rows = [[s.key, *(decimal(float(v)) for v in curves["mean"].sel(subject=s.key).values[every])] for s in subjects]
    return Table.of("Posterior mean of P(text) along the curves", head, rows)


def _bin_data(evidence: Evidence, subjects: list[Subject]) -> Table | None:
    binned = evidence.table("binned")
    if binned is None:
        return None
    rows = []
    for s in subjects:
        own = binned.sel(subject=s.key)
        for i in range(own.sizes["bin"]):
            v = {name: float(own[name].values[i]) for name in own.data_vars}
            if v["n"] > 0:
                interval = f"{decimal(v['share_lower'])} to {decimal(v['share_upper'])}"
                span = f"{decimal(v['dH_lower'])} to {decimal(v['dH_upper'])}"
                rows.append([s.key, span, count(v["n"]), count(v["n_text"]), decimal(v["share"]), interval])
    head = ["Model", "dH", "Trials", "Text", "Share", f"{evidence.level} interval"]
    return Table.of("Observed shares in bins of dH", head, rows)
