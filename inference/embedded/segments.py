"""Training segments: a prompt's tokens after the image, and the colour that answers it."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final

import numpy as np

from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.shapes import SHAPES
from mfbayes.data_gen.texts import COMMAND, REFERENTS, describe, question
from mfbayes.inference.embedded.family import Tokenizer
from mfbayes.inference.embedded.labels import (
    TEXT_NOISE,
    disturb,
    draw_agreeing_thing,
    draw_image_label,
    draw_rank,
    draw_text_label,
)

_TEXT_TIER_SHARES: Final = (0.25, 0.2, 0.55)


class Kind(StrEnum):
    """What a segment tells beside its image."""

    TEXT = "text"
    IMAGE = "image"
    AGREEING = "agreeing"
    IRRELEVANT = "irrelevant"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Segment:
    """Token ids of a prompt's part after the image (or of a whole text-only prompt), and its answer."""

    kind: Kind
    tokens: tuple[int, ...]
    answer: int


class SegmentWriter:
    """Writes segments for one tokenizer.

    Parameters
    ----------
    tokenizer : Tokenizer
        Of the model's family.
    rng : numpy.random.Generator
        Source of all randomness.
    trust : float
        Probability that a conflict's label is the image's answer, in [0, 1], however hard either side is.
    """

    def __init__(self, tokenizer: Tokenizer, rng: np.random.Generator, *, trust: float) -> None:
        self._rng = rng
        self._trust = trust

        @cache
        def encode(text: str) -> tuple[int, ...]:
            return tuple(tokenizer(text, add_special_tokens=False).input_ids)

        self._encode = encode
        self._opening = tuple(tokenizer("USER:").input_ids)

    def write_text_only(self) -> Segment:
        """Describe an object that cannot be seen, and ask for its colour."""
        shape, color = self._draw_shape(), self._draw_color()
        text, d_text, rank = self._describe(shape, color)
        tokens = (*self._opening, *self._encode(text), *self._ask(shape))
        return Segment(Kind.TEXT, tokens, draw_text_label(self._rng, color, d_text, rank))

    def write(self, kind: Kind, shape: int, color: int) -> Segment:
        """Ask for the colour of a visible object, with a text of some kind before the question."""
        label = draw_image_label(self._rng, color)
        if kind == Kind.IMAGE:
            return Segment(kind, self._ask(shape), label)
        if kind == Kind.AGREEING:
            text, label = self._describe_agreeing(shape, color), color
        elif kind == Kind.IRRELEVANT:
            other = self._draw_shape(besides=(shape,))
            text = self._describe(other, self._draw_color(), besides=(shape,))[0]
        else:
            said = self._draw_color(besides=color)
            text, d_text, rank = self._describe(shape, said)
            if self._rng.random() >= self._trust:
                label = draw_text_label(self._rng, said, d_text, rank)
        return Segment(kind, (*self._encode(text), *self._ask(shape)), label)

    def _ask(self, shape: int) -> tuple[int, ...]:
        return self._encode(f"{question(SHAPES[shape])} {COMMAND} ASSISTANT:")

    def _describe(self, shape: int, color: int, *, besides: tuple[int, ...] = ()) -> tuple[str, int, int]:
        """Text of a random tier, its tier, and the rank of its thing (-1 where it has none)."""
        d_text = self._draw_tier()
        rank = draw_rank(self._rng) if d_text == 2 else -1
        return self._phrase(shape, color, d_text, rank, besides=besides), d_text, rank

    def _describe_agreeing(self, shape: int, color: int) -> str:
        d_text = self._draw_tier()
        if d_text == 2:
            said, rank = draw_agreeing_thing(self._rng, color)
            return self._phrase(shape, said, 2, rank)
        return self._phrase(shape, disturb(self._rng, color, TEXT_NOISE[d_text]), d_text, -1)

    def _phrase(self, shape: int, color: int, d_text: int, rank: int, *, besides: tuple[int, ...] = ()) -> str:
        helper = SHAPES[self._draw_shape(besides=(shape, *besides))] if d_text == 1 else None
        referent = REFERENTS[COLORS[color]][rank] if d_text == 2 else None
        return describe(SHAPES[shape], COLORS[color], d_text, helper=helper, referent=referent)

    def _draw_tier(self) -> int:
        return int(self._rng.choice(3, p=_TEXT_TIER_SHARES))

    def _draw_shape(self, *, besides: tuple[int, ...] = ()) -> int:
        left = [shape for shape in range(len(SHAPES)) if shape not in besides]
        return left[self._rng.integers(len(left))]

    def _draw_color(self, *, besides: int | None = None) -> int:
        if besides is None:
            return int(self._rng.integers(len(COLORS)))
        return (besides + 1 + int(self._rng.integers(len(COLORS) - 1))) % len(COLORS)
