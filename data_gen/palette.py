"""The six colours of the colour task, the same in images and in texts."""

from typing import Final

RGB: Final = {
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
    "blue": (0, 0, 255),
    "green": (0, 160, 0),
    "purple": (128, 0, 128),
    "orange": (255, 150, 0),
}
COLORS: Final = tuple(RGB)
WHITE: Final = (255, 255, 255)
