r"""The kernel: the Laplace approximation of one group's marginal likelihood with its exact gradient.

The linear predictor of trial i in cell c (group and subject) is eta_i + e_c, where the effects of the
cells of a group are a tree of normal variables: e_c = u + v_b + w_c, shared by the group, by a branch
(a model's cells) and by the cell alone. With e at the mode of the joint density and W the cells'
curvature, the marginal log-likelihood is

.. math:: \ell(e) - \tfrac12 \rho^\top e - \tfrac12 \log\det(I + \Sigma W), \qquad e = \Sigma \rho

where at the mode rho is the score of the cells. Written in rho nothing is divided by a standard
deviation, so that zero is an ordinary value of each of them. Every solve goes up and down the tree once.

References
----------
Kristensen et al., "TMB: Automatic Differentiation and Laplace Approximation", Journal of Statistical
Software 70(5), 2016, doi:10.18637/jss.v070.i05, for the gradient through the mode.
"""

import math
from typing import Any

import numba as nb
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_LOG2_E = 1.4426950408889634
_LN_2 = 0.6931471805599453
_SHIFTER = 1.5 * 2.0**52  # adding it leaves an integer in the low bits of a double
_MAX_STEPS = 60
_CLOSE = 1e-2  # from a Newton step this small on, Taylor's series takes the place of exponentials
_SETTLED = 1e-5  # a Newton step this small is the last, for it leaves an error of about its square
_LARGE = 1e100
_RUN = 512  # (1 + exp(-x)) is at most 2, so a product of that many stays finite
# Sums may be reordered, so that they use vector registers; infinities and NaN keep their meaning.
REORDERED = {"contract", "reassoc", "nsz", "arcp"}


@intrinsic  # type: ignore[untyped-decorator]
def read_bits(context: Any, value: Any) -> Any:
    """The bits of a double as an integer."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic  # type: ignore[untyped-decorator]
def as_double(context: Any, value: Any) -> Any:
    """The double that an integer's bits are."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=REORDERED, inline="always")
def exp_of_negative(x):  # type: ignore[no-untyped-def]
    """exp(x) for x <= 0 within 4e-15, in operations that vectorise and wait for each other little."""
    x = max(x, -700.0)
    n = np.floor(x * _LOG2_E + 0.5)
    r = x - n * _LN_2
    r2 = r * r
    r4 = r2 * r2
    low = (1.0 + r) + r2 * (0.5 + r * (1 / 6.0))
    middle = (1 / 24.0 + r * (1 / 120.0)) + r2 * (1 / 720.0 + r * (1 / 5040.0))
    high = (1 / 40320.0 + r * (1 / 362880.0)) + r2 * (1 / 3628800.0 + r * (1 / 39916800.0))
    p = low + r4 * (middle + r4 * (high + r4 * (1 / 479001600.0)))
    return p * as_double((read_bits(n + _SHIFTER) + 1023) << 52)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=REORDERED)
