r"""The kernel of pairs: the Laplace approximation where every cell has two effects, with its exact gradient.

A trial of cell c (group and subject) is `other` with logit eta'_i + f_c, and if not, it is text with
logit eta_i + e_c. The pairs (e_c, f_c) are a tree of normal variables: (u, h) + (v_b, k_b) + (w_c, 0) with
covariances A, B (2 x 2 each) and C. With them at the mode of the joint density, the scores rho of the cells
there and W the curvatures, the marginal log-likelihood is

.. math:: \ell(e) - \tfrac12 \rho^\top e - \tfrac12 \log\det(I + \Sigma W), \qquad e = \Sigma \rho

as in `mfbayes.marginal.kernel`. Nothing is divided by a covariance, so that they may be singular.
"""

import math

import numpy as np

from mfbayes.compiled import REORDERED, compiled
from mfbayes.marginal.exponentials import exp_of_negative

N_COVARIANCES = 7
"""A11, A12, A22, B11, B12, B22, C."""

_MAX_STEPS = 60
_SETTLED = 1e-5  # a Newton step this small is the last, for it leaves an error of about its square
_HALVINGS = 12
_OTHER = 2.0
_RUN = 512  # (1 + exp(-x)) is at most 2, so a product of that many stays finite


@compiled(inline="always")
def _times(x, y):  # type: ignore[no-untyped-def]
    """Product of two 2 x 2 matrices, each a tuple by rows."""
    return (
        x[0] * y[0] + x[1] * y[2],
        x[0] * y[1] + x[1] * y[3],
        x[2] * y[0] + x[3] * y[2],
        x[2] * y[1] + x[3] * y[3],
    )


@compiled(inline="always")
def _invert_one_plus(x):  # type: ignore[no-untyped-def]
    """(I + X)^-1 and the determinant of I + X."""
    determinant = (1.0 + x[0]) * (1.0 + x[3]) - x[1] * x[2]
    return (
        (1.0 + x[3]) / determinant,
        -x[1] / determinant,
        -x[2] / determinant,
        (1.0 + x[0]) / determinant,
    ), determinant


@compiled(inline="always")
def _is_hit(outcome, j):  # type: ignore[no-untyped-def]
    """Whether the trial is text (first effect) or `other` (second effect), as a number."""
    return outcome if j == 0 else max(outcome - 1.0, 0.0)


@compiled(fastmath=REORDERED)
def _read_cell(outcome, eta, effect, j, p):  # type: ignore[no-untyped-def]
    """Log-likelihood of one cell and its derivatives in one effect; probabilities in `p`.

    Without branches, so that it uses vector registers; trials that are `other` weigh nothing for j = 0.
    """
    likelihood = s = w = k = 0.0
    for start in range(0, eta.size, _RUN):
        x, y, out = eta[start : start + _RUN], outcome[start : start + _RUN], p[start : start + _RUN]
        product = 1.0
        for i in range(x.size):
            other = max(y[i] - 1.0, 0.0)
            counts = 1.0 if j == 1 else 1.0 - other
            hit = other if j == 1 else y[i]
            z = x[i] + effect
            t = exp_of_negative(-abs(z))
            q = 1.0 / (1.0 + t)
            q = q if z >= 0 else t * q
            # A logarithm of products, for it costs as much as the exponential.
            product *= 1.0 + counts * t
            likelihood += counts * (hit * z - max(z, 0.0))
            v = counts * q * (1.0 - q)
            s += counts * (hit - q)
            w += v
            k += v * (1.0 - 2.0 * q)
            out[i] = q
        likelihood -= math.log(product)
    return likelihood, s, w, k


@compiled()
def _read_cells(first, last, cell_start, outcome, eta, effect, score, weight, skew, p):  # type: ignore[no-untyped-def]
    """Log-likelihood of the cells from `first` to `last`; its derivatives in their effects; probabilities."""
    likelihood = 0.0
    for c in range(first, last):
        one, end = cell_start[c], cell_start[c + 1]
        for j in range(2):
            value, score[j, c], weight[j, c], skew[j, c] = _read_cell(
                outcome[one:end], eta[j, one:end], effect[j, c], j, p[j, one:end]
            )
            likelihood += value
    return likelihood


@compiled()
def _spread_out(first, last, branch_start, A, B, C, rho, effect):  # type: ignore[no-untyped-def]
    """Set effect = Sigma rho for one group."""
    one, end = branch_start[first], branch_start[last]
    whole0, whole1 = rho[0, one:end].sum(), rho[1, one:end].sum()
    u0, u1 = A[0] * whole0 + A[1] * whole1, A[2] * whole0 + A[3] * whole1
    for b in range(first, last):
        own0 = rho[0, branch_start[b] : branch_start[b + 1]].sum()
        own1 = rho[1, branch_start[b] : branch_start[b + 1]].sum()
        for c in range(branch_start[b], branch_start[b + 1]):
            effect[0, c] = u0 + B[0] * own0 + B[1] * own1 + C * rho[0, c]
            effect[1, c] = u1 + B[2] * own0 + B[3] * own1


