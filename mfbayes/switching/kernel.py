r"""The kernel: log-likelihood of pairs of layers with its exact gradient, group by group.

A pair that leaves side d of subject s at a place (layer and age) has

.. math:: \operatorname{logit} h = table_{d,s,place} + slopes_{d,s} \cdot terms + e_{d,cell}

where the effects of the cells of a group, e = u + v, are integrated out by Laplace's method for each side (see
`mfbayes.marginal.kernel`), or are zero. Across a gap the chain over (side, age) is summed over its paths from the
observed side and age to the side at the end, at the estimates of the effects that the adjacent pairs give.
"""

import math

import numba as nb
import numpy as np

from mfbayes.compiled import made_from
from mfbayes.marginal import kernel as marginal_kernel
from mfbayes.marginal.kernel import REORDERED, exp_of_negative, integrate_group

_N_AGES = 3


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=REORDERED)
@made_from(marginal_kernel)
def add_binomial(eta, count, switches, slope):  # type: ignore[no-untyped-def]
    """Log-likelihood of counted switches, and its derivative in every eta, in operations that vectorise."""
    total = 0.0
    for i in range(eta.size):
        x = eta[i]
        t = exp_of_negative(-abs(x))
        s = 1.0 / (1.0 + t)
        # log(1 + t) = 2 artanh(z) with z in [0, 1/3], by its series.
        z = t / (2.0 + t)
        z2 = z * z
        series = 1 / 29.0 + z2 * (1 / 31.0)
        for k in range(27, 0, -2):
            series = 1.0 / k + z2 * series
        total += switches[i] * x - count[i] * (max(x, 0.0) + 2.0 * z * series)
        slope[i] = switches[i] - count[i] * (s if x >= 0 else t * s)
    return total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def cross_layer(table, levels, layer, side, age, end, count, table_gradient, level_gradient):  # type: ignore[no-untyped-def]
    """As `cross_gap` across one layer of neither answer, as most gaps are: `count` of them, gradients added to."""
    other = 1 - side
    start, back, on = (
        layer * _N_AGES + age,
        (layer + 1) * _N_AGES,
        (layer + 1) * _N_AGES + min(age + 1, _N_AGES - 1),
    )
    h = 1.0 / (1.0 + math.exp(-levels[side] - table[side, start]))
    returns = 1.0 / (1.0 + math.exp(-levels[other] - table[other, back]))
    leaves = 1.0 / (1.0 + math.exp(-levels[side] - table[side, on]))
    if end == side:
        if_left, if_stayed, sign = returns, 1.0 - leaves, 1.0
    else:
        if_left, if_stayed, sign = 1.0 - returns, leaves, -1.0
    p = h * if_left + (1.0 - h) * if_stayed
    scale = count / p
    by_start = scale * h * (1.0 - h) * (if_left - if_stayed)
    by_back = scale * h * sign * returns * (1.0 - returns)
    by_on = -scale * (1.0 - h) * sign * leaves * (1.0 - leaves)
    table_gradient[side, start] += by_start
    table_gradient[other, back] += by_back
    table_gradient[side, on] += by_on
    level_gradient[side] += by_start + by_on
    level_gradient[other] += by_back
    return count * math.log(p)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def cross_gap(table, levels, layer, length, side, age, end, hazard, forward, backward, slope):  # type: ignore[no-untyped-def]
    """Log-probability of the side at the end of a gap; its derivatives in the logits of the hazards passed.

    Parameters
    ----------
    table : ndarray, shape (2, n_places)
        Logit hazards of leaving each side by place (layer and age).
    levels : ndarray, shape (2,)
        Added to them.
    layer, length : int
        First layer, and layers from start to end.
    side, age, end : int
        Side and age at the start, and side at the end.
    hazard, forward, backward : ndarray, shape (> length, 2, ages)
        Room to work in.
    slope : ndarray, shape (>= length, 2, ages)
        On return the derivatives, by layers passed, side and age.
    """
    forward[: length + 1, :, :] = 0.0
    forward[0, side, age] = 1.0
    for t in range(length):
        for s in range(2):
            for a in range(_N_AGES):
                here = forward[t, s, a]
                # Sides and ages that the chain cannot have come to cost nothing.
                if here == 0.0:
                    continue
                h = 1.0 / (1.0 + math.exp(-levels[s] - table[s, (layer + t) * _N_AGES + a]))
                hazard[t, s, a] = h
                forward[t + 1, 1 - s, 0] += here * h
                forward[t + 1, s, min(a + 1, _N_AGES - 1)] += here * (1.0 - h)
    p = 0.0
    for a in range(_N_AGES):
        p += forward[length, end, a]
        backward[length, end, a] = 1.0
        backward[length, 1 - end, a] = 0.0
    for t in range(length - 1, -1, -1):
        for s in range(2):
            for a in range(_N_AGES):
                here = forward[t, s, a]
                if here == 0.0:
                    slope[t, s, a] = 0.0
                    continue
                h, left, stayed = (
                    hazard[t, s, a],
                    backward[t + 1, 1 - s, 0],
                    backward[t + 1, s, min(a + 1, _N_AGES - 1)],
                )
                backward[t, s, a] = h * left + (1.0 - h) * stayed
                slope[t, s, a] = here * h * (1.0 - h) * (left - stayed) / p
    return math.log(p)


