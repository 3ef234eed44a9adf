import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from mfbayes.datasets import Dataset
from mfbayes.errors import InputError
from mfbayes.inference import collection
from mfbayes.inference.asking import Asker, OverflowedError
from mfbayes.inference.collection import COLLECTION_FILE, collect, is_collected
from mfbayes.inference.inventory import list_models
from mfbayes.inference.prompts import Prompt, plan_prompts
from mfbayes.inference.responses import Response
from mfbayes.inference.shards import Shard
from mfbayes.inference.sources import find_model
from mfbayes.inference.tables import bound_noise
from mfbayes.inference.units import Unit
from mfbayes.inference.worker import Worker
from mfbayes.names import INDICES, STATE_CODES
from mfbayes.selection import select_trials
from mfbayes.storage import hash_file
from mfbayes.traces import read_traces
from mfbayes.trials import check_trials

COLUMNS = {
    *("model", "task", "group", "item", "kind", "d_text", "d_image", "H_text", "H_image", "choice"),
    *("margin_uncertainty_text", "margin_uncertainty_image", "least_confidence_text", "least_confidence_image"),
    *("nll_text", "nll_image", "logit_noise"),
    *("text_correct", "image_correct", "answer_text", "answer_image", "answer_both", "text_answer", "image_answer"),
    *(
        f"{what}_{side}_{given}"
        for what in ("logit", "p")
        for side in ("text", "image")
        for given in ("text_only", "image_only", "both")
    ),
}


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset, model_folders: dict[str, Path]) -> Path:
    return collect(dataset, str(model_folders["llava"]), out=tmp_path_factory.mktemp("out"), device="cpu")


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    return {p.name: (hash_file(p), p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()}


def test_trials_have_every_item_and_column(collected: Path, dataset: Dataset) -> None:
    trials = pd.read_parquet(collected / "trials.parquet")
    assert set(trials.columns) == COLUMNS
    assert list(trials["item"]) == list(dataset.manifest["item"])
    assert trials["choice"].isin(["text", "image", "other"]).all()
    assert trials["H_text"].dtype == trials["H_image"].dtype == np.float64
    assert (trials[["H_text", "H_image"]] > 0).all(axis=None)
    assert trials.filter(regex="^p_").to_numpy().max() <= 1
    assert sorted(path.name for path in collected.iterdir()) == [
        "answers",
        "collection.json",
        "traces.nc",
        "trials.parquet",
    ]


def test_indices_are_those_of_the_unimodal_inputs(collected: Path) -> None:
    trials = pd.read_parquet(collected / "trials.parquet")
    for side in ("text", "image"):
        np.testing.assert_allclose(trials[f"nll_{side}"], -np.log(trials[f"p_{side}_{side}_only"]), rtol=1e-9)
        least, margin = trials[f"least_confidence_{side}"], trials[f"margin_uncertainty_{side}"]
        # The runner-up has at most what the likeliest leaves, and the margin counts that twice.
        assert ((least < margin) & (margin <= 2 * least)).all()
        assert (trials.groupby(["group", f"d_{side}"])[[least.name, margin.name]].nunique() == 1).all(axis=None)
    chosen = check_trials(trials)
    dH = {index: select_trials(chosen, subset="all", index=index).trials["dH"] for index in INDICES}
    assert all(not np.allclose(dH[index], dH["entropy"]) for index in INDICES[1:])
    record = json.loads((collected / COLLECTION_FILE).read_text())
    assert trials["logit_noise"].nunique() == 1
    assert record["checks"]["batch_sensitivity"] <= trials["logit_noise"].iloc[0] < 1e-4


def test_noise_is_measured_or_expected_of_the_precision() -> None:
    answered = [Response("k", 0.1, 0.1, 0.1, "red", "red", [3.0, -20.0], [0.9, 0.1], [0.1, 2.3], [], [])]
    assert bound_noise(answered, batch_sensitivity=0.25, dtype="bfloat16") == 0.25
    assert bound_noise(answered, batch_sensitivity=0.0, dtype="bfloat16") == 20 * 2.0**-24
    assert bound_noise(answered, batch_sensitivity=None, dtype="bfloat16") == 20 * 2.0**-8


def test_unimodal_answers_are_shared(collected: Path) -> None:
    trials = pd.read_parquet(collected / "trials.parquet")
    assert (trials.groupby(["group", "d_image"])["H_image"].nunique() == 1).all()
    assert (trials.groupby(["group", "d_text"])["H_text"].nunique() == 1).all()
    assert trials["logit_text_both"].nunique() > 0.9 * len(trials)


def test_correctness_and_choice_follow_the_answers(collected: Path) -> None:
    trials = pd.read_parquet(collected / "trials.parquet")
    assert (
        trials.loc[trials["text_correct"], "answer_text"] == trials.loc[trials["text_correct"], "text_answer"]
    ).all()
    for side in ("text", "image"):
        chosen = trials[trials["choice"] == side]
        assert (chosen[f"p_{side}_both"] > 0).all()


def test_traces_end_in_the_models_own_logits(collected: Path) -> None:
    trials = pd.read_parquet(collected / "trials.parquet").set_index("item")
    traces = read_traces(collected / "traces.nc")
    assert list(traces["item"].to_numpy()) == list(trials.index)
    assert traces.sizes["layer"] == 4
    difference = trials["logit_text_both"] - trials["logit_image_both"]
    np.testing.assert_allclose(traces["logit_difference"].isel(layer=-1), difference, atol=1e-4)
    last = trials["choice"].map(STATE_CODES).to_numpy()
    states = traces["state"].isel(layer=-1).to_numpy()
    # Where several tokens had to be read before the answer showed, the lens saw neither.
    assert np.isin(states[states != last], [-1]).all()


def test_same_content_is_reused_without_loading(
    collected: Path, dataset: Dataset, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(Worker, "__init__", refuse)
    before = snapshot(collected)
    again = collect(dataset, str(model_folders["llava"]), out=collected.parent.parent)
    assert again == collected
    assert snapshot(collected) == before
    with pytest.raises(AssertionError, match="asked again"):
        collect(dataset, str(model_folders["llava"]), out=collected.parent.parent / "elsewhere")


def test_collection_of_all_items_is_told_from_one_of_some(
    collected: Path, tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path]
) -> None:
    assert is_collected(collected, dataset)
    assert not is_collected(collect(dataset, str(model_folders["llava"]), out=tmp_path, limit=4), dataset)
    assert not is_collected(tmp_path, dataset)


def test_collection_by_another_version_is_not_used(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(model_folders["llava"])
    folder = collect(dataset, name, out=tmp_path)
    assert is_collected(folder, dataset)
    monkeypatch.setattr(collection, "PROTOCOL_VERSION", collection.PROTOCOL_VERSION + 1)
    assert not is_collected(folder, dataset)
    with pytest.raises(InputError, match=r"another version of this program.*--overwrite"):
        collect(dataset, name, out=tmp_path)


def test_other_content_is_refused_and_harms_nothing(
    collected: Path, dataset: Dataset, model_folders: dict[str, Path]
) -> None:
    before, out = snapshot(collected), collected.parent.parent
    with pytest.raises(InputError, match=r"other items.*--overwrite"):
        collect(dataset, str(model_folders["llava"]), out=out, limit=8)
    with pytest.raises(InputError, match="dtype float32 instead of bfloat16"):
        collect(dataset, str(model_folders["llava"]), out=out, dtype="bfloat16")
    assert snapshot(collected) == before


def test_overwrite_replaces_only_when_finished(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = str(model_folders["llava"])
    folder = collect(dataset, name, out=tmp_path, limit=4)
    before = snapshot(folder)

    def stop(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(collection, "_finish", stop)
        with pytest.raises(OSError, match="No space"):
            collect(dataset, name, out=tmp_path, limit=5, overwrite=True)
    assert snapshot(folder) == before
    assert collect(dataset, name, out=tmp_path, limit=4) == folder
    collect(dataset, name, out=tmp_path, limit=5, overwrite=True)
    assert len(pd.read_parquet(folder / "trials.parquet")) == 5


def test_dataset_without_items_is_refused(tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"has no items\. Generate it again"):
        collect(Dataset(dataset.path, dataset.manifest.head(0)), str(model_folders["llava"]), out=tmp_path)


def test_files_that_do_not_belong_together_are_collected_again(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path]
) -> None:
    name = str(model_folders["llava"])
    folder = collect(dataset, name, out=tmp_path, limit=4)
    whole = (folder / "trials.parquet").read_bytes()
    (folder / "trials.parquet").write_bytes(whole[:-10])
    collect(dataset, name, out=tmp_path, limit=4)
    assert len(pd.read_parquet(folder / "trials.parquet")) == 4


def test_record_says_how_and_hides_where(collected: Path) -> None:
    text = (collected / COLLECTION_FILE).read_text()
    record: dict[str, Any] = json.loads(text)
    assert record["dtype"] == "float32"
    assert record["n_items"] == 112
    assert record["prompts"] == record["prompts_asked_by_last_call"] == 2 * (3 + 14 + 56)
    assert record["audit"] is None
    assert record["smallest_batch_size"] == record["batch_size"] == 32
    assert str(collected.parent.parent) not in text
    assert os.uname().nodename not in text


def test_overflow_names_the_item(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Asker.ask_images

    def overflow(self: Asker, images: Iterable[tuple[Any, Sequence[Prompt]]]) -> list[Response]:
        listed = list(images)
        if len(listed) < 14:
            raise OverflowedError(next(prompt for prompt in listed[-1][1] if prompt.answers))
        return honest(self, listed)

    monkeypatch.setattr(Asker, "ask_images", overflow)
    with pytest.raises(InputError, match=r"not finite for item g0001-v13-t0\. .*--dtype float32"):
        collect(dataset, str(model_folders["llava"]), out=tmp_path)
    assert list(tmp_path.glob("collected/*/answers/*/*.parquet"))


def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_folders["llava"], broken)
    weights = load_file(broken / "model.safetensors")
    head = next(name for name in weights if name.endswith("lm_head.weight"))
    weights[head][7] = torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"broken@.* has weights that are not finite: .*lm_head.weight"):
        collect(dataset, str(broken), out=tmp_path / "out")


class Counter:
    """Counts what is asked of any model."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.keys: list[str] = []
        honest = Worker.answer

        def answer(worker: Worker, unit: Unit) -> Shard:
            self.keys += [prompt.key for prompt in unit.prompts]
            return honest(worker, unit)

        patch.setattr(Worker, "answer", answer)


def refuse_to_load(patch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("loaded")

    patch.setattr(Worker, "__init__", refuse)


def test_more_items_ask_only_what_is_new(
    collected: Path, tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, counter = str(model_folders["llava"]), Counter(monkeypatch)
    collect(dataset, name, out=tmp_path, limit=30)
    first = list(counter.keys)
    folder = collect(dataset, name, out=tmp_path, overwrite=True)
    plan = plan_prompts(dataset.manifest)
    assert 0 < len(first) < len(plan.prompts)
    assert sorted(counter.keys) == sorted(plan.prompts)
    record = json.loads((folder / COLLECTION_FILE).read_text())
    assert record["prompts_asked_by_last_call"] == len(plan.prompts) - len(first)
    trials, expected = (pd.read_parquet(place / "trials.parquet") for place in (folder, collected))
    # Other prompts share their batches now, which moves the last digits, and with them the noise that is measured.
    noise = [table.pop("logit_noise") for table in (trials, expected)]
    assert all(own.between(0, 1e-4, inclusive="right").all() for own in noise)
    pd.testing.assert_frame_equal(trials, expected, rtol=1e-4)
    refuse_to_load(monkeypatch)
    collect(dataset, name, out=tmp_path, limit=30, overwrite=True)
    assert len(pd.read_parquet(folder / "trials.parquet")) == 30


def test_second_model_leaves_the_first_alone(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = collect(dataset, str(model_folders["llava"]), out=tmp_path, limit=4)
    before = snapshot(first)
    collect(dataset, str(model_folders["qwen"]), out=tmp_path, limit=4)
    assert snapshot(first) == before
    refuse_to_load(monkeypatch)
    assert collect(dataset, str(model_folders["llava"]), out=tmp_path, limit=4) == first


def test_parts_make_the_same_files_as_the_whole(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(model_folders["llava"])
    whole = collect(dataset, name, out=tmp_path / "whole", batch_size=8)
    for number in (3, 1):
        folder = collect(dataset, name, out=tmp_path / "parts", batch_size=8, shard=f"{number}/3")
        assert not (folder / COLLECTION_FILE).exists()
        assert re.search(
            rf"part {number}/3 is asked; \d+ of 146 prompts are left to other parts", capsys.readouterr().err
        )
    collect(dataset, name, out=tmp_path / "parts", batch_size=8, shard="2/3")
    for file in ("trials.parquet", "traces.nc"):
        assert hash_file(folder / file) == hash_file(whole / file)


def test_damaged_shards_are_told_and_asked_again(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(model_folders["llava"])
    folder = collect(dataset, name, out=tmp_path, limit=30)
    expected = hash_file(folder / "trials.parquet")
    texts, images = sorted(folder.glob("answers/*/*.parquet"), key=lambda file: file.stat().st_size)
    texts.write_bytes(texts.read_bytes()[:-7])
    flipped = bytearray(images.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    images.write_bytes(flipped)
    (folder / "trials.parquet").unlink()
    collect(dataset, name, out=tmp_path, limit=30)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Shard")]
    assert sorted(told) == sorted(
        f"Shard {file.name} is damaged or cut short: its prompts are asked again." for file in (texts, images)
    )
    assert hash_file(folder / "trials.parquet") == expected


def test_automatic_precision_is_that_of_the_answers_there(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    name = str(model_folders["llava"])
    folder = collect(dataset, name, out=tmp_path, limit=8, dtype="bfloat16")
    (folder / "trials.parquet").unlink()
    with pytest.MonkeyPatch.context() as patch:
        refuse_to_load(patch)
        collect(dataset, name, out=tmp_path, limit=8)
    assert "going on in bfloat16" in capsys.readouterr().err
    assert json.loads((folder / COLLECTION_FILE).read_text())["dtype"] == "bfloat16"


def test_facts_of_differing_workers_are_told_at_their_worst() -> None:
    facts: list[dict[str, Any]] = [
        {
            "device": "cuda:0",
            "batch_size": 8,
            "seconds": 1.5,
            "seconds_loading": 3.0,
            "checks": {"error": 2.0, "way": "a"},
            "flops": {"spent": 3.0, "floor": 2.0},
        },
        {
            "device": "cpu",
            "batch_size": 32,
            "seconds": 2.0,
            "seconds_loading": 1.0,
            "checks": {"error": 3.0, "way": "b"},
            "flops": {"spent": 4.0, "floor": 3.0},
        },
    ]
    summary = collection.summarise_facts(facts)
    assert summary["checks"] == {"error": 3.0, "way": "a, b"}
    assert summary["flops"] == {"spent": 7.0, "floor": 5.0}
    assert summary["device"] == "cpu, cuda:0"
    assert (summary["smallest_batch_size"], summary["seconds_asking"], summary["seconds_loading"]) == (8, 3.5, 3.0)


def test_inventory_tells_collected_from_unfinished(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path]
) -> None:
    folder = collect(dataset, str(model_folders["llava"]), out=tmp_path, limit=4)
    (tmp_path / "collected" / "org--half" / "answers").mkdir(parents=True)
    (tmp_path / "collected" / "stray").mkdir()
    entries = {entry.name: entry for entry in list_models(tmp_path) if entry.where != "embedded"}
    name = find_model(str(model_folders["llava"])).name
    assert set(entries) == {name, "org/half"}
    assert entries[name][1:] == ("local", "collected", 4, folder)
    assert entries["org/half"].status == "unfinished"
    assert all(entry.where == "embedded" for entry in list_models(tmp_path / "nowhere"))
