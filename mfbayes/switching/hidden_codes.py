"""Codes: layer traces in a few values each, so that a table is all that a gradient must compute anew.

A logit difference is told only up to the bin that it falls into among those of its subject and layer, where
the mean of the bin stands for it; relative uncertainty up to a bin of its subject's. Bins of logit differences
are narrow in the tails, where a density bends least evenly. Where there are fewer traces than bins, nothing is lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.switching.forward import Chains, arrange_chains
from mfbayes.trajectories import Trajectories

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_OTHER = names.STATE_CODES[names.OTHER]
_MAX_CODES = 128  # a symbol is a code and whether the top-1 is another token, in one byte


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """Trajectories in codes.

    Attributes
    ----------
    subjects : tuple of str
        Labels.
    n_layers : ndarray of int, shape (n_subjects,)
        Depth of each subject's model.
    chains : Chains
        Symbols, 2 code + 1[top-1 is neither answer].
    unit : ndarray, shape (n_subjects,)
        Median size of a subject's logit differences, in logits.
    difference : ndarray, shape (n_subjects, deepest, n_codes)
        Logit difference that a code stands for, in the subject's unit.
    x : ndarray, shape (n_subjects, n_bins)
        dH - b that a bin stands for.
    """

    subjects: tuple[str, ...]
    n_layers: Indices
    chains: Chains
    unit: Floats
    difference: Floats
    x: Floats

    @property
    def deepest(self) -> int:
        """Layers of the deepest model."""
        return int(self.n_layers.max())


def encode(trajectories: Trajectories, points: Mapping[str, float], *, n_codes: int = 64, n_bins: int = 32) -> Coded:
    """Put trajectories into codes.

    Parameters
    ----------
    trajectories : Trajectories
        Layer traces with their trials.
    points : mapping of str to float
        Balance point of each subject, by its label.
    n_codes : int
        Bins of a layer's logit differences, from 2 to 128.
    n_bins : int
        Bins of dH - b.

    Raises
    ------
    InputError
        Where a subject has no trace, one layer, a logit that is not a finite number, or no balance point.
    """
    if not (2 <= n_codes <= _MAX_CODES and n_bins >= 1):
        raise InputError(f"Expected 2 to {_MAX_CODES} codes and at least one bin, got {n_codes} and {n_bins}.")
    b = np.array([points.get(label, np.nan) for label in trajectories.subjects])
    _check(trajectories, b)
    subject, depths = trajectories.subject, trajectories.n_layers
    n_subjects, deepest = depths.size, int(depths.max())
    bins = np.arange(1, n_bins) / n_bins
    code = np.zeros((len(trajectories), deepest), dtype=np.int64)
    difference, unit = np.zeros((n_subjects, deepest, n_codes)), np.ones(n_subjects)
    place, x = np.zeros(len(trajectories), dtype=np.int64), np.zeros((n_subjects, n_bins))
    middle = (1 - np.cos(np.pi * np.arange(1, n_codes) / n_codes)) / 2
    for own, depth in enumerate(depths):
        rows = np.flatnonzero(subject == own)
        seen = trajectories.logit_difference[rows, :depth]
        unit[own] = np.median(np.abs(seen)) or 1.0
        for layer in range(depth):
            code[rows, layer], difference[own, layer] = _bin(seen[:, layer] / unit[own], middle, n_codes)
        distance = trajectories.uncertainty[rows] - b[own]
        place[rows], x[own] = _bin(distance, bins, n_bins)
    symbol = 2 * code + (trajectories.state[:, :deepest] == _OTHER)
    chains = arrange_chains(symbol, subject=subject, place=place, n_layers=depths, n_symbols=2 * n_codes, n_bins=n_bins)
    return Coded(subjects=trajectories.subjects, n_layers=depths, chains=chains, unit=unit, difference=difference, x=x)


def _bin(values: Floats, shares: Floats, n_bins: int) -> tuple[Indices, Floats]:
    """Bin of every value, between quantiles, and the mean of each bin; of an empty one, that of all."""
    place = np.searchsorted(np.quantile(values, shares), values, side="right").astype(np.int64)
    n = np.bincount(place, minlength=n_bins)
    total = np.bincount(place, weights=values, minlength=n_bins)
    return place, np.where(n > 0, total / np.maximum(n, 1), values.mean())


def _check(trajectories: Trajectories, b: Floats) -> None:
    labels, depths = trajectories.subjects, trajectories.n_layers
    if not len(trajectories):
        raise InputError("Expected at least one layer trace, got none.")
    n_traces = np.bincount(trajectories.subject, minlength=len(labels))
    within = np.arange(trajectories.logit_difference.shape[1]) < depths[trajectories.subject, None]
    broken = (within & ~np.isfinite(trajectories.logit_difference)).any(axis=1)
    for faults, what, remedy in (
        (n_traces == 0, "no layer trace", "Leave these subjects out."),
        (depths < 2, "one layer, in which nothing can switch", "Leave these subjects out."),
        (~np.isfinite(b), "no balance point", "Leave these subjects out, or fit their trials first."),
        (
            np.bincount(trajectories.subject, weights=broken, minlength=len(labels)) > 0,
            "a logit difference that is not a finite number",
            "Leave these traces out, as mfbayes.trajectories.join_traces does.",
        ),
    ):
        if faults.any():
            found = ", ".join(label for label, fault in zip(labels, faults, strict=True) if fault)
            raise InputError(
                f"Expected finite traces of two or more layers and a balance point for each subject; {found}: {what}. "
                f"{remedy}"
            )