def _respond(eta, is_text, cells, effect, p_text):  # type: ignore[no-untyped-def]
    """Log-likelihood of a group's trials; P(text) of each in `p_text`.

    The exponentials of a whole group are taken in one loop, long enough for vector registers.
    """
    for c in range(cells.size - 1):
        shift = effect[c]
        own, out = eta[cells[c] : cells[c + 1]], p_text[cells[c] : cells[c + 1]]
        for i in range(own.size):
            out[i] = own[i] + shift
    likelihood = 0.0
    for first in range(0, eta.size, _RUN):
        x, hits = p_text[first : first + _RUN], is_text[first : first + _RUN]
        product = 1.0
        for i in range(x.size):
            t = exp_of_negative(-abs(x[i]))
            s = 1.0 / (1.0 + t)
            product *= 1.0 + t
            likelihood += hits[i] * x[i] - max(x[i], 0.0)
            x[i] = s if x[i] >= 0 else t * s
        likelihood -= math.log(product)
    return likelihood


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=REORDERED)
def _differentiate(p_text, is_text, cells, score, weight):  # type: ignore[no-untyped-def]
    """Derivative of each cell's log-likelihood in its effect, and minus the second derivative."""
    for c in range(cells.size - 1):
        p, hits = p_text[cells[c] : cells[c + 1]], is_text[cells[c] : cells[c + 1]]
        first, second = 0.0, 0.0
        for i in range(p.size):
            first += hits[i] - p[i]
            second += p[i] * (1.0 - p[i])
        score[c], weight[c] = first, second


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=REORDERED)
def _move(p_text, is_text, cells, step, score, weight, skew):  # type: ignore[no-untyped-def]
    """Take short steps in the effects by Taylor's series, without an exponential; the gain in log-likelihood.

    P(text), its sums and the derivative of each cell's weight follow; a step of delta leaves errors in
    P(text) below delta^4 / 190.
    """
    gain = 0.0
    for c in range(cells.size - 1):
        p, hits, delta = p_text[cells[c] : cells[c + 1]], is_text[cells[c] : cells[c + 1]], step[c]
        first, second, third, before, fourth = 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(p.size):
            w = p[i] * (1.0 - p[i])
            k = w * (1.0 - 2.0 * p[i])
            j = w * (1.0 - 6.0 * w)
            q = p[i] + delta * (w + delta * (0.5 * k + delta * (1 / 6.0) * j))
            p[i] = q
            before += k
            fourth += j
            w = q * (1.0 - q)
            first += hits[i] - q
            second += w
            third += w * (1.0 - 2.0 * q)
        gain += delta * (score[c] - delta * (0.5 * weight[c] + delta * (before + 0.25 * delta * fourth) / 6.0))
        score[c], weight[c], skew[c] = first, second, third
    return gain


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=REORDERED)
def _differentiate_trials(whole_p, whole_hits, first, last, half_variance, pull):  # type: ignore[no-untyped-def]
    """Turn P(text) of one cell's trials into the derivative of the marginal in their eta."""
    p, hits = whole_p[first:last], whole_hits[first:last]
    for i in range(p.size):
        p[i] = hits[i] - p[i] - p[i] * (1.0 - p[i]) * (half_variance * (1.0 - 2.0 * p[i]) + pull)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _smooth(target, weight, branches, variances, out, work):  # type: ignore[no-untyped-def]
    """Solve (Sigma^-1 + W) out = target up and down the tree.

    Returns the group's effect, its shrinkage 1 / (1 + variance x information), its information and
    the log-determinant of I + Sigma W; rows 6 to 8 of `work` keep the shrinkages of cells and branches
    and the branches' information.
    """
    of_group, of_branch, of_cell = variances
    narrow_cell, narrow_branch, told_branch, drawn_branch = work[6], work[7], work[8], work[9]
    information, pull, log_determinant, product = 0.0, 0.0, 0.0, 1.0
    for b in range(branches.size - 1):
        told, drawn = 0.0, 0.0
        for c in range(branches[b] - branches[0], branches[b + 1] - branches[0]):
            narrow = 1.0
            if of_cell > 0:
                narrowing = 1.0 + of_cell * weight[c]
                narrow = 1.0 / narrowing
                product *= narrowing
            narrow_cell[c] = narrow
            told += weight[c] * narrow
            drawn += target[c] * narrow
        narrowing = 1.0 + of_branch * told
        narrow = 1.0 / narrowing
        product *= narrowing
        # One logarithm for many factors, before their product gets out of range.
        if product > _LARGE:
            log_determinant += math.log(product)
            product = 1.0
        narrow_branch[b] = narrow
        told_branch[b] = told
        drawn_branch[b] = drawn
        information += told * narrow
        pull += drawn * narrow
    narrowing = 1.0 + of_group * information
    log_determinant += math.log(product) + math.log(narrowing)
    narrow_group = 1.0 / narrowing
    effect = of_group * pull * narrow_group
    for b in range(branches.size - 1):
        level = (effect + of_branch * drawn_branch[b]) * narrow_branch[b]
        for c in range(branches[b] - branches[0], branches[b + 1] - branches[0]):
            out[c] = (level + of_cell * target[c]) * narrow_cell[c]
    return effect, narrow_group, information, log_determinant


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _spread(rho, branches, variances, out):  # type: ignore[no-untyped-def]
    """Sigma rho."""
    of_group, of_branch, of_cell = variances
    whole = 0.0
    for c in range(branches[-1] - branches[0]):
        whole += rho[c]
    for b in range(branches.size - 1):
        part = 0.0
        for c in range(branches[b] - branches[0], branches[b + 1] - branches[0]):
            part += rho[c]
        for c in range(branches[b] - branches[0], branches[b + 1] - branches[0]):
            out[c] = of_group * whole + of_branch * part + of_cell * rho[c]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _step(branches, variances, rho, work):  # type: ignore[no-untyped-def]
    """Make a Newton step of `rho` and of the effects `work[0]`, left in `work[2]` and `work[1]`; its length."""
    effect, step, rho_step, score, weight, target = work[0], work[1], work[2], work[3], work[4], work[5]
    n_cells = branches[-1] - branches[0]
    for c in range(n_cells):
        target[c] = score[c] + weight[c] * effect[c]
    _smooth(target, weight, branches, variances, step, work)
    longest = 0.0
    for c in range(n_cells):
        rho_step[c] = score[c] + weight[c] * (effect[c] - step[c]) - rho[c]
        step[c] -= effect[c]
        longest = max(longest, abs(step[c]))
        effect[c] += step[c]
        rho[c] += rho_step[c]
    return longest


