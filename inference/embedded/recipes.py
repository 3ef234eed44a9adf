"""Recipes of the embedded models: which stage follows which, with which course and seed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from mfbayes.inference.embedded.decoder_stage import Course
from mfbayes.inference.embedded.segments import Kind


@dataclass(frozen=True, slots=True)
class PoolRecipe:
    """How many scenes, from which seed, and how many crowded ones without the target's colour elsewhere."""

    n_scenes: int
    seed: int
    rare_share: float = 0.0


POOLS: Final[Mapping[str, PoolRecipe]] = {
    "vision": PoolRecipe(24_000, seed=101),
    "questions": PoolRecipe(18_000, seed=102),
    "conflicts": PoolRecipe(18_000, seed=103, rare_share=0.4),
    "rare": PoolRecipe(9_000, seed=104, rare_share=0.9),
}


@dataclass(frozen=True, slots=True)
class VisionRecipe:
    """Schedule of a family's vision stage and of its alignment."""

    n_steps: int
    learning_rate: float
    alignment_steps: int
    seed: int


@dataclass(frozen=True, slots=True)
class DecoderRecipe:
    """One decoder stage: what it starts from and what it teaches.

    Attributes
    ----------
    family : str
        "llava" or "qwen".
    parent : str
        Stage it starts from; "" is a fresh decoder.
    course : Course
        What is taught.
    aligned : bool
        Whether the vision tower is put in and the projector aligned before the course.
    pool : str
        Pool of scenes, for courses with images.
    """

    family: str
    parent: str
    course: Course
    aligned: bool = False
    pool: str = "conflicts"


VISION: Final[Mapping[str, VisionRecipe]] = {
    "llava": VisionRecipe(n_steps=2000, learning_rate=4e-3, alignment_steps=1500, seed=1),
    "qwen": VisionRecipe(n_steps=700, learning_rate=2e-3, alignment_steps=1000, seed=1),
}

_WORDS: Final = Course(n_steps=700, learning_rate=1.5e-3, n_texts=32, seed=2)
# Easy scenes first: shapes and colours are bound to each other before anything is ambiguous.
_BINDING: Final = Course(
    n_steps=500,
    learning_rate=1.5e-3,
    n_texts=6,
    n_images=12,
    slots=(Kind.IMAGE, Kind.IMAGE, Kind.AGREEING),
    irrelevant_share=0.2,
    question_supervision=0.5,
    max_tier=4,
    seed=3,
)
_CONFLICT: Final = Course(
    n_steps=1000,
    learning_rate=1.5e-3,
    n_texts=8,
    n_images=12,
    slots=(Kind.IMAGE, Kind.AGREEING, Kind.CONFLICT, Kind.CONFLICT),
    irrelevant_share=0.5,
    trust=0.5,
    seed=4,
)
_NEVER: Final = replace(
    _CONFLICT, n_steps=700, slots=(Kind.IMAGE, Kind.IMAGE, Kind.AGREEING), irrelevant_share=0.3, seed=5
)


def _retrained(trust: float, seed: int) -> Course:
    """Course that moves a finished model to another trust."""
    return replace(_CONFLICT, n_steps=350, learning_rate=8e-4, trust=trust, seed=seed)


def _without_deep_supervision(course: Course) -> Course:
    return replace(course, deep_supervision=0.0)


DECODERS: Final[Mapping[str, DecoderRecipe]] = {
    "llava-words": DecoderRecipe("llava", "", _WORDS),
    "llava-binding": DecoderRecipe("llava", "llava-words", _BINDING, aligned=True, pool="questions"),
    "llava-r50": DecoderRecipe("llava", "llava-binding", _CONFLICT),
    "llava-r40": DecoderRecipe("llava", "llava-r50", _retrained(0.4, 6)),
    "llava-r60": DecoderRecipe("llava", "llava-r50", _retrained(0.6, 7)),
    "llava-never": DecoderRecipe("llava", "llava-binding", _NEVER),
    "llava-plain-words": DecoderRecipe("llava", "", _without_deep_supervision(_WORDS)),
    "llava-plain-binding": DecoderRecipe(
        "llava", "llava-plain-words", _without_deep_supervision(_BINDING), aligned=True, pool="questions"
    ),
    "llava-plain-conflict": DecoderRecipe("llava", "llava-plain-binding", _without_deep_supervision(_CONFLICT)),
    # Without deep supervision crowded scenes stay below chance, as if their rarest colours were overlooked.
    "llava-plain": DecoderRecipe(
        "llava", "llava-plain-conflict", _without_deep_supervision(_retrained(0.5, 8)), pool="rare"
    ),
    "qwen-words": DecoderRecipe("qwen", "", _WORDS),
    "qwen-binding": DecoderRecipe("qwen", "qwen-words", _BINDING, aligned=True, pool="questions"),
    "qwen-r50": DecoderRecipe("qwen", "qwen-binding", replace(_CONFLICT, n_steps=900)),
    "qwen-r40": DecoderRecipe("qwen", "qwen-r50", _retrained(0.4, 6)),
    "qwen-r60": DecoderRecipe("qwen", "qwen-r50", _retrained(0.6, 7)),
}
MODELS: Final = (
    "llava-r40",
    "llava-r50",
    "llava-r60",
    "llava-never",
    "llava-plain",
    "qwen-r50",
    "qwen-r40",
    "qwen-r60",
)
