"""Layout: pairs as the likelihood reads them, trace by trace or gathered into bins.

The linear predictor of a pair is a table's entry for (side, subject, place), with place = layer x ages + age, plus
slopes times the terms of its unit. Units are single traces, or bins of traces whose terms are replaced by their mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes.switching.pairs import AGES, Pairs
from mfbayes.switching.terms import SIGNED, measure_terms

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

N_BINS = 64
N_AGES = len(AGES)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Adjacent pairs that leave one side, counted by unit and place, in the order of the units.

    Attributes
    ----------
    start : ndarray of int, shape (n_units + 1,)
        First row of each unit, and the number of rows.
    place : ndarray of int, shape (n_rows,)
    count, switches : ndarray, shape (n_rows,)
        Pairs, and those of them that switch.
    """

    start: Indices
    place: Indices
    count: Floats
    switches: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaps:
    """Pairs across layers of neither answer, counted alike, in the order of the units.

    Attributes
    ----------
    start : ndarray of int, shape (n_units + 1,)
        First gap of each unit, and the number of gaps.
    layer, length, age, side, end : ndarray of int, shape (n_gaps,)
        Layer, age and side at the start, layers to the end, and side there.
    count : ndarray, shape (n_gaps,)
    """

    start: Indices
    layer: Indices
    length: Indices
    age: Indices
    side: Indices
    end: Indices
    count: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """Pairs, laid out by unit; units by group, then subject.

    Attributes
    ----------
    subjects, groups, terms : tuple of str
        Labels; without effects of groups there is one group for all.
    n_steps : ndarray of int, shape (n_subjects,)
        Layers from which each subject can switch: its depth less one.
    has_groups : bool
        Whether units are single traces of groups, so that groups can have effects.
    features : ndarray, shape (n_units, n_terms)
        Values of the terms.
    cell_start : ndarray of int, shape (n_cells + 1,)
        First unit of each cell (a group and a subject), and the number of units.
    cell_subject : ndarray of int, shape (n_cells,)
    group_start : ndarray of int, shape (n_groups + 1,)
        First cell of each group, and the number of cells.
    rows : tuple of Rows
        One for each side that is left.
    gaps : Gaps
    unit_trace : ndarray of int, shape (n_traces_used,)
        Traces in the order of their units.
    unit_of_trace : ndarray of int, shape (n_traces_used,)
        Unit of each of them.
    """

    subjects: tuple[str, ...]
    groups: tuple[str, ...]
    terms: tuple[str, ...]
    n_steps: Indices
    has_groups: bool
    features: Floats
    cell_start: Indices
    cell_subject: Indices
    group_start: Indices
    rows: tuple[Rows, Rows]
    gaps: Gaps
    unit_trace: Indices
    unit_of_trace: Indices

    @property
    def n_places(self) -> int:
        """Places of a side and subject in the table of hazards: layers times ages."""
        return int(self.n_steps.max()) * N_AGES

    @property
    def unit_cell(self) -> Indices:
        """Cell of each unit."""
        return np.repeat(np.arange(self.cell_subject.size), np.diff(self.cell_start))

    @property
    def unit_subject(self) -> Indices:
        """Subject of each unit."""
        return self.cell_subject[self.unit_cell]


def lay_out_pairs(
    pairs: Pairs, x: Floats, *, terms: Sequence[str], groups: bool = True, n_bins: int | None = N_BINS
) -> Layout:
    """Lay pairs out trace by trace (with groups), or in bins of their terms (without).

    Parameters
    ----------
    pairs : Pairs
        Pairs of committed layers.
    x : ndarray, shape (n_traces,)
        dH - b of the pairs' traces.
    terms : sequence of str
        As `mfbayes.switching.terms.measure_terms` takes them.
    groups : bool
        Whether groups have effects.
    n_bins : int or None
        Without groups: quantile bins a subject, of x or, where x is no term, of every term (then its square root in
        each); None keeps every trace apart. The hazard is taken at the bin's mean instead of averaged over the bin:
        an error of second order in the bin's width, a few hundredths of a nat in all at 64 bins.
    """
    of = pairs.trajectories
    values = measure_terms(of, x, terms=terms)
    used = np.zeros(len(of), dtype=bool)
    used[pairs.trace] = True
    group = of.group if groups else np.zeros(len(of), dtype=np.int64)
    exact = groups or n_bins is None
    part = np.arange(len(of)) if exact else _bin(values, of.subject, terms=terms, n_bins=n_bins or 1)
    kept = np.flatnonzero(used)
    order = kept[np.lexsort((part[kept], of.subject[kept], group[kept]))]
    keys = np.stack([group[order], of.subject[order], part[order]])
    is_new = np.concatenate([[True], (keys[:, 1:] != keys[:, :-1]).any(axis=0)])
    number = np.cumsum(is_new) - 1
    unit = np.full(len(of), -1)
    unit[order] = number
    n_units = int(number[-1]) + 1
    sizes = np.bincount(number, minlength=n_units)
    features = (
        np.stack([np.bincount(number, values[order, j]) / sizes for j in range(len(terms))], axis=1)
        if terms
        else np.empty((n_units, 0))
    )
    unit_group, unit_subject = keys[0, is_new], keys[1, is_new]
    cell_start = _starts(unit_group * len(of.subjects) + unit_subject)
    present, _ = np.unique(unit_group, return_inverse=True)
    return Layout(
        subjects=of.subjects,
        groups=tuple(of.groups[g] for g in present) if groups else ("all",),
        terms=tuple(terms),
        n_steps=of.n_layers - 1,
        has_groups=groups,
        features=features,
        cell_start=cell_start,
        cell_subject=unit_subject[cell_start[:-1]],
        group_start=_starts(unit_group[cell_start[:-1]]),
        rows=(_count_rows(pairs, unit, n_units, side=0), _count_rows(pairs, unit, n_units, side=1)),
        gaps=_count_gaps(pairs, unit, n_units),
        unit_trace=order,
        unit_of_trace=number,
    )