@nb.njit(cache=True, nogil=True, error_model="numpy")
def find_mode(eta, is_text, cells, branches, variances, rho, work, p_text):  # type: ignore[no-untyped-def]
    """Move `rho` and the effects `work[0]` to the mode by damped Newton steps; the log-likelihood there.

    The joint density is strictly log-concave in the effects, so there is one mode, and a step that
    does not climb is halved until it does. The last steps are short and need no exponential.
    At the mode `work[2]`, `work[3]` and `work[4]` hold the derivative of the cells' weights, their
    scores and their weights, and `p_text` P(text). The value is NaN where no mode is found.
    """
    n_cells = branches[-1] - branches[0]
    effect, step, rho_step, score, weight = work[0], work[1], work[2], work[3], work[4]
    _spread(rho, branches, variances, effect)
    best, size = -np.inf, 0.0
    for _ in range(_MAX_STEPS):
        likelihood = _respond(eta, is_text, cells, effect, p_text)
        height = likelihood
        for c in range(n_cells):
            height -= 0.5 * rho[c] * effect[c]
        if not height >= best - 1e-10 * (1.0 + abs(best)):
            if size < 1e-8 or math.isnan(height):
                return np.nan
            size *= 0.5
            for c in range(n_cells):
                effect[c] -= size * step[c]
                rho[c] -= size * rho_step[c]
            continue
        best, size = height, 1.0
        _differentiate(p_text, is_text, cells, score, weight)
        length = _step(branches, variances, rho, work)
        if length < _CLOSE:
            break
    else:
        return np.nan
    for _ in range(_MAX_STEPS):
        likelihood += _move(p_text, is_text, cells, step, score, weight, rho_step)
        if length < _SETTLED:
            return likelihood
        length = _step(branches, variances, rho, work)
    return np.nan


