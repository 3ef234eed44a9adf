import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mfbayes.data_gen.generation import generate
from mfbayes.inference import memory, sources
from mfbayes.inference.sources import embedded_models
from mfbayes.storage import hash_file
from tests.inference.conftest import save_llava

type Run = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return generate(tmp_path / "data", n_groups=1, seed=2, workers=1).path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard", "5/4"], "--shard"),
        (["--shard", "half"], "such as 2/8"),
        (["--engine", "dask"], "here or ray"),
        (["--engine", "ray"], "pip install 'mfbayes[ray]'"),
        (["--address", "auto"], "Add --engine ray"),
        (["--workers", "2"], "Add --engine ray"),
        (["--dtype", "int8"], "float16"),
    ],
)
def test_bad_options_are_refused_before_anything_is_asked(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = run("collect", "--model", "llava-r50", "--data", data, "--out", data.parent / "runs", *options)
    assert outcome.code == 2
    assert words in outcome.err
    assert not list(data.parent.glob("runs/collected/*/*"))


def test_corrupt_image_is_named(run: Run, data: Path) -> None:
    image = sorted(data.rglob("*.png"))[3]
    image.write_bytes(image.read_bytes()[:80])
    outcome = run("collect", "--model", "llava-r50", "--data", data, "--out", data.parent / "runs")
    assert outcome.code == 2
    assert image.name in outcome.err


def test_parts_one_by_one_make_a_whole(run: Run, data: Path) -> None:
    options = ("--model", "llava-r50", "--data", data, "--batch-size", 2)
    whole, parts = data.parent / "whole", data.parent / "parts"
    assert run("collect", *options, "--out", whole).code == 0
    first = run("collect", *options, "--out", parts, "--shard", "1/2")
    assert first.code == 0
    assert "left to other parts" in first.err
    assert not list(parts.rglob("trials.parquet"))
    second = run("collect", *options, "--out", parts, "--shard", "2/2")
    assert second.code == 0
    assert "left to other parts" not in second.err
    for name in ("trials.parquet", "traces.nc"):
        made = parts / "collected" / "llava-r50" / name
        assert hash_file(made) == hash_file(whole / "collected" / "llava-r50" / name)
    record = json.loads((parts / "collected" / "llava-r50" / "collection.json").read_text())
    assert record["prompts_asked_by_last_call"] < record["prompts"]


def test_letters_tell_what_the_order_does(run: Run, data: Path) -> None:
    """A small random model whose tokenizer knows letters; its liking for a place is told, and told again."""
    save_llava(data.parent / "tiny")
    options = ("collect", "--model", data.parent / "tiny", "--data", data, "--out", data.parent / "runs", "--limit", 4)
    first, again = run(*options, "--letters"), run(*options, "--letters")
    assert first.code == 0
    trials = pd.read_parquet(next(data.parent.rglob("trials.parquet")))
    conflicts = trials[trials["kind"] == "conflict"]
    agree, bias = conflicts["orders_agree"].mean(), conflicts["position_bias_both"].mean()
    for outcome in (first, again):
        assert f"both orders agree on {agree:.0%} [" in outcome.out
        assert f"of {len(conflicts)} items; lead of the first option, nats: {bias:+.2f} from both inputs" in outcome.out


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's copy of an embedded model."""
    return Path(shutil.copytree(embedded_models()["llava-r50"], tmp_path / "own"))


def test_a_models_files_are_read_once(run: Run, data: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    honest = sources.hash_folder

    def count(folder: Path) -> str:
        hashed.append(folder)
        return honest(folder)

    monkeypatch.setattr(sources, "hash_folder", count)
    options = ("--model", own, "--data", data, "--out", data.parent / "runs", "--limit", 1)
    assert run("collect", *options).code == 0
    assert hashed == [own]
    # What is finished is given back, however little memory there is.
    monkeypatch.setattr(memory, "free_memory", lambda device: 0)
    assert run("collect", *options).code == 0
    assert hashed == [own, own]


def test_memory_is_checked_before_files_are_read(
    run: Run, data: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> str:
        raise AssertionError("hashed")

    monkeypatch.setattr(sources, "hash_folder", refuse)
    monkeypatch.setattr(memory, "free_memory", lambda device: 0)
    outcome = run("collect", "--model", own, "--data", data, "--out", data.parent / "runs")
    assert outcome.code == 2
    assert "G parameters, which take" in outcome.err
