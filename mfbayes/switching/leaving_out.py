"""Leave-one-group-out for hazards: how well they foretell a group's switching from all the others.

References
----------
Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto Smoothed Importance Sampling", Journal of Machine
Learning Research 25(72), 2024, arXiv:1507.02646.
Meng and Wong, "Simulating ratios of normalizing constants via a simple identity", Statistica Sinica 6, 1996.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from numpy.typing import NDArray
from scipy.special import logsumexp

from mfbayes.convergence import CHAINS
from mfbayes.sampling import Effort, sample
from mfbayes.switching.fit import EFFORTS, SwitchingFit
from mfbayes.switching.layout import take_groups
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.model import GATED, switching_model

type Floats = NDArray[np.float64]

MAX_K_HAT = 0.7
MAX_ERROR = 0.2  # nats
_ROUNDS, _SETTLED = 1000, 1e-8


class LeftOut(NamedTuple):
    """Log predictive density of each group from all the others.

    Attributes
    ----------
    elpd : ndarray, shape (n_groups,)
        In nats.
    k_hat : ndarray, shape (n_groups,)
        Shape of the importance weights' tail.
    limit : float
        Above which k-hat weights cannot be trusted: .7, less with few draws.
    error : ndarray, shape (n_groups,)
        Monte Carlo error of densities from a fit without the group, in nats; NaN where there is no such fit.
    """

    elpd: Floats
    k_hat: Floats
    limit: float
    error: Floats

    @property
    def refitted(self) -> NDArray[np.bool_]:
        """Whether the density of each group is that of a fit without it."""
        return ~np.isnan(self.error)

    @property
    def is_exact(self) -> NDArray[np.bool_]:
        """Whether the weights of each group can be trusted, or a fit without it knows its density within .2 nats."""
        told = np.where(self.refitted, self.error <= MAX_ERROR, self.k_hat <= self.limit)
        exact: NDArray[np.bool_] = told & np.isfinite(self.elpd)
        return exact


def leave_groups_out(
    fit: SwitchingFit, *, refit: bool = False, seed: int = 0, attempts: Sequence[Effort] = EFFORTS[:1]
) -> LeftOut:
    """Weigh all draws so that they stand for a fit without the group, by Pareto-smoothed importance sampling.

    Parameters
    ----------
    fit : SwitchingFit
        Of all groups, with their effects.
    refit : bool
        Whether groups with too high a k-hat are left out in fact, each in a fit of its own. Where it passes the gate,
        the density is the ratio of both normalising constants by bridge sampling, from the draws of both fits.
    seed : int
        Of these fits.
    attempts : sequence of Effort
        As `fit_switching` takes them, for these fits.
    """
    by_draw = likelihood_by_group(fit)
    log_weights, k_hat = array_stats.psislw(by_draw)  # type: ignore[no-untyped-call]
    elpd, error = logsumexp(log_weights + by_draw, axis=1), np.full(k_hat.size, np.nan)
    limit = min(1 - 1 / np.log10(by_draw.shape[1]), MAX_K_HAT)
    for group in np.flatnonzero(~(k_hat <= limit)) if refit else ():
        rest = take_groups(fit.layout, np.arange(k_hat.size) != group)
        drawn = sample(switching_model(rest, priors=fit.priors), keep=GATED, gate=GATED, seed=seed, attempts=attempts)
        if drawn.passed:
            foretold = likelihood_by_group(replace(fit, sample=drawn), groups=np.arange(k_hat.size) == group)[0]
            elpd[group], error[group] = measure_ratio(by_draw[group], foretold)
    return LeftOut(elpd, k_hat, limit, error)


def measure_ratio(seen: Floats, unseen: Floats) -> tuple[float, float]:
    """How likely a group is by all others, as the ratio of the normalising constants with it and without it.

    Parameters
    ----------
    seen, unseen : ndarray, shape (n_draws,)
        Log-likelihood of the group at draws of the posterior with it and without it, chain by chain.

    Returns
    -------
    tuple of float
        The logarithm in nats by Meng and Wong's optimal bridge, and its Monte Carlo error from how far chains alone lie
        apart; NaN where a likelihood is not finite.
    """
    by_chain = [_bridge(*each) for each in zip(np.split(seen, CHAINS), np.split(unseen, CHAINS), strict=True)]
    return _bridge(seen, unseen), float(np.std(by_chain, ddof=1) / CHAINS**0.5)


def _bridge(seen: Floats, unseen: Floats) -> float:
    if not (np.isfinite(seen).all() and np.isfinite(unseen).all()):
        return np.nan
    own, other = np.log([seen.size, unseen.size]) - np.log(seen.size + unseen.size)
    ratio = float(np.median(np.concatenate([seen, unseen])))
    for _ in range(_ROUNDS):
        before = ratio
        above = logsumexp(unseen - np.logaddexp(own + unseen, other + before)) - np.log(unseen.size)
        below = logsumexp(-np.logaddexp(own + seen, other + before)) - np.log(seen.size)
        ratio = float(above - below)
        if abs(ratio - before) < _SETTLED:
            break
    return ratio


def likelihood_by_group(fit: SwitchingFit, *, groups: NDArray[np.bool_] | None = None) -> Floats:
    """Marginal log-likelihood of groups at every draw of the posterior, shape (n_groups, n_draws).

    Parameters
    ----------
    fit : SwitchingFit
        Draws, and the pairs that they are held against.
    groups : ndarray of bool, shape (n_groups,), optional
        Those of the groups that are wanted; by default all.
    """
    chosen = np.ones(len(fit.layout.groups), dtype=bool) if groups is None else groups
    in_cell = np.repeat(chosen, np.diff(fit.layout.group_start))
    likelihood = SwitchingLikelihood(
        take_groups(fit.layout, chosen), effects=fit.pilot.effects[:, in_cell], scores=fit.pilot.scores[:, in_cell]
    )
    structure, posterior = fit.structure, fit.sample.posterior.stack(draw_of=("chain", "draw"))
    hazards = posterior["hazards"].transpose("draw_of", "parameter").to_numpy()
    spread = posterior["spread"].transpose("draw_of", "scale").to_numpy()
    return np.stack(
        [
            likelihood.evaluate(*structure.tabulate(own), structure.scales_of_groups(scales)).by_group
            for own, scales in zip(hazards, spread, strict=True)
        ],
        axis=1,
    )
