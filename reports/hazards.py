"""How likely a switch is from one layer to the next: by depth, and by the distance from the balance point."""

import numpy as np
import xarray as xr
from markupsafe import Markup
from numpy.typing import NDArray

from mfbayes.reports.axes import draw_x_axis, draw_y_axis
from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.figures import Drawing, Figure, Key, Panel, Table
from mfbayes.reports.lookup import Numbers
from mfbayes.reports.numerals import DASH, MINUS, decimal, interval, listing, numeral, percent, probability
from mfbayes.reports.svg import Canvas, Scale
from mfbayes.reports.verdict import CERTAIN

type Floats = NDArray[np.float64]

SIDES = {"text": ("from the text to the image", "to-image dashed"), "image": ("from the image to the text", "to-text")}
"""Sides that are left, with the direction in words and its look."""

ENDS = ("mean", "lower", "upper")
TERMS = {
    "x": "dH higher by 1",
    "distance": "at b, against 1 away",
    "H_text": "text's entropy higher by 1",
    "H_image": "image's entropy higher by 1",
    "switched-1-ago": "switched 1 layer ago",
    "switched-2-ago": "switched 2 layers ago",
}
NEAR = "distance"


def draw_hazards(evidence: Evidence) -> Figure | None:
    """Draw hazards of switching by layer and by dH - b, one panel a model, or nothing without the hazard model."""
    depth, distance = evidence.table("hazard_by_depth"), evidence.table("hazard_by_distance")
    if depth is None:
        return None
    known = {str(key) for key in depth["subject"].values}
    subjects = [s for s in evidence.subjects if s.key in known]
    panels = tuple(_panel(depth, distance, s) for s in subjects)
    data = [_by_depth(evidence, depth, subjects)]
    data += [_by_distance(evidence, distance, subjects)] if distance is not None else []
    data += [_effects(evidence, subjects)] if evidence.table("switching_effects") is not None else []
    alt = "Hazards of switching by layer and by distance from the balance point. " + " ".join(
        f"{evidence.short(s.key)}: {_describe(depth, s)}." for s in subjects
    )
    caption = (
        "Chance that a trace on one side is on the other in the next layer, without a recent switch. Top or left: by "
        f"the layer that is left, at the balance point. Other plot: by dH {MINUS} b, averaged over layers. Hazards are "
        f"of each model and direction apart; bands: {evidence.level} intervals, for b that is uncertain too."
    )
    outside = [evidence.short(key) for key in str(depth.attrs.get("outside", "")).split(", ") if key]
    if outside:
        caption += f" Extrapolated at b, which lies outside the dH of the traces: {listing(outside)}."
    if left_out := [evidence.short(s.key) for s in evidence.subjects if s not in subjects]:
        caption += f" Not in the model, for want of switches to learn from or of a balance point: {listing(left_out)}."
    keys = tuple(Key(_key(css), words) for words, css in SIDES.values())
    return Figure(
        "hazards", _title(evidence), alt, panels, tuple(data), caption=caption, grid="multiples", keys=keys
    )  # fmt: skip


def _panel(depth: xr.Dataset, distance: xr.Dataset | None, subject: Subject) -> Panel:
    layers = _read(depth, subject, "layer")
    by_x = None if distance is None else _read(distance, subject, "x")
    drawings = (
        Drawing(_draw(layers, by_x, stacked=False), "wide"),
        Drawing(_draw(layers, by_x, stacked=True), "narrow"),
    )
    return Panel(drawings, subject=subject)


def _read(table: xr.Dataset, subject: Subject, dim: str) -> tuple[Floats, dict[str, Floats]]:
    """Where hazards are known along a dim, and by side left their mean and bounds, shape (3, n)."""
    if subject.key not in {str(key) for key in table["subject"].values}:
        return np.empty(0), {}
    own = table.sel(subject=subject.key)
    bands = {
        side: np.stack([own[end].sel(side=side).transpose(dim).values.astype(float) for end in ENDS]) for side in SIDES
    }
    known = np.isfinite([band[0] for band in bands.values()]).any(axis=0)
    return table[dim].values.astype(float)[known], {side: band[:, known] for side, band in bands.items()}


def _draw(
    layers: tuple[Floats, dict[str, Floats]], by_x: tuple[Floats, dict[str, Floats]] | None, *, stacked: bool
) -> Markup:
    plots = [(layers, "layer")] + ([] if by_x is None else [(by_x, f"dH {MINUS} b")])
    canvas = Canvas(172, 24 + 150 * len(plots)) if stacked else Canvas(330, 182)
    ends = [band[2] for (_, bands), _ in plots for band in bands.values()]
    highest = float(np.nanmax(np.concatenate(ends))) if ends and np.isfinite(np.concatenate(ends)).any() else 1.0
    high = min(1.0, max(1.06 * highest, 0.05))
    for i, ((at, bands), label) in enumerate(plots):
        top = 8.0 + (158 * i if stacked else 0)
        left = 36.0 if stacked or i == 0 else 194.0
        right = 166.0 if stacked or i == 0 else 324.0
        bottom = top + (104 if stacked else 134)
        if at.size < 2:
            canvas.text(left, (top + bottom) / 2, "not known", "note")
            continue
        x, y = Scale(float(at[0]), float(at[-1]), left, right), Scale(0, high, bottom, top)
        if stacked or i == 0:
            draw_y_axis(canvas, y, left=left, right=right, ticks=3)
        else:
            for tick in y.ticks(3):
                canvas.line((left, y(tick)), (right, y(tick)), "grid")
        draw_x_axis(canvas, x, top=top, bottom=bottom, label=label, ticks=3, grid=False)
        if label != "layer" and x.holds(0):
            canvas.line((x(0), top), (x(0), bottom), "balance")
        for side, (mean, lower, upper) in bands.items():
            css = SIDES[side][1]
            known = np.isfinite(mean) & np.isfinite(lower) & np.isfinite(upper)
            across = [x(value) for value in at[known]]
            canvas.band(across, [y(v) for v in lower[known]], [y(v) for v in upper[known]], f"area {css.split()[0]}")
            canvas.polyline(zip(across, [y(v) for v in mean[known]], strict=True), f"curve {css}")
    return canvas.markup()


