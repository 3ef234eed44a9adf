"""The colour task's design: groups, their texts and scenes, and the items made of them.

A group has one target shape, one image answer, one different text answer, 14 images and 3 conflict
texts: 42 conflict items. Each image also gets one text-irrelevant control, whose description names a
shape that is in none of the group's images.

References
----------
Zhang et al., arXiv:2511.02243.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.scenes import UNIFORM_CANVAS, VISUAL_TIERS, Scene, compose
from mfbayes.data_gen.shapes import SHAPES
from mfbayes.data_gen.texts import ATTRIBUTE, COMMAND, REFERENTS, TEXT_TIERS, describe, question
from mfbayes.names import CONFLICT, CONTROL

TASK: Final = "color"
# Reading both answers off one cycle keeps each balanced over any number of groups, and gives the study's own
# counts at 400: 67, 67, 67, 66, 66, 67 and 67, 66, 67, 67, 66, 67 in its order of colours.
_CYCLE: Final = ("yellow", "red", "blue", "orange", "green", "purple")


@dataclass(frozen=True, slots=True)
class Group:
    """What the items of a group share.

    Attributes
    ----------
    name : str
        Such as "g0007"; the same seed gives the same group whatever the number of groups.
    target, image_answer, text_answer : str
        Shape asked about, its colour in the images, and its colour in the texts.
    helper_shape, irrelevant_shape : str
        Shapes that are in no image of the group: one that tier-1 texts compare with, and the one that
        controls describe.
    referent : str
        The real-world thing of the tier-2 text.
    """

    name: str
    seed: tuple[int, int]
    target: str
    image_answer: str
    text_answer: str
    helper_shape: str
    irrelevant_shape: str
    referent: str

    def rng(self, *stream: int) -> np.random.Generator:
        """Independent randomness for one part of the group, such as one image."""
        seed, index = self.seed
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, *stream)))

    def scene(self, d_image: int, *, uniform_size: bool) -> Scene:
        """Scene of one visual tier; distractors have neither answer as their colour."""
        absent = {self.target, self.helper_shape, self.irrelevant_shape}
        return compose(
            self.rng(1, d_image),
            target=self.target,
            image_answer=self.image_answer,
            d_image=d_image,
            distractor_colors=[color for color in COLORS if color not in (self.image_answer, self.text_answer)],
            distractor_shapes=[shape for shape in SHAPES if shape not in absent],
            canvas=UNIFORM_CANVAS if uniform_size else None,
        )

    def describe(self, subject: str, d_text: int) -> str:
        """Text of one tier saying that `subject` has the text answer."""
        return describe(subject, self.text_answer, d_text, helper=self.helper_shape, referent=self.referent)


def design_groups(n_groups: int, seed: int) -> list[Group]:
    """Groups with balanced answers and shapes.

    Parameters
    ----------
    n_groups : int
        How many, at least 1.
    seed : int
        Seed of shapes, things and scenes.

    Examples
    --------
    >>> [(group.image_answer, group.text_answer) for group in design_groups(2, seed=0)]
    [('yellow', 'purple'), ('red', 'yellow')]
    """
    return [_design_group(index, seed) for index in range(n_groups)]


def _design_group(index: int, seed: int) -> Group:
    block, position = divmod(index, len(_CYCLE))
    shift = 1 + (block + 4) % (len(_CYCLE) - 1)
    text_answer = _CYCLE[(position + shift) % len(_CYCLE)]
    # Targets run through all shapes before one comes again, each time in another order.
    turn, place = divmod(index, len(SHAPES))
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2**32 - 1, turn))).permutation(SHAPES)
    target = str(order[place])
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, 0)))
    helper, irrelevant = rng.choice([shape for shape in SHAPES if shape != target], 2, replace=False)
    return Group(
        name=f"g{index:04d}",
        seed=(seed, index),
        target=target,
        image_answer=_CYCLE[position],
        text_answer=text_answer,
        helper_shape=str(helper),
        irrelevant_shape=str(irrelevant),
        referent=str(rng.choice(REFERENTS[text_answer])),
    )


def control_tier(group_index: int, d_image: int) -> int:
    """Text tier of an image's control: each tier equally often."""
    return (group_index + d_image) % len(TEXT_TIERS)


def list_items(group: Group, d_image: int, scene: Scene) -> Iterator[dict[str, Any]]:
    """Manifest rows of one image: its conflict items, then its control."""
    tier = VISUAL_TIERS[d_image]
    width, height = scene.canvas
    shared = {
        "task": TASK,
        "group": group.name,
        "d_image": d_image,
        "width": width,
        "height": height,
        "target": group.target,
        "attribute": ATTRIBUTE,
        "image_answer": group.image_answer,
        "text_answer": group.text_answer,
        "question": question(group.target),
        "command": COMMAND,
        "n_distractors": tier.n_distractors,
        "n_overlapping": scene.n_overlapping,
        "n_occluders": scene.n_occluders,
        "visible_share": scene.visible_share,
        "min_visible_share": tier.min_visible_share,
        "target_size_px": 2 * scene.target.radius,
        "target_share": (2 * scene.target.radius) ** 2 / (width * height),
    }
    control = control_tier(group.seed[1], d_image)
    kinds = [(CONFLICT, d_text) for d_text in TEXT_TIERS] + [(CONTROL, control)]
    for kind, d_text in kinds:
        subject = group.target if kind == CONFLICT else group.irrelevant_shape
        yield {
            "item": f"{group.name}-v{d_image:02d}-{'t' if kind == CONFLICT else 'c'}{d_text}",
            "kind": kind,
            "d_text": d_text,
            "description": group.describe(subject, d_text),
            "described_shape": subject,
            "helper_shape": group.helper_shape if d_text == 1 else "",
            "referent": group.referent if d_text == 2 else "",
            **shared,
        }
