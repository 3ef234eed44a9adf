"""Leave-one-group-out for hazards: how well they foretell a group's switching from all the others.

A group's density given all others is the ratio of the evidence with it and without it. Laplace's method finds both
(`leave_groups_out`); a fit without the group finds the ratio by bridge sampling (`refit_without`), in a hundred times
the time, and is what the first is held to. Importance sampling of the draws of one fit fails: groups of a few hundred
traces say too much of the parameters.

References
----------
Meng and Wong, "Simulating ratios of normalizing constants via a simple identity", Statistica Sinica 6, 1996.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from mfbayes.convergence import CHAINS
from mfbayes.sampling import Effort, sample
from mfbayes.switching.evidence import Posterior, integrate
from mfbayes.switching.fit import EFFORTS, SwitchingFit
from mfbayes.switching.informed import inform
from mfbayes.switching.layout import Layout, take_groups
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.model import GATED, switching_model
from mfbayes.switching.pilot import Estimates, estimate_roughly
from mfbayes.switching.priors import SwitchingPriors
from mfbayes.switching.structure import build_structure

type Floats = NDArray[np.float64]

_ROUNDS, _SETTLED = 1000, 1e-8


class Refitted(NamedTuple):
    """Log predictive density of a group from a fit without it, in nats, its Monte Carlo error, and that fit's gate."""

    elpd: float
    error: float
    passed: bool


def leave_groups_out(
    layout: Layout, *, priors: SwitchingPriors, on_group: Callable[[], object] | None = None
) -> Floats:
    """Log predictive density of each group from all the others, in nats, shape (n_groups,).

    NaN where the posterior with it or without it has no mode that its curvature vouches for. Groups are left out in as
    many threads as there are processors.

    Parameters
    ----------
    layout : Layout
        Pairs of layers, with effects of groups.
    priors : SwitchingPriors
        Scales of the priors.
    on_group : callable, optional
        Called after every group.
    """
    structure = build_structure(layout, priors)
    pilot = estimate_roughly(structure)
    # One set of coordinates for all, in which the errors of both integrals are alike.
    place = inform(structure, pilot)

    def prepare(chosen: NDArray[np.bool_]) -> Posterior:
        return Posterior(_take(layout, pilot, chosen), structure, place)

    n_groups = len(layout.groups)
    of_all = prepare(np.ones(n_groups, dtype=bool))

    def leave_out(group: int) -> float:
        found = integrate(prepare(np.arange(n_groups) != group), whole.mode, whole.precision).log_evidence
        if on_group is not None:
            on_group()
        return found

    # The matrices here are small: more threads for each would only take the cores from the other groups.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as threads:
        whole = integrate(of_all, of_all.place(pilot.spread))
        if np.isnan(whole.log_evidence):
            return np.full(n_groups, np.nan)
        return whole.log_evidence - np.array(list(threads.map(leave_out, range(n_groups))))


def refit_without(
    fit: SwitchingFit, group: int, *, seed: int = 0, attempts: Sequence[Effort] = EFFORTS[:1]
) -> Refitted:
    """Find a group's density by a fit without it: the ratio of evidences by bridge sampling, from draws of both fits.

    The fit without it crosses gaps at effects that its own pilot finds, which differ a little from those of `fit`.

    Parameters
    ----------
    fit : SwitchingFit
        Of all groups, with their effects.
    group : int
        Index of the group in the fit's layout.
    seed : int
        Of the fit without it.
    attempts : sequence of Effort
        As `fit_switching` takes them, for that fit.
    """
    left_out = np.arange(len(fit.layout.groups)) == group
    rest = take_groups(fit.layout, ~left_out)
    drawn = sample(switching_model(rest, priors=fit.priors), keep=GATED, gate=GATED, seed=seed, attempts=attempts)
    seen, unseen = (likelihood_by_group(each, left_out)[0] for each in (fit, replace(fit, sample=drawn)))
    return Refitted(*measure_ratio(seen, unseen), drawn.passed)


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


def likelihood_by_group(fit: SwitchingFit, groups: NDArray[np.bool_]) -> Floats:
    """Marginal log-likelihood of some groups at every draw of the posterior, shape (n_chosen, n_draws).

    Parameters
    ----------
    fit : SwitchingFit
        Draws, and the pairs that they are held against.
    groups : ndarray of bool, shape (n_groups,)
        Those of the groups that are wanted.
    """
    likelihood = _take(fit.layout, fit.pilot, groups)
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


def _take(layout: Layout, pilot: Estimates, chosen: NDArray[np.bool_]) -> SwitchingLikelihood:
    """The likelihood of some groups, their gaps crossed at the effects that the pilot finds with all of them."""
    in_cell = np.repeat(chosen, np.diff(layout.group_start))
    return SwitchingLikelihood(
        take_groups(layout, chosen), effects=pilot.effects[:, in_cell], scores=pilot.scores[:, in_cell]
    )
