"""The plane of both uncertainties: where a model follows the text, and whether its balance curve is the law's ray."""

from collections import defaultdict

import numpy as np
import xarray as xr
from markupsafe import Markup
from numpy.typing import NDArray

from mfbayes.reports.axes import draw_x_axis, draw_y_axis
from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.figures import Drawing, Figure, Key, Panel, Table
from mfbayes.reports.measures import Measure
from mfbayes.reports.numerals import decimal, interval, listing, numeral, probability
from mfbayes.reports.palette import LIGHT_DIVERGING, ramp_step
from mfbayes.reports.svg import Canvas, Scale

WIDTH = 172.0
"""Drawn width in px, on every screen: a map is square and many stand side by side."""

SHOWN = 6
"""Points of a balance curve that its table gives."""

type Values = NDArray[np.float64]


def draw_planes(evidence: Evidence) -> Figure | None:
    """Draw P(text) over the plane of uncertainties with the balance curve of each model, or nothing without it."""
    table = evidence.table("plane")
    if table is None:
        return None
    there = {str(key) for key in table["subject"].values}
    subjects = [s for s in evidence.subjects if s.key in there]
    panels = tuple(
        Panel(
            (Drawing(_draw(table, s, evidence.measure)),),
            subject=s,
            aside=f"b = {decimal(s.median)}" if s.located else "",
        )
        for s in subjects
    )
    measure = evidence.measure
    alt = f"Maps of P(text) over the {measure.plural} of text and image{measure.in_unit(', in ')}. " + " ".join(
        f"{s.key}: {_describe(table, s)}." for s in subjects
    )
    caption = (
        f"Across: {measure.text}; up: {measure.image}{measure.in_unit(', both in ')}. Colour: P(text), averaged over "
        "the group effects, where there are trials. Line with band: the "
        f"balance curve, P(text) = ½, and its {evidence.level} interval. Dashed: the same by dH alone, a ray from the "
        "origin. Where line and ray part, dH is not the whole story."
    )
    untold = [evidence.short(s.key) for s in subjects if s.located and _leaves_ray(table, s) is None]
    if untold and len(untold) < len(subjects):
        caption += f" No balance curve is known well enough to compare for {listing(untold)}."
    return Figure(
        "plane",
        _title(evidence, table, subjects),
        alt,
        panels,
        (_curve_data(evidence, table, subjects), _data(evidence, table, subjects)),
        caption=caption,
        grid="maps",
        keys=(Key(_ramp(), "P(text), from 0 (orange, image) to 1 (blue, text)"),),
    )


def _title(evidence: Evidence, table: xr.Dataset, subjects: list[Subject]) -> str:
    if not evidence.converged:
        return "Balance curves of a fit that did not converge"
    apart = [leaves for s in subjects if s.located and (leaves := _leaves_ray(table, s)) is not None]
    if not apart:
        return f"P(text) over both {evidence.measure.plural}"
    if not any(apart):
        which = "The balance curve follows" if len(apart) == 1 else "Every balance curve follows"
        return f"{which} the ray that dH implies"
    if len(apart) == 1:
        return "The balance curve leaves the ray that dH implies"
    few, many = numeral(sum(apart)), numeral(len(apart))
    if evidence.several_tasks:
        return f"{few.capitalize()} of {many} balance curves leave{'s' * (few == numeral(1))} the ray that dH implies"
    return f"In {few} of {many} models the balance curve leaves the ray that dH implies"


def _leaves_ray(table: xr.Dataset, subject: Subject) -> bool | None:
    """Whether the ray lies outside the curve's band over half of the curve or more; unknown without a curve."""
    H_text = table["H_text_point"].values.astype(np.float64)
    lower, upper = (_own(table, subject, name) for name in ("curve_lower", "curve_upper"))
    known = np.isfinite(lower) & np.isfinite(upper)
    if not known.any() or subject.median <= -2:
        return None
    ray = H_text[known] * (2 - subject.median) / (2 + subject.median)
    return bool(np.mean((ray < lower[known]) | (ray > upper[known])) >= 0.5)


def _own(table: xr.Dataset, subject: Subject, name: str) -> Values:
    if name not in table:
        return np.full(table.sizes["H_text_point"], np.nan)
    array = table[name].sel(subject=subject.key)
    dims = [dim for dim in ("H_text_point", "H_image_point") if dim in array.dims]
    values: Values = array.transpose(*dims).values.astype(np.float64)
    return values


def _edges(points: Values) -> Values:
    """Borders of the cells around their points; uncertainties are never negative."""
    inner = (points[:-1] + points[1:]) / 2
    first, last = points[0] - (inner[0] - points[0]), points[-1] + (points[-1] - inner[-1])
    return np.concatenate([[max(0.0, first)], inner, [last]])


