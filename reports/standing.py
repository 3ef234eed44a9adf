"""Where each model stands: its side of the zone of practical equivalence, and its rank."""

from dataclasses import dataclass

import numpy as np

from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import Table
from mfbayes.reports.lookup import Numbers
from mfbayes.reports.numerals import MINUS, decimal, interval, probability


@dataclass(frozen=True)
class Standing:
    """A table for all readers, and long ones for those who open them."""

    table: Table | None
    details: tuple[Table, ...]


def place_models(evidence: Evidence) -> Standing | None:
    """Tabulate equivalence and ranks, or nothing where the fit has neither."""
    if not evidence.converged:
        return None
    table = _tabulate(evidence)
    details = tuple(t for t in (_rank_data(evidence), _difference_data(evidence)) if t is not None)
    return Standing(table, details) if table or details else None


def _tabulate(evidence: Evidence) -> Table | None:
    equivalence, ranking = evidence.table("equivalence"), evidence.table("ranking")
    if equivalence is None and ranking is None:
        return None
    head, columns = ["Model"], [[s.key for s in evidence.subjects]]
    if equivalence is not None:
        numbers = Numbers(equivalence, "subject")
        zone = f"{evidence.zone:g}"
        head += [f"P(b < {MINUS}{zone})", f"P(|b| < {zone})", f"P(b > {zone})"]
        columns += [
            [probability(numbers(name, s.key)) for s in evidence.subjects]
            for name in ("p_image", "p_equivalent", "p_text")
        ]
    if ranking is not None:
        numbers = Numbers(ranking, "subject")
        head += ["Mean rank", f"{evidence.level} interval"]
        columns += [
            [decimal(numbers("rank_mean", s.key), digits=1) for s in evidence.subjects],
            [interval(numbers("rank_lower", s.key), numbers("rank_upper", s.key), digits=0) for s in evidence.subjects],
        ]
    caption = "Sides of the zone of practical equivalence" if ranking is None else "Rank 1 leans furthest to the text"
    return Table.of(caption, head, [list(row) for row in zip(*columns, strict=True)])


def _rank_data(evidence: Evidence) -> Table | None:
    ranking = evidence.table("ranking")
    if ranking is None or "p_rank" not in ranking:
        return None
    numbers = Numbers(ranking, "subject", "rank")
    ranks = numbers.labels["rank"]
    rows = [[s.key, *(probability(numbers("p_rank", s.key, rank)) for rank in ranks)] for s in evidence.subjects]
    return Table.of("Probability of each rank", ["Model", *(f"Rank {rank}" for rank in ranks)], rows)


def _difference_data(evidence: Evidence) -> Table | None:
    pairs = evidence.table("pairwise")
    if pairs is None or "difference" not in pairs:
        return None
    numbers = Numbers(pairs, "subject", "other_subject")
    rows = []
    for i, a in enumerate(evidence.subjects):
        for b in evidence.subjects[i + 1 :]:
            value, lower, upper = (numbers(name, a.key, b.key) for name in ("difference", "lower", "upper"))
            if np.isfinite(value):
                names = f"{evidence.short(a.key)} {MINUS} {evidence.short(b.key)}"
                rows.append([names, decimal(value), interval(lower, upper)])
    head = ["Pair", "Difference of b", f"{evidence.level} interval"]
    return Table.of("Differences of balance points", head, rows) if rows else None
