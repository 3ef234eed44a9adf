"""Why text-following ratios differ: what two models were shown, which side they prefer, how sharply they respond."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from mfbayes import names
from mfbayes.clusters import expand_reach
from mfbayes.design import Design
from mfbayes.estimates.draws import (
    comparable,
    labelled_posterior,
    read_design,
    stack_draws,
    subject_coordinates,
    tails,
    thin,
    total_spread,
)
from mfbayes.marginal.likelihood import marginal_likelihood, three_scales

type Floats = NDArray[np.float64]

PARTS = ("by_composition", "by_balance_point", "by_slope")
_RESAMPLED = ("tfr_difference", "modelled", "by_composition")
"""What varies with the weights of groups."""
_DRAWS, _MOST_WORK = (100, 400), 1e6
_STEP = 1e-4
_DH = np.linspace(-2, 2, 101)
_LEVELS = np.linspace(-1, 1, 1001)
_NODES, _WEIGHTS = hermegauss(21)
_OTHER = "other_subject"


def decompose_tfr(tree: xr.DataTree, *, seed: int = 0) -> xr.Dataset:
    r"""Difference of two text-following ratios, split into composition, balance point and slope.

    A ratio mixes what a model was shown with how it responds. With F the distribution of dH in a
    model's trials and P(text | dH) averaged over the effects of groups,

    .. math:: TFR(F, b, \kappa) = \int E_{u+v}[\operatorname{logit}^{-1}(\kappa (b - x) + u + v)] \, dF(x)

    and going from one model to the other exchanges F, b and kappa. Each is credited with its mean
    contribution over all orders of the exchange (Shapley), so that the parts add up to the modelled
    difference, whichever model comes first. `unexplained` is the observed difference less the modelled.

    Parameters
    ----------
    tree : DataTree
        A fit.
    seed : int
        Seed of the weights of groups.

    Returns
    -------
    Dataset
        `tfr_difference` (observed, `subject` minus `other_subject`), `modelled`, its parts `by_composition`,
        `by_balance_point` and `by_slope`, and `unexplained`, each with `_lower` and `_upper`, over (subject,
        other_subject); NaN where two subjects are not comparable. Intervals combine draws of the
        posterior with a Bayesian bootstrap of the groups, which both subjects share; those of the observed and the
        modelled difference and of the composition are expanded for few groups, as in `mfbayes.clusters`. For
        `unexplained` the posterior follows the bootstrap, for other weights of the groups move the observed and the
        modelled ratio together: where the model holds, its 95 % interval held zero in 99 of 100 simulated studies of
        60 groups, and was about as wide as the estimates were spread. Draws paired at random made it three times as
        wide.

    References
    ----------
    Shorrocks, "Decomposition procedures for distributional analysis: a unified framework based on the
    Shapley value", Journal of Economic Inequality 11, 2013, doi:10.1007/s10888-011-9214-z.
    """
    posterior, ci_prob = labelled_posterior(tree), float(tree.attrs["ci_prob"])
    design, pairs = read_design(tree), comparable(posterior)
    kept = thin(posterior, int(np.clip(_MOST_WORK / pairs.size, *_DRAWS)))
    balance_point, slope = stack_draws(kept, "balance_point"), stack_draws(kept, "slope")
    spread = total_spread(kept)
    n_groups = len(design.groups)
    rng = np.random.default_rng(seed)
    # The last column is the sample as it is.
    weights = np.column_stack([rng.exponential(size=(n_groups, spread.size)), np.ones(n_groups)])
    shares, ratios = _weigh(design, weights)
    parts = np.empty((len(PARTS), spread.size, *pairs.shape))
    for i, total in enumerate(spread):
        parts[:, i] = _share_out(shares[..., i], balance_point[:, i], slope[:, i], float(total))
    modelled = parts.sum(axis=0)
    followed = _follow(design, posterior, weights[:, :-1], rng=rng)
    residual = ratios[:, :-1] - np.stack(
        [_foretell(shares[..., i], *moved) for i, moved in enumerate(followed)], axis=1
    )
    difference = np.moveaxis(ratios[:, None] - ratios[None, :], -1, 0)
    observed, difference = difference[-1], difference[:-1]
    drawn = {"tfr_difference": difference, "modelled": modelled, **dict(zip(PARTS, parts, strict=True))}
    drawn["unexplained"] = np.moveaxis(residual[:, None] - residual[None, :], -1, 0)
    # Weights that are drawn vary by the share (G - 1) / (G + 1) of what means of G groups do, and as a normal.
    expansion = expand_reach(ci_prob, n_groups, n_drawn=n_groups + 1) if n_groups > 1 else 1.0
    middle = {name: values.mean(axis=0) for name, values in drawn.items()}
    middle |= {"tfr_difference": observed, "unexplained": observed - middle["modelled"]}
    found: dict[str, Floats] = {}
    for name, values in drawn.items():
        # Plain quantiles of a few hundred draws enclose less than they say.
        lower, upper = np.quantile(values, tails(ci_prob), axis=0, method="weibull")
        if name in _RESAMPLED:
            lower, upper = (middle[name] + expansion * (bound - middle[name]) for bound in (lower, upper))
        found |= {name: middle[name], f"{name}_lower": lower, f"{name}_upper": upper}
    return xr.Dataset(
        {name: ((names.SUBJECT, _OTHER), np.where(pairs, values, np.nan)) for name, values in found.items()},
        coords=subject_coordinates(posterior) | {_OTHER: posterior[names.SUBJECT].to_numpy()},
        attrs={"ci_prob": ci_prob},
    )


def _weigh(design: Design, weights: Floats) -> tuple[Floats, Floats]:
    """Each subject's distribution of dH over `_DH` and its TFR, for every column of weights of the groups.

    A trial between two points is split between them, which keeps every mean of dH as it is.
    """
    n_subjects, n_points = design.n_subjects, _DH.size
    position = (design.uncertainty - _DH[0]) / (_DH[1] - _DH[0])
    below = np.clip(position.astype(np.int64), 0, n_points - 2)
    above_share = position - below
    row = design.trial_subject * n_points + below
    counts = csr_array(
        (
            np.concatenate([1 - above_share, above_share]),
            (np.concatenate([row, row + 1]), np.tile(design.trial_group, 2)),
        ),
        shape=(n_subjects * n_points, len(design.groups)),
    )
    hits = csr_array(
        (design.is_text, (design.trial_subject, design.trial_group)), shape=(n_subjects, len(design.groups))
    )
    shares = (counts @ weights).reshape(n_subjects, n_points, -1)
    totals = shares.sum(axis=1)
    known = np.where(totals > 0, totals, np.nan)
    return shares / known[:, None], (hits @ weights) / known


def _follow(
    design: Design, posterior: xr.Dataset, weights: Floats, *, rng: np.random.Generator
) -> Iterator[tuple[Floats, Floats, float]]:
    """Balance points, slopes and spread of groups' effects as they would be with other weights of the groups.

    A Newton step from the posterior mean: the covariance of the posterior times the weighted scores of the groups.
    Where all scores do not add up to nothing, priors pull; how far is as unsure as it is large.
    """
    n = design.n_subjects
    draws = np.vstack(
        [
            stack_draws(posterior, "balance_point"),
            np.log(stack_draws(posterior, "slope")),
            *(stack_draws(posterior, name) for name in design.group_scales),
        ]
    )
    middle = draws.mean(axis=1)
    scores = _score_groups(design, middle)
    pull = scores.sum(axis=1)[:, None] * rng.standard_normal(weights.shape[1])
    moved = np.cov(draws) @ (scores @ (weights / weights.mean(axis=0) - 1) + pull)
    for place in (middle[:, None] + moved).T:
        yield place[:n], np.exp(place[n : 2 * n]), float(np.linalg.norm(place[2 * n :]))


def _score_groups(design: Design, middle: Floats) -> Floats:
    """Derivatives of each group's log-likelihood in balance points, log-slopes and standard deviations of effects."""
    n, n_groups = design.n_subjects, len(design.groups)
    b, slope, sds = middle[:n], np.exp(middle[n : 2 * n]), middle[2 * n :]
    likelihood, lines = marginal_likelihood(design), np.column_stack([slope * b, slope])
    by_trial = likelihood.evaluate(lines, three_scales(design, sds), trials=True).trials
    cell = design.trial_subject * n_groups + design.trial_group
    by_level, by_steepness = (
        np.bincount(cell, by_trial * feature, minlength=n * n_groups).reshape(n, n_groups)
        for feature in likelihood.features
    )
    by_scale = [
        (
            likelihood.evaluate(lines, three_scales(design, sds + step)).by_group
            - likelihood.evaluate(lines, three_scales(design, sds - step)).by_group
        )
        / (2 * _STEP)
        for step in _STEP * np.eye(sds.size)
    ]
    return np.vstack([slope[:, None] * by_level, slope[:, None] * (b[:, None] * by_level + by_steepness), *by_scale])


