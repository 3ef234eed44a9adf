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

import numpy as np
from numpy.typing import NDArray

from mfbayes.compiled import REORDERED, compiled
from mfbayes.marginal.exponentials import exp_of_negative

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_MAX_STEPS = 60
_CLOSE = 1e-2  # from a Newton step this small on, Taylor's series takes the place of exponentials
_SETTLED = 1e-5  # a Newton step this small is the last, for it leaves an error of about its square
_LARGE = 1e100
_RUN = 512  # (1 + exp(-x)) is at most 2, so a product of that many stays finite


@compiled(fastmath=REORDERED)
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


@compiled(fastmath=REORDERED)
def _differentiate(p_text, is_text, cells, score, weight):  # type: ignore[no-untyped-def]
    """Derivative of each cell's log-likelihood in its effect, and minus the second derivative."""
    for c in range(cells.size - 1):
        p, hits = p_text[cells[c] : cells[c + 1]], is_text[cells[c] : cells[c + 1]]
        first, second = 0.0, 0.0
        for i in range(p.size):
            first += hits[i] - p[i]
            second += p[i] * (1.0 - p[i])
        score[c], weight[c] = first, second


@compiled(fastmath=REORDERED)
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


@compiled(fastmath=REORDERED)
def _differentiate_trials(whole_p, whole_hits, first, last, half_variance, pull):  # type: ignore[no-untyped-def]
    """Turn P(text) of one cell's trials into the derivative of the marginal in their eta."""
    p, hits = whole_p[first:last], whole_hits[first:last]
    for i in range(p.size):
        p[i] = hits[i] - p[i] - p[i] * (1.0 - p[i]) * (half_variance * (1.0 - 2.0 * p[i]) + pull)


@compiled()
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


@compiled()
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


@compiled()
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


@compiled()
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


@compiled()
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
