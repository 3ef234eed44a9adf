"""What every figure of the page consists of: a finding as its title, drawings, words for those who cannot see, data."""

from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup

from mfbayes.reports.evidence import Subject

type Width = Literal["wide", "medium", "narrow", "all"]

WIDTHS: dict[Width, float] = {"wide": 1064, "medium": 700, "narrow": 358}
"""Drawn widths in px: a drawing for desktops, one for tablets and print, one for phones."""

MIDDLING: dict[Width, float] = {"wide": 820, "narrow": 358}
"""Drawn widths of figures in the grid `mid`: one drawing serves desktops, tablets and print."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table: what it says, and the classes that style it."""

    text: str
    css: str = ""


@dataclass(frozen=True)
class Table:
    """A real table: the first column heads its rows."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, caption: str, head: list[str], rows: list[list[str]]) -> "Table":
        """A table of plain text."""
        return cls(caption, tuple(head), tuple(tuple(Cell(text) for text in row) for row in rows))


@dataclass(frozen=True)
class Drawing:
    """One SVG and the screen widths it is meant for."""

    svg: Markup
    shown: Width = "all"


@dataclass(frozen=True)
class Panel:
    """One of several small drawings, headed by a model or a phrase."""

    drawings: tuple[Drawing, ...]
    subject: Subject | None = None
    heading: str = ""
    aside: str = ""


@dataclass(frozen=True)
class Key:
    """One entry of a legend."""

    svg: Markup
    words: str


@dataclass(frozen=True)
class Figure:
    """A figure whose title states what it shows; `by_index` where that hangs on the index of uncertainty in dH."""

    ident: str
    title: str
    alt: str
    panels: tuple[Panel, ...]
    data: tuple[Table, ...]
    intro: str = ""
    caption: str = ""
    grid: str = "one"
    keys: tuple[Key, ...] = field(default=())
    by_index: bool = True
