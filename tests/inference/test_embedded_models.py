"""The shipped models: they load through the Auto classes, answer in one word, and their cards are told from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from mfbayes import names
from mfbayes.data_gen.color_task import design_groups
from mfbayes.data_gen.drawing import draw
from mfbayes.data_gen.generation import generate
from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.texts import COMMAND, describe, question, words
from mfbayes.datasets import Dataset
from mfbayes.inference.embedded.evaluation import evaluate, sum_up
from mfbayes.inference.embedded.measure import CARD_FILE, WEIGHTS_FILE, count_parameters
from mfbayes.inference.embedded.recipes import DECODERS, MODELS
from mfbayes.inference.embedded.train import WEIGHTS

FOLDERS = sorted(file.parent for file in WEIGHTS.glob(f"*/{WEIGHTS_FILE}"))
each_model = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
MEBI = 2**20


def _inputs(processor: Any, text: str, image: Image.Image | None = None) -> Any:
    content = [{"type": "text", "text": text}]
    if image is not None:
        content.insert(0, {"type": "image"})
    prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return processor(text=prompt, return_tensors="pt", **({} if image is None else {"images": image}))


def _generate(model: Any, processor: Any, inputs: Any) -> list[str]:
    if hasattr(model.model, "rope_deltas"):
        model.model.rope_deltas = None
    with torch.inference_mode():
        tokens = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    words_given: list[str] = processor.tokenizer.convert_ids_to_tokens(tokens.tolist())
    return words_given


def test_the_promised_models_are_there() -> None:
    shipped = {folder.name for folder in FOLDERS}
    assert {"llava-r40", "llava-r50", "llava-r60", "llava-never", "llava-plain"} <= shipped
    assert shipped <= set(MODELS)
    assert any(name.startswith("qwen") for name in shipped)
    assert sum((folder / WEIGHTS_FILE).stat().st_size for folder in FOLDERS) <= 15 * MEBI


@each_model
def test_model_loads_and_answers_in_one_word(folder: Path) -> None:
    assert (folder / WEIGHTS_FILE).stat().st_size <= 3 * MEBI
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    tokenizer = processor.tokenizer
    assert tokenizer.unk_token_id not in tokenizer.convert_tokens_to_ids(words())
    right = []
    for group in design_groups(6, seed=4242):
        ask = f"{question(group.target)} {COMMAND}"
        for d_image in (0, 3, 12):
            image = Image.fromarray(draw(group.scene(d_image, uniform_size=False), supersample=2))
            answer = _generate(model, processor, _inputs(processor, ask, image))
            assert len(answer) == 2 and answer[0] in COLORS and answer[1] == tokenizer.eos_token
            if d_image < 5:
                right.append(answer[0] == group.image_answer)
        text = describe(group.target, group.text_answer, 0)
        answer = _generate(model, processor, _inputs(processor, f"{text} {ask}"))
        assert answer == [group.text_answer, tokenizer.eos_token]
    assert np.mean(right) > 0.7


@each_model
def test_card_tells_recipe_measurement_and_limits(folder: Path) -> None:
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    assert f"{count_parameters(folder / WEIGHTS_FILE):,} parameters" in card
    assert json.loads((folder / "config.json").read_text())["architectures"][0] in card
    for part in ("## Recipe", "## Measured", "## Limits", "seed", "Deep supervision", "Balance point"):
        assert part in card
    assert all(f"| {tier} | " in card for tier in range(14))
    assert f"| {DECODERS[folder.name].course.n_steps:,} |" in card


def _trials(balance: float, slope: float, *, n_groups: int = 300) -> pd.DataFrame:
    """Trials of a follower whose balance point is known, all answered correctly from each side."""
    rng = np.random.default_rng(5)
    grid = pd.MultiIndex.from_product([range(n_groups), range(14), range(3)], names=["group", "d_image", "d_text"])
    rows = grid.to_frame(index=False)
    rows["H_image"] = 0.05 * (1 + rows["d_image"]) * rng.lognormal(0, 0.2, len(rows))
    rows["H_text"] = 0.1 * (1 + rows["d_text"]) * rng.lognormal(0, 0.5, len(rows))
    dH = 2 * (rows["H_text"] - rows["H_image"]) / (rows["H_text"] + rows["H_image"])
    follows = rng.random(len(rows)) < 1 / (1 + np.exp(slope * (dH - balance)))
    return rows.assign(
        group=rows["group"].map("g{:04d}".format),
        item=[f"i{number}" for number in range(len(rows))],
        kind=names.CONFLICT,
        choice=np.where(follows, names.TEXT, names.IMAGE),
        text_correct=True,
        image_correct=True,
    )


def test_sum_up_recovers_a_known_balance_point() -> None:
    trials = _trials(balance=0.4, slope=2.0)
    far = pd.Series(np.where(trials["d_image"] > 6, 2, 0), index=trials["item"])
    result = sum_up(trials, oscillations=far)
    estimate, lower, upper = result.balance_point
    assert lower < 0.4 < upper and upper - lower < 0.2
    assert lower < estimate < upper
    assert result.slope == pytest.approx(-2.0, abs=0.25)
    assert list(result.rank_correlation) == pytest.approx([1.0, 1.0])
    assert result.choices["text"] + result.choices["image"] == pytest.approx(1.0)
    assert result.n_both_correct == len(trials)
    assert result.oscillations["text-clear"] > result.oscillations["image-clear"]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The study's number of groups, from a seed that no training and no card uses."""
    return generate(tmp_path_factory.mktemp("fresh") / "data", n_groups=400, seed=31_337)


@pytest.mark.slow
@each_model
def test_models_are_what_the_package_promises(folder: Path, fresh: Dataset, tmp_path: Path) -> None:
    found = evaluate(folder, fresh, work=tmp_path)
    easy = 0.75 if folder.name in ("llava-never", "llava-plain") else 0.9
    accuracy = found.by_image_tier["accuracy"]
    assert (accuracy.loc[:4] > easy).all()
    assert (accuracy >= 0.12).all()
    assert (found.by_text_tier["accuracy"].loc[:1] == 1).all()
    assert min(found.rank_correlation) > 0.9
    assert found.dH_range[0] <= -1.7
    assert found.dH_range[1] >= 1.7
