"""Weights that are not finite are named, wherever they lie."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mfbayes.errors import InputError
from mfbayes.inference.asking import Asker
from mfbayes.inference.loading import LoadedModel, load_model
from mfbayes.inference.parts import find_parts, name_broken_weights
from mfbayes.inference.selftest import check_model
from mfbayes.inference.sources import find_model


@pytest.fixture
def loaded(model_folders: dict[str, Path]) -> LoadedModel:
    return load_model(find_model(str(model_folders["llava"])), device="cpu")


def spoil(model: Any, ending: str, value: float) -> str:
    """Put a value into the first weights whose name ends so."""
    name, weights = next((name, its) for name, its in model.named_parameters() if name.endswith(ending))
    with torch.no_grad():
        weights.view(-1)[1] = value
    return str(name)


@pytest.mark.parametrize(
    ("ending", "value"),
    [
        ("language_model.norm.weight", float("nan")),
        ("layers.3.input_layernorm.weight", float("nan")),
        ("layers.3.input_layernorm.weight", float("inf")),
    ],
)
def test_broken_weights_of_the_decoder_are_named(loaded: LoadedModel, ending: str, value: float) -> None:
    name = spoil(loaded.model, ending, value)
    assert name_broken_weights(loaded.model) == f"{name} (1 of 32)"
    with pytest.raises(InputError, match=rf"mine has weights that are not finite: {name} \(1 of 32\)"):
        find_parts(loaded.model, name="mine")


def test_broken_weights_of_the_vision_tower_are_named_by_the_self_test(loaded: LoadedModel) -> None:
    name = spoil(loaded.model, "multi_modal_projector.linear_1.weight", float("nan"))
    asker = Asker(loaded, ("red", "blue"), name="mine", batch_size=8)
    with pytest.raises(InputError, match=f"not finite: {name}"):
        check_model(asker, loaded, answers=("red", "blue"), batch_size=8)


def test_only_some_of_many_are_named(loaded: LoadedModel) -> None:
    assert name_broken_weights(loaded.model) == ""
    with torch.no_grad():
        for weights in loaded.model.get_decoder().parameters():
            weights.fill_(float("nan"))
    assert name_broken_weights(loaded.model).count(",") == 2
    assert "more" in name_broken_weights(loaded.model)
