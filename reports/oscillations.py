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


def draw_oscillations(evidence: Evidence) -> Figure | None:
    """Draw the mean number of oscillations by region, or nothing without traces."""
    table = evidence.table("oscillations")
    if table is None:
        return None
    drawings = tuple(
        Drawing(_draw(evidence, table, width=width), shown)  # type: ignore[arg-type]
        for shown, width in WIDTHS.items()
    )
    alt = "Mean oscillations. " + "; ".join(
        f"{s.key}: " + ", ".join(f"{region} {decimal(_mean(table, s, region))}" for region in REGIONS)
        for s in _traced(evidence, table)
    )
    caption = (
        "An oscillation: between decoder layers, the logit lens's leading answer changes from the text's "
        "to the image's or back; layers led "
        "by anything else are skipped. Ambiguous: |dH \N{MINUS SIGN} b| < 0.5. Control: the text is "
        "about another object. "
        f"Lines: {evidence.level} intervals."
    )
    keys = (
        Key(_key("dot neutral"), "ambiguous"),
        Key(_key("hollow neutral"), "clear"),
        Key(_key("", cross=True), "control"),
    )
    title = _title(evidence, table)
    return Figure("oscillations", title, alt, (Panel(drawings),), (_data(evidence, table),), caption=caption, keys=keys)


def _traced(evidence: Evidence, table: xr.Dataset) -> list[Subject]:
    stored = set(table["subject"].values.tolist())
    return [
        s for s in evidence.subjects if s.key in stored and bool(np.isfinite(table["mean"].sel(subject=s.key)).any())
    ]


def _value(table: xr.Dataset, subject: Subject, region: str, name: str) -> float:
    if region not in table["region"].values:
        return float("nan")
    return float(table[name].sel(subject=subject.key, region=region))


def _mean(table: xr.Dataset, subject: Subject, region: str) -> float:
    return _value(table, subject, region, "mean")


def _draw(evidence: Evidence, table: xr.Dataset, *, width: float) -> Markup:
    rows = Rows(evidence, width=width, top=8, height=36)
    canvas = Canvas(width, rows.bottom + 42)
    ends = np.concatenate([table[name].sel(region=[r for r in REGIONS if r in table["region"].values]).values.ravel()
                           for name in ("mean", "upper")])  # fmt: skip
    highest = float(np.nanmax(ends)) if np.isfinite(ends).any() else 1.0
    scale = Scale(0, max(1.08 * highest, 0.1), rows.name_width + 14, width - 8)
    draw_x_axis(canvas, scale, top=8, bottom=rows.bottom, label="mean oscillations per item", ticks=5)
    rows.draw_names(canvas)
    traced = {s.key for s in _traced(evidence, table)}
    for subject, y in rows.places:
        if subject.key not in traced:
            canvas.text(scale.start + 6, y + 6, "no traces", "note")
            continue
        _draw_row(canvas, scale, table, subject, y)
    return canvas.markup()


def _draw_row(canvas: Canvas, scale: Scale, table: xr.Dataset, subject: Subject, y: float) -> None:
    css = f"m{subject.colour}"
    ambiguous, clear = (_mean(table, subject, region) for region in ("ambiguous", "clear"))
    if np.isfinite(ambiguous) and np.isfinite(clear):
        canvas.line((scale(clear), y), (scale(ambiguous), y), f"link {css}")
    for region, offset, look in (("control", 6, "cross"), ("clear", 3, "hollow"), ("ambiguous", -3, "dot")):
        mean, lower, upper = (_value(table, subject, region, name) for name in ("mean", "lower", "upper"))
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


def _title(evidence: Evidence, table: xr.Dataset) -> str:
    if not evidence.converged:
        return "Oscillations, by regions of a fit that did not converge"
    compared = [
        s for s in _traced(evidence, table) if all(np.isfinite(_mean(table, s, r)) for r in ("ambiguous", "clear"))
    ]
    more = [s for s in compared if _value(table, s, "ambiguous", "lower") > _value(table, s, "clear", "upper")]
    fewer = [s for s in compared if _value(table, s, "ambiguous", "upper") < _value(table, s, "clear", "lower")]
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


def _data(evidence: Evidence, table: xr.Dataset) -> Table:
    rows = []
    for s in _traced(evidence, table):
        for region in (str(r) for r in table["region"].values):
            mean, lower, upper, n, never = (
                _value(table, s, region, name) for name in ("mean", "lower", "upper", "n", "never_committed")
            )
            if np.isfinite(mean):
                rows.append([s.key, region, decimal(mean), interval(lower, upper), count(n), decimal(never)])
    head = ["Model", "Region", "Mean", f"{evidence.level} interval", "Items", "Never committed"]
    return Table.of("Mean oscillations by region", head, rows)
