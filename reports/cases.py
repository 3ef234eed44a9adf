"""A case study: one image with three texts, and how the logit difference runs through the layers for each."""

import base64
from dataclasses import dataclass

import numpy as np
import xarray as xr
from markupsafe import Markup

from mfbayes.reports.axes import draw_x_axis, draw_y_axis, spread
from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import MIDDLING, Drawing, Figure, Key, Panel, Table
from mfbayes.reports.marks import draw_key
from mfbayes.reports.numerals import decimal, listing, numeral
from mfbayes.reports.svg import Canvas, Scale

STATES = {1: ("text", "square", "fill text-side-mark"), 0: ("image", "circle", "fill image-side-mark")}
NEITHER = ("neither", "circle", "hollow neutral")
MAGIC = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}
LINES = ("curve plain", "curve plain dashed", "curve plain dotted")


@dataclass(frozen=True)
class Case:
    """A figure with the image it is about, as a data URI, and words for the image."""

    figure: Figure
    image: str
    alt: str
    texts: Table


def draw_case(evidence: Evidence) -> Case | None:
    """Draw the trajectories of the case study beside its image, or nothing where the fit has none."""
    table = evidence.table("case_study")
    if table is None:
        return None
    model, target, question = (str(table.attrs.get(name, "")) for name in ("model", "image_answer", "question"))
    drawings = tuple(Drawing(_draw(table, width=width), shown) for shown, width in MIDDLING.items())
    name = evidence.short(str(table.attrs.get("subject", model)))
    rows = _read(table)
    alt = f"Logit difference by layer of {name} for one image with {numeral(len(rows))} texts. " + " ".join(
        f"{row.tier.capitalize()} text, dH {decimal(row.relative)}: ends at {decimal(row.course[-1], digits=1)}, "
        f"answer {row.choice}."
        for row in rows
    )
    figure = Figure(
        "case",
        _title(name, rows),
        alt,
        (Panel(drawings),),
        (_data(rows),),
        caption=(
            "Lines: logit of the text's answer minus that of the image's, by decoder layer. Marks: the layer's leading "
            f"answer. Chosen by rule: {table.attrs.get('rule', '')}. An extreme, not a typical case."
        ),
        grid="mid",
        keys=(
            *(Key(draw_key(shape, css), f"leads: {words}") for words, shape, css in STATES.values()),
            Key(draw_key(*NEITHER[1:]), "leads: neither"),
        ),
    )
    words = f"The image of the case. {question} Designed answer: {target}."
    return Case(figure, _embed(evidence), words, _texts(rows, evidence))


@dataclass(frozen=True)
class Row:
    """One text of the case with the course of its trace."""

    tier: str
    text: str
    answer: str
    choice: str
    relative: float
    h_text: float
    h_image: float
    course: tuple[float, ...]
    state: tuple[int, ...]


def _read(table: xr.Dataset) -> list[Row]:
    words = {name: [str(v) for v in table[name].values] for name in ("case", "text", "text_answer", "choice")}
    numbers = {name: table[name].values.astype(float) for name in ("dH", "H_text", "H_image")}
    course = table["logit_difference"].transpose("case", "layer").values.astype(float)
    state = table["state"].transpose("case", "layer").values.astype(int)
    return [
        Row(
            tier=words["case"][i], text=words["text"][i], answer=words["text_answer"][i], choice=words["choice"][i],
            relative=float(numbers["dH"][i]), h_text=float(numbers["H_text"][i]), h_image=float(numbers["H_image"][i]),
            course=tuple(course[i]), state=tuple(state[i]),
        )
        for i in range(table.sizes["case"])
    ]  # fmt: skip


def _title(name: str, rows: list[Row]) -> str:
    counts = {side: sum(row.choice == side for row in rows) for side in ("text", "image")}
    parts = [f"the {side} {numeral(n)} time{'' if n == 1 else 's'}" for side, n in counts.items() if n]
    return f"One image, {numeral(len(rows))} texts: {name} follows {listing(parts)}"


def _draw(table: xr.Dataset, *, width: float) -> Markup:
    rows = _read(table)
    n_layers = len(rows[0].course)
    canvas = Canvas(width, 290)
    top, bottom, left, right = 10.0, 244.0, 40.0, width - 86
    values = np.array([row.course for row in rows])
    reach = max(1.0, 1.25 * float(np.nanmax(np.abs(values))))
    x, y = Scale(1, n_layers, left, right), Scale(-reach, reach, bottom, top)
    canvas.rectangle(left, top, right - left, y(0) - top, "text-side")
    canvas.rectangle(left, y(0), right - left, bottom - y(0), "image-side")
    draw_y_axis(canvas, y, left=left, right=right, ticks=5)
    draw_x_axis(canvas, x, top=top, bottom=bottom, label="layer", ticks=min(8, n_layers), grid=False)
    canvas.line((left, y(0)), (right, y(0)), "zero")
    canvas.text(left + 6, top + 15, "text", "text-word")
    canvas.text(left + 6, bottom - 7, "image", "image-word")
    size = 4.4 if n_layers <= 16 else 2.8
    for row, css in zip(rows, LINES, strict=False):
        canvas.polyline([(x(i + 1), y(v)) for i, v in enumerate(row.course)], css)
        for i, (value, state) in enumerate(zip(row.course, row.state, strict=True)):
            words, shape, look = STATES.get(state, NEITHER)
            said = f"{row.tier} text, layer {i + 1}: {decimal(value, digits=1)}, leads: {words}"
            canvas.marker(shape, x(i + 1), y(value), look, size=size, title=said)
    ends = spread([y(row.course[-1]) for row in rows], gap=15, low=top + 6, high=bottom - 2)
    for row, at in zip(rows, ends, strict=True):
        canvas.text(right + 9, at + 4, f"{row.tier} text", "end")
    return canvas.markup()


def _embed(evidence: Evidence) -> str:
    """The thumbnail as a data URI; empty where there is none, or it is no image."""
    table = evidence.table("case_image")
    content = b"" if table is None else table["content"].values.astype(np.uint8).tobytes()
    kind = next((kind for magic, kind in MAGIC.items() if content.startswith(magic)), "")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}" if kind else ""


def _texts(rows: list[Row], evidence: Evidence) -> Table:
    head = ["Text", "What it says", "dH", "H_text", "H_image", "Followed"]
    cells = [
        [
            *(row.tier, f"{row.text} ({row.answer})", decimal(row.relative)),
            *(decimal(row.h_text), decimal(row.h_image), row.choice),
        ]
        for row in rows
    ]
    return Table.of(f"The three texts, by {evidence.uncertainty}", head, cells)


def _data(rows: list[Row]) -> Table:
    head = ["Layer", *(f"{row.tier.capitalize()} text" for row in rows)]
    cells = [
        [
            str(i + 1),
            *(f"{decimal(row.course[i])} ({STATES.get(row.state[i], NEITHER)[0]} leads)" for row in rows),
        ]
        for i in range(len(rows[0].course))
    ]
    return Table.of("Logit difference by layer, nats", head, cells)
