"""Where in the layers a model commits: mean logit difference by layer and relative uncertainty."""

from collections import defaultdict

import numpy as np
import xarray as xr
from markupsafe import Markup
from numpy.typing import NDArray

from mfbayes.reports.axes import draw_x_axis
from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.figures import Drawing, Figure, Key, Panel, Table
from mfbayes.reports.lookup import Numbers
from mfbayes.reports.numerals import decimal, listing, numeral
from mfbayes.reports.palette import LIGHT_DIVERGING, ramp_step
from mfbayes.reports.svg import Canvas, Scale

MIN_BINS, MIN_TRACES = 3, 10
"""Ambiguous and clear bins, of so many traces, that a model is compared by."""


def draw_layer_maps(evidence: Evidence) -> Figure | None:
    """Draw a map of layers against dH for each model with traces, or nothing where there is none."""
    table = evidence.table("layer_map")
    if table is None:
        return None
    known = {str(key) for key in table["subject"].values}
    subjects = [s for s in evidence.subjects if s.key in known and np.isfinite(_values(table, s)).any()]
    if not subjects:
        return None
    silent = [s for s in subjects if _is_silent(evidence, s)]
    panels = tuple(_panel(table, s) for s in subjects)
    caption = (
        "Rows: decoder layers, the last on top; columns: bins of dH. Colour: mean logit of the text "
        "answer minus that of the image answer, read through the logit lens; the last layer is "
        "the model's own output. Each map has its own scale, its end printed beside the name. Dashed: "
        f"the balance point; shaded: its {evidence.level} interval."
    )
    if missing := [evidence.short(s.key) for s in evidence.subjects if s not in subjects]:
        caption += f" Without usable traces, and not drawn: {listing(missing)}."
    if silent:
        caption += f" No layer of any trace reads either answer: {listing([evidence.short(s.key) for s in silent])}."
    alt = "Maps of the mean logit difference over layers and relative uncertainty. " + " ".join(
        f"{s.key}: {_describe(table, s, reach=evidence.reach)}." for s in subjects
    )
    keys = (Key(_ramp(), "mean logit difference, from the image (orange) to the text (blue)"),)
    return Figure(
        "layers",
        _title(table, [s for s in subjects if s not in silent], reach=evidence.reach),
        alt,
        panels,
        (_data(table, subjects),),
        caption=caption,
        grid="maps",
        keys=keys,
    )


def _values(table: xr.Dataset, subject: Subject, name: str = "mean") -> NDArray[np.float64]:
    """Mean logit difference or a bound of it, shape (layer, bin), without the padding of shallower models."""
    own = table[name].sel(subject=subject.key).transpose("layer", "bin").values.astype(float)
    if "n_layers" in table:
        own = own[: int(table["n_layers"].sel(subject=subject.key))]
    return own


def _panel(table: xr.Dataset, subject: Subject) -> Panel:
    values = _values(table, subject)
    largest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else float("nan")
    return Panel(
        (Drawing(_draw(table, subject, values, largest)),), subject=subject, aside=f"±{decimal(largest, digits=1)}"
    )


def _edges(table: xr.Dataset, subject: Subject) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lower, upper = (
        (table[name].sel(subject=subject.key) if "subject" in table[name].dims else table[name]).values.astype(float)
        for name in ("dH_lower", "dH_upper")
    )
    return lower, upper


def _draw(table: xr.Dataset, subject: Subject, values: NDArray[np.float64], largest: float) -> Markup:
    n_layers = values.shape[0]
    canvas = Canvas(172, 182)
    lower, upper = _edges(table, subject)
    x = Scale(float(np.nanmin(lower)), float(np.nanmax(upper)), 22, 168)
    y = Scale(0, n_layers, 136, 6)
    canvas.rectangle(x.start, y.end, x.end - x.start, y.start - y.end, "nodata")
    strips: dict[int, list[str]] = defaultdict(list)
    for layer in range(n_layers):
        for i in np.flatnonzero(np.isfinite(values[layer])):
            left, right = x(lower[i]), x(upper[i])
            top, bottom = y(layer + 1), y(layer)
            step = ramp_step(values[layer, i] / largest if largest > 0 else 0.0)
            # A third of a pixel of overlap hides the seams between neighbouring cells.
            strips[step].append(
                f"M{left:.1f} {top:.1f}h{right - left + 0.3:.1f}v{bottom - top + 0.3:.1f}h-{right - left + 0.3:.1f}z"
            )
    for step in sorted(strips):
        canvas.path("".join(strips[step]), f"q{step}")
    if subject.located and subject.upper > x.low and subject.lower < x.high:
        canvas.rectangle(x(subject.lower), y.end, x(subject.upper) - x(subject.lower), y.start - y.end, "balance-band")
    if subject.located and x.holds(subject.median):
        canvas.line((x(subject.median), y.end - 3), (x(subject.median), y.start + 3), "balance")
    for layer in sorted({1, n_layers}):
        canvas.text(17, (y(layer) + y(layer - 1)) / 2 + 4, str(layer), "tick", anchor="end")
    draw_x_axis(canvas, x, top=y.end, bottom=y.start, label="dH", ticks=3, grid=False)
    return canvas.markup()


