"""Comparisons of balance points: pairs, ranks and practical equivalence."""

import numpy as np
import xarray as xr

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.estimates.draws import comparable, labelled_posterior, stack_draws, subject_coordinates, tails

ZONE = 0.1
_OTHER = "other_subject"
_MIRROR = np.array([1, -1])


def compare_pairs(tree: xr.DataTree) -> xr.Dataset:
    """Difference of every two balance points, b of `subject` minus b of `other_subject`, with its interval.

    Parameters
    ----------
    tree : DataTree
        A fit.

    Returns
    -------
    Dataset
        `difference` (mean), `sd`, `lower`, `upper` in units of dH and `p_below`, the probability that
        `subject` leans further to the image, over (subject, other_subject). NaN on the diagonal, across
        tasks, and between different models under different conditions: those are on no common scale.
    """
    posterior, ci_prob = labelled_posterior(tree), float(tree.attrs["ci_prob"])
    draws, pairs = stack_draws(posterior, "balance_point"), comparable(posterior)
    found = {name: np.full(pairs.shape, np.nan) for name in ("difference", "sd", "lower", "upper", "p_below")}
    for i, j in np.argwhere(np.triu(pairs)):
        between = draws[i] - draws[j]
        found["difference"][[i, j], [j, i]] = between.mean() * _MIRROR
        found["sd"][[i, j], [j, i]] = between.std(ddof=1)
        lower, upper = np.quantile(between, tails(ci_prob))
        found["lower"][[i, j], [j, i]], found["upper"][[i, j], [j, i]] = (lower, -upper), (upper, -lower)
        found["p_below"][[i, j], [j, i]] = (between < 0).mean(), (between > 0).mean()
    coords = subject_coordinates(posterior) | {_OTHER: posterior[names.SUBJECT].to_numpy()}
    return xr.Dataset(
        {name: ((names.SUBJECT, _OTHER), values) for name, values in found.items()},
        coords=coords,
        attrs={"ci_prob": ci_prob},
    )


def rank_models(tree: xr.DataTree) -> xr.Dataset:
    """Rank of every balance point among those of its task and condition; rank 1 leans furthest to the text.

    Parameters
    ----------
    tree : DataTree
        A fit.

    Returns
    -------
    Dataset
        `p_rank` over (subject, rank), NaN for ranks beyond the number of models compared; `rank_mean`,
        `rank_lower`, `rank_upper` over subject.
    """
    posterior, ci_prob = labelled_posterior(tree), float(tree.attrs["ci_prob"])
    draws = stack_draws(posterior, "balance_point")
    n = draws.shape[0]
    found = {name: np.full(n, np.nan) for name in ("rank_mean", "rank_lower", "rank_upper")}
    p_rank = np.full((n, n), np.nan)
    together = list(zip(posterior[names.TASK].to_numpy(), posterior[names.CONDITION].to_numpy(), strict=True))
    for place in dict.fromkeys(together):
        members = np.array([i for i, other in enumerate(together) if other == place])
        ranks = 1 + (-draws[members]).argsort(axis=0).argsort(axis=0)
        p_rank[np.ix_(members, np.arange(members.size))] = np.stack(
            [(ranks == rank).mean(axis=1) for rank in range(1, members.size + 1)], axis=1
        )
        found["rank_mean"][members] = ranks.mean(axis=1)
        found["rank_lower"][members], found["rank_upper"][members] = np.quantile(
            ranks, tails(ci_prob), axis=1, method="inverted_cdf"
        )
    return xr.Dataset(
        {"p_rank": ((names.SUBJECT, "rank"), p_rank)}
        | {name: (names.SUBJECT, values) for name, values in found.items()},
        coords=subject_coordinates(posterior) | {"rank": np.arange(1, n + 1)},
        attrs={"ci_prob": ci_prob},
    )


def judge_equivalence(tree: xr.DataTree, *, zone: float = ZONE) -> xr.Dataset:
    """Probabilities that a model prefers the image, neither, or the text in practice.

    Parameters
    ----------
    tree : DataTree
        A fit.
    zone : float
        Half-width of the zone of practical equivalence, in units of dH: within it a preference is too
        small to matter.

    Returns
    -------
    Dataset
        `p_image` (b < -zone), `p_equivalent` (abs(b) <= zone), `p_text` (b > zone) over subject.

    Raises
    ------
    InputError
        Where the zone is not between 0 and 2.
    """
    check_zone(zone)
    posterior = labelled_posterior(tree)
    draws = stack_draws(posterior, "balance_point")
    found = {"p_image": draws < -zone, "p_equivalent": np.abs(draws) <= zone, "p_text": draws > zone}
    return xr.Dataset(
        {name: (names.SUBJECT, inside.mean(axis=1)) for name, inside in found.items()},
        coords=subject_coordinates(posterior),
        attrs={"zone": zone},
    )


def check_zone(zone: float) -> None:
    """Refuse what is no zone of practical equivalence.

    Raises
    ------
    InputError
    """
    if not 0 < zone < 2:
        raise InputError(f"Expected a zone of practical equivalence between 0 and 2 (in units of dH), got {zone}.")