def take_groups(layout: Layout, chosen: NDArray[np.bool_]) -> Layout:
    """The pairs of some groups, with the same subjects and places.

    Parameters
    ----------
    layout : Layout
        With effects of groups.
    chosen : ndarray of bool, shape (n_groups,)
    """
    in_cell = np.repeat(chosen, np.diff(layout.group_start))
    in_unit = np.repeat(in_cell, np.diff(layout.cell_start))
    number = np.cumsum(in_unit) - 1
    in_trace = in_unit[layout.unit_of_trace]
    text, image = (
        Rows(start=_starts_of(rows.start, in_unit), **_take(rows, in_unit, "place", "count", "switches"))
        for rows in layout.rows
    )
    gaps = layout.gaps
    return replace(
        layout,
        groups=tuple(label for label, kept in zip(layout.groups, chosen, strict=True) if kept),
        features=layout.features[in_unit],
        cell_start=_starts_of(layout.cell_start, in_cell),
        cell_subject=layout.cell_subject[in_cell],
        group_start=_starts_of(layout.group_start, chosen),
        rows=(text, image),
        gaps=Gaps(
            start=_starts_of(gaps.start, in_unit),
            **_take(gaps, in_unit, "layer", "length", "age", "side", "end", "count"),
        ),
        unit_trace=layout.unit_trace[in_trace],
        unit_of_trace=number[layout.unit_of_trace[in_trace]],
    )


def _starts_of(start: Indices, chosen: NDArray[np.bool_]) -> Indices:
    """First place of every chosen run once the others are gone, and the number of places left."""
    return np.concatenate([[0], np.cumsum(np.diff(start)[chosen])]).astype(np.int64)


def _take(of: Rows | Gaps, in_unit: NDArray[np.bool_], *columns: str) -> dict[str, Any]:
    kept = np.repeat(in_unit, np.diff(of.start))
    return {name: getattr(of, name)[kept] for name in columns}


def _bin(values: Floats, subject: Indices, *, terms: Sequence[str], n_bins: int) -> Indices:
    """Quantile bins of the terms within each subject; distance follows x or the entropies."""
    apart = [j for j, term in enumerate(terms) if term == SIGNED] or list(range(len(terms)))
    each = max(round(n_bins ** (1 / max(len(apart), 1))), 1)
    label = np.zeros(len(values), dtype=np.int64)
    for j in apart:
        rank = pd.Series(values[:, j]).groupby(subject).rank(method="average", pct=True).to_numpy()
        label = label * each + np.minimum((rank * each).astype(np.int64), each - 1)
    return label


def _count_rows(pairs: Pairs, unit: Indices, n_units: int, *, side: int) -> Rows:
    chosen = pairs.is_adjacent & (pairs.start == side)
    where = unit[pairs.trace[chosen]]
    place = pairs.layer[chosen] * N_AGES + pairs.age[chosen]
    first, count, (where, place), inverse = _count(where, place)
    return Rows(
        start=np.searchsorted(where, np.arange(n_units + 1)).astype(np.int64),
        place=place,
        count=count,
        switches=np.bincount(inverse, pairs.is_switch[chosen], first.size),
    )


def _count_gaps(pairs: Pairs, unit: Indices, n_units: int) -> Gaps:
    chosen = ~pairs.is_adjacent
    each = (pairs.layer, pairs.gap, pairs.age, pairs.start, pairs.end)
    _, count, (where, layer, length, age, side, end), _ = _count(
        unit[pairs.trace[chosen]], *(column[chosen] for column in each)
    )
    return Gaps(
        start=np.searchsorted(where, np.arange(n_units + 1)).astype(np.int64),
        layer=layer,
        length=length,
        age=age,
        side=side,
        end=end,
        count=count,
    )


def _count(*columns: Indices) -> tuple[Indices, Floats, list[Indices], Indices]:
    """Distinct rows in lexical order: where each was first, how many there are, its columns, and the row of each."""
    key = np.zeros(columns[0].size, dtype=np.int64)
    for column in columns:
        key = key * (int(column.max(initial=0)) + 1) + column
    _, first, inverse, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    return first, count.astype(np.float64), [column[first] for column in columns], inverse


def _starts(key: Indices) -> Indices:
    """First place of every run of equal keys, and the number of places."""
    return np.concatenate([[0], np.flatnonzero(np.diff(key)) + 1, [key.size]]).astype(np.int64)
