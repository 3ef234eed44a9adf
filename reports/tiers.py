"""Whether designed difficulty raises entropy, and what it does to accuracy, in both modalities."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from markupsafe import Markup

from mfbayes.reports.axes import draw_x_axis, draw_y_axis, spread
from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import Drawing, Figure, Key, Panel, Table
from mfbayes.reports.lettering import shorten
from mfbayes.reports.lettering import width as text_width
from mfbayes.reports.numerals import count, decimal, listing, numeral
from mfbayes.reports.palette import look
from mfbayes.reports.svg import Canvas, Scale

MODALITIES = (("image", "image alone"), ("text", "text alone"))
CROWDED = 8
"""Above this many models names move from the line ends to a legend."""


@dataclass(frozen=True)
class Series:
    """One model's line: where it is known, and how it looks."""

    name: str
    colour: int
    shape: str
    tiers: tuple[int, ...]
    mean: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]


def draw_tiers(evidence: Evidence) -> Figure | None:
    """Draw entropy and accuracy by difficulty tier, or nothing where trials have no tiers."""
    table = evidence.table("entropy_by_tier")
    if table is None:
        return None
    models = _models(evidence, table)
    panels = []
    for modality, words in MODALITIES:
        entropy = _series(evidence, models, modality, "mean")
        if any(len(s.tiers) > 1 for s in entropy):
            panels.append(_panel(entropy, f"Entropy from the {words}, nats", top=None))
    for modality, words in MODALITIES:
        accuracy = _series(evidence, models, modality, "accuracy")
        if any(len(s.tiers) > 1 for s in accuracy):
            panels.append(_panel(accuracy, f"Accuracy from the {words}", top=1.0))
    if not panels:
        return None
    names = _names(evidence)
    keys = tuple(Key(_swatch(colour, shape), names.get(model, model)) for model, (colour, shape) in models.items())
    return Figure(
        "tiers",
        _title(table, list(models), _names(evidence)),
        "Entropy and accuracy against the designed difficulty tier, one line a model, for the image "
        "alone and the text alone.",
        tuple(panels),
        (_data(table, list(models)),),
        caption=(
            "Tiers are the designed levels of difficulty, 0 the easiest. Lines: means over items; "
            f"bands: {evidence.level} intervals."
        ),
        grid="two",
        keys=keys if len(models) > CROWDED else (),
        by_index=False,
    )


def _models(evidence: Evidence, table: xr.Dataset) -> dict[str, tuple[int, str]]:
    known = {s.model: (s.colour, s.shape) for s in evidence.subjects}
    stored = [str(model) for model in table["model"].values]
    ordered = [model for model in known if model in stored] + [model for model in stored if model not in known]
    return {model: known.get(model) or look(len(known) + i) for i, model in enumerate(ordered)}


def _names(evidence: Evidence) -> dict[str, str]:
    return {s.model: s.name for s in evidence.subjects}


def _series(evidence: Evidence, models: dict[str, tuple[int, str]], modality: str, quantity: str) -> list[Series]:
    table, names = evidence.estimates["entropy_by_tier"], _names(evidence)
    found = []
    for model, (colour, shape) in models.items():
        own = table.sel(model=model, modality=modality)
        mean = own[quantity].values.astype(float)
        lower, upper = (own[name].values.astype(float) if quantity == "mean" else mean for name in ("lower", "upper"))
        known = np.isfinite(mean)
        tiers = tuple(int(t) for t in table["tier"].values[known])
        found.append(
            Series(
                names.get(model, model),
                colour,
                shape,
                tiers,
                tuple(mean[known]),
                tuple(lower[known]),
                tuple(upper[known]),
            )
        )
    return [series for series in found if series.tiers]


def _panel(series: list[Series], heading: str, *, top: float | None) -> Panel:
    wide = Drawing(_draw(series, width=504, top=top), "wide")
    return Panel((wide, Drawing(_draw(series, width=358, top=top), "narrow")), heading=heading)


