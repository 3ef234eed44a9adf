"""Leave-one-group-out for hazards: how well they foretell a group's switching from all the others.

References
----------
Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto Smoothed Importance Sampling", Journal of Machine
Learning Research 25(72), 2024, arXiv:1507.02646.
Paananen, Piironen, Buerkner and Vehtari, "Implicitly adaptive importance sampling", Statistics and Computing 31(2),
2021, doi:10.1007/s11222-020-09982-2, for moving draws that weights cannot carry far enough.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.special import logsumexp

from mfbayes.switching.fit import SwitchingFit
from mfbayes.switching.layout import take_groups
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.pilot import Estimates, estimate_roughly
from mfbayes.switching.structure import Structure

type Floats = NDArray[np.float64]

MAX_K_HAT = 0.7
_N_DRAWS = 400
_CLOSE = 1e-3
_JITTER = 1e-10


class LeftOut(NamedTuple):
    """Log predictive density of each group from all the others.

    Attributes
    ----------
    elpd : ndarray, shape (n_groups,)
    k_hat : ndarray, shape (n_groups,)
        Shape of the importance weights' tail; above .7 they were not used.
    """

    elpd: Floats
    k_hat: Floats


class _Draws(NamedTuple):
    """Draws of the hazards' parameters and of the spreads, a row a draw."""

    hazards: Floats
    spread: Floats


def leave_groups_out(fit: SwitchingFit, *, rng: np.random.Generator, n_draws: int = _N_DRAWS) -> LeftOut:
    """Weigh draws so that they stand for a fit without the group; where they cannot, move them.

    Weights are Pareto-smoothed importance sampling. Where their k-hat exceeds .7, hazards and spreads are estimated
    roughly with the group and without it, and the draws are moved, turned and stretched as these estimates and their
    covariances differ.

    Parameters
    ----------
    fit : SwitchingFit
        Of all groups, with their effects.
    rng : numpy.random.Generator
        Source of randomness.
    n_draws : int
        Draws to weigh.
    """
    draws = _pick(fit, n_draws, rng=rng)
    whole = SwitchingLikelihood(fit.layout, effects=fit.pilot.effects, scores=fit.pilot.scores)
    by_draw = _evaluate(whole, fit.structure, draws).T
    log_weights, k_hat = array_stats.psislw(by_draw)  # type: ignore[no-untyped-call]
    elpd = logsumexp(log_weights + by_draw, axis=1)
    bad = np.flatnonzero(~(k_hat <= MAX_K_HAT))
    if bad.size:
        settled = estimate_roughly(fit.structure, start=fit.pilot, close=_CLOSE)
        for group in bad:
            elpd[group] = _foretell(fit, settled, int(group), draws)
    return LeftOut(elpd, k_hat)


def _foretell(fit: SwitchingFit, settled: Estimates, group: int, draws: _Draws) -> float:
    """Log predictive density of a group from draws moved to where they would be without it."""
    only = np.arange(len(fit.layout.groups)) == group
    own = np.repeat(only, np.diff(fit.layout.group_start))
    rest = replace(fit.structure, layout=take_groups(fit.layout, ~only))
    without = estimate_roughly(rest, start=replace(settled, effects=settled.effects[:, ~own]), close=_CLOSE)
    n_data = fit.structure.n_data
    centres = [each.parameters[:n_data] for each in (settled, without)]
    before, after = (_factor(each, fit.structure) for each in (settled, without))
    stretch = solve_triangular(before, after.T, trans="T", lower=True).T
    moved = draws.hazards.copy()
    moved[:, :n_data] = centres[1] + (draws.hazards[:, :n_data] - centres[0]) @ stretch.T
    spread = draws.spread * (without.spread / settled.spread)
    pilot = fit.pilot
    alone = SwitchingLikelihood(take_groups(fit.layout, only), effects=pilot.effects[:, own], scores=pilot.scores[:, own])
    by_draw = _evaluate(alone, fit.structure, _Draws(moved, spread))[:, 0]
    return float(logsumexp(by_draw) - np.log(by_draw.size))


def _factor(estimates: Estimates, structure: Structure) -> Floats:
    """Cholesky factor of the covariance of the parameters that pairs depend on."""
    to_data = structure.map[: structure.n_data]
    covariance = to_data @ estimates.covariance @ to_data.T
    factor: Floats = cholesky(covariance + _JITTER * np.eye(len(covariance)), lower=True)
    return factor


def _pick(fit: SwitchingFit, n_draws: int, *, rng: np.random.Generator) -> _Draws:
    posterior = fit.sample.posterior.stack(draw_of=("chain", "draw"))
    hazards = posterior["hazards"].transpose("draw_of", "parameter").to_numpy()
    spread = posterior["spread"].transpose("draw_of", "scale").to_numpy()
    picked = rng.choice(len(spread), size=min(n_draws, len(spread)), replace=False)
    return _Draws(hazards[picked], spread[picked])


def _evaluate(likelihood: SwitchingLikelihood, structure: Structure, draws: _Draws) -> Floats:
    """Marginal log-likelihood of every group at draws, shape (n_draws, n_groups)."""
    rows = [
        likelihood.evaluate(*structure.tabulate(hazards), structure.scales_of_groups(spread)).by_group
        for hazards, spread in zip(draws.hazards, draws.spread, strict=True)
    ]
    return np.stack(rows)
