"""Paths: sides drawn layer by layer from given hazards, by the very rule of the likelihood.

From its first commitment on, as old as can be, a trace switches by the hazards of its side, layer and age. At every
committed layer the age is the observed one of `mfbayes.switching.pairs`. Across layers of neither answer the path goes
on unseen, with an age that counts its unseen switches too; where it is seen again, these are forgotten. What is drawn
therefore has exactly the probability that pairs give it.
"""

import numpy as np
from numpy.typing import NDArray

from mfbayes.compiled import compiled
from mfbayes.switching.pairs import OLD

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]


def draw_paths(
    committed: NDArray[np.bool_],
    start: Indices,
    *,
    subject: Indices,
    base: Floats,
    level: Floats,
    by_age: Floats,
    rng: np.random.Generator,
) -> Indices:
    """Draw the side of every committed layer; the logit of a hazard is the sum of `base`, `level` and `by_age`.

    Parameters
    ----------
    committed : ndarray of bool, shape (n_traces, n_layers)
        Layers that read one of the answers; none beyond a model's depth.
    start : ndarray of int, shape (n_traces,)
        Index of the side of the first of them; not read where there is none.
    subject : ndarray of int, shape (n_traces,)
    base : ndarray, shape (2, n_traces)
        By side that is left.
    level : ndarray, shape (2, n_subjects, n_layers - 1)
    by_age : ndarray, shape (2, n_subjects, n_ages)
    rng : numpy.random.Generator
        Randomness.

    Returns
    -------
    ndarray of int, shape (n_traces, n_layers)
        Index of the side, -1 where the layer is not committed.
    """
    sides: Indices = _walk(committed, start, subject, base, level, by_age, rng.random(committed.shape))
    return sides


@compiled()
def _walk(committed, start, subject, base, level, by_age, uniform):  # type: ignore[no-untyped-def]
    sides = np.full(committed.shape, -1)
    for i in range(committed.shape[0]):
        s = subject[i]
        seen = -1
        side, age, observed_age = start[i], OLD, OLD
        last = committed.shape[1] - 1
        while last >= 0 and not committed[i, last]:
            last -= 1
        for layer in range(last + 1):
            if seen >= 0:
                logit = base[side, i] + level[side, s, layer - 1] + by_age[side, s, age]
                switches = uniform[i, layer] < 1.0 / (1.0 + np.exp(-logit))
                side, age = (1 - side, 0) if switches else (side, min(age + 1, OLD))
                observed_age = min(observed_age + 1, OLD)
            if committed[i, layer]:
                if seen >= 0 and side != seen:
                    observed_age = 0
                age, seen = observed_age, side
                sides[i, layer] = side
    return sides
