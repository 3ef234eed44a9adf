"""Pixels against the geometry they are drawn from."""

import numpy as np
import pytest

from mfbayes.data_gen.color_task import design_groups
from mfbayes.data_gen.drawing import draw, label_map
from mfbayes.data_gen.palette import COLORS, RGB
from mfbayes.data_gen.scenes import Scene, Thing, compose
from mfbayes.data_gen.shapes import POLYGONS, SHAPES


def _polygon_area(shape: str) -> float:
    x, y = POLYGONS[shape].T
    return 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))


@pytest.mark.parametrize("shape", SHAPES)
def test_drawn_area_is_the_polygons(shape: str) -> None:
    scene = Scene((100, 100), (Thing(shape, "blue", 50, 50, 40),), 0, 0, 0, 1.0)
    ink = 1 - draw(scene)[..., 0] / 255  # blue has no red in it, white is full of it
    assert ink.sum() == pytest.approx(_polygon_area(shape) * 40**2, rel=0.02)


def test_visible_share_is_what_the_image_shows() -> None:
    group = design_groups(1, seed=11)[0]
    for tier in range(5, 14):
        scene = group.scene(tier, uniform_size=False)
        label = 1 + SHAPES.index(group.target) * len(COLORS) + COLORS.index(group.image_answer)
        shown = np.count_nonzero(label_map(scene) == label)
        alone = Scene(scene.canvas, (scene.target,), 0, 0, 0, 1.0)
        whole = np.count_nonzero(label_map(alone) == label)
        assert shown / whole == pytest.approx(scene.visible_share, abs=1e-12)
        exact = (draw(scene) == RGB[group.image_answer]).all(axis=-1)
        assert exact.sum() == pytest.approx(shown, rel=0.35)  # edges are blended


def test_size_stretches_the_scene() -> None:
    scene = Scene((800, 600), (Thing("square", "red", 400, 300, 100),), 0, 0, 0, 1.0)
    red = label_map(scene, size=(80, 30)) > 0
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    assert len(columns) == pytest.approx(20, abs=1)
    assert len(rows) == pytest.approx(10, abs=1)


def test_a_distractor_like_the_target_is_refused() -> None:
    with pytest.raises(ValueError, match="two answers"):
        compose(
            np.random.default_rng(0),
            target="heart",
            image_answer="red",
            d_image=3,
            distractor_colors=["blue"],
            distractor_shapes=["heart", "cross"],
        )
