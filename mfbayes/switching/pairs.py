"""Pairs: a layer trace as steps from one committed layer to the next.

Every layer whose top reading is one of the two answers is committed. Two committed layers in order are a pair; where
they are neighbours the side either switched or stayed, and where layers of neither answer lie between (a gap) the
sides passed there are unknown. A pair starts with an age: the layers since the last *observed* switch, those of gaps
counted too. A gap that ends on the other side is a switch at its end, and one that ends on the same side is none,
whatever went on inside. So the age is a function of what was observed: the model is driven by observations, and given
the observed past each pair has a probability of its own, whose product over the pairs is the trace's.

Within a gap the path goes on unseen: from the side and the observed age at its start, by the same hazards, an unseen
switch makes it just switched, and all such paths are summed. At the end of the gap its age is the observed one again.
`mfbayes.switching.paths` draws traces by this rule.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.trajectories import Trajectories

type Indices = NDArray[np.int64]

SIDES = (names.TEXT, names.IMAGE)
"""Sides by their index; a direction is named by the side that is left."""
AGES = ("switched-1-ago", "switched-2-ago", "older")
"""Ages at the start of a pair by their index; before the first switch a trace is as old as can be."""
JUST, OLD = 0, len(AGES) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Consecutive committed layers of conflict traces, a row a pair, in the order of the traces.

    Attributes
    ----------
    trajectories : Trajectories
        The conflict traces that the pairs are of.
    trace, layer, gap : ndarray of int, shape (n_pairs,)
        Trace (a row of the trajectories), layer at the start counted from 0, and layers from start to end, 1 or more.
    start, end, age : ndarray of int, shape (n_pairs,)
        Sides at both ends (indices into `SIDES`) and age at the start (an index into `AGES`).
    """

    trajectories: Trajectories
    trace: Indices
    layer: Indices
    gap: Indices
    start: Indices
    end: Indices
    age: Indices

    def __len__(self) -> int:
        return self.trace.size

    @property
    def is_adjacent(self) -> NDArray[np.bool_]:
        """Whether nothing lies between."""
        adjacent: NDArray[np.bool_] = self.gap == 1
        return adjacent

    @property
    def is_switch(self) -> NDArray[np.bool_]:
        """Whether the sides differ."""
        switched: NDArray[np.bool_] = self.start != self.end
        return switched


def pair_layers(trajectories: Trajectories) -> Pairs:
    """Divide conflict traces into pairs of committed layers; controls are left out.

    Parameters
    ----------
    trajectories : Trajectories
        Traces joined with their trials.

    Raises
    ------
    InputError
        If no trace has two committed layers.
    """
    conflicts = trajectories.conflicts
    side = find_sides(conflicts.state)
    n, depth = side.shape
    layers = np.broadcast_to(np.arange(depth), (n, depth))
    committed = side >= 0
    last = np.maximum.accumulate(np.where(committed, layers, -1), axis=1)
    before = np.concatenate([np.full((n, 1), -1), last[:, :-1]], axis=1)
    trace, end_layer = np.nonzero(committed & (before >= 0))
    if not trace.size:
        raise InputError(
            "Expected layer traces of conflict items with two layers or more that read the text or the image answer, "
            "but there is none, so nothing is known of switching."
        )
    layer = before[trace, end_layer]
    start, end = side[trace, layer], side[trace, end_layer]
    changes = np.full((n, depth), -1)
    switched = start != end
    changes[trace[switched], end_layer[switched]] = end_layer[switched]
    last_change = np.maximum.accumulate(changes, axis=1)[trace, layer]
    age = np.where(last_change >= 0, np.minimum(layer - last_change, OLD), OLD)
    return Pairs(trajectories=conflicts, trace=trace, layer=layer, gap=end_layer - layer, start=start, end=end, age=age)


def find_unpaired(pairs: Pairs) -> tuple[str, ...]:
    """Subjects without a pair, of whose switching nothing is known."""
    of = pairs.trajectories
    known = np.bincount(of.subject[pairs.trace], minlength=len(of.subjects)) > 0
    return tuple(subject for subject, there in zip(of.subjects, known, strict=True) if not there)


def find_sides(state: NDArray[np.int8]) -> Indices:
    """Index into `SIDES` of every layer, -1 where neither answer is read."""
    side = np.full(state.shape, -1, dtype=np.int64)
    for index, name in enumerate(SIDES):
        side[state == names.STATE_CODES[name]] = index
    return side
