"""Texts: enough things, each said once, and a vocabulary that covers them."""

import re

import pytest

from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.shapes import SHAPES
from mfbayes.data_gen.texts import COMMAND, REFERENTS, describe, question, words


def test_sixteen_things_a_color_and_none_twice() -> None:
    assert tuple(REFERENTS) == COLORS
    assert all(len(set(things)) >= 16 for things in REFERENTS.values())
    every = [thing for things in REFERENTS.values() for thing in things]
    assert len(every) == len(set(every))


def test_no_thing_names_another_color() -> None:
    for color, things in REFERENTS.items():
        for thing in things:
            assert not [other for other in COLORS if other != color and other in thing.lower()], thing


def test_words_cover_every_text() -> None:
    known = set(words())
    for color, things in REFERENTS.items():
        for shape in SHAPES:
            for tier in (0, 1, 2):
                text = describe(shape, color, tier, helper=SHAPES[-1], referent=things[-1])
                sentence = f"{text} {question(shape)} {COMMAND}"
                assert set(re.findall(r"\w+|[^\w\s]", sentence)) <= known


@pytest.mark.parametrize("d_text", [1, 2, 3])
def test_a_tier_without_its_thing_is_refused(d_text: int) -> None:
    with pytest.raises(ValueError, match="d_text"):
        describe("square", "red", d_text)
