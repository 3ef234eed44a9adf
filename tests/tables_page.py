"""docs/tables.md, read: what it says of the columns of every CSV file that a fit writes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"
COMMON = "In most tables"
HEAD = ["column", "unit", "what"]
# Whatever the trials name so.
IDS = frozenset({"subject", "other_subject", "model", "task", "condition", "family", "group", "baseline", "parameter"})
_NAME = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Section:
    """Columns of one file.

    Attributes
    ----------
    own : mapping of str to str
        Columns that are defined in the section, and what they are.
    twice : tuple of str
        Those that are defined again.
    also, sources : tuple of str
        Columns that are defined elsewhere, and files that may define them beside the common section.
    """

    own: Mapping[str, str]
    twice: tuple[str, ...]
    also: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def optional(self) -> frozenset[str]:
        """Columns that only some tables have."""
        return frozenset(name for name, what in self.own.items() if "Only where" in what)


def read_page(text: str | None = None) -> dict[str, Section]:
    """Sections by their headings: the common one, and names of files below the run's folder."""
    text = PAGE.read_text(encoding="utf-8") if text is None else text
    found: dict[str, Section] = {}
    for part in re.split(r"^##+ ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        if heading == COMMON or heading.endswith(".csv"):
            assert heading not in found, f"{heading} is there twice"
            found[heading] = _read_section(heading, body)
    return found


def _read_section(heading: str, body: str) -> Section:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in body.splitlines() if line.startswith("|")]
    assert all(len(row) == len(HEAD) and all(row) for row in rows), f"{heading}: a cell too many, or an empty one"
    assert not rows or rows[0] == HEAD, f"{heading}: {rows[0]}"
    named = [(name, what) for columns, _, what in rows[2:] for name in _NAME.findall(columns)]
    also = [name for block in body.strip().split("\n\n") if block.startswith("Also ") for name in _NAME.findall(block)]
    columns = [name for name, _ in named]
    return Section(
        own=dict(named),
        twice=tuple(name for name in dict.fromkeys(columns) if columns.count(name) > 1),
        also=tuple(dict.fromkeys(name for name in also if not name.endswith(".csv"))),
        sources=tuple(name for name in also if name.endswith(".csv")),
    )


def find_own_faults(page: Mapping[str, Section]) -> list[str]:
    """What the page says twice, refers to in vain, or defines for no table."""
    faults = []
    for file, section in page.items():
        twice = [*section.twice, *(name for name in section.also if name in section.own)]
        faults += [f"{file} has {name} twice" for name in twice]
        faults += [f"{file} refers to {source}" for source in section.sources if source not in page]
        faults += [f"{file}: {name} is defined nowhere" for name in section.also if not _define(page, file, name)]
    used = {name for section in page.values() for name in section.also}
    return faults + [f"{COMMON}: no table has {name}" for name in page[COMMON].own if name not in used]


def find_faults(page: Mapping[str, Section], file: str, columns: Iterable[str]) -> list[str]:
    """What of a table is not on the page, and what of the page is not in the table.

    Parameters
    ----------
    page : mapping of str to Section
        As `read_page` gives it.
    file : str
        Name of the file below the run's folder.
    columns : iterable of str
        Its header.
    """
    if file not in page:
        return [f"{file} has no section"]
    section, there = page[file], set(columns)
    told = {*section.own, *section.also}
    return [f"{file}: {name} is not on the page" for name in sorted(there - told)] + [
        f"{file} has no {name}" for name in sorted(told - there - section.optional)
    ]


def find_untold_words(page: Mapping[str, Section], file: str, words: Mapping[str, Iterable[str]]) -> list[str]:
    """Words by column that the page does not say the column may hold."""
    return [
        f"{file}: {column} may be {word}"
        for column, some in words.items()
        for word in some
        if word not in _NAME.findall(_define(page, file, column))
    ]


def check_folder(page: Mapping[str, Section], run: Path) -> tuple[set[str], list[str]]:
    """Names of the tables in a run's folder, and all that is wrong with what the page says of them."""
    found, faults = set(), []
    for file in sorted([*run.glob("*.csv"), *run.glob("estimates/*.csv")]):
        name, table = file.relative_to(run).as_posix(), pd.read_csv(file)
        labels = [c for c in map(str, table) if pd.api.types.is_string_dtype(table[c]) and c not in IDS]
        words = {column: table[column].dropna().unique() for column in labels}
        found.add(name)
        faults += find_faults(page, name, table.columns) or find_untold_words(page, name, words)
    return found, faults


def _define(page: Mapping[str, Section], file: str, column: str) -> str:
    """What the page says of a column of a file; empty where it is defined nowhere."""
    places = (file, *page[file].sources, COMMON)
    return next((page[place].own[column] for place in places if place in page and column in page[place].own), "")
