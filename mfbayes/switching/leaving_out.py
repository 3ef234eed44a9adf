"""Leave-one-group-out for hazards: how well they foretell a group's switching from all the others.

References
----------
Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto Smoothed Importance Sampling", Journal of Machine
Learning Research 25(72), 2024, arXiv:1507.02646.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from numpy.typing import NDArray
from scipy.special import logsumexp

from mfbayes.sampling import Effort, sample
from mfbayes.switching.fit import EFFORTS, SwitchingFit
from mfbayes.switching.layout import take_groups
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.model import GATED, switching_model

type Floats = NDArray[np.float64]

MAX_K_HAT = 0.7


class LeftOut(NamedTuple):
    """Log predictive density of each group from all the others.

    Attributes
    ----------
    elpd : ndarray, shape (n_groups,)
        In nats.
    k_hat : ndarray, shape (n_groups,)
        Shape of the importance weights' tail; above .7 the density is not exact.
    refitted : ndarray of bool, shape (n_groups,)
        Whether the density is of a fit without the group instead.
    """

    elpd: Floats
    k_hat: Floats
    refitted: NDArray[np.bool_]

    @property
    def is_exact(self) -> NDArray[np.bool_]:
        """Whether each group was refitted or its weights can be trusted."""
        exact: NDArray[np.bool_] = self.refitted | (self.k_hat <= MAX_K_HAT)
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
        Whether groups with a k-hat above .7 are left out in fact, each in a fit of its own, of which draws are used
        where they pass the gate.
    seed : int
        Of these fits.
    attempts : sequence of Effort
        As `fit_switching` takes them, for these fits.
    """
    by_draw = likelihood_by_group(fit)
    log_weights, k_hat = array_stats.psislw(by_draw)  # type: ignore[no-untyped-call]
    elpd, refitted = logsumexp(log_weights + by_draw, axis=1), np.zeros(k_hat.size, dtype=bool)
    for group in np.flatnonzero(~(k_hat <= MAX_K_HAT)) if refit else ():
        rest = take_groups(fit.layout, np.arange(k_hat.size) != group)
        drawn = sample(switching_model(rest, priors=fit.priors), keep=GATED, gate=GATED, seed=seed, attempts=attempts)
        if drawn.passed:
            foretold = likelihood_by_group(replace(fit, sample=drawn), groups=np.arange(k_hat.size) == group)[0]
            elpd[group], refitted[group] = logsumexp(foretold) - np.log(foretold.size), True
    return LeftOut(elpd, k_hat, refitted)


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
