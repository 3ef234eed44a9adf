"""Parts: independent normal variables whose sums are the levels and coefficients of one side.

Level: mean + what a subject adds + walk over relative depth + what a layer adds. Coefficient: mean + what a subject
adds. What is added is divided into its mean over those it is added to, which joins the part above, and the rest. So
no part stands for what only the sum of two tells of.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag

from mfbayes.switching.priors import SwitchingPriors

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

SUBJECT_SDS = ("level_sd", "walk_sd", "layer_sd", "slope_sd", "age_sd")
_MOST_KNOTS = 16


class Block(NamedTuple):
    """Parts of one variance.

    Attributes
    ----------
    columns : ndarray, shape (n_parameters, n_parts)
        What of the parts is in which parameter.
    variance : mapping of str to float
        Weights of the squares of standard deviations, by name, that the parts' variance is the sum of.
    known : float
        What is added to it.
    """

    columns: Floats
    variance: Mapping[str, float]
    known: float = 0.0


def divide_levels(n_steps: Indices, priors: SwitchingPriors) -> list[Block]:
    """Parts of the levels of every subject's layers; the first is the mean."""
    depths = np.unique(n_steps)
    known = priors.level_mean_sd**2
    if depths.size == 1:
        return _divide_alike(n_steps.size, int(depths[0]), known)
    # Layers of different depth tell of the walk and of the mean differently: subjects are divided depth by depth.
    of_subject = np.repeat(np.eye(n_steps.size), n_steps, axis=0)
    blocks = [
        Block(np.ones((n_steps.sum(), 1)), {}, known),
        Block(walk_waves(n_steps), {"walk_sd": 1.0}),
        Block(block_diag(*(_contrasts(n) for n in n_steps)), {"layer_sd": 1.0}),
    ]
    for depth in depths:
        alike = of_subject[:, n_steps == depth]
        blocks.append(Block(alike @ _contrasts(alike.shape[1]), _share(1, depth)))
        blocks.append(Block(alike.sum(axis=1, keepdims=True), _share(alike.shape[1], depth)))
    return blocks


def _divide_alike(n_subjects: int, depth: int, known: float) -> list[Block]:
    """Parts of the levels of subjects of one depth: all that layers add together joins the walk, too."""
    waves = walk_waves(np.array([depth]))
    sizes, axes = np.linalg.eigh(waves @ waves.T + np.ones((depth, depth)))
    # The mean of the layers is one axis of its own, and the largest: the walk has none of it.
    sizes, axes = sizes[:-1], axes[:, :-1]
    everyone = np.ones((n_subjects, 1)) / np.sqrt(n_subjects)
    others = _contrasts(n_subjects)
    joint = [
        Block(_kron(everyone, axis[:, None]), {"walk_sd": n_subjects * size, "layer_sd": 1.0})
        for size, axis in zip(sizes.tolist(), axes.T, strict=True)
    ]
    return [
        Block(np.ones((n_subjects * depth, 1)), _share(n_subjects, depth), known),
        *joint,
        Block(_kron(others, axes), {"layer_sd": 1.0}),
        Block(_kron(others, np.ones((depth, 1))), _share(1, depth)),
    ]


def _share(n_subjects: int, depth: int) -> dict[str, float]:
    """Variance of the mean of what so many subjects of a depth add, their layers included."""
    return {"level_sd": 1 / n_subjects, "layer_sd": 1 / (n_subjects * depth)}


def divide_effects(n_subjects: int, scales: Sequence[str], priors: SwitchingPriors) -> list[Block]:
    """Parts of coefficients, subject by subject; the first blocks, as many as there are scales, are their means.

    Parameters
    ----------
    n_subjects : int
        Number of subjects.
    scales : sequence of str
        By coefficient, the name of the standard deviation between subjects.
    priors : SwitchingPriors
        Scales of the priors.
    """
    each: Floats = np.eye(len(scales))
    means, rest = [], []
    for name in dict.fromkeys(scales):
        own = each[:, [scale == name for scale in scales]]
        mean: Floats = np.tile(own, (n_subjects, 1))
        means.append(Block(mean, {name: 1 / n_subjects}, priors.coefficient_mean_sd**2))
        rest.append(Block(_kron(_contrasts(n_subjects), own), {name: 1.0}))
    return means + rest


def walk_waves(n_steps: Indices) -> Floats:
    """A random walk over relative depth as independent waves: its level at every step, shape (n_all_steps, n_waves).

    The walk has a standard deviation of 1 for its way from the first knot to the last, and mean 0 over the layers of
    every subject, whose level is thereby the mean of its layers. Weights of the waves (cosines, the walk's
    eigenvectors, each in its own size) are standard normal; between knots it is linear.
    """
    n_knots = min(int(n_steps.max()), _MOST_KNOTS)
    waves = np.arange(1, n_knots)
    knots = (np.arange(n_knots) + 0.5) / n_knots
    shape = np.sqrt(2 / n_knots) * np.cos(np.pi * np.outer(knots, waves))
    walk = shape / (2 * np.sin(np.pi * waves / (2 * n_knots))) / np.sqrt(max(n_knots - 1, 1))
    found = []
    for n in n_steps:
        own = [np.interp((np.arange(n) + 0.5) / n, knots, wave) for wave in walk.T]
        found.append(np.array(own).reshape(waves.size, n).T)
    return np.concatenate([own - own.mean(axis=0) for own in found])


def _contrasts(n: int) -> Floats:
    """Directions at right angles to one another and to the mean of n, as columns."""
    basis, _ = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n, n - 1)]))
    directions: Floats = basis[:, 1:]
    return directions


def _kron(first: Floats, second: Floats) -> Floats:
    return np.asarray(np.kron(first, second), dtype=np.float64)
