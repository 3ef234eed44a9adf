import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import entropy as scipy_entropy

from mfbayes import indices
from mfbayes.datasets import Dataset, read_pixels
from mfbayes.errors import InputError
from mfbayes.inference import asking
from mfbayes.inference.answers import normalize_answer
from mfbayes.inference.asking import (
    Asker,
    OverflowedError,
    answer_nlls,
    entropy,
    least_confidence,
    margin_uncertainty,
)
from mfbayes.inference.encoding import Encoder
from mfbayes.inference.loading import LoadedModel, load_model, silence_libraries
from mfbayes.inference.prompts import Plan, Prompt, conversation, plan_prompts
from mfbayes.inference.responses import Response
from mfbayes.inference.selftest import check_model
from mfbayes.inference.sources import find_model
from mfbayes.uncertainty import entropy as reference_entropy

FAMILIES = ("llava", "qwen", "idefics")


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> LoadedModel:
    silence_libraries()
    return load_model(find_model(str(model_folders[request.param])), device="cpu")


@pytest.fixture(scope="module")
def plan(dataset: Dataset) -> Plan:
    return plan_prompts(dataset.manifest)


def images_of(plan: Plan, dataset: Dataset, n: int) -> list[tuple[Image.Image, list[Prompt]]]:
    # The first and the last images differ in size: both must fit in one batch or be kept apart.
    chosen = [*list(plan.images)[: n - n // 2], *list(plan.images)[-(n // 2) :]]
    return [
        (
            Image.fromarray(read_pixels(dataset.image_path(plan.images[pixels]))),
            [prompt for prompt in plan.prompts.values() if prompt.pixels == pixels],
        )
        for pixels in chosen
    ]


def ask(
    loaded: LoadedModel, plan: Plan, dataset: Dataset, *, batch_size: int, checked: bool = False
) -> dict[str, Response]:
    asker = Asker(loaded, plan.answers, name="tiny", batch_size=batch_size)
    if checked:
        found = check_model(asker, loaded, answers=("red", "blue"), batch_size=batch_size)
        assert (found["way"], found["goes_on"]) == ("packed", True)
    texts = [prompt for prompt in plan.prompts.values() if not prompt.pixels]
    responses = asker.ask_texts(texts) + asker.ask_images(images_of(plan, dataset, 4))
    return {response.key: response for response in responses}


def own_inputs(loaded: LoadedModel, prompt: Prompt, image: Image.Image | None) -> dict[str, Any]:
    """Inputs the way the documentation of transformers builds them."""
    messages = conversation(prompt)
    if image is not None:
        messages[0]["content"][0]["image"] = image
    inputs: dict[str, Any] = loaded.processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    return inputs


def own_run(loaded: LoadedModel, prompt: Prompt, image: Image.Image | None) -> tuple[np.ndarray, np.ndarray]:
    """Last logits, and hidden states of all layers before the last (n_layers - 1, width), of one prompt alone."""
    if hasattr(loaded.model.model, "rope_deltas"):
        loaded.model.model.rope_deltas = None
    with torch.inference_mode():
        output = loaded.model(**own_inputs(loaded, prompt, image), output_hidden_states=True)
        hidden = torch.stack([states[0, -1] for states in output.hidden_states[1:-1]])
        lens = loaded.model.get_output_embeddings()(loaded.model.get_decoder().norm(hidden))
    return output.logits[0, -1].numpy().astype(np.float64), lens.numpy()


@pytest.mark.parametrize("checked", [False, True], ids=["naive", "packed"])
def test_responses_agree_with_single_prompts(loaded: LoadedModel, plan: Plan, dataset: Dataset, checked: bool) -> None:
    responses = ask(loaded, plan, dataset, batch_size=8, checked=checked)
    pictures = {prompts[0].pixels: image for image, prompts in images_of(plan, dataset, 4)}
    tokenizer = loaded.processor.tokenizer
    n_compared = 0
    for prompt in plan.prompts.values():
        if prompt.key not in responses:
            continue
        response = responses[prompt.key]
        logits, lens = own_run(loaded, prompt, pictures.get(prompt.pixels))
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        assert response.entropy == pytest.approx(scipy_entropy(probabilities), rel=1e-4)
        second, first = np.sort(probabilities)[-2:]
        assert response.least_confidence == pytest.approx(1 - first, rel=1e-4)
        assert response.margin_uncertainty == pytest.approx(1 - first + second, rel=1e-4)
        assert response.nlls == pytest.approx(-np.log(response.probabilities), rel=1e-9)
        for answer, score, share in zip(plan.answers, response.logits, response.probabilities, strict=True):
            starts = {
                tokenizer(space + case, add_special_tokens=False)["input_ids"][0]
                for space in ("", " ")
                for case in (answer, answer.capitalize(), answer.upper())
            }
            # Tokens that several answers share count for none, so the plain set is an upper bound.
            assert score <= logits[list(starts)].max() + 1e-4
            assert share <= probabilities[list(starts)].sum() + 1e-6
            assert np.isclose(logits, score, atol=1e-4).any()
        if prompt.answers:
            assert len(response.states) == len(response.differences) == len(lens) + 1
            scores = dict(zip(plan.answers, response.logits, strict=True))
            text, image = (scores[answer] for answer in prompt.answers)
            assert response.differences[-1] == pytest.approx(text - image, abs=1e-4)
            owners = Asker(loaded, plan.answers, name="tiny", batch_size=1).tokens.owners(len(logits)).numpy()
            expected = [
                {plan.answers.index(prompt.answers[0]): 1, plan.answers.index(prompt.answers[1]): 0}.get(owner, -1)
                for owner in owners[[*lens.argmax(axis=-1), logits.argmax()]]
            ]
            assert list(response.states) == expected
        n_compared += 1
    assert n_compared == 6 + 4 * 5


def test_batches_agree_with_single_prompts(loaded: LoadedModel, plan: Plan, dataset: Dataset) -> None:
    single, batched = (ask(loaded, plan, dataset, batch_size=size) for size in (1, 16))
    assert single.keys() == batched.keys()
    for key, response in single.items():
        other = batched[key]
        assert other.entropy == pytest.approx(response.entropy, rel=1e-5)
        assert other.logits == pytest.approx(response.logits, abs=1e-4)
        assert other.differences == pytest.approx(response.differences, abs=1e-4)
        assert (other.answer, other.designed) == (response.answer, response.designed)


@pytest.mark.parametrize("checked", [False, True], ids=["asked again", "going on"])
def test_own_answers_are_those_of_generate(loaded: LoadedModel, plan: Plan, dataset: Dataset, checked: bool) -> None:
    responses = ask(loaded, plan, dataset, batch_size=8, checked=checked)
    image, prompts = images_of(plan, dataset, 4)[0]
    answers = []
    for prompt in prompts:
        inputs = own_inputs(loaded, prompt, image)
        with torch.inference_mode():
            tokens = loaded.model.generate(**inputs, max_new_tokens=8, do_sample=False)
        text = loaded.processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        answers.append(normalize_answer(text))
        assert responses[prompt.key].answer == answers[-1]
    assert any(answers)


def test_self_test_measures_and_passes(loaded: LoadedModel, plan: Plan) -> None:
    asker = Asker(loaded, plan.answers, name="tiny", batch_size=8)
    errors = check_model(asker, loaded, answers=("red", "blue"), batch_size=8)
    assert errors["lens_error"] < 1e-4
    assert errors["batch_sensitivity"] < 1e-4


def test_model_that_ignores_images_is_refused(model_folders: dict[str, Path], plan: Plan) -> None:
    blind = load_model(find_model(str(model_folders["llava"])), device="cpu")
    with torch.no_grad():
        for parameter in blind.model.model.multi_modal_projector.parameters():
            parameter.zero_()
    asker = Asker(blind, plan.answers, name="blind", batch_size=8)
    with pytest.raises(InputError, match="blind ignores images"):
        check_model(asker, blind, answers=("red", "blue"), batch_size=8)


def test_lens_that_does_not_end_in_the_models_logits_is_refused(
    model_folders: dict[str, Path], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(find_model(str(model_folders["llava"])), device="cpu")
    asker = Asker(loaded, plan.answers, name="odd", batch_size=8)
    honest = asker.logits
    monkeypatch.setattr(asker, "logits", lambda batch, **how: honest(batch, **how) * 1.1)
    with pytest.raises(InputError, match="lens does not show"):
        check_model(asker, loaded, answers=("red", "blue"), batch_size=8)


def test_logits_that_overflow_are_refused(model_folders: dict[str, Path], plan: Plan) -> None:
    loaded = load_model(find_model(str(model_folders["llava"])), device="cpu")
    asker = Asker(loaded, plan.answers, name="broken", batch_size=8)
    with torch.no_grad():
        loaded.model.get_output_embeddings().weight[5] = float("inf")
    with pytest.raises(OverflowedError) as caught:
        asker.ask_texts([Prompt("What color is the square?")])
    assert caught.value.prompt.text == "What color is the square?"


def test_half_precision_keeps_the_head_wide(model_folders: dict[str, Path], plan: Plan, dataset: Dataset) -> None:
    source = find_model(str(model_folders["llava"]))
    half = load_model(source, device="cpu", dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    assert half.model.get_output_embeddings().weight.dtype == torch.float32
    wide = ask(load_model(source, device="cpu"), plan, dataset, batch_size=8)
    for key, response in ask(half, plan, dataset, batch_size=8).items():
        assert response.entropy == pytest.approx(wide[key].entropy, rel=0.1)


def test_entropy_agrees_with_the_reference_far_from_uniform() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(50, 200)) * np.geomspace(0.01, 100, 50)[:, None]
    logits[0] = 0.0
    np.testing.assert_allclose(entropy(torch.tensor(logits)).numpy(), reference_entropy(logits), rtol=1e-12)


def test_other_indices_agree_with_the_reference_far_from_uniform() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(50, 200)) * np.geomspace(0.01, 100, 50)[:, None]
    logits[0] = 0.0
    logits[1, 7] = 700.0
    exact, tokens = torch.tensor(logits), [[7], [3, 9], [11, 12, 13]]
    np.testing.assert_allclose(margin_uncertainty(exact).numpy(), indices.margin_uncertainty(logits), rtol=1e-12)
    np.testing.assert_allclose(least_confidence(exact).numpy(), indices.least_confidence(logits), rtol=1e-12)
    nlls = answer_nlls(exact, tokens).numpy()
    assert 0 < nlls[1, 0] < 1e-290
    for answer, ids in enumerate(tokens):
        np.testing.assert_allclose(nlls[:, answer], indices.answer_nll(logits, ids), rtol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_images_prepared_at_once_are_those_prepared_one_by_one_in_their_order(
    name: str, model_folders: dict[str, Path], plan: Plan, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(find_model(str(model_folders[name])), device="cpu")
    images = images_of(plan, dataset, 12)
    own = loaded.processor.image_processor
    expected = [Encoder(loaded.processor).encode_image(prompts, image) for image, prompts in images]
    honest, running, most = type(own).__call__, [0], [0]

    def slow(self: Any, *args: Any, **kwargs: Any) -> Any:
        running[0] += 1
        most[0] = max(most[0], running[0])
        # The first ones take longest, so that an order by completion would differ.
        time.sleep(max(0.05, 0.3 - 0.05 * most[0]))
        try:
            return honest(self, *args, **kwargs)
        finally:
            running[0] -= 1

    monkeypatch.setattr(type(own), "__call__", slow)
    monkeypatch.setattr(asking, "_WORKERS", 3)
    asker = Asker(loaded, plan.answers, name="tiny", batch_size=8)
    found = list(asker._encode_ahead(images))
    assert loaded.processor.image_processor is own
    assert 2 <= most[0] <= 3
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert [entry.prompt for entry in ours] == [entry.prompt for entry in theirs]
        assert [entry.sequences for entry in ours] == [entry.sequences for entry in theirs]
        assert ours[0].image.keys() == theirs[0].image.keys()
        assert all(torch.equal(tensor, theirs[0].image[key]) for key, tensor in ours[0].image.items())
        assert all(entry.image is ours[0].image for entry in ours)
