"""Pilot estimates: a quick, rough fit that places the sampler's coordinates and nothing else.

The posterior is the same whatever stands here; how fast it is sampled is not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes.design import Design

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


def estimate_pilot(design: Design, *, lapse: Floats | float = 0.0) -> Estimates:
    """Rough estimates of a design, which place the coordinates of its subjects; `lapse` as in `estimate_roughly`."""
    return estimate_roughly(
        design.uncertainty,
        design.is_text,
        trial_cell=design.trial_cell,
        cell_subject=design.cell_subject,
        n_subjects=design.n_subjects,
        lapse=lapse,
    )


def estimate_roughly(
    dH: Floats,
    is_text: Floats,
    *,
    trial_cell: Indices,
    cell_subject: Indices,
    n_subjects: int,
    lapse: Floats | float = 0.0,
) -> Estimates:
    """Estimate every effect by ridge-penalised scoring steps, a cell (group by subject) at a time.

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
    lapse : ndarray, shape (n_subjects,), or float
        Probability of each side by chance, taken as known; see `mfbayes.lapses`.
    """
    n_cells = cell_subject.size
    trial_subject = cell_subject[trial_cell]
    lapses = np.broadcast_to(lapse, n_subjects)
    coefficients = np.array(
        [_fit_logistic(dH[trial_subject == s], is_text[trial_subject == s], own)[0] for s, own in enumerate(lapses)]
    )
    slope = np.clip(coefficients[:, 1], 0.3, 10.0)
    base = coefficients[cell_subject, 0]
    effect = np.zeros(n_cells)

    def respond() -> tuple[Floats, Floats]:
        return _respond((base + effect)[trial_cell] - slope[trial_subject] * dH, is_text, lapses[trial_subject])

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


def guess_lapse(dH: Floats, is_text: Floats, *, grid: Floats, log_prior: Floats) -> float:
    """The probability of each side by chance that trials suggest, while group effects are overlooked.

    Parameters
    ----------
    dH, is_text : ndarray, shape (n_trials,)
        Of one model.
    grid, log_prior : ndarray
        Probabilities, and the logarithm of their density before.

    Returns
    -------
    float
        Their mean, each as likely as its best curve makes it.
    """
    heights = np.array([_fit_logistic(dH, is_text, lapse)[1] for lapse in grid]) + log_prior
    weight = np.exp(heights - heights.max()) * np.gradient(grid)
    return float(weight @ grid / weight.sum())


def _respond(logit: Floats, is_text: Floats, lapse: Floats | float) -> tuple[Floats, Floats]:
    """Derivative of each trial's log-likelihood in its logit, and the information expected of it."""
    p, q = expit(logit), expit(-logit)
    rise, of_text, of_image = (1 - 2 * lapse) * p * q, lapse + (1 - 2 * lapse) * p, lapse + (1 - 2 * lapse) * q
    told = rise / np.maximum(of_text * of_image, 1e-300)
    return told * np.where(is_text == 1, of_image, -of_text), told * rise


def _fit_logistic(dH: Floats, is_text: Floats, lapse: float) -> tuple[Floats, float]:
    """Intercept and slope of logit P(text) = a - k dH, each held by a wide normal prior, and their log-density."""
    design = np.column_stack([np.ones_like(dH), -dH])
    penalty = np.array([0.25, 1.0]) * _PRIOR_LOG_ODDS
    centre = np.array([0.0, _PRIOR_SLOPE])
    beta = centre.copy()
    for _ in range(_STEPS):
        residual, weight = _respond(design @ beta, is_text, lapse)
        gradient = design.T @ residual - penalty * (beta - centre)
        hessian = design.T @ (design * weight[:, None]) + np.diag(penalty)
        beta = beta + np.clip(np.linalg.solve(hessian, gradient), -2.0, 2.0)
    p = expit(design @ beta)
    likelihood = np.log(lapse + (1 - 2 * lapse) * np.where(is_text == 1, p, 1 - p) + 1e-300).sum()
    return beta, float(likelihood - 0.5 * penalty @ (beta - centre) ** 2)
