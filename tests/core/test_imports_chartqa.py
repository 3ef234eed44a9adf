"""ChartQA-Conflict: the arms become an index, the authors' judgements are kept, and what is missing is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfbayes.errors import InputError
from mfbayes.imports.chartqa_conflict import read_chartqa_conflict
from mfbayes.selection import select_trials
from mfbayes.trials import check_trials

FOLLOWS = ["text", "image", "neither", "image"]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """Four items, the last one excluded; one model with likelihoods and one without."""
    data = tmp_path / "data" / "chartqa_conflict"
    tables = ["a/one.csv", "a/one.csv", "a/two.csv", "a/two.csv"]
    items = [
        {"conflict_id": i, "chartqa_test_index": 50 + i, "chart_answer": str(i), "report_answer": str(9 - i)}
        | {"source_table": tables[i], "answer_type": "numeric"}
        for i in range(4)
    ]
    write_lines(data / "items.jsonl", items)
    (data / "excluded_items.json").write_text('[{"conflict_id": 3, "reason": "not entailed"}]')
    results = tmp_path / "results"
    for model in ("one", "two"):
        for arm in ("image", "text"):
            main = results / "main_chartqa_conflict" / arm / model
            answers = [{"i": i, "follows": word, "extracted_final": "x"} for i, word in enumerate(FOLLOWS)]
            write_lines(main / "level_0_clean.generation.jsonl", answers)
            alone = results / "calibration" / "chartqa_unimodal" / arm / model
            write_lines(alone / "level_0_clean.decodability.jsonl", [{"i": i, "correct": i != 1} for i in range(4)])
            if model == "two":
                continue
            for level in (0, 5):
                # Another figure for every arm, level and side, so that none can stand for another.
                base = {"image": 10, "text": 20}[arm] + level
                rows = [
                    {"i": i, "margin": {"cll_text_sum": -base - 0.25, "cll_image_sum": -base - 0.5}} for i in range(4)
                ]
                write_lines(main / f"level_{level}_any.cll.jsonl", rows)
    write_lines(
        results / "ablation_chartqa_table" / "image" / "one" / "level_0_clean.generation.jsonl",
        [{"i": i, "follows": "text"} for i in range(4)],
    )
    return tmp_path


def test_each_side_is_taken_from_the_arm_that_silences_the_other(artifact: Path) -> None:
    trials = read_chartqa_conflict(artifact).trials
    assert trials["model"].tolist() == ["one"] * 3
    np.testing.assert_allclose(trials["nll_text"], 15.25)
    np.testing.assert_allclose(trials["nll_image"], 25.5)
    assert trials["choice"].tolist() == ["text", "image", "other"]
    assert trials["group"].tolist() == ["one", "one", "two"]
    assert trials["text_correct"].tolist() == [True, False, True]
    assert trials[["text_answer", "image_answer"]].iloc[1].tolist() == ["8", "1"]
    assert len(select_trials(check_trials(trials), index="nll").trials) == 2


def test_models_without_likelihoods_are_counted_and_the_ablation_is_not(artifact: Path) -> None:
    imported = read_chartqa_conflict(artifact)
    assert imported.ratios["model"].tolist() == ["one", "two"]
    assert imported.ratios[["n_text", "n_image", "n_other"]].to_numpy().tolist() == [[1, 1, 1], [1, 1, 1]]
    assert any("made illegible" in note for note in imported.notes)
    assert any(note.startswith("two: 3 rows") for note in imported.notes)


def _drop_choice(artifact: Path) -> None:
    path = artifact / "results/main_chartqa_conflict/image/one/level_0_clean.generation.jsonl"
    write_lines(path, [{"i": 0, "follows": "text"}])


def _repeat(artifact: Path) -> None:
    path = artifact / "results/main_chartqa_conflict/image/one/level_5_any.cll.jsonl"
    path.write_text(path.read_text() * 2)


def _break(artifact: Path) -> None:
    path = artifact / "results/main_chartqa_conflict/image/one/level_5_any.cll.jsonl"
    write_lines(path, [{"i": 0, "margin": {"cll_text_sum": 3.0}}])


def _remove_items(artifact: Path) -> None:
    (artifact / "data/chartqa_conflict/items.jsonl").unlink()


def _garble(artifact: Path) -> None:
    (artifact / "data/chartqa_conflict/items.jsonl").write_text("{}\n[1]\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop_choice, "Item 1 has no answer of one"),
        (_repeat, "Item 0 comes again in line 5"),
        (_break, "log-likelihood of at most 0 for item 0"),
        (_remove_items, r"items\.jsonl"),
        (_garble, "conflict_id and chartqa_test_index"),
    ],
)
def test_what_is_missing_or_broken_is_named(artifact: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(artifact)
    with pytest.raises(InputError, match=message):
        read_chartqa_conflict(artifact)


def test_the_published_outputs_are_read() -> None:
    """Counts of the authors' own summary, and the corrected accuracy of their audit: 166 of 229."""
    data = Path(os.environ.get("MFBAYES_TEST_DATA", "/nowhere")) / "chartqa-conflict"
    if not data.is_dir():
        pytest.skip("the published outputs are not there")
    imported = read_chartqa_conflict(data)
    assert imported.trials.groupby("model").size().tolist() == [229] * 6
    correct = imported.trials.groupby("model")["image_correct"].sum()
    assert correct["Phi-3.5-vision-instruct"] == 166
