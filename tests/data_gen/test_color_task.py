"""The colour task's design against the study's tables."""

from collections import Counter

import pandas as pd
import pytest

from mfbayes.data_gen.color_task import design_groups, list_items
from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.scenes import VISUAL_TIERS
from mfbayes.data_gen.shapes import SHAPES


def test_study_counts_at_400_groups() -> None:
    groups = design_groups(400, seed=5)
    image = Counter(group.image_answer for group in groups)
    text = Counter(group.text_answer for group in groups)
    assert [image[color] for color in COLORS] == [67, 67, 67, 66, 66, 67]
    assert [text[color] for color in COLORS] == [67, 66, 67, 67, 66, 67]
    assert all(group.image_answer != group.text_answer for group in groups)


@pytest.mark.parametrize("n_groups", [1, 7, 30, 61])
def test_answers_and_shapes_stay_balanced(n_groups: int) -> None:
    groups = design_groups(n_groups, seed=0)
    for values, options in (
        ([group.image_answer for group in groups], COLORS),
        ([group.text_answer for group in groups], COLORS),
        ([group.target for group in groups], SHAPES),
    ):
        counts = [Counter(values)[option] for option in options]
        assert max(counts) - min(counts) <= 1


def test_more_groups_leave_the_first_ones_as_they_were() -> None:
    assert design_groups(50, seed=9)[:20] == design_groups(20, seed=9)
    assert design_groups(20, seed=9) != design_groups(20, seed=10)


def test_items_of_a_group() -> None:
    group = design_groups(1, seed=2)[0]
    items = pd.DataFrame(
        [row for tier in range(14) for row in list_items(group, tier, group.scene(tier, uniform_size=False))]
    )
    conflict, control = items[items.kind == "conflict"], items[items.kind == "control"]
    assert len(conflict) == 14 * 3
    assert (conflict.groupby("d_image").d_text.nunique() == 3).all()
    assert conflict.description.nunique() == 3
    assert (conflict.described_shape == group.target).all()
    # One control an image; it never speaks of the target, and every text tier comes up.
    assert (control.d_image.value_counts() == 1).all()
    assert len(control) == 14
    assert set(control.d_text) == {0, 1, 2}
    assert not control.description.str.contains(group.target).any()
    assert items.item.is_unique


@pytest.mark.parametrize("d_image", range(14))
def test_scenes_keep_the_tier_table(d_image: int) -> None:
    tier = VISUAL_TIERS[d_image]
    for group in design_groups(6, seed=d_image):
        scene = group.scene(d_image, uniform_size=False)
        width, height = scene.canvas
        target = scene.target
        others = [thing for thing in scene.things if thing is not target]
        assert (width, height) == ((800, 600) if d_image < 5 else (224, 224))
        assert target.shape == group.target
        assert target.color == group.image_answer
        assert len(others) == tier.n_distractors
        assert {thing.color for thing in others}.isdisjoint({group.image_answer, group.text_answer})
        absent = {group.target, group.helper_shape, group.irrelevant_shape}
        assert {thing.shape for thing in others}.isdisjoint(absent)
        side = 2 * target.radius
        if d_image < 5:
            assert 80 <= side <= 200
        else:
            assert tier.target_share[0] <= side**2 / (width * height) <= tier.target_share[1]
        assert scene.n_overlapping == round(tier.n_distractors * tier.occlusion_rate)
        assert scene.n_occluders <= scene.n_overlapping
        assert scene.visible_share >= tier.min_visible_share
        assert target.radius <= target.x <= width - target.radius
        assert target.radius <= target.y <= height - target.radius
