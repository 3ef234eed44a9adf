"""Pilot estimates of hazards: a quick, rough fit that places the coordinates of the sampler and of the evidence.

Of the estimates, the effects of groups at which gaps are crossed come from here (`mfbayes.switching.kernel`), and how
far hazards move with the balance points (`mfbayes.switching.points`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from mfbayes.switching.layout import Rows
from mfbayes.switching.structure import GROUP_SDS, Structure

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_ROUNDS, _CLOSE = 60, 3e-3
_LONGEST_STEP = 1.5
# Shares of a spread's prior scale: where it starts, and below which it never falls.
_START, _LEAST = 0.6, 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimates:
    """Where hazards and spreads lie, roughly, and what the adjacent pairs say of the hazards around there.

    Attributes
    ----------
    parameters : ndarray, shape (n_parameters,)
        Levels, coefficients and means, in the order of the structure's parameters.
    gradient : ndarray, shape (n_data,)
        Slope of the log-likelihood there, effects of groups at their modes.
    information : ndarray, shape (n_data, n_data)
        Its curvature, less what is lost to the effects of groups.
    spread : ndarray, shape (n_scales,)
        Standard deviations.
    parts : ndarray, shape (n_parts,)
        What the parameters are the sums of.
    effects, scores : ndarray, shape (2, n_cells)
        Effects of every cell (a group and a subject) by side, and its scores there.
    """

    parameters: Floats
    gradient: Floats
    information: Floats
    spread: Floats
    parts: Floats
    effects: Floats
    scores: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """Adjacent pairs of both sides as a binomial regression.

    Cells and groups of the side that is left second come after those of the first.
    """

    design: csr_array
    count: Floats
    switches: Floats
    cell: Indices
    cell_group: Indices
    cell_side: Indices
    group_side: Indices


def estimate_roughly(structure: Structure, *, near: Estimates | None = None) -> Estimates:
    """Estimate hazards and spreads by Newton steps in turn with steps of expectation and maximisation.

    Hazards are found given the spreads and the effects of groups, these given the hazards, and the spreads from how
    large both are and how uncertain.

    Parameters
    ----------
    structure : Structure
        Of the pairs.
    near : Estimates, optional
        Of a structure of the same parts and cells, from which the search starts.
    """
    layout, rows = structure.layout, _lay_out(structure)
    spread = _START * structure.scale_priors if near is None else near.spread
    to_data = structure.map[: structure.n_data]
    parts = np.zeros(structure.n_parts) if near is None else near.parts
    effects = np.zeros(rows.cell_group.size) if near is None else near.effects.ravel()
    for _ in range(_ROUNDS):
        before = spread
        parameters = structure.centre + structure.map @ parts
        eta = rows.design @ parameters[: structure.n_data]
        if layout.has_groups:
            for _ in range(3):
                effects = effects + _step_effects(rows, eta, effects, structure, spread)
        residual, weight = _residuals(rows, eta + effects[rows.cell])
        gradient = rows.design.T @ residual
        information = _measure_information(rows, weight, structure, spread)
        sd = structure.find_sds(spread)
        # In units of the prior the matrix is well conditioned, and a part that is not told of stays as it was.
        scaled = to_data * sd
        covariance = np.linalg.inv(np.eye(sd.size) + scaled.T @ information @ scaled)
        step = sd * (covariance @ (scaled.T @ gradient - parts / sd))
        step *= min(1.0, _LONGEST_STEP / max(np.abs(to_data @ step).max(initial=0.0), 1e-12))
        parts = parts + step
        size = parts**2 + sd**2 * np.diag(covariance)
        spread = _update_spread(structure, spread, size, *_measure_groups(rows, weight, effects, structure, spread))
        if np.abs(spread - before).max() < _CLOSE and np.abs(step).max() < _CLOSE:
            break
    scores = np.bincount(rows.cell, residual, effects.size) if layout.has_groups else np.zeros_like(effects)
    return Estimates(
        parameters=parameters,
        gradient=gradient,
        information=information,
        spread=spread,
        parts=parts,
        effects=effects.reshape(2, -1),
        scores=scores.reshape(2, -1),
    )


def _lay_out(structure: Structure) -> _Rows:
    layout = structure.layout
    n_cells, n_groups = layout.cell_subject.size, layout.group_start.size - 1
    n_parameters = len(structure.parameters)
    sides = [_design(structure, rows, side) for side, rows in enumerate(layout.rows)]
    entries, columns, cells = (np.concatenate(each) for each in zip(*sides, strict=True))
    indptr = np.arange(0, entries.size + 1, entries.shape[1])
    design = csr_array((entries.ravel(), columns.ravel(), indptr), shape=(len(entries), n_parameters + 1))
    cell_group = np.repeat(np.arange(n_groups), np.diff(layout.group_start))
    return _Rows(
        # The last column is the zero that older traces have for an effect of age.
        design=design[:, : structure.n_data],
        count=np.concatenate([rows.count for rows in layout.rows]),
        switches=np.concatenate([rows.switches for rows in layout.rows]),
        cell=cells,
        cell_group=np.concatenate([cell_group, cell_group + n_groups]),
        cell_side=np.repeat([0, 1], n_cells),
        group_side=np.repeat([0, 1], n_groups),
    )


def _design(structure: Structure, rows: Rows, side: int) -> tuple[Floats, Indices, Indices]:
    """Entries of the rows of one side, the parameters that they belong to, and the rows' cells."""
    layout = structure.layout
    unit = np.repeat(np.arange(len(layout.features)), np.diff(rows.start))
    subject = layout.unit_subject[unit]
    places = [index[side, subject, rows.place][:, None] for index in (structure.level_index, structure.age_index)]
    columns = np.concatenate([*places, structure.slope_index[side, subject]], axis=1)
    entries = np.concatenate([np.ones((unit.size, 2)), layout.features[unit]], axis=1)
    return entries, columns, layout.unit_cell[unit] + side * layout.cell_subject.size


