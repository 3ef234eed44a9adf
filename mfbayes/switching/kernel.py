r"""The kernel: log-likelihood of pairs of layers with its exact gradient, group by group.

A pair that leaves side d of subject s at a place (layer and age) has

.. math:: \operatorname{logit} h = table_{d,s,place} + slopes_{d,s} \cdot terms + e_{d,cell}

where the effects of the cells of a group, e = u + v, are integrated out by Laplace's method for each side (see
`mfbayes.marginal.kernel`), or are zero. Across a gap the chain over (side, age) is summed over its paths from the
observed side and age to the side at the end, at the estimates of the effects that the adjacent pairs give.
"""

import math

import numpy as np

from mfbayes.compiled import REORDERED, compiled
from mfbayes.marginal.exponentials import exp_of_negative
from mfbayes.marginal.kernel import integrate_group

_N_AGES = 3


@compiled(fastmath=REORDERED)
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


@compiled(fastmath=REORDERED)
def cross_layers(eta, comes_back, count, p, slope):  # type: ignore[no-untyped-def]
    """Log-likelihood of gaps of one layer, as most are: as `cross_gap`, in operations that vectorise.

    Parameters
    ----------
    eta : ndarray, shape (3, >= n_gaps)
        Logit hazards: of leaving at the start, of coming back if it left, and of leaving then if it stayed.
    comes_back : ndarray, shape (n_gaps,)
        1 where the side at the end is that at the start, else 0.
    count : ndarray, shape (n_gaps,)
    p : ndarray, shape (>= n_gaps,)
        On return the probabilities of the sides at the ends.
    slope : ndarray, shape (3, >= n_gaps)
        On return the derivatives of the log-likelihood.
    """
    n = count.size
    leaving, coming, leaving_later = eta[0][:n], eta[1][:n], eta[2][:n]
    by_leaving, by_coming, by_leaving_later = slope[0][:n], slope[1][:n], slope[2][:n]
    for i in range(n):
        x, y, z, back = leaving[i], coming[i], leaving_later[i], comes_back[i]
        tx, ty, tz = exp_of_negative(-abs(x)), exp_of_negative(-abs(y)), exp_of_negative(-abs(z))
        # Of each, the probability of the likelier and the less likely of leaving and staying.
        sx, sy, sz = 1.0 / (1.0 + tx), 1.0 / (1.0 + ty), 1.0 / (1.0 + tz)
        lx, ly, lz = tx * sx, ty * sy, tz * sz
        leaves, stays = (sx, lx) if x >= 0 else (lx, sx)
        returns, remains = (sy, ly) if y >= 0 else (ly, sy)
        parts, keeps = (sz, lz) if z >= 0 else (lz, sz)
        if_left = back * returns + (1.0 - back) * remains
        if_stayed = back * keeps + (1.0 - back) * parts
        p[i] = leaves * if_left + stays * if_stayed
        scale, sign = count[i] / p[i], 2.0 * back - 1.0
        by_leaving[i] = scale * leaves * stays * (if_left - if_stayed)
        by_coming[i] = scale * sign * leaves * returns * remains
        by_leaving_later[i] = -scale * sign * stays * parts * keeps
    total = 0.0
    for i in range(n):
        total += count[i] * math.log(p[i])
    return total


@compiled()
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


