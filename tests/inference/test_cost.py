"""FLOP counts: the rates against arithmetic by hand, and what sharing saves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from mfbayes.datasets import Dataset, read_pixels
from mfbayes.inference.asking import Asker
from mfbayes.inference.cost import Rates, try_to_measure_rates
from mfbayes.inference.loading import load_model
from mfbayes.inference.passes import CACHED, DEDUPLICATED, NAIVE, PACKED
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.sharing import bundle
from mfbayes.inference.sources import find_model
from mfbayes.inference.work import Work, least_work, work_alone
from tests.inference.families import build, prompts_about, texts

WAYS = (NAIVE, DEDUPLICATED, CACHED, PACKED)


@pytest.fixture(scope="module")
def asker(model_folders: dict[str, Path]) -> Asker:
    loaded = load_model(find_model(str(model_folders["llava"])), device="cpu")
    return Asker(loaded, ("red", "blue"), name="tiny", batch_size=8)


@pytest.fixture(scope="module")
def rates(asker: Asker) -> Rates:
    found = try_to_measure_rates(asker.passes, asker.encoder, answers=("red", "blue"))
    assert found is not None
    return found


def test_rates_are_those_of_the_architecture(asker: Asker, rates: Rates) -> None:
    text = asker.passes.config
    head_size = text.hidden_size // text.num_attention_heads
    attention = 2 * text.hidden_size * head_size * (text.num_attention_heads + text.num_key_value_heads)
    by_hand = text.num_hidden_layers * 2 * (attention + 3 * text.hidden_size * text.intermediate_size)
    assert rates.token == pytest.approx(by_hand, rel=1e-6)
    assert rates.pair == pytest.approx(4 * text.hidden_size * text.num_hidden_layers, rel=1e-6)
    assert rates.reading == pytest.approx(2 * text.hidden_size * text.vocab_size, rel=1e-6)
    assert rates.pixel > 0


@pytest.mark.parametrize("way", WAYS)
def test_price_of_the_work_done_is_torchs_own_count(asker: Asker, rates: Rates, way: str, dataset: Dataset) -> None:
    image = read_pixels(dataset.image_path(dataset.manifest["image"].iloc[0]))
    prompts = [Prompt(words, "it", ("red", "blue")) for words in ("What is it?", "Red or blue, then?", "Well?")]
    encoded = asker.encoder.encode_image(prompts, Image.fromarray(image))
    asker.take_tally()
    with FlopCounterMode(display=False) as counter:
        asker.logits(encoded, layers=True, way=way)
    assert rates.price(asker.take_tally().done) == pytest.approx(counter.get_total_flops(), rel=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_no_way_does_less_than_the_least(way: str) -> None:
    _, passes = build("llava")
    prompts = prompts_about("llava", seed=1) + prompts_about("llava", seed=2)
    bundles = list(bundle(prompts, image_token=passes.image_token))
    passes.run(bundles, way=way, layers=True)
    least, alone = least_work(bundles, n_layers=passes.n_layers), work_alone(prompts, n_layers=passes.n_layers)
    done = passes.done
    assert (done.layers, least.layers) == (alone.layers, alone.layers)
    assert done.answers >= least.answers
    assert least.tokens <= done.tokens
    assert least.pairs <= done.pairs
    assert least.pixels <= done.pixels <= alone.pixels
    if way in (CACHED, PACKED):
        # Filler at most: rows of one shape share all that can be shared.
        assert done.pixels == least.pixels
        assert done.tokens <= 1.5 * least.tokens
        assert done.tokens < 0.75 * alone.tokens


def test_least_counts_each_thing_once() -> None:
    _, passes = build("llava")
    prompts = prompts_about("llava", seed=1) + texts("llava")
    bundles = list(bundle(prompts, image_token=passes.image_token))
    own = [9, 17, 13, 6]
    shared_by_image, shared_by_texts = 3 + 16, 3
    expected = Work(
        tokens=shared_by_image + shared_by_texts + 2 * sum(own),
        pairs=sum(n * (n + 1) // 2 for n in (shared_by_image, shared_by_texts))
        + sum(n * (s + s + n + 1) // 2 for s in (shared_by_image, shared_by_texts) for n in own),
        pixels=3 * 32 * 32,
        answers=8,
        layers=4 * 3,
    )
    assert least_work(bundles, n_layers=4) == expected


def test_a_tally_is_taken_once(asker: Asker) -> None:
    asker.take_tally()
    asker.ask_texts([Prompt("What is it?"), Prompt("What?")])
    first: Any = asker.take_tally()
    assert first.done.tokens >= first.least.tokens > 0
    assert asker.take_tally().done == Work()
    assert torch.is_inference_mode_enabled() is False


def test_answers_of_several_tokens_go_on_at_a_tokens_cost(asker: Asker) -> None:
    """A random model says words that no list has, token after token."""
    prompts = [Prompt(f"What is {n}?") for n in range(12)]
    spent, answers = [], []
    for goes_on in (False, True):
        asker.goes_on = goes_on
        asker.take_tally()
        answers.append([response.answer for response in asker.ask_texts(prompts)])
        tally = asker.take_tally()
        spent.append(tally.done.tokens / tally.least.tokens)
    asker.goes_on = False
    assert answers[0] == answers[1]
    assert spent[1] < 2 < spent[0]
