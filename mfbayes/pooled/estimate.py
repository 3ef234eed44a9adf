r"""Balance points of the pooled model, with intervals that know that groups are shared.

The curve of a subject, :math:`\operatorname{logit} P(\text{text}) = \alpha + \beta\, dH`, crosses 1/2 at
:math:`b = -\alpha / \beta`. With :math:`s_g` the sum of a group's scores at the optimum and A the information,
a group moves b by :math:`\psi_g = -(1, b) A^{-1} s_g / \beta`, and the covariance of two balance points is
:math:`c \sum_g \psi_g \psi'_g` over the groups they share (CR1; c corrects for few groups).

The curve is averaged over groups, so it is flatter than that of any single group: `marginal_slope`, -beta, is
not the kappa of the following model. Its balance point is that model's where group effects are symmetric about
zero and dH spreads evenly about b, and close to it elsewhere.

References
----------
Fieller, "Some Problems in Interval Estimation", Journal of the Royal Statistical Society B 16(2), 1954,
doi:10.1111/j.2517-6161.1954.tb00159.x.
Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference", Journal of Human Resources
50(2), 2015, doi:10.3368/jhr.50.2.317.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import csr_array
from scipy.stats import t as student

from mfbayes import names
from mfbayes.estimates.draws import comparable
from mfbayes.pooled.batches import Floats, Indices, Subject
from mfbayes.pooled.bins import Compression
from mfbayes.pooled.optimum import EXISTS, Coefficients, fit_bins, judge_existence
from mfbayes.pooled.scores import KEYS
from mfbayes.selection import label_subjects

type Score = Callable[[Coefficients], pd.DataFrame]
"""Scores of all trials at given coefficients: a pass over the data, see `mfbayes.pooled.scores.score`."""

NOT_CONVERGED, ONE_GROUP, FLAT, RISES, OUTSIDE = "not-converged", "one-group", "flat", "rises", "outside"
_PASSES = 25
# In naive standard errors: the Newton step that is still taken leaves an error of about its square.
_NEAR = 0.01
_LONGEST = 4.0
_TINY = 1e-300


class Optimum(NamedTuple):
    """Coefficients, checked against the trials themselves.

    Attributes
    ----------
    lines : ndarray, shape (n_subjects, 2)
        Intercept and slope; NaN where there is no largest likelihood.
    information : ndarray, shape (n_subjects, 2, 2)
    cells : DataFrame
        Scores of each cell next to the optimum.
    settled : ndarray of bool, shape (n_subjects,)
        Whether the exact score vanished.
    shift : ndarray, shape (n_subjects,)
        How far the binned balance point was from the exact one, in units of dH.
    """

    lines: Floats
    information: Floats
    cells: pd.DataFrame
    settled: np.ndarray
    shift: Floats


def estimate_pooled(compression: Compression, score: Score, *, ci_prob: float = 0.95) -> xr.Dataset:
    """Balance point of every subject, their covariance and their differences.

    Parameters
    ----------
    compression : Compression
        Of all trials.
    score : callable
        Gives the scores of the same trials; called once, and again only where bins were too coarse.
    ci_prob : float
        Probability of the intervals.

    Returns
    -------
    Dataset
        Over `subject` (with coordinates model, task, condition): `balance_point` (units of dH), `lower` and
        `upper` (Fieller; infinite where the slope cannot be told from zero), `se`, `delta_lower` and
        `delta_upper` (delta method), `marginal_slope` with `marginal_slope_lower` and `_upper`, `n_trials`,
        `n_text`, `n_image`, `n_other`, `n_groups`, `tfr`, `compression_error` and `status`: "ok"; NaN and
        "no-trials", "one-sided", "constant", "separable" or "not-converged"; bounds NaN and "one-group"; or "flat"
        (slope cannot be told from zero), "rises" (P(text) rises in dH), "outside" (b beyond the dH there are).
        Over (subject, other_subject): `covariance` of balance points; `difference`, `difference_se`,
        `difference_lower`, `difference_upper` (delta method; infinite where either subject is "flat", for then its
        balance point may be anywhere), NaN between subjects on no common scale.
    """
    status = judge_existence(compression)
    optimum = find_optimum(compression, score)
    shares = _Clusters(compression.subjects, optimum)
    alpha, beta = optimum.lines.T
    quantile = student.ppf((1 + ci_prob) / 2, np.maximum(shares.n_groups - 1, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        point = -alpha / beta
        covariance = shares.covary(-np.stack([1 / beta, point / beta], axis=1))
        reach, slope_reach = quantile * np.sqrt(np.diagonal(covariance)), quantile * np.sqrt(shares.sandwich[:, 1, 1])
        lower, upper = _bound_ratio(optimum.lines, shares.sandwich, quantile)
    n_trials = compression.n_trials
    table = pd.DataFrame(compression.subjects, columns=list(Subject._fields), dtype=object)
    low, high = _find_range(compression)
    for row, existence in enumerate(status):
        if existence != EXISTS:
            continue
        if not optimum.settled[row]:
            status[row] = NOT_CONVERGED
        elif shares.n_groups[row] < 2:
            status[row] = ONE_GROUP
        elif not np.isfinite(lower[row]):
            status[row] = FLAT
        elif beta[row] > 0:
            status[row] = RISES
        elif not low[row] <= point[row] <= high[row]:
            status[row] = OUTSIDE
    found = {
        "balance_point": point,
        "lower": lower,
        "upper": upper,
        "se": np.sqrt(np.diagonal(covariance)),
        "delta_lower": point - reach,
        "delta_upper": point + reach,
        "marginal_slope": -beta,
        "marginal_slope_lower": -beta - slope_reach,
        "marginal_slope_upper": -beta + slope_reach,
        "n_trials": n_trials,
        "n_text": compression.n_text,
        "n_image": n_trials - compression.n_text,
        "n_other": compression.n_other,
        "n_groups": shares.n_groups,
        "tfr": np.where(n_trials > 0, compression.n_text / np.maximum(n_trials, 1), np.nan),
        "compression_error": optimum.shift,
        "status": np.array(status, dtype=object),
    }
    estimate = xr.Dataset(
        {name: (names.SUBJECT, values) for name, values in found.items()},
        coords={names.SUBJECT: label_subjects(table).to_numpy(object)}
        | {part: (names.SUBJECT, table[part].to_numpy(object)) for part in Subject._fields},
        attrs={"ci_prob": ci_prob, "n_undefined": compression.n_undefined},
    )
    return _compare(estimate, covariance, ci_prob)


def find_optimum(compression: Compression, score: Score) -> Optimum:
    """Climb the bins, then check and finish on the trials: each pass gives one exact Newton step.

    A step is halved where the exact likelihood fell, so no pass ends lower than the one before it.
    """
    subjects = compression.subjects
    binned = fit_bins(compression).lines
    exists = ~np.isnan(binned[:, 0])
    lines, best, best_value = binned.copy(), binned.copy(), np.full(len(subjects), -np.inf)
    settled, step = np.zeros(len(subjects), dtype=bool), np.zeros_like(binned)
    for _ in range(_PASSES):
        cells = score(Coefficients(subjects=subjects, lines=lines))
        gradient, information, value = _total(subjects, cells)
        fell = exists & (value < best_value - 1e-9 * np.abs(value))
        proposed, decrement = _newton(gradient, information, exists)
        settled = settled | (exists & ~fell & (decrement < _NEAR))
        if (settled | ~exists).all():
            lines = np.where(settled[:, None], lines + proposed, lines)
            break
        step = np.where(fell[:, None], step / 2, _cap(proposed, compression))
        best = np.where(fell[:, None], best, lines)
        best_value = np.where(fell, best_value, value)
        lines = np.where(exists[:, None], best + step, lines)
        settled[:] = False
    lines = np.where(settled[:, None], lines, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        shift = binned[:, 0] / -binned[:, 1] + lines[:, 0] / lines[:, 1]
    return Optimum(lines=lines, information=information, cells=cells, settled=settled, shift=shift)


class _Clusters:
    """Scores by group, and the covariances that follow from them."""

    def __init__(self, subjects: tuple[Subject, ...], optimum: Optimum) -> None:
        cells = optimum.cells
        place = {subject: i for i, subject in enumerate(subjects)}
        self.row = _place(place, cells)
        group, groups = pd.factorize(pd.MultiIndex.from_frame(cells[[names.TASK, names.GROUP]]))
        there = cells["n_trials"].to_numpy() > 0
        self.group, self.shape = group, (len(groups), len(subjects))
        self.n_groups: Indices = np.bincount(self.row[there], minlength=len(subjects)).astype(np.int64)
        n_trials = np.bincount(self.row, weights=cells["n_trials"], minlength=len(subjects))
        several = self.n_groups > 1
        with np.errstate(invalid="ignore", divide="ignore"):
            correction = self.n_groups / (self.n_groups - 1) * (n_trials - 1) / np.maximum(n_trials - 2, 1)
            self.scale = np.sqrt(np.where(several & optimum.settled, correction, np.nan))
        bread = _invert(optimum.information, optimum.settled)
        scores = cells[["score_intercept", "score_slope"]].to_numpy()
        # How far each group moves the two coefficients of a subject, shape (n_cells, 2).
        self.moves = np.einsum("cij,cj->ci", bread[self.row], scores)
        self.sandwich = np.zeros((len(subjects), 2, 2))
        np.add.at(self.sandwich, self.row, self.moves[:, :, None] * self.moves[:, None, :])
        self.sandwich *= (self.scale**2)[:, None, None]

    def covary(self, gradient: Floats) -> Floats:
        """Covariance of one function of the coefficients of each subject, by its gradient; (n_subjects, n_subjects)."""
        moved = (gradient[self.row] * self.moves).sum(axis=1) * self.scale[self.row]
        by_group = csr_array((np.nan_to_num(moved), (self.group, self.row)), shape=self.shape)
        found: Floats = (by_group.T @ by_group).toarray()
        unknown = np.isnan(self.scale)
        found[unknown] = np.nan
        found[:, unknown] = np.nan
        return found


def _compare(estimate: xr.Dataset, covariance: Floats, ci_prob: float) -> xr.Dataset:
    """Add the covariance of balance points and their pairwise differences, `subject` minus `other_subject`."""
    point, n_groups = estimate["balance_point"].to_numpy(), estimate["n_groups"].to_numpy()
    variance = np.diagonal(covariance)
    quantile = student.ppf((1 + ci_prob) / 2, np.maximum(np.minimum.outer(n_groups, n_groups) - 1, 1))
    pairs = np.where(comparable(estimate), 1.0, np.nan)
    difference = (point[:, None] - point[None, :]) * pairs
    se = np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * covariance, 0)) * pairs
    flat = np.isinf(estimate["lower"].to_numpy())
    reach = np.where((flat[:, None] | flat) & ~np.isnan(se), np.inf, quantile * se)
    found = {
        "covariance": covariance,
        "difference": difference,
        "difference_se": se,
        "difference_lower": difference - reach,
        "difference_upper": difference + reach,
    }
    return estimate.assign(
        {name: ((names.SUBJECT, "other_subject"), values) for name, values in found.items()}
    ).assign_coords(other_subject=estimate[names.SUBJECT].to_numpy())


def _bound_ratio(lines: Floats, sandwich: Floats, quantile: Floats) -> tuple[Floats, Floats]:
    """Fieller's interval of -alpha / beta: every b at which alpha + beta b could be zero."""
    (alpha, beta), q2 = lines.T, quantile**2
    first = beta**2 - q2 * sandwich[:, 1, 1]
    half = alpha * beta - q2 * sandwich[:, 0, 1]
    last = alpha**2 - q2 * sandwich[:, 0, 0]
    root = np.sqrt(np.maximum(half**2 - first * last, 0))
    lower, upper = (-half - root) / first, (-half + root) / first
    flat = first <= 0
    return np.where(flat, -np.inf, lower), np.where(flat, np.inf, upper)