def _share_out(shares: Floats, balance_point: Floats, slope: Floats, spread: float) -> Floats:
    """Mean contribution of each exchange over all orders, shape (3, subject, other)."""
    response = _respond(balance_point, slope, spread)
    # TFR of subject i with, in order, the b and kappa, only the kappa, only the b of subject j.
    with_both = shares @ np.diagonal(response)
    with_slope = np.einsum("ix,ijx->ij", shares, response)
    with_point = np.einsum("ix,jix->ij", shares, response)
    own = np.diagonal(with_both)[:, None]
    halves = (
        (with_both - own.T, own - with_both.T, with_point - with_slope.T, with_slope - with_point.T),
        (with_point.T - own.T, own - with_point, with_both.T - with_slope.T, with_slope - with_both),
        (with_slope.T - own.T, own - with_slope, with_both.T - with_point.T, with_point - with_both),
    )
    return np.stack([(first + last) / 3 + (one + other) / 6 for first, last, one, other in halves])


def _respond(balance_point: Floats, slope: Floats, spread: float) -> Floats:
    """P(text) of every b with every kappa at every point of dH, averaged over groups; (b, kappa, point)."""
    return _average(slope[None, :, None] * (balance_point[:, None, None] - _DH), spread)


def _foretell(shares: Floats, balance_point: Floats, slope: Floats, spread: float) -> Floats:
    """TFR of every subject, shape (n_subjects,)."""
    ratio: Floats = (shares * _average(slope[:, None] * (balance_point[:, None] - _DH), spread)).sum(axis=1)
    return ratio


def _average(log_odds: Floats, spread: float) -> Floats:
    """P(text) averaged over the effects of groups, shape of `log_odds`."""
    # Six standard deviations behind the last level no group turns what is certain there.
    levels = _LEVELS * (12 + 6 * spread)
    averaged = (_WEIGHTS / _WEIGHTS.sum()) @ expit(levels + spread * _NODES[:, None])
    p: Floats = np.interp(log_odds, levels, averaged)
    return p
