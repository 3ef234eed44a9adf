"""The log-likelihood of pairs of layers with its gradient, evaluated by the kernel."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbayes.switching import kernel
from mfbayes.switching.layout import Layout

type Floats = NDArray[np.float64]


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
    gaps, (text, image) = layout.gaps, layout.rows
    sizes = [
        layout.group_start.size - 1,
        layout.cell_subject.size,
        len(layout.features),
        gaps.layer.size,
        layout.has_groups,
        text.place.size,
        image.place.size,
    ]
    integers = [
        np.array(sizes, dtype=np.int64),
        *(layout.group_start, layout.cell_start, layout.cell_subject),
        *(text.start, text.place, image.start, image.place),
        *(gaps.start, gaps.layer, gaps.length, gaps.age, gaps.side, gaps.end),
    ]
    doubles = [
        layout.features.ravel(),
        *(text.count, text.switches, image.count, image.switches),
        *(scores.ravel(), effects.ravel(), gaps.count),
    ]
    return np.concatenate(doubles).astype(np.float64), np.concatenate(integers).astype(np.int64)