@compiled()
def _factor(first, last, branch_start, weight, A, B, C, solved, told):  # type: ignore[no-untyped-def]
    """Go up the tree: what each branch tells, with its own effect integrated out, and log det(I + Sigma W)."""
    log_determinant = 0.0
    total = (0.0, 0.0, 0.0, 0.0)
    for b in range(first, last):
        q0 = q1 = 0.0
        for c in range(branch_start[b], branch_start[b + 1]):
            narrowing = 1.0 + weight[0, c] * C
            log_determinant += math.log(narrowing)
            q0 += weight[0, c] / narrowing
            q1 += weight[1, c]
        own = (q0, 0.0, 0.0, q1)
        inverse, determinant = _invert_one_plus(_times(own, B))
        log_determinant += math.log(determinant)
        known = _times(inverse, own)
        for i in range(4):
            solved[b, i], told[b, i] = inverse[i], known[i]
        total = (total[0] + known[0], total[1] + known[1], total[2] + known[2], total[3] + known[3])
    inverse, determinant = _invert_one_plus(_times(total, A))
    return log_determinant + math.log(determinant), inverse, total


@compiled()
def _solve(  # type: ignore[no-untyped-def]
    first, last, branch_start, weight, A, B, C, solved, told, of_group, wanted, rho, effect, by_branch
):
    """Find rho = (I + W Sigma)^-1 wanted and effect = Sigma rho, up the tree and down; the sum of rho."""
    sum0 = sum1 = 0.0
    for b in range(first, last):
        p0 = p1 = 0.0
        for c in range(branch_start[b], branch_start[b + 1]):
            p0 += wanted[0, c] / (1.0 + weight[0, c] * C)
            p1 += wanted[1, c]
        by_branch[0, b] = solved[b, 0] * p0 + solved[b, 1] * p1
        by_branch[1, b] = solved[b, 2] * p0 + solved[b, 3] * p1
        sum0 += by_branch[0, b]
        sum1 += by_branch[1, b]
    whole0 = of_group[0] * sum0 + of_group[1] * sum1
    whole1 = of_group[2] * sum0 + of_group[3] * sum1
    u0, u1 = A[0] * whole0 + A[1] * whole1, A[2] * whole0 + A[3] * whole1
    for b in range(first, last):
        r0 = by_branch[0, b] - told[b, 0] * u0 - told[b, 1] * u1
        r1 = by_branch[1, b] - told[b, 2] * u0 - told[b, 3] * u1
        by_branch[0, b], by_branch[1, b] = r0, r1
        t0, t1 = u0 + B[0] * r0 + B[1] * r1, u1 + B[2] * r0 + B[3] * r1
        for c in range(branch_start[b], branch_start[b + 1]):
            rho[0, c] = (wanted[0, c] - weight[0, c] * t0) / (1.0 + weight[0, c] * C)
            rho[1, c] = wanted[1, c] - weight[1, c] * t1
            effect[0, c], effect[1, c] = t0 + C * rho[0, c], t1
    return whole0, whole1


@compiled(inline="always")
def _add_covariance(gradient, at, r0, r1, g0, g1, known):  # type: ignore[no-untyped-def]
    """Add the derivative in a symmetric covariance whose sums of rho, of its moves and information these are."""
    gradient[at] += 0.5 * (r0 * r0 - known[0]) + g0 * r0
    gradient[at + 1] += r0 * r1 + g0 * r1 + g1 * r0 - 0.5 * (known[1] + known[2])
    gradient[at + 2] += 0.5 * (r1 * r1 - known[3]) + g1 * r1


