"""The kernel over many groups: their linear predictors, marginal log-likelihoods and gradients in every parameter."""

import math

import numpy as np

from mfbayes.compiled import REORDERED, compiled
from mfbayes.marginal.kernel import find_mode, integrate_group


@compiled()
def integrate_groups(  # type: ignore[no-untyped-def]
    first,
    last,
    coefficients,
    features,
    offset,
    is_text,
    cell_subject,
    cell_start,
    branch_start,
    group_start,
    scales,
    rho,
    gradient,
    trial_gradient,
    scale_gradient,
    by_group,
):
    """Marginal log-likelihoods of the groups `first` to `last`, with gradients.

    eta of a trial of subject s is offset + sum over j of features[j] coefficients[s, j]; either part
    may be empty.

    Parameters
    ----------
    coefficients, gradient : ndarray, shape (n_subjects, n_features)
        The gradient is added to.
    features : ndarray, shape (n_features, n_trials)
    offset, trial_gradient : ndarray, shape (n_trials,) or (0,)
    scales, scale_gradient : ndarray, shape (3,)
        The gradient is added to.
    rho : ndarray, shape (n_cells,)
        Where each mode is looked for; it stays as it is.
    by_group : ndarray, shape (n_groups,)
    """
    most_trials, most_cells = 0, 0
    for g in range(first, last):
        first_cell, last_cell = branch_start[group_start[g]], branch_start[group_start[g + 1]]
        most_cells = max(most_cells, last_cell - first_cell)
        most_trials = max(most_trials, cell_start[last_cell] - cell_start[first_cell])
    eta_room, slope_room = np.empty(most_trials), np.empty(most_trials)
    work = np.empty((10, most_cells))
    rho_room, cell_room = np.empty(most_cells), np.empty(most_cells + 1, dtype=np.int64)
    triple = (scales[0], scales[1], scales[2])
    for g in range(first, last):
        branches = branch_start[group_start[g] : group_start[g + 1] + 1]
        first_cell, n_cells = branches[0], branches[-1] - branches[0]
        start = cell_start[first_cell]
        n_trials = cell_start[first_cell + n_cells] - start
        cells, rho_here = cell_room[: n_cells + 1], rho_room[:n_cells]
        eta, slope = eta_room[:n_trials], slope_room[:n_trials]
        hits = is_text[start : start + n_trials]
        for c in range(n_cells + 1):
            cells[c] = cell_start[first_cell + c] - start
        for c in range(n_cells):
            rho_here[c] = rho[first_cell + c]
            subject = cell_subject[first_cell + c]
            _predict(eta, offset, features, coefficients, subject, cells[c], cells[c + 1], start)
        by_group[g] = integrate_group(eta, hits, cells, branches, triple, rho_here, work, slope, scale_gradient)
        for c in range(n_cells):
            subject = cell_subject[first_cell + c]
            for j in range(features.shape[0]):
                gradient[subject, j] += _dot(slope, features[j], cells[c], cells[c + 1], start)
        if trial_gradient.size:
            trial_gradient[start : start + n_trials] = slope


@compiled()
def integrate_points(  # type: ignore[no-untyped-def]
    coefficients, features, offset, is_text, cell_subject, cell_start, branch_start, group_start, scales, rho, by_group
):
    """Marginal log-likelihoods of all groups at many points, without their gradients.

    Parameters
    ----------
    coefficients : ndarray, shape (n_points, n_subjects, n_features)
    offset : ndarray, shape (n_points, n_trials) or (n_points, 0)
    scales : ndarray, shape (n_points, 3)
    by_group : ndarray, shape (n_points, n_groups)
        On return the log-likelihoods.
    """
    gradient, scale_gradient, nothing = np.zeros(coefficients.shape[1:]), np.zeros(3), np.empty(0)
    for i in range(len(by_group)):
        integrate_groups(
            0,
            by_group.shape[1],
            coefficients[i],
            features,
            offset[i],
            is_text,
            cell_subject,
            cell_start,
            branch_start,
            group_start,
            scales[i],
            rho,
            gradient,
            nothing,
            scale_gradient,
            by_group[i],
        )


@compiled()
def settle_groups(  # type: ignore[no-untyped-def]
    first,
    last,
    coefficients,
    features,
    offset,
    is_text,
    cell_subject,
    cell_start,
    branch_start,
    group_start,
    scales,
    rho,
    scores,
    weights,
):
    """Scores and weights of the cells at the modes of the groups `first` to `last`; NaN where one is not found.

    Both are all that the effects' conditional distribution depends on; see `integrate_groups`.
    """
    most_trials, most_cells = 0, 0
    for g in range(first, last):
        first_cell, last_cell = branch_start[group_start[g]], branch_start[group_start[g + 1]]
        most_cells = max(most_cells, last_cell - first_cell)
        most_trials = max(most_trials, cell_start[last_cell] - cell_start[first_cell])
    eta_room, p_room, work = np.empty(most_trials), np.empty(most_trials), np.empty((10, most_cells))
    rho_room, cell_room = np.empty(most_cells), np.empty(most_cells + 1, dtype=np.int64)
    variances = (scales[0] ** 2, scales[1] ** 2, scales[2] ** 2)
    for g in range(first, last):
        branches = branch_start[group_start[g] : group_start[g + 1] + 1]
        first_cell, n_cells = branches[0], branches[-1] - branches[0]
        start = cell_start[first_cell]
        n_trials = cell_start[first_cell + n_cells] - start
        cells, rho_here, eta = cell_room[: n_cells + 1], rho_room[:n_cells], eta_room[:n_trials]
        hits = is_text[start : start + n_trials]
        for c in range(n_cells + 1):
            cells[c] = cell_start[first_cell + c] - start
        for c in range(n_cells):
            rho_here[c] = rho[first_cell + c]
            subject = cell_subject[first_cell + c]
            _predict(eta, offset, features, coefficients, subject, cells[c], cells[c + 1], start)
        found = not math.isnan(find_mode(eta, hits, cells, branches, variances, rho_here, work, p_room[:n_trials]))
        for c in range(n_cells):
            scores[first_cell + c] = work[3, c] if found else np.nan
            weights[first_cell + c] = work[4, c] if found else np.nan


@compiled(fastmath=REORDERED)
def _predict(eta, offset, features, coefficients, subject, first, last, start):  # type: ignore[no-untyped-def]
    """Linear predictors of one cell's trials."""
    own, known = eta[first:last], 0
    if offset.size:
        own[:] = offset[start + first : start + last]
    elif features.shape[0] >= 2:
        # An intercept and a slope are what nearly every likelihood has: one loop instead of three.
        known, one, other = 2, coefficients[subject, 0], coefficients[subject, 1]
        feature, second = features[0, start + first : start + last], features[1, start + first : start + last]
        for i in range(own.size):
            own[i] = one * feature[i] + other * second[i]
    else:
        own[:] = 0.0
    for j in range(known, features.shape[0]):
        coefficient, feature = coefficients[subject, j], features[j, start + first : start + last]
        for i in range(own.size):
            own[i] += coefficient * feature[i]


@compiled(fastmath=REORDERED)
def _dot(slope, feature, first, last, start):  # type: ignore[no-untyped-def]
    own, other = slope[first:last], feature[start + first : start + last]
    total = 0.0
    for i in range(own.size):
        total += own[i] * other[i]
    return total