@nb.njit(cache=True, nogil=True, error_model="numpy")
@made_from(marginal_kernel)
def integrate_switches(  # type: ignore[no-untyped-def]
    table,
    slopes,
    scales,
    doubles,
    integers,
    table_gradient,
    slope_gradient,
    scale_gradient,
    by_group,
):
    """Log-likelihood of each group in `by_group`, with gradients, from packed data (`mfbayes.switching.operator`).

    Parameters
    ----------
    table, table_gradient : ndarray, shape (2, n_subjects, n_places)
        Gradients are added to.
    slopes, slope_gradient : ndarray, shape (2, n_subjects, n_terms)
    scales, scale_gradient : ndarray, shape (2, 2)
        Standard deviations of u and v for each side; unused without groups.
    doubles, integers : ndarray
        The data.
    by_group : ndarray, shape (n_groups,)
    """
    n_groups, n_cells, n_units, n_gaps, has_groups = integers[0], integers[1], integers[2], integers[3], integers[4]
    n_terms = slopes.shape[2]
    n_rows = (integers[5], integers[6])
    at = 7
    group_start, at = integers[at : at + n_groups + 1], at + n_groups + 1
    cell_start, at = integers[at : at + n_cells + 1], at + n_cells + 1
    cell_subject, at = integers[at : at + n_cells], at + n_cells
    row_start0, at = integers[at : at + n_units + 1], at + n_units + 1
    place0, at = integers[at : at + n_rows[0]], at + n_rows[0]
    row_start1, at = integers[at : at + n_units + 1], at + n_units + 1
    place1, at = integers[at : at + n_rows[1]], at + n_rows[1]
    gap_start, at = integers[at : at + n_units + 1], at + n_units + 1
    gaps = integers[at : at + 5 * n_gaps].reshape((5, n_gaps))
    features, at = doubles[: n_units * n_terms].reshape((n_units, n_terms)), n_units * n_terms
    count0, at = doubles[at : at + n_rows[0]], at + n_rows[0]
    switches0, at = doubles[at : at + n_rows[0]], at + n_rows[0]
    count1, at = doubles[at : at + n_rows[1]], at + n_rows[1]
    switches1, at = doubles[at : at + n_rows[1]], at + n_rows[1]
    start, at = doubles[at : at + 2 * n_cells].reshape((2, n_cells)), at + 2 * n_cells
    estimate, at = doubles[at : at + 2 * n_cells].reshape((2, n_cells)), at + 2 * n_cells
    gap_count = doubles[at : at + n_gaps]

    most_rows, most_cells, most_gap = 1, 1, 1
    for g in range(n_groups):
        first, last = cell_start[group_start[g]], cell_start[group_start[g + 1]]
        most_rows = max(most_rows, row_start0[last] - row_start0[first], row_start1[last] - row_start1[first])
        most_cells = max(most_cells, group_start[g + 1] - group_start[g])
    for i in range(n_gaps):
        most_gap = max(most_gap, gaps[1, i])
    eta_room, slope_room = np.empty(most_rows), np.empty(most_rows)
    work, rho_room = np.empty((10, most_cells)), np.empty(most_cells)
    cells, branches, three = np.empty(most_cells + 1, np.int64), np.arange(most_cells + 1), np.zeros(3)
    levels, by_level = np.empty(2), np.empty(2)
    hazard, gap_slope, forward, backward = np.empty((4, most_gap + 1, 2, _N_AGES))
    for g in range(n_groups):
        first_cell, last_cell = group_start[g], group_start[g + 1]
        by_group[g] = 0.0
        for side in range(2):
            row_start = row_start0 if side == 0 else row_start1
            place = place0 if side == 0 else place1
            first_row = row_start[cell_start[first_cell]]
            size = row_start[cell_start[last_cell]] - first_row
            eta, slope = eta_room[:size], slope_room[:size]
            for c in range(first_cell, last_cell):
                cells[c - first_cell] = row_start[cell_start[c]] - first_row
                own = table[side, cell_subject[c]]
                for u in range(cell_start[c], cell_start[c + 1]):
                    level = 0.0
                    for j in range(n_terms):
                        level += features[u, j] * slopes[side, cell_subject[c], j]
                    for i in range(row_start[u], row_start[u + 1]):
                        eta[i - first_row] = level + own[place[i]]
            cells[last_cell - first_cell] = size
            switches = (switches0 if side == 0 else switches1)[first_row : first_row + size]
            if has_groups:
                rho, n = rho_room[: last_cell - first_cell], last_cell - first_cell
                for c in range(n):
                    rho[c] = start[side, first_cell + c]
                three[:] = 0.0
                by_group[g] += integrate_group(
                    eta,
                    switches,
                    cells[: n + 1],
                    branches[: n + 1],
                    (scales[side, 0], scales[side, 1], 0.0),
                    rho,
                    work,
                    slope,
                    three,
                )
                scale_gradient[side, 0] += three[0]
                scale_gradient[side, 1] += three[1]
            else:
                counts = (count0 if side == 0 else count1)[first_row : first_row + size]
                by_group[g] += add_binomial(eta, counts, switches, slope)
            for c in range(first_cell, last_cell):
                own = table_gradient[side, cell_subject[c]]
                for u in range(cell_start[c], cell_start[c + 1]):
                    total = 0.0
                    for i in range(row_start[u], row_start[u + 1]):
                        total += slope[i - first_row]
                        own[place[i]] += slope[i - first_row]
                    for j in range(n_terms):
                        slope_gradient[side, cell_subject[c], j] += total * features[u, j]
        for c in range(first_cell, last_cell):
            subject = cell_subject[c]
            own, own_gradient = table[:, subject], table_gradient[:, subject]
            for u in range(cell_start[c], cell_start[c + 1]):
                if gap_start[u] == gap_start[u + 1]:
                    continue
                levels[0], levels[1] = estimate[0, c], estimate[1, c]
                for side in range(2):
                    for j in range(n_terms):
                        levels[side] += features[u, j] * slopes[side, subject, j]
                by_level[:] = 0.0
                for i in range(gap_start[u], gap_start[u + 1]):
                    layer, length, age, side, end = gaps[0, i], gaps[1, i], gaps[2, i], gaps[3, i], gaps[4, i]
                    if length == 2:
                        by_group[g] += cross_layer(
                            own, levels, layer, side, age, end, gap_count[i], own_gradient, by_level
                        )
                        continue
                    by_group[g] += gap_count[i] * cross_gap(
                        own, levels, layer, length, side, age, end, hazard, forward, backward, gap_slope
                    )
                    for s in range(2):
                        for t in range(length):
                            for a in range(_N_AGES):
                                change = gap_count[i] * gap_slope[t, s, a]
                                own_gradient[s, (layer + t) * _N_AGES + a] += change
                                by_level[s] += change
                for side in range(2):
                    for j in range(n_terms):
                        slope_gradient[side, subject, j] += by_level[side] * features[u, j]