@compiled()
def integrate_pairs(  # type: ignore[no-untyped-def]
    coefficients, features, outcome, cell_subject, cell_start, branch_start, group_start, covariances, start,
    gradient, covariance_gradient, scores,
):  # fmt: skip
    """Marginal log-likelihood of all groups, whose gradients are added; NaN where a mode is not found.

    Parameters
    ----------
    coefficients, gradient : array, shape (n_subjects, n_features)
        The first two are of text against image, the others of `other`.
    features : array, shape (n_features, n_trials)
        In the order of cells, as `outcome`: 0 image, 1 text, 2 other.
    covariances, covariance_gradient : array, shape (7,)
        A11, A12, A22, B11, B12, B22, C.
    start, scores : array, shape (2, n_cells)
        Scores of the cells from which modes are sought, and those at the modes.
    """
    n_trials, n_cells, n_branches = outcome.size, cell_subject.size, branch_start.size - 1
    A = (covariances[0], covariances[1], covariances[1], covariances[2])
    B = (covariances[3], covariances[4], covariances[4], covariances[5])
    C = covariances[6]
    eta, p = np.zeros((2, n_trials)), np.zeros((2, n_trials))
    for c in range(n_cells):
        for k in range(features.shape[0]):
            slope, j = coefficients[cell_subject[c], k], int(k > 1)
            for i in range(cell_start[c], cell_start[c + 1]):
                eta[j, i] += slope * features[k, i]
    effect, rho, moved, score, weight, skew, wanted = np.zeros((7, 2, n_cells))
    old_effect, old_rho = np.zeros((2, n_cells)), np.zeros((2, n_cells))
    sums, moved_sums = np.zeros((2, n_branches)), np.zeros((2, n_branches))
    solved, told = np.zeros((n_branches, 4)), np.zeros((n_branches, 4))
    value = 0.0
    for g in range(group_start.size - 1):
        first, last = group_start[g], group_start[g + 1]
        one, end = branch_start[first], branch_start[last]
        rho[:, one:end] = start[:, one:end]
        _spread_out(first, last, branch_start, A, B, C, rho, effect)
        best = _read_cells(one, end, cell_start, outcome, eta, effect, score, weight, skew, p)
        best -= 0.5 * (rho[:, one:end] * effect[:, one:end]).sum()
        found = False
        for _ in range(_MAX_STEPS):
            _, of_group, _ = _factor(first, last, branch_start, weight, A, B, C, solved, told)
            for j in range(2):
                for c in range(one, end):
                    old_effect[j, c], old_rho[j, c] = effect[j, c], rho[j, c]
                    wanted[j, c] = weight[j, c] * effect[j, c] + score[j, c]
            _solve(
                first, last, branch_start, weight, A, B, C, solved, told, of_group, wanted, rho, effect, sums
            )  # fmt: skip
            step = reached = 0.0
            for j in range(2):
                for c in range(one, end):
                    step = max(step, abs(effect[j, c] - old_effect[j, c]))
            for _ in range(_HALVINGS):
                likelihood = _read_cells(one, end, cell_start, outcome, eta, effect, score, weight, skew, p)
                reached = likelihood
                for j in range(2):
                    for c in range(one, end):
                        reached -= 0.5 * rho[j, c] * effect[j, c]
                if reached >= best - 1e-9 or not step > _SETTLED:
                    break
                step *= 0.5
                for j in range(2):
                    for c in range(one, end):
                        effect[j, c] = 0.5 * (effect[j, c] + old_effect[j, c])
                        rho[j, c] = 0.5 * (rho[j, c] + old_rho[j, c])
            best = reached
            if step <= _SETTLED:
                found = True
                break
        if not found:
            return np.nan
        log_determinant, of_group, total = _factor(first, last, branch_start, weight, A, B, C, solved, told)
        value += best - 0.5 * log_determinant

        group_variance = _times(A, of_group)
        for b in range(first, last):
            inverse = (solved[b, 0], solved[b, 1], solved[b, 2], solved[b, 3])
            known = (told[b, 0], told[b, 1], told[b, 2], told[b, 3])
            own = _times(B, inverse)
            pull = _times(B, known)
            kept = (1.0 - pull[0], -pull[1], -pull[2], 1.0 - pull[3])
            above = _times(_times(kept, group_variance), (kept[0], kept[2], kept[1], kept[3]))
            for c in range(branch_start[b], branch_start[b + 1]):
                narrowing = 1.0 + weight[0, c] * C
                variance0 = C / narrowing + (own[0] + above[0]) / (narrowing * narrowing)
                variance1 = own[3] + above[3]
                wanted[0, c], wanted[1, c] = -0.5 * variance0 * skew[0, c], -0.5 * variance1 * skew[1, c]
                # Kept for below, where the scores are not needed any more.
                score[0, c], score[1, c] = variance0, variance1
        # At the mode the scores are rho, whose sums are those of the last solve.
        r0 = r1 = 0.0
        for b in range(first, last):
            sums[0, b] = sums[1, b] = 0.0
            for c in range(branch_start[b], branch_start[b + 1]):
                sums[0, b] += rho[0, c]
                sums[1, b] += rho[1, c]
            r0 += sums[0, b]
            r1 += sums[1, b]
        g0, g1 = _solve(
            first, last, branch_start, weight, A, B, C, solved, told, of_group, wanted, old_rho, moved, moved_sums
        )
        _add_covariance(covariance_gradient, 0, r0, r1, g0, g1, _times(of_group, total))
        for b in range(first, last):
            known = (told[b, 0], told[b, 1], told[b, 2], told[b, 3])
            less = _times(_times(known, group_variance), known)
            rest = (known[0] - less[0], known[1] - less[1], known[2] - less[2], known[3] - less[3])
            _add_covariance(
                covariance_gradient, 3, sums[0, b], sums[1, b], moved_sums[0, b], moved_sums[1, b], rest
            )  # fmt: skip
            for c in range(branch_start[b], branch_start[b + 1]):
                w, r = weight[0, c], rho[0, c]
                covariance_gradient[6] += 0.5 * (r * r - w + w * w * score[0, c]) + old_rho[0, c] * r
                for i in range(cell_start[c], cell_start[c + 1]):
                    for j in range(2):
                        if j == 0 and outcome[i] == _OTHER:
                            continue
                        q = p[j, i]
                        v = q * (1.0 - q)
                        slope = _is_hit(outcome[i], j) - q - v * (0.5 * score[j, c] * (1.0 - 2.0 * q) + moved[j, c])
                        for k in range(2 if j == 0 else features.shape[0] - 2):
                            at = k + 2 * j
                            gradient[cell_subject[c], at] += slope * features[at, i]
    scores[:] = rho
    return value
