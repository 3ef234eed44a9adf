"""The marginal likelihood of a design: what is left of the trials once group effects are integrated out."""

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbayes.design import GROUP_SCALES, Design
from mfbayes.marginal import groups

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_NOTHING: Floats = np.empty(0)
# Below this a second thread costs more than it brings.
_TRIALS_A_THREAD = 20_000


class Evaluation(NamedTuple):
    """Value of the marginal log-likelihood and its derivatives.

    Attributes
    ----------
    value : float
        NaN where a group's mode is not found.
    coefficients : ndarray, shape (n_subjects, n_features)
    scales : ndarray, shape (3,)
    trials : ndarray, shape (n_trials,) or (0,)
        Derivative in each trial's offset.
    by_group : ndarray, shape (n_groups,)
        The value's parts.
    """

    value: float
    coefficients: Floats
    scales: Floats
    trials: Floats
    by_group: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class MarginalLikelihood:
    """Log-likelihood of linear predictors with the effects of groups integrated by Laplace's method.

    The linear predictor of a trial of subject s is its offset + features @ coefficients[s] + effects.

    Attributes
    ----------
    design : Design
        Trials, laid out.
    features : ndarray, shape (n_features, n_trials)
        What subjects' coefficients multiply.
    start : ndarray, shape (n_cells,)
        Scores of the cells from which modes are sought: the nearer, the faster, and nothing else.
    """

    design: Design
    features: Floats
    start: Floats

    @cached_property
    def _layout(self) -> tuple[NDArray[np.generic], ...]:
        d = self.design
        return (d.is_text, d.cell_subject, d.cell_start, d.branch_start, d.group_start)

    @cached_property
    def _shares(self) -> list[tuple[int, int]]:
        """Runs of groups with about as many trials each, one a thread."""
        d = self.design
        threads = max(1, min(os.cpu_count() or 1, d.n_trials // _TRIALS_A_THREAD))
        ends = d.cell_start[d.branch_start[d.group_start]]
        cuts = np.searchsorted(ends, np.linspace(0, d.n_trials, threads + 1)[1:-1])
        edges = [0, *sorted({int(cut) for cut in cuts} - {0, d.group_start.size - 1}), d.group_start.size - 1]
        return list(itertools.pairwise(edges))

    def evaluate(
        self, coefficients: Floats, scales: Sequence[float] | Floats, *, offset: Floats = _NOTHING, trials: bool = False
    ) -> Evaluation:
        """Marginal log-likelihood and its exact gradient, groups shared out over the cores.

        Parameters
        ----------
        coefficients : ndarray, shape (n_subjects, n_features)
            Coefficients of each subject.
        scales : sequence of three float
            Standard deviations of the effects of group, group and model, and group, model and condition.
        offset : ndarray, shape (n_trials,), optional
            Added to the linear predictors.
        trials : bool
            Whether the derivative in every trial's linear predictor is wanted too.
        """
        d = self.design
        by_group = np.zeros(d.group_start.size - 1)
        by_trial = np.zeros(d.n_trials if trials else 0)
        coefficients = np.ascontiguousarray(coefficients, dtype=np.float64)
        three = np.asarray(scales, dtype=np.float64)

        def integrate(share: tuple[int, int]) -> tuple[Floats, Floats]:
            gradient, scale_gradient = np.zeros_like(coefficients), np.zeros(3)
            groups.integrate_groups(
                *share,
                coefficients,
                self.features,
                offset,
                *self._layout,
                three,
                self.start,
                gradient,
                by_trial,
                scale_gradient,
                by_group,
            )
            return gradient, scale_gradient

        parts = _map(integrate, self._shares)
        return Evaluation(
            value=float(by_group.sum()),
            coefficients=np.sum([part[0] for part in parts], axis=0),
            scales=np.sum([part[1] for part in parts], axis=0),
            trials=by_trial,
            by_group=by_group,
        )

    def evaluate_points(self, coefficients: Floats, scales: Floats, *, offset: Floats | None = None) -> Floats:
        """Marginal log-likelihood of every group at many points, which are shared out over the cores.

        Parameters
        ----------
        coefficients : ndarray, shape (n_points, n_subjects, n_features)
            Coefficients of each subject.
        scales : ndarray, shape (n_points, 3)
            Standard deviations, as `evaluate` takes them.
        offset : ndarray, shape (n_points, n_trials), optional
            Added to the linear predictors.

        Returns
        -------
        ndarray, shape (n_points, n_groups)
            NaN where a group's mode is not found.
        """
        n_points = len(scales)
        given = np.empty((n_points, 0)) if offset is None else offset
        coefficients, scales, given = (
            np.ascontiguousarray(each, dtype=np.float64) for each in (coefficients, scales, given)
        )
        by_group = np.empty((n_points, self.design.group_start.size - 1))

        def integrate(share: tuple[int, int]) -> None:
            own = slice(*share)
            groups.integrate_points(
                coefficients[own], self.features, given[own], *self._layout, scales[own], self.start, by_group[own]
            )

        cuts = np.linspace(0, n_points, (os.cpu_count() or 1) + 1).astype(int).tolist()
        _map(integrate, list(itertools.pairwise(cuts)))
        return by_group

    def settle(
        self, coefficients: Floats, scales: Sequence[float] | Floats, *, offset: Floats = _NOTHING
    ) -> tuple[Floats, Floats]:
        """Scores and weights of the cells at the modes, shape (n_cells,) each.

        The effects given the parameters are about normal, N(Sigma score, (Sigma^-1 + weight)^-1).
        """
        d = self.design
        scores, weights = np.zeros(d.cell_subject.size), np.zeros(d.cell_subject.size)
        three = np.asarray(scales, dtype=np.float64)
        coefficients = np.ascontiguousarray(coefficients, dtype=np.float64)

        def settle(share: tuple[int, int]) -> None:
            groups.settle_groups(
                *share, coefficients, self.features, offset, *self._layout, three, self.start, scores, weights
            )

        _map(settle, self._shares)
        return scores, weights

    def started_at(self, coefficients: Floats, scales: Sequence[float] | Floats) -> "MarginalLikelihood":
        """The same likelihood, with modes sought from where they are for these parameters."""
        scores, _ = self.settle(coefficients, scales)
        start = np.where(np.isfinite(scores), scores, 0.0)
        return MarginalLikelihood(design=self.design, features=self.features, start=start)


def marginal_likelihood(design: Design, features: Floats | None = None) -> MarginalLikelihood:
    """The marginal likelihood of a design; by default its features are 1 and -dH.

    With those, a subject's coefficients are its intercept kappa b and its slope kappa.

    Parameters
    ----------
    design : Design
        Trials, laid out.
    features : ndarray, shape (n_features, n_trials), optional
        In the order of the design's trials.
    """
    if features is None:
        features = np.stack([np.ones(design.n_trials), -design.uncertainty])
    return MarginalLikelihood(
        design=design,
        features=np.ascontiguousarray(features, dtype=np.float64),
        start=np.zeros(design.cell_subject.size),
    )


def three_scales(design: Design, values: Sequence[float] | Floats) -> Floats:
    """Standard deviations in the order of `GROUP_SCALES`, 0 for those that the design cannot tell.

    Parameters
    ----------
    design : Design
        Trials, laid out.
    values : sequence of float
        In the order of `design.group_scales`.
    """
    scales = np.zeros(len(GROUP_SCALES))
    for name, value in zip(design.group_scales, values, strict=True):
        scales[GROUP_SCALES.index(name)] = value
    return scales


def _map[T, R](work: Callable[[T], R], items: list[T]) -> list[R]:
    """Work on all items at once, on the first in this thread."""
    if len(items) == 1:
        return [work(items[0])]
    others = [_pool(os.getpid()).submit(work, item) for item in items[1:]]
    first = work(items[0])
    return [first, *(other.result() for other in others)]


@cache
def _pool(_process: int) -> ThreadPoolExecutor:
    """Threads of a process that wait for work: starting some for each evaluation would cost more than it takes.

    A forked process has none of its parent's threads, so each has a pool of its own.
    """
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="mfbayes-marginal")