@compiled()
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
    n_groups, n_cells, n_units, has_groups = integers[0], integers[1], integers[2], integers[3]
    n_rows, n_short, n_long = (integers[4], integers[5]), integers[6], integers[7]
    n_terms, at = slopes.shape[2], 8
    group_start, at = integers[at : at + n_groups + 1], at + n_groups + 1
    cell_start, at = integers[at : at + n_cells + 1], at + n_cells + 1
    cell_subject, at = integers[at : at + n_cells], at + n_cells
    row_start0, at = integers[at : at + n_units + 1], at + n_units + 1
    place0, at = integers[at : at + n_rows[0]], at + n_rows[0]
    row_start1, at = integers[at : at + n_units + 1], at + n_units + 1
    place1, at = integers[at : at + n_rows[1]], at + n_rows[1]
    short_start, at = integers[at : at + n_units + 1], at + n_units + 1
    short, at = integers[at : at + 5 * n_short].reshape((5, n_short)), at + 5 * n_short
    long_start, at = integers[at : at + n_units + 1], at + n_units + 1
    long = integers[at : at + 7 * n_long].reshape((7, n_long))
    features, at = doubles[: n_units * n_terms].reshape((n_units, n_terms)), n_units * n_terms
    count0, at = doubles[at : at + n_rows[0]], at + n_rows[0]
    switches0, at = doubles[at : at + n_rows[0]], at + n_rows[0]
    count1, at = doubles[at : at + n_rows[1]], at + n_rows[1]
    switches1, at = doubles[at : at + n_rows[1]], at + n_rows[1]
    start, at = doubles[at : at + 2 * n_cells].reshape((2, n_cells)), at + 2 * n_cells
    estimate, at = doubles[at : at + 2 * n_cells].reshape((2, n_cells)), at + 2 * n_cells
    comes_back, at = doubles[at : at + n_short], at + n_short
    short_count, long_count = doubles[at : at + n_short], doubles[at + n_short : at + n_short + n_long]

    most_rows, most_cells, most_short, longest = 1, 1, 1, 1
    for g in range(n_groups):
        first, last = cell_start[group_start[g]], cell_start[group_start[g + 1]]
        most_rows = max(most_rows, row_start0[last] - row_start0[first], row_start1[last] - row_start1[first])
        most_cells = max(most_cells, group_start[g + 1] - group_start[g])
        most_short = max(most_short, short_start[last] - short_start[first])
    for i in range(n_long):
        longest = max(longest, long[3, i])
    eta_room, slope_room = np.empty(most_rows), np.empty(most_rows)
    work, rho_room = np.empty((10, most_cells)), np.empty(most_cells)
    cells, branches, three = np.empty(most_cells + 1, np.int64), np.arange(most_cells + 1), np.zeros(3)
    level, level_gradient = np.empty((n_units, 2)), np.zeros((n_units, 2))
    layer_room, chain_room = np.empty((7, most_short)), np.empty((4, longest + 1, 2, _N_AGES))
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
                    of_terms = 0.0
                    for j in range(n_terms):
                        of_terms += features[u, j] * slopes[side, cell_subject[c], j]
                    level[u, side] = of_terms + estimate[side, c]
                    for i in range(row_start[u], row_start[u + 1]):
                        eta[i - first_row] = of_terms + own[place[i]]
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
        first, last = cell_start[first_cell], cell_start[last_cell]
        by_group[g] += _cross_short(
            (short_start[first], short_start[last]),
            table,
            level,
            (comes_back, short_count, short),
            table_gradient,
            level_gradient,
            layer_room,
        )
        by_group[g] += _cross_long(
            (long_start[first], long_start[last]),
            table,
            level,
            (long_count, long),
            table_gradient,
            level_gradient,
            chain_room,
        )
    for c in range(n_cells):
        for u in range(cell_start[c], cell_start[c + 1]):
            for side in range(2):
                for j in range(n_terms):
                    slope_gradient[side, cell_subject[c], j] += level_gradient[u, side] * features[u, j]


@compiled()
def _cross_short(gaps, table, level, data, table_gradient, level_gradient, room):  # type: ignore[no-untyped-def]
    """Log-likelihood of gaps of one layer, from the first to before the last; gradients are added to."""
    (first, last), (comes_back, count, places) = gaps, data
    n, flat_level, flat_table = last - first, level.reshape(level.size), table.reshape(table.size)
    by_level, by_table = level_gradient.reshape(level.size), table_gradient.reshape(table.size)
    at_start, across = places[0][first:last], places[1][first:last]
    leaving, coming, leaving_later = places[2][first:last], places[3][first:last], places[4][first:last]
    for i in range(n):
        room[0, i] = flat_level[at_start[i]] + flat_table[leaving[i]]
        room[1, i] = flat_level[across[i]] + flat_table[coming[i]]
        room[2, i] = flat_level[at_start[i]] + flat_table[leaving_later[i]]
    total = cross_layers(room[:3], comes_back[first:last], count[first:last], room[3], room[4:])
    for i in range(n):
        by_leaving, by_coming, by_leaving_later = room[4, i], room[5, i], room[6, i]
        by_table[leaving[i]] += by_leaving
        by_table[coming[i]] += by_coming
        by_table[leaving_later[i]] += by_leaving_later
        by_level[at_start[i]] += by_leaving + by_leaving_later
        by_level[across[i]] += by_coming
    return total


@compiled()
def _cross_long(gaps, table, level, data, table_gradient, level_gradient, room):  # type: ignore[no-untyped-def]
    """As `_cross_short`, of longer gaps."""
    (first, last), (count, ends), total = gaps, data, 0.0
    hazard, forward, backward, slope = room[0], room[1], room[2], room[3]
    for i in range(first, last):
        unit, subject, layer, length = ends[0, i], ends[1, i], ends[2, i], ends[3, i]
        age, side, end = ends[4, i], ends[5, i], ends[6, i]
        total += count[i] * cross_gap(
            table[:, subject], level[unit], layer, length, side, age, end, hazard, forward, backward, slope
        )
        for s in range(2):
            for t in range(length):
                for a in range(_N_AGES):
                    change = count[i] * slope[t, s, a]
                    table_gradient[s, subject, (layer + t) * _N_AGES + a] += change
                    level_gradient[unit, s] += change
    return total
