"""Pilot estimates: a quick, rough fit that places the sampler's coordinates and nothing else.

The posterior is the same whatever stands here; how fast it is sampled is not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_PRIOR_LOG_ODDS = 1.0
_PRIOR_SLOPE = 2.0
_CELL_SD = 1.5
_STEPS = 15


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Gaussian stand-ins for what the data say: an estimate and its precision (0: nothing)."""

    balance_point: Floats
    balance_point_precision: Floats
    log_slope: Floats
    log_slope_precision: Floats
    cell_intercept: Floats
    cell_precision: Floats
    cell_uncertainty: Floats
    """Mean dH of a cell, each trial weighted by its information."""


def estimate_roughly(
    dH: Floats, is_text: Floats, *, trial_cell: Indices, cell_subject: Indices, n_subjects: int
) -> Estimates:
    """Estimate every effect by ridge-penalised Newton steps, a cell (group by subject) at a time.

    Parameters
    ----------
    dH, is_text : ndarray, shape (n_trials,)
        Relative uncertainty, and 1 where the text was followed.
    trial_cell : ndarray of int, shape (n_trials,)
        Cell of each trial.
    cell_subject : ndarray of int, shape (n_cells,)
        Subject of each cell.
    n_subjects : int
        Number of subjects.
    """
    n_cells = cell_subject.size
    trial_subject = cell_subject[trial_cell]
    coefficients = np.array(
        [_fit_logistic(dH[trial_subject == s], is_text[trial_subject == s]) for s in range(n_subjects)]
    )
    slope = np.clip(coefficients[:, 1], 0.3, 10.0)
    base = coefficients[cell_subject, 0]
    effect = np.zeros(n_cells)

    def respond() -> tuple[Floats, Floats]:
        p = expit((base + effect)[trial_cell] - slope[trial_subject] * dH)
        return is_text - p, p * (1 - p)

    def total(values: Floats) -> Floats:
        return np.bincount(trial_cell, values, n_cells)

    for _ in range(_STEPS):
        residual, weight = respond()
        step = (total(residual) - effect / _CELL_SD**2) / (total(weight) + 1 / _CELL_SD**2)
        effect = effect + np.clip(step, -1.0, 1.0)
    residual, weight = respond()
    precision = total(weight)
    known = np.maximum(precision, 1e-9)
    mean_dH = total(weight * dH) / known
    intercept = base + effect + np.clip(total(residual) / known, -10.0, 10.0)

    spread = weight * (dH - mean_dH[trial_cell]) ** 2
    slope_precision = np.bincount(trial_subject, spread, n_subjects) * slope**2
    # A cell tells of its subject's intercept up to its own error and the spread between groups.
    between = np.mean(effect**2) + 0.1
    cell_share = 1 / (1 / known + between)
    subject_share = np.bincount(cell_subject, cell_share, n_subjects)
    subject_intercept = np.bincount(cell_subject, cell_share * intercept, n_subjects) / np.maximum(subject_share, 1e-9)
    return Estimates(
        balance_point=np.clip(subject_intercept / slope, -4.0, 4.0),
        balance_point_precision=subject_share * slope**2,
        log_slope=np.log(slope),
        log_slope_precision=slope_precision,
        cell_intercept=intercept,
        cell_precision=precision,
        cell_uncertainty=mean_dH,
    )


def _fit_logistic(dH: Floats, is_text: Floats) -> Floats:
    """Intercept and slope of logit P(text) = a - k dH, each held by a wide normal prior."""
    design = np.column_stack([np.ones_like(dH), -dH])
    penalty = np.array([0.25, 1.0]) * _PRIOR_LOG_ODDS
    centre = np.array([0.0, _PRIOR_SLOPE])
    beta = centre.copy()
    for _ in range(_STEPS):
        p = expit(design @ beta)
        gradient = design.T @ (is_text - p) - penalty * (beta - centre)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + np.diag(penalty)
        beta = beta + np.clip(np.linalg.solve(hessian, gradient), -2.0, 2.0)
    return beta
