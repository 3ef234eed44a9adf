"""How often the leading answer changes sides over the layers, in ambiguous, clear and control cases."""

import numpy as np
import xarray as xr
from markupsafe import Markup

from mfbayes.reports.axes import Rows, draw_x_axis
from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.figures import WIDTHS, Drawing, Figure, Key, Panel, Table
from mfbayes.reports.numerals import count, decimal, interval, listing, numeral
from mfbayes.reports.svg import Canvas, Scale

REGIONS = ("ambiguous", "clear", "control")
ALL_REGIONS = ("text-clear", "ambiguous", "image-clear", "clear", "control")

type Values = dict[tuple[str, str, str], float]
"""Estimates by subject, region and name: read once, since each look-up in a Dataset costs a millisecond."""


def draw_oscillations(evidence: Evidence) -> Figure | None:
    """Draw the mean number of oscillations by region, or nothing without traces."""
    table = evidence.table("oscillations")
    if table is None:
        return None
    values = _read(table.transpose("subject", "region", ...))
    drawings = tuple(Drawing(_draw(evidence, values, width=width), shown) for shown, width in WIDTHS.items())
    alt = "Mean oscillations. " + "; ".join(
        f"{s.key}: " + ", ".join(f"{region} {decimal(_mean(values, s, region))}" for region in REGIONS)
        for s in _traced(evidence, values)
    )
    caption = (
        "An oscillation: between decoder layers, the logit lens's leading answer changes from the text's to the "
        "image's or back; layers led by anything else are skipped. Ambiguous: |dH \N{MINUS SIGN} b| < "
        f"{evidence.reach:g}. "
        f"Control: the text is about another object. Lines: {evidence.level} intervals."
    )
    keys = (
        Key(_key("dot neutral"), "ambiguous"),
        Key(_key("hollow neutral"), "clear"),
        Key(_key("", cross=True), "control"),
    )
    title = _title(evidence, values)
    return Figure(
        "oscillations", title, alt, (Panel(drawings),), (_data(evidence, values),), caption=caption, keys=keys
    )


def _read(table: xr.Dataset) -> Values:
    regions = [str(region) for region in table["region"].values]
    return {
        (str(key), region, name): float(table[name].values[i, j])
        for name in ("mean", "lower", "upper", "n", "never_committed")
        for i, key in enumerate(table["subject"].values)
        for j, region in enumerate(regions)
    }


def _traced(evidence: Evidence, values: Values) -> list[Subject]:
    return [s for s in evidence.subjects if any(np.isfinite(_mean(values, s, region)) for region in ALL_REGIONS)]


def _value(values: Values, subject: Subject, region: str, name: str) -> float:
    return values.get((subject.key, region, name), float("nan"))


def _mean(values: Values, subject: Subject, region: str) -> float:
    return _value(values, subject, region, "mean")


def _draw(evidence: Evidence, values: Values, *, width: float) -> Markup:
    rows = Rows(evidence, width=width, top=8, height=36)
    canvas = Canvas(width, rows.bottom + 42)
    ends = np.array([v for (_, region, name), v in values.items() if region in REGIONS and name in ("mean", "upper")])
    highest = float(np.nanmax(ends)) if np.isfinite(ends).any() else 1.0
    scale = Scale(0, max(1.08 * highest, 0.1), rows.name_width + 14, width - 8)
    draw_x_axis(canvas, scale, top=8, bottom=rows.bottom, label="mean oscillations per item", ticks=5)
    rows.draw_names(canvas)
    traced = {s.key for s in _traced(evidence, values)}
    for subject, y in rows.places:
        if subject.key not in traced:
            canvas.text(scale.start + 6, y + 6, "no traces", "note")
            continue
        _draw_row(canvas, scale, values, subject, y)
    return canvas.markup()


def _draw_row(canvas: Canvas, scale: Scale, values: Values, subject: Subject, y: float) -> None:
    css = f"m{subject.colour}"
    ambiguous, clear = (_mean(values, subject, region) for region in ("ambiguous", "clear"))
    if np.isfinite(ambiguous) and np.isfinite(clear):
        canvas.line((scale(clear), y), (scale(ambiguous), y), f"link {css}")
    for region, offset, look in (("control", 6, "cross"), ("clear", 3, "hollow"), ("ambiguous", -3, "dot")):
        mean, lower, upper = (_value(values, subject, region, name) for name in ("mean", "lower", "upper"))
        if not np.isfinite(mean):
            continue
        words = f"{subject.key}, {region}: {decimal(mean)} {interval(lower, upper)}"
        at = y if region != "control" else y + offset
        if np.isfinite(lower) and np.isfinite(upper):
            canvas.line((scale(lower), at), (scale(upper), at), f"bar thin {css if look != 'cross' else 'neutral'}")
        if look == "cross":
            canvas.marker("cross", scale(mean), at, "fill neutral", size=3.6, title=words)
        else:
            canvas.marker("circle", scale(mean), at, f"{look} {css}", size=5.2, title=words)


def _key(css: str, *, cross: bool = False) -> Markup:
    canvas = Canvas(14, 14)
    if cross:
        canvas.marker("cross", 7, 7, "fill neutral", size=3.8)
    else:
        canvas.marker("circle", 7, 7, css, size=5)
    return canvas.markup("swatch")


def _title(evidence: Evidence, values: Values) -> str:
    if not evidence.converged:
        return "Oscillations, by regions of a fit that did not converge"
    compared = [
        s for s in _traced(evidence, values) if all(np.isfinite(_mean(values, s, r)) for r in ("ambiguous", "clear"))
    ]
    more = [s for s in compared if _value(values, s, "ambiguous", "lower") > _value(values, s, "clear", "upper")]
    fewer = [s for s in compared if _value(values, s, "ambiguous", "upper") < _value(values, s, "clear", "lower")]
    if not compared:
        return "Ambiguous and clear cases cannot be compared"
    if len(compared) == 1:
        if more:
            return "Ambiguous cases change sides more often than clear ones"
        return (
            "Ambiguous cases change sides less often than clear ones"
            if fewer
            else "Ambiguous cases do not clearly change sides more often"
        )
    if len(more) == len(compared):
        return "Ambiguous cases change sides more often than clear ones, in every model"
    if not more and not fewer:
        return "Ambiguous cases do not clearly change sides more often, in any model"
    share = (
        f"{numeral(len(more)).capitalize()} of {numeral(len(compared))} models change sides more "
        "often in ambiguous cases"
    )
    if fewer:
        names = listing([s.name for s in fewer]) if len(fewer) < 3 else numeral(len(fewer))
        return f"{share}; the reverse holds for {names}"
    return share


def _data(evidence: Evidence, values: Values) -> Table:
    rows = []
    for s in _traced(evidence, values):
        for region in ALL_REGIONS:
            mean, lower, upper, n, never = (
                _value(values, s, region, name) for name in ("mean", "lower", "upper", "n", "never_committed")
            )
            if np.isfinite(mean):
                rows.append([s.key, region, decimal(mean), interval(lower, upper), count(n), decimal(never)])
    head = ["Model", "Region", "Mean", f"{evidence.level} interval", "Items", "Never committed"]
    return Table.of("Mean oscillations by region", head, rows)