def _total(subjects: tuple[Subject, ...], cells: pd.DataFrame) -> tuple[Floats, Floats, Floats]:
    """Score, information and log-likelihood of each subject."""
    row = _place({subject: i for i, subject in enumerate(subjects)}, cells)

    def add(name: str) -> Floats:
        return np.bincount(row, weights=cells[name], minlength=len(subjects))

    weight = add("weight"), add("weight_dH"), add("weight_dH"), add("weight_dH2")
    gradient = np.stack([add("score_intercept"), add("score_slope")], axis=1)
    return gradient, np.stack(weight, axis=1).reshape(-1, 2, 2), add("log_likelihood")


def _place(place: dict[Subject, int], cells: pd.DataFrame) -> Indices:
    labels = cells[KEYS[:-1]]
    code, present = pd.factorize(pd.MultiIndex.from_frame(labels))
    return np.array([place[Subject(*label)] for label in present], dtype=np.int64)[code]


def _newton(gradient: Floats, information: Floats, exists: np.ndarray) -> tuple[Floats, Floats]:
    """Newton steps and their lengths in naive standard errors."""
    step = np.einsum("sij,sj->si", np.nan_to_num(_invert(information, exists)), gradient)
    return step, np.sqrt(np.maximum((step * gradient).sum(axis=1), 0))


def _invert(matrices: Floats, usable: np.ndarray) -> Floats:
    inverse = np.full(matrices.shape, np.nan)
    (a, b), (_, d) = matrices[usable].transpose(1, 2, 0)
    inverse[usable] = (np.array([[d, -b], [-b, a]]) / (a * d - b * b)).transpose(2, 0, 1)
    return inverse


def _cap(step: Floats, compression: Compression) -> Floats:
    """Steps shortened so that no trial's log-odds changes by more than a few."""
    low, high = _find_range(compression)
    with np.errstate(invalid="ignore"):
        longest = np.fmax(np.abs(step[:, 0] + step[:, 1] * low), np.abs(step[:, 0] + step[:, 1] * high))
        capped: Floats = step * np.fmin(1, _LONGEST / np.fmax(longest, _TINY))[:, None]
    return np.nan_to_num(capped)


def _find_range(compression: Compression) -> tuple[Floats, Floats]:
    """Least and largest dH of each subject."""
    return (
        np.minimum(compression.text_low, compression.image_low),
        np.maximum(compression.text_high, compression.image_high),
    )