@nb.njit(cache=True, nogil=True, error_model="numpy")
def integrate_group(eta, is_text, cells, branches, scales, rho, work, gradient, scale_gradient):  # type: ignore[no-untyped-def]
    """Marginal log-likelihood of one group, NaN where its mode is not found.

    Parameters
    ----------
    eta, is_text, gradient : ndarray, shape (n_trials_of_group,)
        Linear predictors without effects, responses, and on return the derivative in each eta.
    cells : ndarray of int, shape (n_cells + 1,)
        First trial of each cell, counted from the group's first.
    branches : ndarray of int, shape (n_branches + 1,)
        First cell of each branch.
    scales : tuple of three float
        Standard deviations of u, v and w.
    rho : ndarray, shape (n_cells,)
        Where Newton's method starts; on return the scores of the cells at the mode.
    work : ndarray, shape (10, >= n_cells)
        Room to work in; row 0 holds the effects on return, row 1 their variances given the parameters.
    scale_gradient : ndarray, shape (3,)
        Derivatives in the standard deviations are added here.
    """
    variances = (scales[0] ** 2, scales[1] ** 2, scales[2] ** 2)
    of_group, of_branch, of_cell = variances
    n_cells = branches[-1] - branches[0]
    total = find_mode(eta, is_text, cells, branches, variances, rho, work, gradient)
    if math.isnan(total):
        return np.nan
    effect, variance, skew, score, weight, target = work[0], work[1], work[2], work[3], work[4], work[5]
    narrow_cell, narrow_branch, told_branch = work[6], work[7], work[8]
    for c in range(n_cells):
        total -= 0.5 * rho[c] * effect[c]
    # How the log-determinant pulls on the effects: -1/2 variance x derivative of the weight.
    _, narrow_group, information, log_determinant = _smooth(score, weight, branches, variances, target, work)
    group_variance = of_group * narrow_group
    for b in range(branches.size - 1):
        branch_variance = (of_branch + narrow_branch[b] * group_variance) * narrow_branch[b]
        for c in range(branches[b] - branches[0], branches[b + 1] - branches[0]):
            variance[c] = (of_cell + narrow_cell[c] * branch_variance) * narrow_cell[c]
            skew[c] *= -0.5 * variance[c]
    _smooth(skew, weight, branches, variances, target, work)

    whole_score, whole_pull = 0.0, 0.0
    for b in range(branches.size - 1):
        part_score, part_pull = 0.0, 0.0
        for c in range(branches[b] - branches[0], branches[b + 1] - branches[0]):
            pull = skew[c] - weight[c] * target[c]
            part_score += score[c]
            part_pull += pull
            if of_cell > 0:
                known = weight[c] - weight[c] ** 2 * variance[c]
                scale_gradient[2] += scales[2] * (score[c] * (score[c] + 2.0 * pull) - known)
            _differentiate_trials(gradient, is_text, cells[c], cells[c + 1], 0.5 * variance[c], target[c])
        told = told_branch[b] * narrow_branch[b]
        known = told - told**2 * group_variance
        scale_gradient[1] += scales[1] * (part_score * (part_score + 2.0 * part_pull) - known)
        whole_score += part_score
        whole_pull += part_pull
    known = information * narrow_group
    scale_gradient[0] += scales[0] * (whole_score * (whole_score + 2.0 * whole_pull) - known)
    return total - 0.5 * log_determinant


@nb.njit(cache=True, nogil=True, error_model="numpy")
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


@nb.njit(cache=True, nogil=True, error_model="numpy")
def integrate_points(  # type: ignore[no-untyped-def]
    coefficients, features, is_text, cell_subject, cell_start, branch_start, group_start, scales, rho, values
):
    """Marginal log-likelihood of all groups at many points, without its gradients.

    Parameters
    ----------
    coefficients : ndarray, shape (n_points, n_subjects, n_features)
    scales : ndarray, shape (n_points, 3)
    values : ndarray, shape (n_points,)
        On return the log-likelihoods.
    """
    n_groups, nothing = group_start.size - 1, np.empty(0)
    by_group, gradient, scale_gradient = np.empty(n_groups), np.zeros(coefficients.shape[1:]), np.zeros(3)
    for i in range(values.size):
        integrate_groups(
            0,
            n_groups,
            coefficients[i],
            features,
            nothing,
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
            by_group,
        )
        values[i] = by_group.sum()


@nb.njit(cache=True, nogil=True, error_model="numpy")
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


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=REORDERED)
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


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath=REORDERED)
def _dot(slope, feature, first, last, start):  # type: ignore[no-untyped-def]
    own, other = slope[first:last], feature[start + first : start + last]
    total = 0.0
    for i in range(own.size):
        total += own[i] * other[i]
    return total
