import pandas as pd
import pytest

from mfbayes.datasets import Dataset
from mfbayes.errors import InputError
from mfbayes.inference.prompts import INPUTS, Prompt, conversation, plan_prompts


def test_every_prompt_is_asked_once(dataset: Dataset) -> None:
    plan = plan_prompts(dataset.manifest)
    assert len({(prompt.text, prompt.pixels) for prompt in plan.prompts.values()}) == len(plan.prompts)
    texts = [prompt for prompt in plan.prompts.values() if not prompt.pixels]
    images = [prompt for prompt in plan.prompts.values() if prompt.pixels and not prompt.answers]
    assert len(texts) == 2 * 3
    assert len(images) == 2 * 14
    assert len(plan.prompts) == len(texts) + len(images) + len(dataset.manifest)
    assert plan.items[list(INPUTS)].isin(list(plan.prompts)).all(axis=None)


def test_prompts_are_worded_as_in_the_study(dataset: Dataset) -> None:
    plan = plan_prompts(dataset.manifest)
    row = plan.items.iloc[0]
    assert plan.prompts[row["both"]].text == f"{row['description']} {row['question']} {row['command']}"
    assert plan.prompts[row["text_only"]].text == plan.prompts[row["both"]].text
    assert plan.prompts[row["image_only"]].text == f"{row['question']} {row['command']}"


def test_control_takes_the_text_of_its_conflict_item(dataset: Dataset) -> None:
    items = plan_prompts(dataset.manifest).items
    control = items[items["kind"] == "control"].iloc[3]
    sibling = items[(items["kind"] == "conflict") & (items["image"] == control["image"])]
    sibling = sibling[sibling["d_text"] == control["d_text"]].iloc[0]
    assert control["text_only"] == sibling["text_only"]
    assert control["image_only"] == sibling["image_only"]
    assert control["both"] != sibling["both"]


def test_control_without_its_conflict_item_is_refused(dataset: Dataset) -> None:
    controls = dataset.manifest[dataset.manifest["kind"] == "control"]
    with pytest.raises(InputError, match="no conflict item"):
        plan_prompts(controls)


def test_limit_asks_less_of_the_same(dataset: Dataset) -> None:
    whole, part = plan_prompts(dataset.manifest), plan_prompts(dataset.manifest, limit=4)
    pd.testing.assert_frame_equal(part.items, whole.items.head(4))
    assert set(part.prompts) < set(whole.prompts)
    assert part.content_hash != whole.content_hash
    with pytest.raises(InputError, match="limit of at least 1"):
        plan_prompts(dataset.manifest, limit=0)


def test_altered_words_or_answers_change_the_content(dataset: Dataset) -> None:
    altered = dataset.manifest.copy()
    altered.loc[0, "description"] = "The square is not."
    assert plan_prompts(altered).content_hash != plan_prompts(dataset.manifest).content_hash


def test_image_comes_first() -> None:
    (message,) = conversation(Prompt("What?", "abc"))
    assert [part["type"] for part in message["content"]] == ["image", "text"]
    (message,) = conversation(Prompt("What?"))
    assert [part["type"] for part in message["content"]] == ["text"]