def _residuals(rows: _Rows, eta: Floats) -> tuple[Floats, Floats]:
    """Switches beyond those expected, and their variance."""
    p = expit(eta)
    return rows.switches - rows.count * p, rows.count * p * (1 - p)


class _Precisions:
    """Precision of every cell's effect, from its pairs and of its own, and what effects of a group share.

    The prior's precision matrix of a group's cells is diagonal, less `shared` times a matrix of ones.
    """

    def __init__(self, rows: _Rows, weight: Floats, structure: Structure, spread: Floats) -> None:
        group, own = _group_variances(structure, spread)
        n_cells, n_groups = rows.cell_group.size, rows.group_side.size
        size = np.bincount(rows.cell_group, minlength=n_groups)
        variance = own[rows.group_side]
        self.own = 1 / own[rows.cell_side]
        self.shared = group[rows.group_side] / (variance * (variance + size * group[rows.group_side]))
        self.told = np.bincount(rows.cell, weight, n_cells)
        self.total = self.told + self.own
        # Sherman and Morrison's factor of the rank-one part of the inverse.
        inverse = np.bincount(rows.cell_group, 1 / self.total, n_groups)
        self.factor = self.shared / (1 - self.shared * inverse)


def _group_variances(structure: Structure, spread: Floats) -> tuple[Floats, Floats]:
    """Variances of the effects of groups, and of groups and subjects, by side; never zero."""
    padded = np.append(spread, 0.0)[structure.group_index]
    least = _LEAST * max(structure.scale_priors[structure.group_index[0, 0]], _LEAST)
    variances = np.square(np.maximum(padded, least))
    return variances[:, 0], variances[:, 1]


