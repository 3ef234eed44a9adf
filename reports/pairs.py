"""Which model leans further to the text: every pair, as a table one can read."""

from dataclasses import dataclass

import numpy as np

from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.numerals import count, numeral, probability
from mfbayes.reports.palette import ramp_step
from mfbayes.reports.verdict import CERTAIN, order_probability

SOFT = 0.6
"""Share of the diverging ramp that the cells use: a whole table in its end colours would shout."""


@dataclass(frozen=True)
class Pair:
    """One cell: the probability as text, and its step on the diverging ramp."""

    text: str
    step: int | None


@dataclass(frozen=True)
class PairTable:
    """P(b of the row < b of the column) for the models of one task."""

    task: str
    subjects: tuple[Subject, ...]
    cells: tuple[tuple[Pair, ...], ...]


@dataclass(frozen=True)
class Pairs:
    """All tables and the title that says how many pairs can be ordered."""

    title: str
    tables: tuple[PairTable, ...]


def compare_pairs(evidence: Evidence) -> Pairs | None:
    """Tabulate P(b_row < b_column), or nothing where no task has two models."""
    if evidence.table("pairwise") is None:
        return None
    tables, certain, total = [], 0, 0
    for task in evidence.tasks:
        subjects = [s for s in evidence.of_task(task) if s.located]
        if len(subjects) < 2:
            continue
        values = [[order_probability(evidence, row, column) for column in subjects] for row in subjects]
        upper = [values[i][j] for i in range(len(subjects)) for j in range(i) if np.isfinite(values[i][j])]
        total += len(upper)
        certain += sum(max(p, 1 - p) >= CERTAIN for p in upper)
        tables.append(PairTable(task, tuple(subjects), tuple(tuple(_cell(p) for p in row) for row in values)))
    return Pairs(_title(certain, total), tuple(tables)) if tables else None


def _cell(value: float) -> Pair:
    return Pair("–", None) if np.isnan(value) else Pair(probability(value), ramp_step(SOFT * (1 - 2 * value)))


def _title(certain: int, total: int) -> str:
    if total == 1:
        return "The two models can be ordered" if certain else "The two models cannot be ordered"
    if certain == total:
        return f"All {numeral(total)} pairs can be ordered with probability {CERTAIN} or more"
    if not certain:
        return f"None of the {numeral(total)} pairs can be ordered"
    return f"{count(certain)} of {count(total)} pairs can be ordered with probability {CERTAIN} or more"
