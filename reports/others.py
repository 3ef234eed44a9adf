"""Answers that are neither: how often they come, and whether leaving them out moves a balance point."""

from dataclasses import dataclass

from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import Table
from mfbayes.reports.lookup import Numbers
from mfbayes.reports.numerals import decimal, interval, percent

TITLES = {
    "no sign against it": "Leaving out answers that are neither moves no balance point",
    "not ignorable": "Answers that are neither cannot be ignored",
}


@dataclass(frozen=True)
class Others:
    """A title by the verdict, and the numbers behind it."""

    title: str
    table: Table


def weigh_others(evidence: Evidence) -> Others | None:
    """Tabulate the fit with three outcomes, or nothing where there is none."""
    table = evidence.table("outcomes")
    if table is None:
        return None
    verdict = str(table.attrs.get("ignorable", table.attrs.get("verdict", "")))
    numbers = Numbers(table, "subject")
    rows = [
        [
            s.key,
            percent(numbers("p_other", s.key)),
            decimal(numbers("shift", s.key)),
            interval(numbers("shift_lower", s.key), numbers("shift_upper", s.key)),
        ]
        for s in evidence.subjects
    ]
    head = ["Model", "Neither answer", "Shift of b", f"{evidence.level} interval"]
    title = TITLES.get(verdict, "It is unclear whether answers that are neither can be ignored")
    return Others(title, Table.of("Balance points of three outcomes less those of two", head, rows))