def _key(css: str) -> Markup:
    canvas = Canvas(28, 14)
    canvas.line((0, 7), (28, 7), f"bar {css}")
    return canvas.markup("dash")


def _describe(depth: xr.Dataset, subject: Subject) -> str:
    at, bands = _read(depth, subject, "layer")
    parts = []
    for side, (words, _) in SIDES.items():
        band = bands.get(side)
        if band is not None and np.isfinite(band[0]).any():
            peak = int(np.nanargmax(band[0]))
            parts.append(f"{words} highest after layer {at[peak]:g}, {percent(float(band[0][peak]))}")
    return ", ".join(parts) or "not known"


def _title(evidence: Evidence) -> str:
    effects = evidence.table("switching_effects")
    if not evidence.converged or (effects is not None and not effects.attrs.get("passed", 1)):
        return "Hazards of switching, by a model that did not converge"
    if effects is None or NEAR not in effects["term"].values.astype(str):
        return "How likely a switch is, by depth and distance from balance"
    p = Numbers(effects[["mean_p_positive"]], "side", "term")
    chances = {side: p("mean_p_positive", side, NEAR) for side in SIDES}
    more = [SIDES[side][0] for side, chance in chances.items() if chance >= CERTAIN]
    fewer = [SIDES[side][0] for side, chance in chances.items() if chance <= 1 - CERTAIN]
    if len(more) == 2:
        return "Beyond the trend with dH, switches near balance are likelier in both directions"
    if len(fewer) == 2:
        return "Beyond the trend with dH, switches near balance are less likely in both directions"
    parts = ([f"likelier {listing(more)}"] if more else []) + ([f"less likely {listing(fewer)}"] if fewer else [])
    if parts:
        rest = "" if more and fewer else "; the other direction is not clearly different"
        return f"Beyond the trend with dH, switches near balance are {', '.join(parts)}{rest}"
    return "Beyond the trend with dH, switches near balance are not clearly likelier in either direction"


def _by_depth(evidence: Evidence, table: xr.Dataset, subjects: list[Subject]) -> Table:
    rows = []
    for s in subjects:
        at, bands = _read(table, s, "layer")
        rows += [[evidence.short(s.key), f"{layer:g}", *_cells(bands, i)] for i, layer in enumerate(at)]
    head = ["Model", "Layer", *(f"{words[0].upper()}{words[1:]}" for words, _ in SIDES.values())]
    return Table.of(f"Hazard by layer, with {evidence.level} intervals", head, rows)


def _by_distance(evidence: Evidence, table: xr.Dataset, subjects: list[Subject]) -> Table:
    rows = []
    for s in subjects:
        at, bands = _read(table, s, "x")
        # Halves of a unit are enough to read; the curves have more points.
        rows += [
            [evidence.short(s.key), decimal(float(x), digits=1), *_cells(bands, i)]
            for i, x in enumerate(at)
            if np.isclose(2 * x, np.round(2 * x))
        ]
    head = ["Model", f"dH {MINUS} b", *(f"{words[0].upper()}{words[1:]}" for words, _ in SIDES.values())]
    return Table.of(f"Hazard by distance, with {evidence.level} intervals", head, rows)


def _cells(bands: dict[str, Floats], i: int) -> list[str]:
    return [f"{decimal(float(b[0, i]))} {interval(float(b[1, i]), float(b[2, i]))}" for b in bands.values()]


def _effects(evidence: Evidence, subjects: list[Subject]) -> Table:
    table = evidence.estimates["switching_effects"]
    shared = [str(name) for name in table.data_vars if str(name).startswith("mean_")]
    own, mean = Numbers(table, "subject", "side", "term"), Numbers(table[shared], "side", "term")
    rows = []
    for side, (words, _) in SIDES.items():
        for term in mean.labels["term"]:
            said = [TERMS.get(term, term), words]
            values = [mean(f"mean_{name}", side, term) for name in (*ENDS, "p_positive")]
            several = [own("mean", s.key, side, term) for s in subjects]
            finite = [value for value in several if np.isfinite(value)]
            rows.append(
                [
                    *said, decimal(values[0]), interval(values[1], values[2]), probability(values[3]),
                    f"{decimal(min(finite))} to {decimal(max(finite))}" if finite else DASH,
                ]
            )  # fmt: skip
    head = ["Effect of", "Switch", "Population mean", f"{evidence.level} interval", "P(> 0)", "Models from, to"]
    caption = (
        "Effects on the log-odds of a switch: mean of the population that the models are taken to be drawn from, and "
        f"the range over {numeral(len(subjects))} model{'s' * (len(subjects) != 1)}"
    )
    return Table.of(caption, head, rows)
