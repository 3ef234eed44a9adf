"""The palette must be readable: contrast on its ground, and colours apart for colour-blind readers."""

from itertools import combinations

import numpy as np
import pytest

from mfbayes.reports import palette

SCHEMES = {"light": palette.LIGHT, "dark": palette.DARK}

# Machado, Oliveira and Fernandes (2009), doi:10.1109/TVCG.2009.113, severity 1; they act on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    light, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Ottosson's OKLab of linear RGB."""
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.asarray(to_lab @ np.cbrt(to_lms @ rgb))


def distance(a: str, b: str, vision: str) -> float:
    seen = [oklab(np.clip(VISIONS[vision] @ linear(colour), 0, 1)) for colour in (a, b)]
    return float(np.linalg.norm(seen[0] - seen[1]))


def test_measures_know_their_ends() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert distance("#000000", "#ffffff", "normal") == pytest.approx(1, abs=1e-3)
    # The check can fail: this red and this green are one colour to a deuteranope.
    assert distance("#b23a2e", "#7a7218", "deutan") < 0.08 < distance("#b23a2e", "#7a7218", "normal")


@pytest.mark.parametrize("name", SCHEMES)
def test_model_colours_stand_out(name: str) -> None:
    scheme = SCHEMES[name]
    for i in range(len(palette.LIGHT_MODELS)):
        assert contrast(scheme[f"model-{i}"], scheme["ground"]) >= 3.0
        for side in ("image-wash", "text-wash"):
            assert contrast(scheme[f"model-{i}"], scheme[side]) >= 3.0


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("name", SCHEMES)
def test_model_colours_stay_apart(name: str, vision: str) -> None:
    colours = [SCHEMES[name][f"model-{i}"] for i in range(len(palette.LIGHT_MODELS))]
    assert min(distance(a, b, vision) for a, b in combinations(colours, 2)) >= 0.08


@pytest.mark.parametrize("name", SCHEMES)
def test_words_are_readable(name: str) -> None:
    scheme = SCHEMES[name]
    grounds = ("ground", "wash", "image-wash", "text-wash")
    for ink in ("ink", "muted"):
        assert min(contrast(scheme[ink], scheme[ground]) for ground in grounds) >= 4.5
    assert contrast(scheme["image-ink"], scheme["image-wash"]) >= 4.5
    assert contrast(scheme["text-ink"], scheme["text-wash"]) >= 4.5
    assert contrast(scheme["alarm"], scheme["alarm-wash"]) >= 4.5


@pytest.mark.parametrize("name", SCHEMES)
def test_ramp_runs_from_image_to_text_and_carries_words(name: str) -> None:
    scheme = SCHEMES[name]
    steps = [scheme[f"ramp-{i}"] for i in range(11)]
    red, blue = (np.array([linear(step)[channel] for step in steps]) for channel in (0, 2))
    assert (red[:5] > blue[:5]).all()
    assert (blue[6:] > red[6:]).all()
    for i, step in enumerate(steps):
        ink = scheme["ramp-ink-outer" if i in (0, 1, 9, 10) else "ramp-ink-inner"]
        assert contrast(ink, step) >= 4.4


def test_looks_are_unique_among_36_models() -> None:
    assert len({palette.look(i) for i in range(36)}) == 36


@pytest.mark.parametrize(("value", "step"), [(-3.0, 0), (-1.0, 0), (0.0, 5), (0.04, 5), (1.0, 10), (3.0, 10)])
def test_ramp_step(value: float, step: int) -> None:
    assert palette.ramp_step(value) == step
