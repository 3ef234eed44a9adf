"""Pools of training scenes: small images, what each cell of them shows, and the objects one can ask about.

Distractors of crowded scenes draw their colours from proportions that are themselves drawn, uniformly over
all proportions, for each scene. Then how often a colour occurs says nothing about the target's colour. A model
that overlooks rare colours still names the frequent ones, which is wrong wherever distractors avoid the
answers; pools for the last stages therefore mix in a share of such scenes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mfbayes.data_gen.drawing import draw, label_map
from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.scenes import UNIFORM_CANVAS, VISUAL_TIERS, Scene, compose
from mfbayes.data_gen.shapes import SHAPES
from mfbayes.storage import replacing

IMAGE_SIZE: Final = 96
FINE_CELL: Final = 8
COARSE_CELL: Final = 16
N_ROWS: Final = IMAGE_SIZE // COARSE_CELL
N_PAIRS: Final = len(SHAPES) * len(COLORS)

_EASY_SHARE: Final = 0.55  # of the scenes; all of their objects can be asked about
_MAX_OBJECTS: Final = 5
_CROWDED: Final = tuple(range(5, len(VISUAL_TIERS)))
_CROWDED_CANVAS: Final = (96, 96)
_PALETTE_LENGTH: Final = 240
# Least share of a cell that an object must fill to be named there.
_FINE_SHARE: Final = 0.1
_COARSE_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Pool:
    """Scenes as training sees them.

    Attributes
    ----------
    images : ndarray of uint8, shape (n, 96, 96, 3)
    fine, coarse : ndarray of bool, shape (n, 144, 48) and (n, 36, 48)
        Which of the 48 pairs 6 x shape + colour each 8-px or 16-px cell shows, cells row by row.
    queries : ndarray of int8, shape (n, 5, 2)
        Index of shape and of colour of every object one can ask about, -1 where there are fewer.
    tiers : ndarray of int8, shape (n,)
        Visual tier.
    rows : ndarray of int8, shape (n,)
        Rows of 16-px cells that belong to the image; what lies below them is padding.
    """

    images: NDArray[np.uint8]
    fine: NDArray[np.bool_]
    coarse: NDArray[np.bool_]
    queries: NDArray[np.int8]
    tiers: NDArray[np.int8]
    rows: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.tiers)

    def save(self, path: Path) -> None:
        """Write to an npz file, atomically."""
        with replacing(path) as temporary, temporary.open("wb") as handle:
            np.savez(
                handle,
                images=self.images,
                fine=np.packbits(self.fine, axis=-1),
                coarse=np.packbits(self.coarse, axis=-1),
                queries=self.queries,
                tiers=self.tiers,
                rows=self.rows,
            )


def load_pool(path: Path) -> Pool:
    """Read what `Pool.save` wrote."""
    with np.load(path) as file:
        return Pool(
            images=file["images"],
            fine=np.unpackbits(file["fine"], axis=-1).astype(bool),
            coarse=np.unpackbits(file["coarse"], axis=-1).astype(bool),
            queries=file["queries"],
            tiers=file["tiers"],
            rows=file["rows"],
        )


def render_pool(n_scenes: int, *, seed: int, wide_rows: int = N_ROWS, rare_share: float = 0.0) -> Pool:
    """Render scenes of all tiers, a little more than half of them easy.

    Parameters
    ----------
    n_scenes : int
        How many.
    seed : int
        Seed of everything in them.
    wide_rows : int
        Rows of cells that a wide (800 x 600 px) scene fills: 6 where the model squeezes every image into
        a square, fewer where it keeps more of the width-to-height ratio.
    rare_share : float
        Share of the crowded scenes whose distractors have neither the target's colour nor one other.
    """
    rng = np.random.default_rng(seed)
    images = np.full((n_scenes, IMAGE_SIZE, IMAGE_SIZE, 3), 255, np.uint8)
    labels = np.zeros((n_scenes, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    queries = np.full((n_scenes, _MAX_OBJECTS, 2), -1, np.int8)
    tiers = np.empty(n_scenes, np.int8)
    rows = np.empty(n_scenes, np.int8)
    for index in range(n_scenes):
        tier, scene, asked = _draw_scene(rng, rare_share)
        tiers[index] = tier
        rows[index] = wide_rows if scene.canvas[0] > scene.canvas[1] else N_ROWS
        height = int(rows[index]) * COARSE_CELL
        images[index, :height] = draw(scene, size=(IMAGE_SIZE, height), supersample=2)
        labels[index, :height] = label_map(scene, size=(IMAGE_SIZE, height))
        queries[index, : len(asked)] = asked
    return Pool(
        images=images,
        fine=_find_pairs(labels, FINE_CELL, _FINE_SHARE),
        coarse=_find_pairs(labels, COARSE_CELL, _COARSE_SHARE),
        queries=queries,
        tiers=tiers,
        rows=rows,
    )


def _draw_scene(rng: np.random.Generator, rare_share: float) -> tuple[int, Scene, list[tuple[int, int]]]:
    target = int(rng.integers(len(SHAPES)))
    color = int(rng.integers(len(COLORS)))
    others = [shape for shape in SHAPES if shape != SHAPES[target]]
    easy = rng.random() < _EASY_SHARE
    # Easy scenes with a lonely target are rare: one object teaches no binding of shape and colour.
    tier = int(rng.choice(5, p=(0.08, 0.23, 0.23, 0.23, 0.23))) if easy else int(rng.choice(_CROWDED))
    scene = compose(
        rng,
        target=SHAPES[target],
        image_answer=COLORS[color],
        d_image=tier,
        distractor_colors=_draw_easy_palette(rng, color) if easy else _draw_crowded_palette(rng, color, rare_share),
        distractor_shapes=others,
        canvas=(UNIFORM_CANVAS if rng.random() < 0.25 else None) if easy else _CROWDED_CANVAS,
        distinct_shapes=easy,
    )
    asked = [(target, color)]
    if easy:
        asked = [(SHAPES.index(thing.shape), COLORS.index(thing.color)) for thing in scene.things]
    return tier, scene, asked


def _draw_easy_palette(rng: np.random.Generator, target: int) -> list[str]:
    """Colours of an easy scene's distractors: in half of the scenes the target's is not among them."""
    avoided = {target} if rng.random() >= 0.5 else set()
    return [color for index, color in enumerate(COLORS) if index not in avoided]


def _draw_crowded_palette(rng: np.random.Generator, target: int, rare_share: float) -> list[str]:
    """Colours of a crowded scene's distractors, repeated in random proportions, or without the target's."""
    if rare_share and rng.random() < rare_share:
        other = (target + 1 + int(rng.integers(len(COLORS) - 1))) % len(COLORS)
        return [color for index, color in enumerate(COLORS) if index not in (target, other)]
    counts = rng.multinomial(_PALETTE_LENGTH, rng.dirichlet(np.ones(len(COLORS))))
    return [color for color, count in zip(COLORS, counts, strict=True) for _ in range(count)]


def _find_pairs(labels: NDArray[np.uint8], cell: int, share: float) -> NDArray[np.bool_]:
    """Which pairs fill at least `share` of each cell; shape (n, cells, 48)."""
    side = IMAGE_SIZE // cell
    n_values = N_PAIRS + 1
    offsets = np.kron(np.arange(side * side).reshape(side, side), np.ones((cell, cell), int)) * n_values
    found = np.empty((len(labels), side * side, N_PAIRS), bool)
    for index, image in enumerate(labels):
        counts = np.bincount((offsets + image).ravel(), minlength=side * side * n_values)
        found[index] = counts.reshape(side * side, n_values)[:, 1:] >= share * cell * cell
    return found