def _draw(table: xr.Dataset, subject: Subject, measure: Measure) -> Markup:
    canvas = Canvas(WIDTH, WIDTH + 8)
    H_text, H_image = (table[name].values.astype(np.float64) for name in ("H_text_point", "H_image_point"))
    across, up = _edges(H_text), _edges(H_image)
    x = Scale(0, float(across[-1]), 24, WIDTH - 4)
    y = Scale(0, float(up[-1]), canvas.height - 42, 10)
    canvas.rectangle(x.start, y.end, x.end - x.start, y.start - y.end, "nodata")
    _draw_cells(canvas, x, y, across, up, _own(table, subject, "p_text"))
    draw_x_axis(canvas, x, top=y.end, bottom=y.start, label=measure.text, ticks=3, grid=False)
    draw_y_axis(canvas, y, left=x.start, right=x.start, ticks=3)
    if subject.located:
        _draw_ray(canvas, x, y, subject.median)
    curve, lower, upper = (_own(table, subject, name) for name in ("curve_H_image", "curve_lower", "curve_upper"))
    sure = np.isfinite(curve) & np.isfinite(lower) & np.isfinite(upper)
    if sure.any():
        at = [x(v) for v in H_text[sure]]
        canvas.band(at, [y(v) for v in lower[sure]], [y(v) for v in upper[sure]], "contour-band")
    known = np.isfinite(curve)
    canvas.polyline([(x(a), y(v)) for a, v in zip(H_text[known], curve[known], strict=True)], "contour")
    return canvas.markup()


def _draw_cells(canvas: Canvas, x: Scale, y: Scale, across: Values, up: Values, p_text: Values) -> None:
    """One path a colour, and one rectangle a run of cells alike: a dozen maps must stay small."""
    strips: dict[int, list[str]] = defaultdict(list)
    for j in range(p_text.shape[1]):
        steps = [ramp_step(2 * p - 1) if np.isfinite(p) else None for p in p_text[:, j]]
        start = 0
        for i in range(1, len(steps) + 1):
            if i < len(steps) and steps[i] == steps[start]:
                continue
            step = steps[start]
            if step is not None:
                left, right, top, bottom = x(across[start]), x(across[i]), y(up[j + 1]), y(up[j])
                strips[step].append(f"M{left:.0f} {top:.0f}H{right:.0f}V{bottom:.0f}H{left:.0f}Z")
            start = i
    for step in sorted(strips):
        canvas.path("".join(strips[step]), f"q{step}")


def _draw_ray(canvas: Canvas, x: Scale, y: Scale, b: float) -> None:
    """All points whose dH is b: dH = 2 (r - 1) / (r + 1) with r the text's uncertainty over the image's."""
    rise, run = 2 - b, 2 + b
    reach = min(x.high / run if run > 0 else np.inf, y.high / rise if rise > 0 else np.inf)
    if np.isfinite(reach):
        canvas.line((x(0), y(0)), (x(run * reach), y(rise * reach)), "balance")


def _ramp() -> Markup:
    canvas = Canvas(132, 12)
    for step in range(len(LIGHT_DIVERGING)):
        canvas.rectangle(12 * step, 0, 12.3, 12, f"q{step}")
    return canvas.markup("ramp")


def _describe(table: xr.Dataset, subject: Subject) -> str:
    curve = _own(table, subject, "curve_H_image")
    known = np.flatnonzero(np.isfinite(curve))
    if not known.size:
        return "no balance curve within the data"
    first, last = known[0], known[-1]
    at = table["H_text_point"].values
    return (
        f"balance curve from ({decimal(float(at[first]))}, {decimal(float(curve[first]))}) to "
        f"({decimal(float(at[last]))}, {decimal(float(curve[last]))})"
    )


def _curve_data(evidence: Evidence, table: xr.Dataset, subjects: list[Subject]) -> Table:
    rows = []
    for s in subjects:
        curve, lower, upper = (_own(table, s, name) for name in ("curve_H_image", "curve_lower", "curve_upper"))
        known = np.flatnonzero(np.isfinite(curve))
        for i in known[np.unique(np.linspace(0, known.size - 1, SHOWN).round().astype(int))] if known.size else known:
            at = float(table["H_text_point"].values[i])
            rows.append(
                [
                    evidence.short(s.key),
                    decimal(at),
                    decimal(float(curve[i])),
                    interval(float(lower[i]), float(upper[i])),
                ]
            )
    measure = evidence.measure
    head = ["Model", measure.text, f"{measure.image} at P = ½", "Interval"]
    return Table.of(f"Balance curves{measure.in_unit(', ')}", head, rows)


def _data(evidence: Evidence, table: xr.Dataset, subjects: list[Subject]) -> Table:
    """P(text) at a few of the points: all of them are in the fit."""
    across, up = (
        np.unique(np.linspace(0, table.sizes[name] - 1, 4).round().astype(int))
        for name in ("H_text_point", "H_image_point")
    )
    measure = evidence.measure
    head = ["Model", measure.text, *(f"{measure.image} {decimal(float(table['H_image_point'].values[j]))}" for j in up)]
    rows = []
    for s in subjects:
        p_text = _own(table, s, "p_text")
        for i in across:
            at = decimal(float(table["H_text_point"].values[i]))
            rows.append([evidence.short(s.key), at, *(probability(float(p_text[i, j])) for j in up)])
    return Table.of(f"P(text) over the plane{measure.in_unit(', in ')}", head, rows)
