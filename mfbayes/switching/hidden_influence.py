r"""Influence of groups on the hidden model's estimates, and how much wider intervals are for it.

The hidden model knows no groups: to it, traces of a group are as independent as any others. The influence of a group's
traces on the posterior mean of a quantity q is its covariance with their log-likelihood over the posterior, and the
variance of the mean between samples of groups is the sum of squared influences [1]_. With :math:`\psi_i` the influence
of a trace, groups add

.. math:: \frac{G}{G - 1} \sum_g \Bigl(\sum_{i \in g} \psi_i - \bar\psi\Bigr)^2 - \sum_i \psi_i^2

to the variance of q, whose expectation is zero where traces of a group are independent. Draws of q are moved away from
their mean by the factor that gives them that variance too, and never towards it.

References
----------
.. [1] Giordano, Broderick, "The Bayesian Infinitesimal Jackknife for Variance" (2023), arXiv:2305.06466.
"""

import math
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes.compiled import compiled
from mfbayes.estimates.draws import thin
from mfbayes.switching.forward import Chains
from mfbayes.switching.hidden_codes import Coded
from mfbayes.switching.hidden_tables import Parameters, Tables, tabulate

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

QUANTITIES = ("hazard", "effect", "effect_mean")
_N_DRAWS = 1000


class Influence(NamedTuple):
    """Influences on quantities, by name, each over its own dims and a last one.

    Attributes
    ----------
    groups : dict of ndarray, shape (..., n_groups)
        Of every group, less their mean, and scaled so that the sum of squares is a variance.
    traces : dict of ndarray, shape (..., n_columns)
        Columns of which sums of squares, and of products, are those over all traces.
    """

    groups: dict[str, Floats]
    traces: dict[str, Floats]


def measure_influence(posterior: xr.Dataset, coded: Coded, group: Indices, *, n_draws: int = _N_DRAWS) -> Influence:
    """Measure the influence of traces and of their groups on `QUANTITIES`.

    Parameters
    ----------
    posterior : Dataset
        Draws of the hidden model.
    coded : Coded
        Trajectories in codes.
    group : ndarray of int, shape (n,)
        Group of every trace; two groups or more.
    n_draws : int
        About how many draws to go through, evenly spaced.
    """
    few = thin(posterior, n_draws)
    draws = {name: _stack(few, name) for name in {*QUANTITIES, "emission", "nu", "start"}}
    quantities = np.concatenate([draws[name].reshape(-1, draws["nu"].size) for name in QUANTITIES])
    away = quantities - quantities.mean(axis=1, keepdims=True)
    influence = np.zeros((len(quantities), group.size))
    for draw in range(draws["nu"].size):
        own = {name: np.ascontiguousarray(draws[name][..., draw]) for name in ("emission", "hazard", "effect", "start")}
        tables = tabulate(Parameters(nu=float(draws["nu"][draw]), **own), coded)
        influence += np.outer(away[:, draw], likelihood_by_trace(coded.chains, tables))
    influence /= away.shape[1] - 1
    labels, code = np.unique(group, return_inverse=True)
    by_group = np.stack([np.bincount(code, each, labels.size) for each in influence])
    by_group = (by_group - by_group.mean(axis=1, keepdims=True)) * math.sqrt(labels.size / (labels.size - 1))
    size, axes = np.linalg.eigh(influence @ influence.T)
    by_trace = axes * np.sqrt(np.maximum(size, 0.0))
    shapes = [draws[name].shape[:-1] for name in QUANTITIES]
    return Influence(*(_divide(each, shapes) for each in (by_group, by_trace)))


def widen(draws: Floats, *, groups: Floats, traces: Floats) -> Floats:
    """Draws with the variance that groups add.

    Parameters
    ----------
    draws : ndarray, shape (..., n_draws)
        Draws of quantities, linear in `QUANTITIES`.
    groups, traces : ndarray, shape (..., n_columns)
        The same combinations of influences.
    """
    added = (groups**2).sum(axis=-1) - (traces**2).sum(axis=-1)
    mean, variance = draws.mean(axis=-1, keepdims=True), draws.var(axis=-1)
    ratio = np.divide(np.maximum(added, 0.0), variance, out=np.zeros_like(variance), where=variance > 0)
    widened: Floats = mean + (draws - mean) * np.sqrt(1 + ratio)[..., None]
    return widened


def likelihood_by_trace(chains: Chains, tables: Tables) -> Floats:
    """Log-likelihood of every trace, shape (n,), in the order in which traces were coded."""
    found = np.empty(chains.n_chains)
    _pass_each(
        *map(np.ascontiguousarray, (tables.emission, tables.hazard, tables.start)),
        *(chains.symbol, chains.block_start, chains.block_size, chains.block_subject, chains.block_bin),
        *(chains.n_layers, chains.order, found),
    )
    return found


@compiled()
def _pass_each(  # type: ignore[no-untyped-def]
    emission, hazard, start, symbol, block_start, block_size, block_subject, block_bin, n_layers, order, found
):
    done = 0
    for block in range(block_start.size):
        s, x, width, depth = block_subject[block], block_bin[block], block_size[block], n_layers[block_subject[block]]
        seen = symbol[block_start[block] : block_start[block] + depth * width].reshape((depth, width))
        for j in range(width):
            q, total = 1.0 / (1.0 + math.exp(-start[s, x])), 0.0
            for layer in range(depth):
                text, image = emission[s, layer, seen[layer, j]]
                lifted = q * math.exp(text - image)
                c = lifted + 1.0 - q
                total += image + math.log(c)
                p = lifted / c
                if layer + 1 < depth:
                    leave = 1.0 / (1.0 + math.exp(-hazard[0, s, layer, x]))
                    enter = 1.0 / (1.0 + math.exp(-hazard[1, s, layer, x]))
                    q = p * (1.0 - leave) + (1.0 - p) * enter
            found[order[done + j]] = total
        done += width


def _divide(columns: Floats, shapes: list[tuple[int, ...]]) -> dict[str, Floats]:
    """Rows of all quantities one after another, as an array of each."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = np.split(columns, ends[:-1])
    return {name: part.reshape(*shape, -1) for name, shape, part in zip(QUANTITIES, shapes, parts, strict=True)}


def _stack(posterior: xr.Dataset, name: str) -> Floats:
    """Draws of a variable, the draws last."""
    values: Floats = posterior[name].transpose(..., "chain", "draw").to_numpy()
    return values.reshape(*values.shape[:-2], -1)
