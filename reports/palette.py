"""Colours and marker shapes: model colours that stay apart for colour-blind readers, orange image, blue text.

Colour never speaks alone: every model also has a marker shape and its name beside its marks.
"""

from typing import Final

type Scheme = dict[str, str]

LIGHT_MODELS: Final = ("#05429e", "#076d7f", "#07a074", "#b4710c", "#8c320f", "#6e035d")
DARK_MODELS: Final = ("#bfd6ff", "#32bcce", "#318720", "#c79c04", "#ffc2b6", "#b84682")

LIGHT_DIVERGING: Final = (
    "#8c3a0e", "#b45a1f", "#d3854a", "#e7b389", "#f4dcc8", "#f4f2ee",
    "#d2dff0", "#a3bfe3", "#6c97cf", "#386bb0", "#0d4289",
)  # fmt: skip
DARK_DIVERGING: Final = (
    "#f0a56c", "#cf8047", "#965324", "#7f4a25", "#4e3423", "#2a2c30",
    "#273a54", "#2f5482", "#33629b", "#6496d6", "#a5cbff",
)  # fmt: skip

LIGHT: Final[Scheme] = {
    "ground": "#fbfaf7",
    "ink": "#1b1d22",
    "muted": "#5b5f66",
    "rule": "#dedbd2",
    "grid": "#ebe8e0",
    "wash": "#f1eee4",
    "accent": "#05429e",
    "image-wash": "#fdf4eb",
    "text-wash": "#eef4fc",
    "image-ink": "#9a4510",
    "text-ink": "#1f5aa8",
    "alarm": "#a3140f",
    "alarm-wash": "#fbe6e2",
    "ramp-ink-outer": "#ffffff",
    "ramp-ink-inner": "#1b1d22",
    **{f"model-{i}": colour for i, colour in enumerate(LIGHT_MODELS)},
    **{f"ramp-{i}": colour for i, colour in enumerate(LIGHT_DIVERGING)},
}

DARK: Final[Scheme] = {
    "ground": "#14161a",
    "ink": "#eceae4",
    "muted": "#a3a6ac",
    "rule": "#383c44",
    "grid": "#262a30",
    "wash": "#23272d",
    "accent": "#9fc2ff",
    "image-wash": "#261e18",
    "text-wash": "#18202c",
    "image-ink": "#eba066",
    "text-ink": "#8fb8f2",
    "alarm": "#ff9d92",
    "alarm-wash": "#3a1714",
    "ramp-ink-outer": "#14161a",
    "ramp-ink-inner": "#eceae4",
    **{f"model-{i}": colour for i, colour in enumerate(DARK_MODELS)},
    **{f"ramp-{i}": colour for i, colour in enumerate(DARK_DIVERGING)},
}

SHAPES: Final = ("circle", "square", "diamond", "up", "down", "cross")


def look(index: int) -> tuple[int, str]:
    """Colour number and marker shape of the model at `index`: no pair twice among 36 models.

    Examples
    --------
    >>> look(0), look(6)
    ((0, 'circle'), (0, 'square'))
    """
    colour = index % len(LIGHT_MODELS)
    return colour, SHAPES[(colour + index // len(LIGHT_MODELS)) % len(SHAPES)]


def ramp_step(value: float) -> int:
    """Step of the diverging ramp for a value in [-1, 1]: 0 is image, 10 is text.

    Examples
    --------
    >>> ramp_step(-1), ramp_step(0), ramp_step(1)
    (0, 5, 10)
    """
    last = len(LIGHT_DIVERGING) - 1
    return min(last, max(0, round((value + 1) / 2 * last)))


def variables(scheme: Scheme) -> str:
    """The colours of a scheme as CSS custom properties."""
    return "".join(f"--{name}:{colour};" for name, colour in scheme.items())
