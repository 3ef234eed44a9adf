"""Texts of the colour task: descriptions of three difficulties, the question and the command.

References
----------
Zhang et al., arXiv:2511.02243, describe the sentence patterns. The named things are ours: each one
brings a single colour to mind.
"""

import re
from typing import Final

from mfbayes.data_gen.shapes import SHAPES

ATTRIBUTE: Final = "color"
COMMAND: Final = "Please use one word to answer this question."
TEXT_TIERS: Final = {0: "direct", 1: "indirect simple", 2: "indirect"}

REFERENTS: Final[dict[str, tuple[str, ...]]] = {
    "red": (
        "a strawberry", "a ruby", "a fire engine", "a stop sign", "a ripe tomato", "a cherry", "a drop of blood",
        "a ladybug", "a raspberry", "a boiled lobster", "a cranberry", "a Santa hat", "a London bus", "a poppy",
        "a garnet", "a pomegranate seed",
    ),
    "yellow": (
        "a lemon", "a ripe banana", "a canary", "a sunflower", "a rubber duck", "a school bus in the US", "a dandelion",
        "a daffodil", "an egg yolk", "a taxi in New York", "a kernel of corn", "a buttercup", "a newborn chick",
        "a stick of butter", "a drop of mustard", "a lump of sulfur",
    ),
    "blue": (
        "a sapphire", "the cloudless sky", "a blueberry", "a pair of jeans", "a mailbox in the US", "the ocean",
        "a cornflower", "a Smurf", "a bluebell", "a swimming pool", "a bluebird", "a lapis lazuli", "a kingfisher",
        "a morpho butterfly", "a gentian", "a forget-me-not",
    ),
    "green": (
        "an emerald", "a blade of grass", "a tree frog", "a lime", "a clover", "a cucumber", "a spinach leaf",
        "a lettuce leaf", "a broccoli floret", "a pea", "a cactus", "a fern", "a grasshopper", "a basil leaf",
        "a pine needle", "a zucchini",
    ),
    "purple": (
        "an eggplant", "an amethyst", "a violet", "a plum", "a sprig of lavender", "a Concord grape", "a lilac",
        "a beetroot smoothie", "a crocus", "a wisteria blossom", "an acai berry", "a thistle flower", "an iris",
        "a jacaranda blossom", "a scoop of ube", "a sugilite",
    ),
    "orange": (
        "a pumpkin", "a carrot", "a tangerine", "a basketball", "a traffic cone", "a mandarin", "a clementine",
        "a clownfish", "a goldfish", "a tiger", "a kumquat", "a persimmon", "an apricot", "a sweet potato",
        "a marigold", "a slice of cantaloupe",
    ),
}  # fmt: skip


def describe(subject: str, color: str, d_text: int, *, helper: str | None = None, referent: str | None = None) -> str:
    """Sentence saying that `subject` has `color`, directly or through something else.

    Parameters
    ----------
    subject : str
        The shape described.
    color : str
        The colour it is said to have.
    d_text : {0, 1, 2}
        Tier: said outright, through another shape (`helper`), or through a real-world thing (`referent`,
        a noun phrase with its article).

    Raises
    ------
    ValueError
        If the tier is unknown, or its `helper` or `referent` is missing.

    Examples
    --------
    >>> describe("square", "red", 1, helper="heart")
    "The square's color is the same as a heart. The heart is red."
    >>> describe("square", "red", 2, referent="a ruby")
    "The square's color is the same as a ruby."
    """
    if d_text == 0:
        return f"The {subject} is {color}."
    if d_text == 1 and helper is not None:
        return f"The {subject}'s {ATTRIBUTE} is the same as a {helper}. The {helper} is {color}."
    if d_text == 2 and referent is not None:
        return f"The {subject}'s {ATTRIBUTE} is the same as {referent}."
    raise ValueError(f"d_text must be 0, 1 with a helper, or 2 with a referent, not {d_text!r}")


def question(target: str) -> str:
    """Ask for the target's colour.

    Examples
    --------
    >>> question("heart")
    'What color is the heart?'
    """
    return f"What {ATTRIBUTE} is the {target}?"


def words() -> list[str]:
    """Every distinct word and punctuation mark of these texts, in order of first use."""
    sentences = [
        text
        for color, things in REFERENTS.items()
        for text in (
            *(describe(shape, color, tier, helper=SHAPES[0]) for shape in SHAPES for tier in (0, 1)),
            *(describe(SHAPES[0], color, 2, referent=thing) for thing in things),
        )
    ]
    sentences += [f"{question(shape)} {COMMAND}" for shape in SHAPES]
    return list(dict.fromkeys(re.findall(r"\w+|[^\w\s]", " ".join(sentences))))
