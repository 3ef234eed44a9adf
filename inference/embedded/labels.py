"""What texts and images promise in training: how often an answer's label follows them.

Graded reliability is what makes a calibrated model graded in its uncertainty: direct texts and plain
images are almost always right, the sixteen things of a colour are less and less consistent the rarer they
are.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.texts import REFERENTS

N_COLORS: Final = len(COLORS)
N_REFERENTS: Final = min(len(things) for things in REFERENTS.values())
IMAGE_NOISE: Final = 0.006
TEXT_NOISE: Final = (0.006, 0.03)  # of tiers 0 and 1
CONSISTENCY: Final[NDArray[np.float64]] = np.linspace(0.99, 0.40, N_REFERENTS)  # by rank of the thing
FREQUENCY: Final[NDArray[np.float64]] = 1 / np.arange(1, N_REFERENTS + 1) / (1 / np.arange(1, N_REFERENTS + 1)).sum()
# Of a thing's inconsistent labels, the share that goes to one rival colour.
_RIVAL_SHARE: Final = 0.6


def _choose_rivals() -> NDArray[np.int64]:
    """One rival colour for every thing; shape (6, 16)."""
    rng = np.random.default_rng(7)
    shifts = rng.integers(1, N_COLORS, size=(N_COLORS, N_REFERENTS))
    rivals: NDArray[np.int64] = (np.arange(N_COLORS)[:, None] + shifts) % N_COLORS
    return rivals


RIVALS: Final = _choose_rivals()


def label_probabilities() -> NDArray[np.float64]:
    """P(label | thing), shape (6 colours of the thing, 16 ranks, 6 labels).

    Examples
    --------
    >>> bool(np.allclose(label_probabilities().sum(-1), 1))
    True
    """
    probabilities = np.empty((N_COLORS, N_REFERENTS, N_COLORS))
    for color in range(N_COLORS):
        for rank in range(N_REFERENTS):
            missing = 1 - CONSISTENCY[rank]
            row = np.full(N_COLORS, (1 - _RIVAL_SHARE) * missing / (N_COLORS - 2))
            row[color] = CONSISTENCY[rank]
            row[RIVALS[color, rank]] = _RIVAL_SHARE * missing
            probabilities[color, rank] = row
    return probabilities


_LABELS_OF_THINGS: Final = label_probabilities()
_JOINT: Final = _LABELS_OF_THINGS * FREQUENCY[None, :, None]
# P(thing | label), shape (6 labels, 96 things): agreeing texts must be as reliable as texts alone.
_THINGS_OF_LABELS: Final = (_JOINT / _JOINT.sum((0, 1))).reshape(-1, N_COLORS).T


def draw_rank(rng: np.random.Generator) -> int:
    """Rank of a thing, frequent ones first: P is proportional to 1 / (rank + 1)."""
    return int(rng.choice(N_REFERENTS, p=FREQUENCY))


def draw_agreeing_thing(rng: np.random.Generator, color: int) -> tuple[int, int]:
    """Colour and rank of a thing, drawn from P(thing | label is `color`)."""
    return divmod(int(rng.choice(N_COLORS * N_REFERENTS, p=_THINGS_OF_LABELS[color])), N_REFERENTS)


def draw_text_label(rng: np.random.Generator, color: int, d_text: int, rank: int) -> int:
    """Label of a text that says `color`; `rank` is that of its thing in tier 2."""
    if d_text == 2:
        return int(rng.choice(N_COLORS, p=_LABELS_OF_THINGS[color, rank]))
    return disturb(rng, color, TEXT_NOISE[d_text])


def draw_image_label(rng: np.random.Generator, color: int) -> int:
    """Label of an image whose target is `color`."""
    return disturb(rng, color, IMAGE_NOISE)


def disturb(rng: np.random.Generator, color: int, noise: float) -> int:
    """Another colour with probability `noise`."""
    if rng.random() >= noise:
        return color
    return (color + 1 + int(rng.integers(N_COLORS - 1))) % N_COLORS
