"""Scenes of the colour task: where the target and its distractors lie, tier by tier.

A scene is geometry only; `drawing` turns it into pixels of any size.

References
----------
The tier table is that of Zhang et al., arXiv:2511.02243. Shares of the image are shares of its area
taken by the target's bounding square.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mfbayes.data_gen.coverage import TargetMask

UNIFORM_CANVAS: Final = (448, 448)


@dataclass(frozen=True, slots=True)
class VisualTier:
    """What makes an image of one tier easy or hard.

    Attributes
    ----------
    canvas : (int, int)
        Width and height in px.
    target_share : (float, float)
        Least and largest share of the canvas's area taken by the target's bounding square.
    n_distractors : int
        Objects beside the target.
    occlusion_rate : float
        Share of the distractors that overlap the target.
    min_visible_share : float
        Least share of the target's own area that stays uncovered.
    """

    canvas: tuple[int, int]
    target_share: tuple[float, float]
    n_distractors: int
    occlusion_rate: float
    min_visible_share: float


_EASY_CANVAS: Final = (800, 600)
_HARD_CANVAS: Final = (224, 224)
# The study gives the easy targets as 80 to 200 px of the 800 x 600 canvas.
_EASY_SHARE: Final = (80**2 / (800 * 600), 200**2 / (800 * 600))

VISUAL_TIERS: Final = tuple(VisualTier(_EASY_CANVAS, _EASY_SHARE, n, 0.0, 1.0) for n in range(5)) + tuple(
    VisualTier(_HARD_CANVAS, share, n, rate, visible)
    for share, n, rate, visible in (
        ((0.20, 0.40), 7, 0.5, 0.35),
        ((0.20, 0.40), 10, 0.8, 0.35),
        ((0.05, 0.10), 7, 0.5, 0.35),
        ((0.05, 0.10), 11, 0.8, 0.35),
        ((0.04, 0.06), 20, 0.3, 0.25),
        ((0.04, 0.06), 30, 0.6, 0.25),
        ((0.04, 0.06), 40, 0.5, 0.25),
        ((0.04, 0.06), 55, 0.6, 0.25),
        ((0.04, 0.06), 70, 0.7, 0.25),
    )
)


@dataclass(frozen=True, slots=True)
class Thing:
    """A shape of one colour; `x`, `y` and `radius` (half the bounding square's side) in px of the canvas."""

    shape: str
    color: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Things in the order they are drawn, and what became of the target among them.

    `n_overlapping` distractors share area with the target; `n_occluders` of them lie above it and leave
    `visible_share` of it to see.
    """

    canvas: tuple[int, int]
    things: tuple[Thing, ...]
    target_index: int
    n_overlapping: int
    n_occluders: int
    visible_share: float

    @property
    def target(self) -> Thing:
        """The thing that is asked about."""
        return self.things[self.target_index]


def compose(
    rng: np.random.Generator,
    *,
    target: str,
    image_answer: str,
    d_image: int,
    distractor_colors: Sequence[str],
    distractor_shapes: Sequence[str],
    canvas: tuple[int, int] | None = None,
    distinct_shapes: bool = False,
) -> Scene:
    """Place a target and its distractors as the visual tier asks.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all randomness: the same state gives the same scene.
    target, image_answer : str
        Shape and colour of the target.
    d_image : int
        Visual tier, 0 to 13.
    distractor_colors, distractor_shapes : sequence of str
        What distractors may be; never the target's shape.
    canvas : (int, int), optional
        Width and height in px instead of the tier's own.
    distinct_shapes : bool
        No two distractors of one shape (only where there are enough shapes).

    Raises
    ------
    ValueError
        If a distractor could have the target's shape: the question would have two answers.
    """
    if target in distractor_shapes:
        raise ValueError(f"distractors may not be a {target}: the question would have two answers")
    tier = VISUAL_TIERS[d_image]
    size = canvas or tier.canvas
    shapes = (
        rng.permutation(np.asarray(distractor_shapes))[: tier.n_distractors]
        if distinct_shapes
        else rng.choice(np.asarray(distractor_shapes), tier.n_distractors)
    )
    colors = rng.choice(np.asarray(distractor_colors), len(shapes))
    looks = [(str(shape), str(color)) for shape, color in zip(shapes, colors, strict=True)]
    if tier.occlusion_rate == 0:
        return _spread(rng, (target, image_answer), looks, tier=tier, canvas=size)
    return _crowd(rng, (target, image_answer), looks, tier=tier, canvas=size)


def _radius(rng: np.random.Generator, tier: VisualTier, canvas: tuple[int, int]) -> float:
    """Draw half the side of the bounding square: uniform in the side, not in the area."""
    low, high = (math.sqrt(share * canvas[0] * canvas[1]) for share in tier.target_share)
    return float(rng.uniform(low, high)) / 2


def _spread(
    rng: np.random.Generator,
    target: tuple[str, str],
    looks: Sequence[tuple[str, str]],
    *,
    tier: VisualTier,
    canvas: tuple[int, int],
) -> Scene:
    """Easy scenes: nothing touches anything, whole scenes drawn again until all fit."""
    width, height = canvas
    while True:
        placed: list[Thing] = []
        for shape, color in (target, *looks):
            radius = _radius(rng, tier, canvas)
            for _ in range(40):
                x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
                if all(max(abs(x - o.x), abs(y - o.y)) > 1.02 * (radius + o.radius) for o in placed):
                    placed.append(Thing(shape, color, x, y, radius))
                    break
        if len(placed) == 1 + len(looks):
            return Scene(canvas, tuple(placed), 0, 0, 0, 1.0)


def _crowd(
    rng: np.random.Generator,
    target: tuple[str, str],
    looks: Sequence[tuple[str, str]],
    *,
    tier: VisualTier,
    canvas: tuple[int, int],
) -> Scene:
    """Hard scenes: a fixed number of distractors overlaps the target, above it while enough stays visible."""
    width, height = canvas
    radius = _radius(rng, tier, canvas)
    middle = Thing(*target, rng.uniform(radius, width - radius), rng.uniform(radius, height - radius), radius)
    mask = TargetMask(middle.shape, middle.x, middle.y, radius, canvas)
    # Distractors are a little smaller than a small target, clearly smaller than a large one.
    base = radius * (0.6 if tier.target_share[0] >= 0.2 else 0.8)
    below: list[Thing] = []
    above: list[Thing] = []
    n_overlapping = round(tier.n_distractors * tier.occlusion_rate)
    for index, (shape, color) in enumerate(looks):
        size = base * rng.uniform(0.6, 1.1)
        if index < n_overlapping:
            thing, covers = _place_on(rng, middle, shape, color, size, mask, tier.min_visible_share)
            (above if covers else below).append(thing)
        else:
            below.append(_place_beside(rng, middle, shape, color, size, mask, canvas))
    below = [below[i] for i in rng.permutation(len(below))]
    return Scene(canvas, (*below, middle, *above), len(below), n_overlapping, len(above), mask.visible_share)


def _place_on(
    rng: np.random.Generator,
    middle: Thing,
    shape: str,
    color: str,
    size: float,
    mask: TargetMask,
    min_visible_share: float,
) -> tuple[Thing, bool]:
    """Put a thing over the target's edge; whether it may lie above is up to the share left visible."""
    while True:
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 1.0) * (middle.radius + 0.6 * size)
        x, y = middle.x + reach * math.cos(angle), middle.y + reach * math.sin(angle)
        if mask.overlaps(shape, x, y, size):
            break
    return Thing(shape, color, x, y, size), mask.cover(shape, x, y, size, at_least=min_visible_share)


def _place_beside(
    rng: np.random.Generator,
    middle: Thing,
    shape: str,
    color: str,
    size: float,
    mask: TargetMask,
    canvas: tuple[int, int],
) -> Thing:
    """Put a thing anywhere off the target, smaller each time it does not fit."""
    width, height = canvas
    while True:
        for _ in range(20):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            far = max(abs(x - middle.x), abs(y - middle.y)) > middle.radius + size + 1
            if far or not mask.overlaps(shape, x, y, size):
                return Thing(shape, color, x, y, size)
        size *= 0.85
