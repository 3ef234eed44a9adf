import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mfbayes.datasets import Dataset
from mfbayes.errors import TooLargeError
from mfbayes.inference import worker
from mfbayes.inference.audit import choose_items, measure_errors, sample_prompts
from mfbayes.inference.collection import COLLECTION_FILE, collect
from mfbayes.inference.loading import load_model
from mfbayes.inference.prompts import INPUTS, plan_prompts
from mfbayes.inference.responses import Response
from mfbayes.inference.units import Unit


def respond(key: str, entropy: float, answer: str = "red") -> Response:
    return Response(key, entropy, 0.1, 0.1, answer, answer, [1.0], [0.5], [0.7], [], [])


def test_sample_is_a_share_of_prompts_and_hangs_on_content_alone(dataset: Dataset) -> None:
    plan = plan_prompts(dataset.manifest)
    for share, least in ((0.02, 8), (0.3, 8), (0.02, 10_000)):
        items = choose_items(plan, share=share, least=least)
        prompts = sample_prompts(plan, items)
        wanted = max(least, share * len(plan.prompts))
        conflicts = plan.items[plan.items["kind"] == "conflict"]
        everything = set(conflicts[list(INPUTS)].to_numpy().ravel())
        assert min(wanted, len(everything)) <= len(prompts) <= min(wanted + 2, len(everything))
        assert set(items["kind"]) == {"conflict"}
    shuffled = plan_prompts(dataset.manifest.sample(frac=1, random_state=1))
    assert set(choose_items(plan)["item"]) == set(choose_items(shuffled)["item"])


def test_errors_have_known_sizes() -> None:
    items = pd.DataFrame({"text_only": ["t1", "t1"], "image_only": ["i1", "i2"], "both": ["b1", "b2"]}, index=[4, 9])
    wide = {key: respond(key, 1.0) for key in ("t1", "i1", "i2", "b1", "b2")}
    narrow = wide | {"i1": respond("i1", 1.5), "t1": respond("t1", 0.9), "b2": respond("b2", 9.0, "blue")}
    errors = measure_errors(items, narrow, wide, dtype="bfloat16")
    assert (errors["items"], errors["prompts"], errors["answers_changed"]) == (2, 5, 0.2)
    # H errors are 0.5 (i1), 0 (i2) and 0.1 (t1); what the conflict input's entropy does is of no matter.
    assert errors["H"] == pytest.approx({"median": 0.1, "p95": 0.46, "largest": 0.5})
    assert errors["H_relative"] == pytest.approx(errors["H"])
    dH = np.abs([2 * (0.9 - 1.5) / 2.4, 2 * (0.9 - 1.0) / 1.9])
    assert errors["dH"]["largest"] == pytest.approx(dH[0])
    assert errors["dH"]["median"] == pytest.approx(dH.mean())


def test_entropies_that_both_vanish_are_left_out() -> None:
    items = pd.DataFrame({"text_only": ["t"], "image_only": ["i"], "both": ["b"]})
    nothing = {key: respond(key, 0.0) for key in "tib"}
    errors = measure_errors(items, nothing, nothing, dtype="float16")
    assert errors["H"] == {"median": 0.0, "p95": 0.0, "largest": 0.0}
    assert errors["dH"] == errors["H_relative"] == {"median": None, "p95": None, "largest": None}
    json.dumps(errors, allow_nan=False)


def read_audit(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / COLLECTION_FILE).read_text())
    audit: dict[str, Any] = record["audit"]
    return audit


def test_narrow_collection_is_audited_against_float32(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, asked = str(model_folders["llava"]), list[tuple[str, str]]()
    honest = worker.Worker.answer

    def answer(self: worker.Worker, unit: Unit) -> Any:
        shard = honest(self, unit)
        asked.extend((shard.facts["dtype"], response.key) for response in shard.responses)
        return shard

    monkeypatch.setattr(worker.Worker, "answer", answer)
    plan = plan_prompts(dataset.manifest, limit=60)
    folder = collect(dataset, name, out=tmp_path, dtype="bfloat16", limit=60)
    audit = read_audit(folder)
    sample = sample_prompts(plan, choose_items(plan))
    assert audit["dtype"] == "bfloat16"
    assert audit["prompts"] == len(sample) >= 8
    assert sorted(key for dtype, key in asked if dtype == "float32") == sorted(prompt.key for prompt in sample)
    narrow = pd.read_parquet(folder / "trials.parquet").set_index("item")
    # Now all of it in float32: only what the audit has not asked, and with the errors that the audit told.
    asked.clear()
    collect(dataset, name, out=tmp_path, dtype="float32", limit=60, overwrite=True)
    assert len(asked) == len(plan.prompts) - len(sample)
    wide = pd.read_parquet(folder / "trials.parquet").set_index("item")
    items = choose_items(plan)["item"]
    errors = np.concatenate([np.abs((narrow[side] - wide[side]).loc[items]) for side in ("H_text", "H_image")])
    assert audit["H"]["largest"] == pytest.approx(errors.max(), rel=1e-3)
    assert 1e-6 < audit["H"]["median"] <= audit["H"]["p95"] <= audit["H"]["largest"] < 1
    assert audit["dH"]["largest"] > 0


def test_machine_without_room_for_float32_skips_the_audit_with_a_reason(
    tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = load_model

    def load(*args: Any, dtype: str, **kwargs: Any) -> Any:
        if dtype == "float32":
            raise TooLargeError("28 GB are needed, 2 GB are there.")
        return honest(*args, dtype=dtype, **kwargs)

    monkeypatch.setattr(worker, "load_model", load)
    folder = collect(dataset, str(model_folders["llava"]), out=tmp_path, dtype="float16", limit=8)
    assert read_audit(folder) == {"skipped": "28 GB are needed, 2 GB are there."}
    assert len(pd.read_parquet(folder / "trials.parquet")) == 8
    monkeypatch.setattr(worker, "load_model", honest)
    again: dict[str, Any] = {"out": tmp_path, "dtype": "float16", "limit": 8}
    assert read_audit(collect(dataset, str(model_folders["llava"]), **again)) == {
        "skipped": "28 GB are needed, 2 GB are there."
    }
    found = read_audit(collect(dataset, str(model_folders["llava"]), **again, overwrite=True))
    assert found["H"]["largest"] > 0
