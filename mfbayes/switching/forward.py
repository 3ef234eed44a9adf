r"""The forward pass: log-likelihood of two-sided hidden chains, with its exact gradient in one call.

A chain is on the text's or on the image's side in every layer. With q the probability of the text's side
given all layers before, and r the ratio of the densities of what is seen, text's side over image's,

.. math:: c = 1 + q (r - 1), \quad p = q r / c, \quad q' = p (1 - h_{ti}) + (1 - p) h_{it}

where the likelihood is the product of c and of the densities on the image's side. The way back carries the
probabilities of the sides given all layers, of which every derivative is a sum:

.. math::
    P(t_l, i_{l+1}) = p\, h_{ti}\, (1 - s) / (1 - q'), \quad P(i_l, t_{l+1}) = (1 - p)\, h_{it}\, s / q'

with s the probability of the text's side one layer on. Nothing is a logarithm until a chain ends, and chains
with equal hazards go side by side, a block at a time, so that they fill vector registers.

References
----------
Rabiner, "A Tutorial on Hidden Markov Models", Proceedings of the IEEE 77(2), 1989, doi:10.1109/5.18626.
Rauch, Tung and Striebel, "Maximum Likelihood Estimates of Linear Dynamic Systems", AIAA Journal 3(8),
1965, doi:10.2514/3.3166, for the way back by filtered probabilities.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mfbayes.compiled import REORDERED, compiled
from mfbayes.marginal.exponentials import as_double, read_bits

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

BLOCK = 128  # chains side by side
_EVERY = 4  # layers after which the product's exponent is put away: a ratio may be as large as exp(170)
_MANTISSA, _ONE, _BIAS = (1 << 52) - 1, 1023 << 52, 1023


@dataclass(frozen=True, kw_only=True, eq=False)
class Chains:
    """What was seen along hidden chains, block by block.

    Attributes
    ----------
    symbol : ndarray of uint8
        What was seen, by block, layer and chain.
    block_start, block_size : ndarray of int, shape (n_blocks,)
        Where a block's symbols start, and its number of chains.
    block_subject, block_bin : ndarray of int, shape (n_blocks,)
        Whose chains they are, and their bin of x.
    n_layers : ndarray of int, shape (n_subjects,)
        Length of each subject's chains.
    order : ndarray of int, shape (n_chains,)
        Row of each chain, in the order of the blocks.
    count : ndarray, shape (n_subjects, deepest, n_symbols)
        How often a symbol was seen.
    n_bins : int
        Bins of x.
    """

    symbol: NDArray[np.uint8]
    block_start: Indices
    block_size: Indices
    block_subject: Indices
    block_bin: Indices
    n_layers: Indices
    order: Indices
    count: Floats
    n_bins: int

    @property
    def n_chains(self) -> int:
        """Chains in all."""
        return self.order.size


@dataclass(frozen=True, kw_only=True, eq=False)
class Gradient:
    """Log-likelihood and its derivatives in the tables.

    Attributes
    ----------
    value : float
        Log-likelihood; NaN where it is not finite.
    emission : ndarray, shape (n_subjects, deepest, n_symbols, 2)
        Expected number of times that a symbol was seen on the text's and on the image's side.
    hazard : ndarray, shape (2, n_subjects, deepest - 1, n_bins)
        In the log-odds of switching, text to image first.
    start : ndarray, shape (n_subjects, n_bins)
        In the log-odds of starting on the text's side.
    """

    value: float
    emission: Floats
    hazard: Floats
    start: Floats


def arrange_chains(
    symbol: NDArray[np.int64], *, subject: Indices, place: Indices, n_layers: Indices, n_symbols: int, n_bins: int
) -> Chains:
    """Put chains of equal hazards side by side.

    Parameters
    ----------
    symbol : ndarray of int, shape (n_chains, deepest)
        What was seen, below `n_symbols`; beyond a subject's last layer it is not read.
    subject, place : ndarray of int, shape (n_chains,)
        Whose chain it is, and its bin of x.
    n_layers : ndarray of int, shape (n_subjects,)
        Length of each subject's chains, at least 2.
    n_symbols, n_bins : int
        Sizes of the tables; at most 256 symbols.
    """
    order = np.lexsort((place, subject))
    cell = subject[order] * n_bins + place[order]
    edges = np.flatnonzero(np.diff(cell, prepend=-1, append=-1))
    cuts: list[int] = edges.tolist()
    bounds = [
        (first, min(first + BLOCK, stop)) for start, stop in pairwise(cuts) for first in range(start, stop, BLOCK)
    ]
    parts, count = [], np.zeros((n_layers.size, symbol.shape[1], n_symbols))
    for first, stop in bounds:
        rows = order[first:stop]
        parts.append(symbol[rows, : n_layers[subject[rows[0]]]].T.astype(np.uint8).ravel())
    for own, depth in enumerate(n_layers):
        for layer in range(depth):
            count[own, layer] = np.bincount(symbol[subject == own, layer], minlength=n_symbols)
    lead = order[[first for first, _ in bounds]]
    return Chains(
        symbol=np.concatenate(parts),
        block_start=np.cumsum([0, *(part.size for part in parts[:-1])]),
        block_size=np.array([stop - first for first, stop in bounds]),
        block_subject=subject[lead],
        block_bin=place[lead],
        n_layers=n_layers,
        order=order,
        count=count,
        n_bins=n_bins,
    )


def evaluate(chains: Chains, *, emission: Floats, hazard: Floats, start: Floats) -> Gradient:
    """Log-likelihood of the chains and its gradient in the tables.

    Parameters
    ----------
    chains : Chains
        What was seen.
    emission : ndarray, shape (n_subjects, deepest, n_symbols, 2)
        Log-density of each symbol on the text's and on the image's side.
    hazard : ndarray, shape (2, n_subjects, deepest - 1, n_bins)
        Log-odds of switching from text to image, and from image to text.
    start : ndarray, shape (n_subjects, n_bins)
        Log-odds of starting on the text's side.
    """
    found = Gradient(
        value=0.0, emission=np.empty(emission.shape), hazard=np.empty(hazard.shape), start=np.empty(start.shape)
    )
    value = pass_through(
        *map(np.ascontiguousarray, (emission, hazard, start)),
        *(chains.symbol, chains.block_start, chains.block_size, chains.block_subject, chains.block_bin),
        *(chains.n_layers, chains.count, found.emission, found.hazard, found.start),
    )
    return Gradient(value=value, emission=found.emission, hazard=found.hazard, start=found.start)


def smooth(chains: Chains, *, emission: Floats, hazard: Floats, start: Floats) -> tuple[Floats, Floats]:
    """Probability of the text's side in every layer, and the expected number of hidden switches.

    Parameters
    ----------
    chains : Chains
        What was seen.
    emission, hazard, start : ndarray
        As `evaluate` takes them.

    Returns
    -------
    p_text : ndarray, shape (n_chains, deepest)
        Given all layers, in the order of the rows that were arranged; NaN beyond the last layer.
    switches : ndarray, shape (n_chains,)
        Expected switches of each chain.
    """
    p_text = np.full((chains.n_chains, emission.shape[1]), np.nan)
    switches = np.zeros(chains.n_chains)
    _smooth_blocks(
        *map(np.ascontiguousarray, (emission, hazard, start)),
        *(chains.symbol, chains.block_start, chains.block_size, chains.block_subject, chains.block_bin),
        *(chains.n_layers, chains.order, p_text, switches),
    )
    return p_text, switches


@compiled()
def _odds(emission):  # type: ignore[no-untyped-def]
    """Ratio of the densities of every symbol, text's side over image's."""
    ratio = np.empty(emission.shape[:3])
    for s in range(ratio.shape[0]):
        for layer in range(ratio.shape[1]):
            for code in range(ratio.shape[2]):
                ratio[s, layer, code] = math.exp(emission[s, layer, code, 0] - emission[s, layer, code, 1])
    return ratio


@compiled(fastmath=REORDERED)
def _filter(seen, ratio, to_image, to_text, first, filtered, ahead, product, exponent):  # type: ignore[no-untyped-def]
    """Forward through a block: `filtered` is p and `ahead` q of every layer and chain."""
    depth, width = seen.shape
    looked_up = np.empty(width)
    for j in range(width):
        product[j], exponent[j] = 1.0, 0
        ahead[0, j] = first
    for layer in range(depth):
        own = ratio[layer]
        codes, q, p = seen[layer], ahead[layer], filtered[layer]
        for j in range(width):
            looked_up[j] = own[codes[j]]
        if layer and layer % _EVERY == 0:
            for j in range(width):
                bits = read_bits(product[j])
                exponent[j] += (bits >> 52) - _BIAS
                product[j] = as_double((bits & _MANTISSA) | _ONE)
        for j in range(width):
            lifted = q[j] * looked_up[j]
            c = lifted + (1.0 - q[j])
            p[j] = lifted / c
            product[j] *= c
        if layer + 1 < depth:
            stay, enter, after = 1.0 - to_image[layer] - to_text[layer], to_text[layer], ahead[layer + 1]
            for j in range(width):
                after[j] = enter + p[j] * stay


@compiled(fastmath=REORDERED)
def _step_back(p, q, a, b, smoothed, leaving, entering):  # type: ignore[no-untyped-def]
    """One layer back: P(text) given all layers in `smoothed`, P(switch) of either direction beside it.

    Returned are the sums of the three.
    """
    on_text, left, entered = 0.0, 0.0, 0.0
    for j in range(p.size):
        s = smoothed[j]
        each = 1.0 / (q[j] * (1.0 - q[j]))
        from_text = s * (1.0 - q[j]) * each
        from_image = (1.0 - s) * q[j] * each
        leaving[j] = p[j] * a * from_image
        entering[j] = (1.0 - p[j]) * b * from_text
        smoothed[j] = p[j] * (1.0 - a) * from_text + leaving[j]
        on_text += smoothed[j]
        left += leaving[j]
        entered += entering[j]
    return on_text, left, entered


@compiled()
def pass_through(  # type: ignore[no-untyped-def]
    emission,
    hazard,
    start,
    symbol,
    block_start,
    block_size,
    block_subject,
    block_bin,
    n_layers,
    count,
    emission_gradient,
    hazard_gradient,
    start_gradient,
):
    """Log-likelihood of all blocks; its gradient is written into the last three arrays."""
    deepest = emission.shape[1]
    ratio = _odds(emission)
    filtered, ahead = np.empty((deepest, BLOCK)), np.empty((deepest, BLOCK))
    smoothed, leaving, entering = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    product, exponent = np.empty(BLOCK), np.empty(BLOCK, np.int64)
    to_image, to_text = np.empty(deepest), np.empty(deepest)
    emission_gradient[:] = 0.0
    hazard_gradient[:] = 0.0
    start_gradient[:] = 0.0
    total = 0.0
    for block in range(block_start.size):
        s, x, width, depth = block_subject[block], block_bin[block], block_size[block], n_layers[block_subject[block]]
        seen = symbol[block_start[block] : block_start[block] + depth * width].reshape((depth, width))
        for layer in range(depth - 1):
            to_image[layer] = 1.0 / (1.0 + math.exp(-hazard[0, s, layer, x]))
            to_text[layer] = 1.0 / (1.0 + math.exp(-hazard[1, s, layer, x]))
        first = 1.0 / (1.0 + math.exp(-start[s, x]))
        _filter(seen, ratio[s], to_image, to_text, first, filtered[:, :width], ahead[:, :width], product, exponent)
        for j in range(width):
            total += math.log(product[j]) + 0.6931471805599453 * exponent[j]
        now, out, into = smoothed[:width], leaving[:width], entering[:width]
        now[:] = filtered[depth - 1, :width]
        for layer in range(depth - 1, -1, -1):
            tally, codes = emission_gradient[s, layer], seen[layer]
            for j in range(width):
                tally[codes[j], 0] += now[j]
            if layer == 0:
                break
            a, b = to_image[layer - 1], to_text[layer - 1]
            on_text, left, entered = _step_back(filtered[layer - 1, :width], ahead[layer, :width], a, b, now, out, into)
            hazard_gradient[0, s, layer - 1, x] += left - a * on_text
            hazard_gradient[1, s, layer - 1, x] += entered - b * (width - on_text)
        start_gradient[s, x] += now.sum() - first * width
    for s in range(emission.shape[0]):
        for layer in range(n_layers[s]):
            for code in range(emission.shape[2]):
                if count[s, layer, code] > 0.0:
                    total += count[s, layer, code] * emission[s, layer, code, 1]
                    emission_gradient[s, layer, code, 1] = count[s, layer, code] - emission_gradient[s, layer, code, 0]
    return total if math.isfinite(total) else math.nan


@compiled()
def _smooth_blocks(  # type: ignore[no-untyped-def]
    emission,
    hazard,
    start,
    symbol,
    block_start,
    block_size,
    block_subject,
    block_bin,
    n_layers,
    order,
    p_text,
    switches,
):
    deepest = emission.shape[1]
    ratio = _odds(emission)
    filtered, ahead = np.empty((deepest, BLOCK)), np.empty((deepest, BLOCK))
    smoothed, leaving, entering = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    product, exponent = np.empty(BLOCK), np.empty(BLOCK, np.int64)
    to_image, to_text = np.empty(deepest), np.empty(deepest)
    done = 0
    for block in range(block_start.size):
        s, x, width, depth = block_subject[block], block_bin[block], block_size[block], n_layers[block_subject[block]]
        seen = symbol[block_start[block] : block_start[block] + depth * width].reshape((depth, width))
        for layer in range(depth - 1):
            to_image[layer] = 1.0 / (1.0 + math.exp(-hazard[0, s, layer, x]))
            to_text[layer] = 1.0 / (1.0 + math.exp(-hazard[1, s, layer, x]))
        first = 1.0 / (1.0 + math.exp(-start[s, x]))
        _filter(seen, ratio[s], to_image, to_text, first, filtered[:, :width], ahead[:, :width], product, exponent)
        now, out, into = smoothed[:width], leaving[:width], entering[:width]
        now[:] = filtered[depth - 1, :width]
        rows = order[done : done + width]
        for layer in range(depth - 1, -1, -1):
            for j in range(width):
                p_text[rows[j], layer] = now[j]
            if layer == 0:
                break
            _step_back(
                filtered[layer - 1, :width],
                ahead[layer, :width],
                to_image[layer - 1],
                to_text[layer - 1],
                now,
                out,
                into,
            )
            for j in range(width):
                switches[rows[j]] += out[j] + into[j]
        done += width
