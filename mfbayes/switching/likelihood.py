"""The log-likelihood of pairs of layers with its gradient, evaluated by the kernel."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbayes.switching import kernel
from mfbayes.switching.layout import N_AGES, Layout

type Floats = NDArray[np.float64]

_ACROSS_ONE = 2  # layers from the start to the end of a gap of one layer


class Evaluation(NamedTuple):
    """Log-likelihood and its derivatives.

    Attributes
    ----------
    value : float
        NaN where the mode of a group's effects is not found.
    table, slopes, scales : ndarray
        Derivatives, each in the shape of what it belongs to.
    by_group : ndarray, shape (n_groups,)
        The value's parts.
    """

    value: float
    table: Floats
    slopes: Floats
    scales: Floats
    by_group: Floats


class SwitchingLikelihood:
    """Log-likelihood of pairs by the tables of hazards, the slopes and the standard deviations of groups.

    Parameters
    ----------
    layout : Layout
        The pairs.
    effects : ndarray, shape (2, n_cells)
        Estimates of the effects of group and subject, at which gaps are crossed.
    scores : ndarray, shape (2, n_cells)
        Scores of the cells from which modes are sought: the nearer, the faster, and nothing else.

    Attributes
    ----------
    doubles, integers : ndarray
        The data as the kernel reads them.
    """

    def __init__(self, layout: Layout, *, effects: Floats, scores: Floats) -> None:
        self.doubles, self.integers = _pack(layout, effects, scores)

    def evaluate(self, table: Floats, slopes: Floats, scales: Floats) -> Evaluation:
        """The value with its parts and derivatives.

        Parameters
        ----------
        table : ndarray, shape (2, n_subjects, n_places)
            Logit hazards by side, subject and place, where the terms are zero.
        slopes : ndarray, shape (2, n_subjects, n_terms)
            Coefficients of the terms.
        scales : ndarray, shape (2, 2)
            By side, the standard deviations of the effects of group, and of group and subject.
        """
        inputs = [np.ascontiguousarray(each, dtype=np.float64) for each in (table, slopes, scales)]
        of_table, of_slopes, of_scales = (np.zeros_like(each) for each in inputs)
        by_group = np.zeros(self.integers[0])
        kernel.integrate_switches(*inputs, self.doubles, self.integers, of_table, of_slopes, of_scales, by_group)
        return Evaluation(float(by_group.sum()), of_table, of_slopes, of_scales, by_group)


def _pack(layout: Layout, effects: Floats, scores: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """The data in two arrays, for the time to compile a sampler grows with their number."""
    gaps, (text, image), n_subjects = layout.gaps, layout.rows, len(layout.subjects)
    unit = np.repeat(np.arange(len(layout.features)), np.diff(gaps.start))
    subject, other = layout.unit_subject[unit], 1 - gaps.side
    own_row, other_row = ((side * n_subjects + subject) * layout.n_places for side in (gaps.side, other))
    short = gaps.length == _ACROSS_ONE
    # Where the logit hazards of a gap of one layer stand in the raveled levels of units, and in the raveled table.
    of_short = [
        2 * unit + gaps.side,
        2 * unit + other,
        own_row + gaps.layer * N_AGES + gaps.age,
        other_row + (gaps.layer + 1) * N_AGES,
        own_row + (gaps.layer + 1) * N_AGES + np.minimum(gaps.age + 1, N_AGES - 1),
    ]
    of_long = [unit, subject, gaps.layer, gaps.length, gaps.age, gaps.side, gaps.end]
    sizes = [
        layout.group_start.size - 1,
        layout.cell_subject.size,
        len(layout.features),
        layout.has_groups,
        text.place.size,
        image.place.size,
        short.sum(),
        (~short).sum(),
    ]
    integers = [
        np.array(sizes, dtype=np.int64),
        *(layout.group_start, layout.cell_start, layout.cell_subject),
        *(text.start, text.place, image.start, image.place),
        *(_count_before(gaps.start, short), *(each[short] for each in of_short)),
        *(_count_before(gaps.start, ~short), *(each[~short] for each in of_long)),
    ]
    doubles = [
        layout.features.ravel(),
        *(text.count, text.switches, image.count, image.switches),
        *(scores.ravel(), effects.ravel()),
        *((gaps.side == gaps.end)[short], gaps.count[short], gaps.count[~short]),
    ]
    return np.concatenate(doubles).astype(np.float64), np.concatenate(integers).astype(np.int64)


def _count_before(start: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many are chosen before each start."""
    return np.concatenate([[0], np.cumsum(chosen)])[start].astype(np.int64)
