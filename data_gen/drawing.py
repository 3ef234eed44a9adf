"""Turns scenes into pixels: anti-aliased images, and maps of what each pixel shows."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mfbayes.data_gen.coverage import outline
from mfbayes.data_gen.palette import COLORS, RGB, WHITE
from mfbayes.data_gen.scenes import Scene
from mfbayes.data_gen.shapes import SHAPES

BACKGROUND: Final = 0


def draw(scene: Scene, *, size: tuple[int, int] | None = None, supersample: int = 4) -> NDArray[np.uint8]:
    """Image of a scene, drawn larger and averaged down, so that edges are smooth.

    Parameters
    ----------
    scene : Scene
        What to draw.
    size : (int, int), optional
        Width and height in px; the canvas's own by default. Another ratio stretches the scene.
    supersample : int
        How many times larger it is drawn along each side.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
    """
    width, height = size or scene.canvas
    image = Image.new("RGB", (width * supersample, height * supersample), WHITE)
    pen = ImageDraw.Draw(image)
    scale = (width * supersample / scene.canvas[0], height * supersample / scene.canvas[1])
    for thing in scene.things:
        pen.polygon(outline(thing.shape, thing.x, thing.y, thing.radius, scale=scale), fill=RGB[thing.color])
    return np.asarray(image.reduce(supersample) if supersample > 1 else image)


def label_map(scene: Scene, *, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """What each pixel shows: 0 for the background, else 1 + 6 x index of the shape + index of the colour.

    Returns
    -------
    ndarray of uint8, shape (height, width)
    """
    width, height = size or scene.canvas
    image = Image.new("L", (width, height), BACKGROUND)
    pen = ImageDraw.Draw(image)
    scale = (width / scene.canvas[0], height / scene.canvas[1])
    for thing in scene.things:
        label = 1 + SHAPES.index(thing.shape) * len(COLORS) + COLORS.index(thing.color)
        pen.polygon(outline(thing.shape, thing.x, thing.y, thing.radius, scale=scale), fill=label)
    return np.asarray(image)