def _step_effects(rows: _Rows, eta: Floats, effects: Floats, structure: Structure, spread: Floats) -> Floats:
    """A Newton step of the effects of all cells."""
    n_cells, n_groups = rows.cell_group.size, rows.group_side.size
    residual, weight = _residuals(rows, eta + effects[rows.cell])
    at = _Precisions(rows, weight, structure, spread)
    shared = at.shared * np.bincount(rows.cell_group, effects, n_groups)
    push = np.bincount(rows.cell, residual, n_cells) - at.own * effects + shared[rows.cell_group]
    shared = at.factor * np.bincount(rows.cell_group, push / at.total, n_groups)
    step = (push + shared[rows.cell_group]) / at.total
    clipped: Floats = np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
    return clipped


def _measure_information(rows: _Rows, weight: Floats, structure: Structure, spread: Floats) -> Floats:
    weighted = rows.design.multiply(weight[:, None]).tocsr()
    information: Floats = (rows.design.T @ weighted).toarray()
    if not structure.layout.has_groups:
        return information
    at = _Precisions(rows, weight, structure, spread)
    n_cells, n_groups = rows.cell_group.size, rows.group_side.size
    ones = np.ones(rows.cell.size)
    to_cell = csr_array((ones, (rows.cell, np.arange(rows.cell.size))), shape=(n_cells, rows.cell.size))
    to_group = csr_array((np.ones(n_cells), (rows.cell_group, np.arange(n_cells))), shape=(n_groups, n_cells))
    by_cell = (to_cell @ weighted).multiply((1 / np.sqrt(at.total))[:, None]).tocsr()
    by_group = to_group @ by_cell.multiply((1 / np.sqrt(at.total))[:, None]).tocsr()
    by_group = by_group.multiply(np.sqrt(at.factor)[:, None]).toarray()
    left: Floats = information - (by_cell.T @ by_cell).toarray() - by_group.T @ by_group
    return left


def _measure_groups(
    rows: _Rows, weight: Floats, effects: Floats, structure: Structure, spread: Floats
) -> tuple[Floats, Floats]:
    """Sums of squares of the effects of groups and of what is each cell's own, by side, and their numbers; (2, 2)."""
    if not structure.layout.has_groups:
        return np.zeros((2, 2)), np.zeros((2, 2))
    group, own = _group_variances(structure, spread)
    at = _Precisions(rows, weight, structure, spread)
    n_groups = rows.group_side.size
    size = np.bincount(rows.cell_group, minlength=n_groups)
    of_group = group[rows.group_side]
    shared = of_group / (own[rows.group_side] + size * of_group) * np.bincount(rows.cell_group, effects, n_groups)
    left = effects - shared[rows.cell_group]
    # A cell tells of its group as far as what is its own lets it.
    through = np.bincount(rows.cell_group, 1 / (1 / np.maximum(at.told, 1e-12) + 1 / at.own), n_groups)
    by_group = shared**2 + 1 / (1 / of_group + through)
    by_cell = left**2 + 1 / at.total
    sums = np.stack([np.bincount(rows.group_side, by_group, 2), np.bincount(rows.cell_side, by_cell, 2)], axis=1)
    numbers = np.stack([np.bincount(rows.group_side), np.bincount(rows.cell_side)], axis=1).astype(np.float64)
    return sums, numbers


def _update_spread(
    structure: Structure, spread: Floats, size: Floats, group_sums: Floats, group_numbers: Floats
) -> Floats:
    """Standard deviations from the expected squares of what they are of, under their half-normal priors."""
    n_scales, variance = len(structure.scales), structure.find_sds(spread) ** 2
    weights = structure.variances[structure.part_kind, 1:]
    pull, hold = weights.T @ (size / variance**2), weights.T @ (1 / variance)
    for column in range(len(GROUP_SDS)):
        for side in range(2):
            scale = structure.group_index[side, column]
            if scale < n_scales:
                pull[scale] = group_sums[side, column] / spread[scale] ** 4
                hold[scale] = group_numbers[side, column] / spread[scale] ** 2
    # Where the ratio is one, the density has no slope in the scale.
    ratio = pull / (hold + 1 / structure.scale_priors**2)
    found: Floats = np.maximum(spread * np.sqrt(ratio), _LEAST * structure.scale_priors)
    return found