def _ramp() -> Markup:
    canvas = Canvas(132, 12)
    for step in range(len(LIGHT_DIVERGING)):
        canvas.rectangle(12 * step, 0, 12.3, 12, f"q{step}")
    return canvas.markup("ramp")


def commit_layers(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """First layer from which the sign stays that of the last layer, shape (bin,), NaN where nothing is known.

    Examples
    --------
    >>> commit_layers(np.array([[1.0, -1.0], [-1.0, -2.0], [2.0, -3.0]]))
    array([3., 1.])
    """
    layers = np.full(values.shape[1], np.nan)
    for i in range(values.shape[1]):
        signs = np.sign(values[:, i])
        if not np.isfinite(signs).all():
            continue
        differing = np.flatnonzero(signs != signs[-1])
        layers[i] = differing[-1] + 2 if differing.size else 1
    return layers


def _commitment(table: xr.Dataset, subject: Subject, *, reach: float) -> tuple[float, float]:
    """Median commit layer of ambiguous and of clear bins, as shares of the model's depth; NaN with too few of them."""
    values = _values(table, subject)
    lower, upper = _edges(table, subject)
    layers = commit_layers(values) / values.shape[0]
    near = np.abs((lower + upper) / 2 - subject.median) < reach
    known = np.isfinite(layers)
    if "n" in table:
        known &= (_values(table, subject, "n") >= MIN_TRACES).all(axis=0)
    if min((known & near).sum(), (known & ~near).sum()) < MIN_BINS:
        return float("nan"), float("nan")
    return float(np.median(layers[known & near])), float(np.median(layers[known & ~near]))


def _is_silent(evidence: Evidence, subject: Subject) -> bool:
    """Whether traces never commit, so that no side is ever settled on."""
    table = evidence.table("oscillations")
    if table is None or "never_committed" not in table:
        return False
    never = Numbers(table, "subject", "region")
    shares = [never("never_committed", subject.key, region) for region in never.labels["region"]]
    return {share for share in shares if np.isfinite(share)} == {1.0}


def _title(table: xr.Dataset, subjects: list[Subject], *, reach: float) -> str:
    if not subjects:
        return "No layer reads either answer, so no side is settled on"
    compared = {s.name: _commitment(table, s, reach=reach) for s in subjects if s.located}
    compared = {name: pair for name, pair in compared.items() if np.isfinite(pair).all()}
    earlier, later = (
        [name for name, (near, clear) in compared.items() if sign * (near - clear) > 0] for sign in (1, -1)
    )
    if not compared:
        return "How the decision forms over the layers"
    for who, word in ((earlier, "earlier"), (later, "later")):
        if len(who) == len(compared):
            rest = ", in every model" if len(compared) > 1 else " than ambiguous ones"
            return f"Clear cases settle on a side in {word} layers{rest}"
    if not earlier:
        rest = f"; they do in later ones in {_count(later, compared)}" if later else ""
        return f"Clear cases do not settle on a side in earlier layers than ambiguous ones{rest}"
    rest = f", in later ones in {_name(later)}" if later else ""
    return f"Clear cases settle on a side in earlier layers in {_count(earlier, compared)}{rest}"


def _count(who: list[str], compared: dict[str, tuple[float, float]]) -> str:
    return f"{numeral(len(who))} of {numeral(len(compared))} models"


def _name(who: list[str]) -> str:
    return listing(who) if len(who) < 3 else numeral(len(who))


def _describe(table: xr.Dataset, subject: Subject, *, reach: float) -> str:
    near, clear = _commitment(table, subject, reach=reach)
    last = _values(table, subject)[-1]
    ends = last[np.isfinite(last)]
    if ends.size == 0:
        return "no data"
    course = (
        f"last layer from {decimal(float(ends[0]), digits=1)} at the lowest dH to "
        f"{decimal(float(ends[-1]), digits=1)} at the highest"
    )
    if not np.isfinite(near):
        return course
    return (
        f"{course}; median depth at which the sign settles {decimal(clear)} in clear and "
        f"{decimal(near)} in ambiguous bins"
    )


def _data(table: xr.Dataset, subjects: list[Subject]) -> Table:
    head = ["Model", "Layer", *(f"dH bin {i + 1}" for i in range(table.sizes["bin"]))]
    rows = []
    for s in subjects:
        cells = zip(*(_values(table, s, name).tolist() for name in ("mean", "lower", "upper")), strict=True)
        rows += [[s.key, str(layer), *map(_cell, *bounds)] for layer, bounds in enumerate(cells, start=1)]
    return Table.of("Mean logit difference (text minus image) by layer and bin of dH", head, rows)


def _cell(mean: float, lower: float, upper: float) -> str:
    if not np.isfinite(lower):
        return decimal(mean, digits=1)
    return f"{decimal(mean, digits=1)} [{decimal(lower, digits=1)}, {decimal(upper, digits=1)}]"
