"""Pilot estimates of hazards: a quick, rough fit that places the sampler's coordinates and nothing else.

Only the effects of groups at which gaps are crossed come from here; see `mfbayes.switching.kernel`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes.switching.layout import Layout, Rows
from mfbayes.switching.pairs import AGES, OLD

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_LEVEL_MEAN, _LEVEL_SD, _COEFFICIENT_SD, _EFFECT_SD = -2.5, 1.5, 1.0, 0.5
_STEPS = 25


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Gaussian stand-ins for what the pairs say: estimates and their precisions (0: nothing).

    Attributes
    ----------
    level : ndarray, shape (2, n_subjects, n_steps)
        Logit hazards by side, subject and layer.
    coefficient : ndarray, shape (2, n_subjects, n_terms + 2)
        Of the terms and the ages.
    level_information : ndarray, shape (2, n_subjects, n_steps)
        Curvature of the log-likelihood in each level.
    cross_information : ndarray, shape (2, n_subjects, n_steps, n_terms + 2)
        In levels and coefficients.
    coefficient_information : ndarray, shape (2, n_subjects, n_terms + 2, n_terms + 2)
        In the coefficients.
    """

    level: Floats
    coefficient: Floats
    level_information: Floats
    cross_information: Floats
    coefficient_information: Floats


def estimate_roughly(layout: Layout) -> Estimates:
    """Estimate the hazards of every subject and side by ridge-penalised Newton steps, without effects of groups."""
    n_subjects, n_steps = len(layout.subjects), int(layout.n_steps.max())
    n_coefficients = len(layout.terms) + OLD
    level, told = np.full((2, n_subjects, n_steps), _LEVEL_MEAN), np.zeros((2, n_subjects, n_steps))
    coefficient, square = np.zeros((2, n_subjects, n_coefficients)), np.zeros((2, n_subjects, *(n_coefficients,) * 2))
    cross = np.zeros((2, n_subjects, n_steps, n_coefficients))
    row_subject = layout.unit_subject
    for side, rows in enumerate(layout.rows):
        unit = np.repeat(np.arange(len(layout.features)), np.diff(rows.start))
        subject = row_subject[unit]
        for s in range(n_subjects):
            own = np.flatnonzero(subject == s)
            if own.size:
                found = _fit(rows, own, layout.features[unit[own]], n_steps)
                level[side, s], coefficient[side, s], told[side, s], cross[side, s], square[side, s] = found
    return Estimates(
        level=level,
        coefficient=coefficient,
        level_information=told,
        cross_information=cross,
        coefficient_information=square,
    )


def _fit(rows: Rows, own: Indices, terms: Floats, n_steps: int) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Levels by layer and coefficients of one subject that leaves one side."""
    layer, age = np.divmod(rows.place[own], len(AGES))
    features = np.column_stack([terms, *(age == a for a in range(OLD))]).astype(np.float64)
    count, switches = rows.count[own], rows.switches[own]
    level, coefficient = np.full(n_steps, _LEVEL_MEAN), np.zeros(features.shape[1])
    ridge = np.eye(coefficient.size) / _COEFFICIENT_SD**2

    def total(values: Floats) -> Floats:
        return np.bincount(layer, values, n_steps)

    def gather(weight: Floats) -> tuple[Floats, Floats, Floats]:
        told = total(weight)
        by_level = np.stack([total(weight * feature) for feature in features.T], axis=1)
        return told, by_level, features.T @ (weight[:, None] * features)

    for _ in range(_STEPS):
        p = expit(level[layer] + features @ coefficient)
        residual = switches - count * p
        told, by_level, square = gather(count * p * (1 - p))
        held = told + 1 / _LEVEL_SD**2
        pull = total(residual) - (level - _LEVEL_MEAN) / _LEVEL_SD**2
        # Levels are profiled out, so only the coefficients are solved for together.
        schur = square + ridge - by_level.T @ (by_level / held[:, None])
        push = features.T @ residual - ridge @ coefficient - by_level.T @ (pull / held)
        step = np.clip(np.linalg.solve(schur, push), -1.0, 1.0)
        level = level + np.clip((pull - by_level @ step) / held, -1.5, 1.5)
        coefficient = coefficient + step
        if np.abs(step).max(initial=0.0) < 1e-4:
            break
    p = expit(level[layer] + features @ coefficient)
    return level, coefficient, *gather(count * p * (1 - p))


def estimate_effects(layout: Layout, estimates: Estimates) -> tuple[Floats, Floats]:
    """Rough effects of every cell (a group and a subject) by side, and its scores there; shape (2, n_cells) each."""
    n_cells, n_terms = layout.cell_subject.size, len(layout.terms)
    effects, scores = np.zeros((2, 2, n_cells))
    if not layout.has_groups:
        return effects, scores
    cell, subject = layout.unit_cell, layout.unit_subject
    by_age = np.concatenate([estimates.coefficient[:, :, n_terms:], np.zeros((2, len(layout.subjects), 1))], axis=2)
    for side, rows in enumerate(layout.rows):
        unit = np.repeat(np.arange(len(layout.features)), np.diff(rows.start))
        layer, age = np.divmod(rows.place, len(AGES))
        slope = estimates.coefficient[side, :, :n_terms]
        base = (layout.features * slope[subject]).sum(axis=1)[unit]
        base = base + estimates.level[side, subject[unit], layer] + by_age[side, subject[unit], age]
        at = cell[unit]
        for _ in range(_STEPS):
            p = expit(base + effects[side][at])
            score = np.bincount(at, rows.switches - rows.count * p, n_cells)
            weight = np.bincount(at, rows.count * p * (1 - p), n_cells)
            step = (score - effects[side] / _EFFECT_SD**2) / (weight + 1 / _EFFECT_SD**2)
            effects[side] += np.clip(step, -1.0, 1.0)
            if np.abs(step).max() < 1e-3:
                break
        scores[side] = score
    return effects, scores
