"""Responses along dH: fitted curves, binned data and the spread of dH itself."""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import expit

from mfbayes import names
from mfbayes.clusters import bound_shares
from mfbayes.estimates.draws import stack_lapses, subject_coordinates, thin, total_spread
from mfbayes.selection import label_groups

_GRID = np.linspace(-2, 2, 81)
_NODES = 21
_MAX_DRAWS = 1000
_RESPONSE_EDGES = np.linspace(-2, 2, 17)
_COUNT_EDGES = np.linspace(-2, 2, 41)


def draw_curves(posterior: xr.Dataset, *, ci_prob: float) -> xr.Dataset:
    """P(text) along dH for a trial of a new group: averaged over the group effects, not at their mean.

    That is what shares in bins show, random answers included; at average group effects the curve would be steeper.
    The average over the sum of the group effects, a normal variable, is taken by Gauss-Hermite quadrature.

    Parameters
    ----------
    posterior : Dataset
        Draws of the following model.
    ci_prob : float
        Probability of the pointwise equal-tailed band.

    Returns
    -------
    Dataset
        `mean`, `lower`, `upper` over (subject, dH).
    """
    kept = thin(posterior, _MAX_DRAWS)
    spread, lapses = total_spread(kept), stack_lapses(kept)
    nodes, weights = hermegauss(_NODES)
    weights = weights / weights.sum()
    tails = [(1 - ci_prob) / 2, (1 + ci_prob) / 2]
    rows = []
    for subject in range(kept.sizes[names.SUBJECT]):
        slope = kept["slope"].isel(subject=subject).to_numpy().ravel()
        balance_point = kept["balance_point"].isel(subject=subject).to_numpy().ravel()
        level = slope * (balance_point - _GRID[:, None])
        share = np.zeros_like(level)
        for node, weight in zip(nodes, weights, strict=True):
            share += weight * expit(level + node * spread)
        share = lapses[subject] + (1 - 2 * lapses[subject]) * share
        rows.append(np.vstack([share.mean(axis=1), np.quantile(share, tails, axis=1)]))
    mean, lower, upper = np.stack(rows, axis=1)
    dims = (names.SUBJECT, names.DH)
    return xr.Dataset(
        {"mean": (dims, mean), "lower": (dims, lower), "upper": (dims, upper)},
        coords=subject_coordinates(posterior) | {names.DH: _GRID},
        attrs={"ci_prob": ci_prob},
    )


def bin_responses(
    posterior: xr.Dataset, trials: pd.DataFrame, *, ci_prob: float, rng: np.random.Generator
) -> xr.Dataset:
    """Share of trials that follow the text in bins of dH, with intervals from a bootstrap over groups.

    Parameters
    ----------
    posterior : Dataset
        For the subjects and their order.
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    ci_prob : float
        Probability of the intervals.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Dataset
        Over (subject, bin); `share` and `dH_mean` are NaN where a bin is empty.
    """
    lower, upper = _RESPONSE_EDGES[:-1], _RESPONSE_EDGES[1:]
    fitted = trials[trials[names.CHOICE] != names.OTHER]
    groups = label_groups(trials)[fitted.index].astype("category").cat.codes.to_numpy(np.int64)
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("dH_mean", "n", "n_text", "share", "share_lower", "share_upper")
    }
    for subject in posterior[names.SUBJECT].to_numpy():
        own = (fitted[names.SUBJECT] == subject).to_numpy()
        dH = fitted[names.DH].to_numpy(np.float64)[own]
        hits = np.asarray(fitted[names.CHOICE] == names.TEXT, dtype=np.float64)[own]
        column = place_in_bins(dH, _RESPONSE_EDGES)
        share, share_lower, share_upper, n = bound_shares(
            hits, group=groups[own], column=column, n_columns=lower.size, ci_prob=ci_prob, rng=rng
        )
        total = np.bincount(column, dH, lower.size)
        columns["dH_mean"].append(np.divide(total, n, out=np.full(lower.size, np.nan), where=n > 0))
        columns["n"].append(n)
        columns["n_text"].append(np.bincount(column, hits, lower.size).astype(np.int64))
        columns["share"].append(share)
        columns["share_lower"].append(share_lower)
        columns["share_upper"].append(share_upper)
    dims = (names.SUBJECT, "bin")
    shape = (posterior.sizes[names.SUBJECT], lower.size)
    return xr.Dataset(
        {name: (dims, np.array(rows)) for name, rows in columns.items()}
        | {"dH_lower": (dims, np.broadcast_to(lower, shape)), "dH_upper": (dims, np.broadcast_to(upper, shape))},
        coords=subject_coordinates(posterior),
        attrs={"ci_prob": ci_prob},
    )


def count_uncertainty(posterior: xr.Dataset, trials: pd.DataFrame) -> xr.Dataset:
    """Histogram of dH over the trials of each subject: `count`, `edge_lower`, `edge_upper` (subject, bin)."""
    counts = np.array(
        [
            np.histogram(trials.loc[trials[names.SUBJECT] == subject, names.DH], _COUNT_EDGES)[0]
            for subject in posterior[names.SUBJECT].to_numpy()
        ]
    )
    dims = (names.SUBJECT, "bin")
    return xr.Dataset(
        {
            "count": (dims, counts),
            "edge_lower": (dims, np.broadcast_to(_COUNT_EDGES[:-1], counts.shape)),
            "edge_upper": (dims, np.broadcast_to(_COUNT_EDGES[1:], counts.shape)),
        },
        coords=subject_coordinates(posterior),
    )


def place_in_bins(dH: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin of each dH among `edges`; the last bin has both its ends."""
    return np.clip(np.searchsorted(edges, dH, side="right") - 1, 0, edges.size - 2)