def _draw(series: list[Series], *, width: float, top: float | None) -> Markup:
    named = len(series) <= CROWDED
    room = 118.0 if width < 400 else 150.0
    names = {s.name: shorten(s.name, room - 16, size=12.5) for s in series}
    margin = max(text_width(n, size=12.5) for n in names.values()) + 16 if named else 8.0
    canvas = Canvas(width, 250)
    tiers = sorted({t for s in series for t in s.tiers})
    peak = top if top is not None else 1.05 * max(np.nanmax([*s.mean, *s.upper]) for s in series)
    x = Scale(tiers[0] - 0.15, tiers[-1] + 0.15, 36, width - margin)
    y = Scale(0, max(peak, 1e-6), 208, 10)
    draw_y_axis(canvas, y, left=36, right=x.end)
    draw_x_axis(canvas, x, top=10, bottom=208, label="difficulty tier", ticks=min(7, len(tiers)), grid=False)
    for s in series:
        if s.lower != s.mean:
            canvas.band([x(t) for t in s.tiers], [y(v) for v in s.lower], [y(v) for v in s.upper], f"area m{s.colour}")
    for s in series:
        canvas.polyline([(x(t), y(v)) for t, v in zip(s.tiers, s.mean, strict=True)], f"curve m{s.colour}")
        for t, v in zip(s.tiers, s.mean, strict=True):
            # A phone has no pointer to hover with.
            words = "" if width < 400 else f"{s.name}, tier {t}: {decimal(v)}"
            canvas.marker(s.shape, x(t), y(v), f"dot m{s.colour}", size=3.1, title=words)
    if named:
        ends = [y(s.mean[-1]) for s in series]
        for s, end, place in zip(series, ends, spread(ends, gap=15, low=12, high=206), strict=True):
            canvas.line((x(s.tiers[-1]) + 5, end), (x.end + 8, place), f"lead m{s.colour}")
            canvas.text(x.end + 11, place + 4, names[s.name], f"end m{s.colour}", full=s.name)
    return canvas.markup()


def _swatch(colour: int, shape: str) -> Markup:
    canvas = Canvas(14, 14)
    canvas.marker(shape, 7, 7, f"fill m{colour}", size=4.6)
    return canvas.markup("swatch")


def _rises(table: xr.Dataset, model: str, modality: str) -> bool | None:
    """Whether the hardest tier's interval lies above the easiest tier's; nothing where tiers are missing."""
    own = table.sel(model=model, modality=modality)
    known = np.flatnonzero(np.isfinite(own["mean"].values.astype(float)))
    if len(known) < 2:
        return None
    return bool(own["lower"].values[known[-1]] > own["upper"].values[known[0]])


def _title(table: xr.Dataset, models: list[str], names: dict[str, str]) -> str:
    results = {(m, modality): _rises(table, m, modality) for m in models for modality, _ in MODALITIES}
    tested = {key: result for key, result in results.items() if result is not None}
    if not tested:
        return "Entropy by tier"
    sides = [modality for modality, _ in MODALITIES if any(key[1] == modality for key in tested)]
    where = "in both modalities" if len(sides) == 2 else f"from the {sides[0]}"
    who = "for every model" if len(models) > 1 else f"for {names.get(models[0], models[0])}"
    if all(tested.values()):
        return f"Designed difficulty raises entropy {where}, {who}"
    failing = [m for m in models if any(tested.get((m, modality)) is False for modality, _ in MODALITIES)]
    if len(failing) == len(models):
        return "Designed difficulty does not clearly raise entropy"
    if len(failing) < 3:
        return (
            f"Designed difficulty raises entropy {where} for all models but "
            f"{listing([names.get(m, m) for m in failing])}"
        )
    return (
        f"Designed difficulty raises entropy {where} for {numeral(len(models) - len(failing))} of "
        f"{numeral(len(models))} models"
    )


def _data(table: xr.Dataset, models: list[str]) -> Table:
    rows = []
    for model in models:
        for modality, _ in MODALITIES:
            own = table.sel(model=model, modality=modality)
            for i, tier in enumerate(table["tier"].values):
                mean = float(own["mean"].values[i])
                if np.isfinite(mean):
                    span = f"{decimal(float(own['lower'].values[i]))} to {decimal(float(own['upper'].values[i]))}"
                    accuracy = decimal(float(own["accuracy"].values[i]))
                    number = count(float(own["n"].values[i]))
                    rows.append([model, modality, str(int(tier)), decimal(mean), span, accuracy, number])
    head = ["Model", "Modality", "Tier", "Entropy, nats", "Interval", "Accuracy", "Items"]
    return Table.of("Entropy and accuracy by tier", head, rows)
