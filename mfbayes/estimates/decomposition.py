"""Why text-following ratios differ: what two models were shown, which side they prefer, how sharply they respond."""

import numpy as np
import xarray as xr
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes import names
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

type Floats = NDArray[np.float64]

PARTS = ("composition", "balance_point", "slope")
_DRAWS = 200
_EDGES = np.linspace(-2, 2, 101)
_NODES, _WEIGHTS = hermegauss(11)
_OTHER = "other_subject"


def decompose_tfr(tree: xr.DataTree, *, rng: np.random.Generator) -> xr.Dataset:
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
    rng : numpy.random.Generator
        Source of the weights of groups.

    Returns
    -------
    Dataset
        `tfr_difference` (observed, `subject` minus `other_subject`), `modelled`, `composition`,
        `balance_point`, `slope`, `unexplained`, each with `_lower` and `_upper`, over (subject,
        other_subject); NaN where two subjects are not comparable. Intervals combine draws of the
        posterior with a Bayesian bootstrap of the groups, which both subjects share.

    References
    ----------
    Shorrocks, "Decomposition procedures for distributional analysis: a unified framework based on the
    Shapley value", Journal of Economic Inequality 11, 2013, doi:10.1007/s10888-011-9214-z.
    """
    posterior, ci_prob = labelled_posterior(tree), float(tree.attrs["ci_prob"])
    design, pairs = read_design(tree), comparable(posterior)
    kept = thin(posterior, _DRAWS)
    balance_point, slope = stack_draws(kept, "balance_point"), stack_draws(kept, "slope")
    spread = total_spread(kept)
    n_subjects, n_bins = design.n_subjects, _EDGES.size - 1
    place = design.trial_subject * n_bins + np.clip(
        np.searchsorted(_EDGES, design.uncertainty, side="right") - 1, 0, n_bins - 1
    )
    observed = np.empty((spread.size, n_subjects))
    ratios = np.empty((spread.size, n_subjects, n_subjects, n_subjects))
    plain = _weigh(np.ones(len(design.groups)), place, design.trial_group, design.is_text, n_subjects)
    for i, total in enumerate(spread):
        weights = rng.exponential(size=len(design.groups))
        shares, observed[i] = _weigh(weights, place, design.trial_group, design.is_text, n_subjects)
        ratios[i] = np.einsum("fx,bkx->fbk", shares, _respond(balance_point[:, i], slope[:, i], float(total)))
    parts = {name: _share_out(ratios, position) for position, name in enumerate(PARTS)}
    modelled = sum(parts.values(), np.zeros_like(parts[PARTS[0]]))
    difference = observed[:, :, None] - observed[:, None, :]
    drawn = {"tfr_difference": difference, "modelled": modelled, **parts, "unexplained": difference - modelled}
    found: dict[str, Floats] = {}
    for name, values in drawn.items():
        lower, upper = np.quantile(values, tails(ci_prob), axis=0)
        middle = plain[1][:, None] - plain[1][None, :] if name == "tfr_difference" else values.mean(axis=0)
        found |= {name: middle, f"{name}_lower": lower, f"{name}_upper": upper}
    return xr.Dataset(
        {name: ((names.SUBJECT, _OTHER), np.where(pairs, values, np.nan)) for name, values in found.items()},
        coords=subject_coordinates(posterior) | {_OTHER: posterior[names.SUBJECT].to_numpy()},
        attrs={"ci_prob": ci_prob},
    )


def _weigh(
    weights: Floats, place: NDArray[np.int64], group: NDArray[np.int64], is_text: Floats, n_subjects: int
) -> tuple[Floats, Floats]:
    """Each subject's distribution of dH over bins, and its TFR, with groups weighted."""
    n_bins = _EDGES.size - 1
    of_trial = weights[group]
    counts = np.bincount(place, of_trial, n_subjects * n_bins).reshape(n_subjects, n_bins)
    hits = np.bincount(place, of_trial * is_text, n_subjects * n_bins).reshape(n_subjects, n_bins)
    totals = counts.sum(axis=1)
    known = np.where(totals > 0, totals, np.nan)
    return counts / known[:, None], hits.sum(axis=1) / known


def _respond(balance_point: Floats, slope: Floats, spread: float) -> Floats:
    """P(text) of every balance point with every slope in the middle of every bin, averaged over group effects."""
    middle = (_EDGES[:-1] + _EDGES[1:]) / 2
    level = slope[None, :, None] * (balance_point[:, None, None] - middle)
    shares: Floats = np.zeros_like(level)
    for node, weight in zip(_NODES, _WEIGHTS / _WEIGHTS.sum(), strict=True):
        shares += weight * expit(level + node * spread)
    return shares


def _share_out(ratios: Floats, position: int) -> Floats:
    """Mean contribution of one of the three exchanges over all orders, shape (n_draws, subject, other)."""
    n = ratios.shape[1]
    own, other = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    first, second = (i for i in range(3) if i != position)

    def value(*, exchanged: bool, with_first: bool, with_second: bool) -> Floats:
        index = [other, other, other]
        for place, is_own in ((position, exchanged), (first, with_first), (second, with_second)):
            index[place] = own if is_own else other
        found: Floats = ratios[:, index[0], index[1], index[2]]
        return found

    def gain(with_first: bool, with_second: bool) -> Floats:
        return value(exchanged=True, with_first=with_first, with_second=with_second) - value(
            exchanged=False, with_first=with_first, with_second=with_second
        )

    contribution: Floats = (gain(False, False) + gain(True, True)) / 3 + (gain(True, False) + gain(False, True)) / 6
    return contribution
