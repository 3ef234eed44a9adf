"""The self-test finds the way that is right for each family, in single and half precision, and no other."""

from typing import Any

import pytest
import torch

from mfbayes.inference.asking import Asker
from mfbayes.inference.cost import measure_rates
from mfbayes.inference.loading import LoadedModel
from mfbayes.inference.passes import DEDUPLICATED, NAIVE, PACKED, Passes
from mfbayes.inference.selftest import Exactness, check_going_on, choose_way, relative_size
from mfbayes.names import AUTO
from tests.inference.families import FAMILIES, build, prompts_about, texts
from tests.inference.test_passes import CHEAPEST


def choose(name: str, *, dtype: str, gain: float = 3.0, text_first: bool = False) -> dict[str, Any]:
    """What the self-test says of a family."""
    model, passes = build(name, dtype=dtype, gain=gain)
    asker = Asker.__new__(Asker)
    asker.passes, asker.encoder, asker.name = passes, passes._encoder, name
    asker.wanted, asker.way, asker.goes_on = AUTO, NAIVE, False
    loaded = LoadedModel(model, None, torch.device("cpu"), dtype)
    check = Exactness(
        asker, loaded, [prompts_about(name, seed=seed, text_first=text_first) for seed in (1, 2)], texts(name)
    )
    found = choose_way(asker, check, batch_size=8)
    return found | check_going_on(asker, check) | {"limit": check.limit}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_right_way_is_found(name: str, dtype: str) -> None:
    found = choose(name, dtype=dtype)
    assert found["way"] == CHEAPEST.get(name, PACKED), found
    assert found["goes_on"] == (name != "paligemma"), found


@pytest.mark.parametrize("name", ["llava", "qwen3_vl"])
def test_where_prompts_part_before_the_image_it_is_seen_once(name: str) -> None:
    found = choose(name, dtype="float32", text_first=True)
    assert (found["way"], found["goes_on"]) == (DEDUPLICATED, True)
    assert "what is seen in it" in found["way_reason"]
    assert "difference_packed" not in found


def test_where_an_image_is_seen_within_the_decoder_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Passes, "sees_apart", False)
    found = choose("llava", dtype="float32", text_first=True)
    assert found["way"] == NAIVE
    assert found["way_reason"].endswith("share nothing")


@pytest.mark.parametrize("gain", [1.0, 1.5])
@pytest.mark.parametrize("name", ["llava", "gemma3", "paligemma"])
def test_a_wrong_way_is_found_out_in_half_precision_too(name: str, gain: float) -> None:
    found = choose(name, dtype="bfloat16", gain=gain)
    assert found["way"] == CHEAPEST.get(name, PACKED), found
    wrong = [found[key] for key in ("difference_packed",) if name != "llava"]
    assert all(difference > 2 * found["limit"] for difference in wrong)


def test_a_wrong_place_after_the_prompt_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Passes._ground

    def shift(self: Passes, *args: Any) -> Any:
        ground = honest(self, *args)
        return ground._replace(positions=ground.positions + 37)

    monkeypatch.setattr(Passes, "_ground", shift)
    for dtype in ("float32", "bfloat16"):
        found = choose("llava", dtype=dtype)
        assert (found["way"], found["goes_on"]) == (PACKED, False), found


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_can_be_counted(name: str) -> None:
    _, passes = build(name)
    rates = measure_rates(passes, text=texts(name)[0], about=prompts_about(name, seed=1)[0])
    assert min(rates.token, rates.pair, rates.pixel, rates.reading) > 0


def test_the_worst_layer_counts() -> None:
    logits = torch.ones(2, 3, 4)
    apart = torch.zeros(2, 3, 4)
    apart[0, 1] = 0.5
    assert relative_size(apart, logits) == pytest.approx(0.5 / 2**0.5)
