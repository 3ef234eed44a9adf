"""Logs of evaluation programs: samples are joined by what their metadata tells, and nothing is guessed."""

import json
import math
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mfbayes.errors import InputError
from mfbayes.imports import archives, inspect_ai, jsonlines
from mfbayes.imports.inspect_ai import read_inspect
from mfbayes.imports.lmms_eval import read_lmms_eval
from mfbayes.trials import check_trials
from mfbayes.uncertainty import entropy

FIELDS = {"text_answer": "red", "image_answer": ["blue", "azure"]}
type Row = dict[str, Any]


def write_lines(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def scored(losses: list[float], modality: str, **more: Any) -> Row:
    """A line of a multiple-choice task, as lmms-eval writes it: figures and truths as text."""
    pairs = [[str(loss), str(loss == min(losses))] for loss in losses]
    fields = {**FIELDS, "modality": modality, "choices": ["red", "blue", "green"], "group": "g", **more}
    return {"doc_id": 4, "target": "0", "filtered_resps": pairs, "mfbayes": fields}


@pytest.fixture
def harness(tmp_path: Path) -> Path:
    """One model, one item, three tasks."""
    folder = tmp_path / "owner__model"
    write_lines(folder / "20260101_000000_samples_color_text_only.jsonl", [scored([0.5, 2.0, 3.0], "text")])
    write_lines(folder / "20260101_000000_samples_color_image_only.jsonl", [scored([2.5, 0.25, 3.0], "image")])
    write_lines(folder / "20260101_000000_samples_color_both.jsonl", [scored([1.5, 2.25, 3.0], "both")])
    return tmp_path


def test_losses_become_an_index(harness: Path) -> None:
    imported = read_lmms_eval(harness)
    row = check_trials(imported.trials).iloc[0]
    assert row[["model", "task", "group", "item", "choice"]].tolist() == ["owner/model", "color", "g", "4", "text"]
    assert row[["nll_text", "nll_image"]].tolist() == [0.5, 0.25]
    assert row["text_correct"]
    assert row["image_correct"]
    assert any("a token" in note for note in imported.notes)


def test_loglikelihoods_are_turned_around_and_nesting_is_undone(harness: Path) -> None:
    file = harness / "owner__model" / "20260101_000000_samples_color_text_only.jsonl"
    row = scored([0.5, 2.0, 3.0], "text")
    row["filtered_resps"] = [[["-0.75", "True"]], "(-2.0, False)", [-3.0, False]]
    write_lines(file, [row])
    assert read_lmms_eval(harness).trials["nll_text"].tolist() == [0.75]


def test_both_may_be_generated_and_the_doc_may_hold_the_fields(harness: Path) -> None:
    file = harness / "owner__model" / "20260101_000000_samples_color_both.jsonl"
    fields = {**FIELDS, "group": "g"}
    write_lines(file, [{"doc_id": 4, "doc": fields, "filtered_resps": ["Azure."]}])
    assert read_lmms_eval(harness).trials["choice"].tolist() == ["image"]


def test_task_endings_tell_the_modality(harness: Path) -> None:
    for file in (harness / "owner__model").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            del row["mfbayes"]["modality"]
        write_lines(file, rows)
    assert len(read_lmms_eval(harness).trials) == 1


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("color_text_only", {"doc_id": 4, "doc": FIELDS, "filtered_resps": "red"}, "multiple_choice"),
        ("color_text_only", scored([0.5, -2.0, 3.0], "text"), "one sign"),
        ("color_text_only", scored([0.5, 2.0], "text"), "scores 2 choices but its metadata lists 3"),
        ("color_text_only", scored([0.5, 2.0, 3.0], "sound"), "modality text, image or both, got 'sound'"),
        ("color_text_only", scored([0.5, 2.0, 3.0], "text", text_answer="pink"), "none of the choices"),
        ("color_text_only", scored([0.5, 2.0, 3.0], "text", text_answer="blue"), "nothing conflicts"),
        ("color_text_only", scored([0.5, 2.0, 3.0], "text", image_answer=None), "no image_answer"),
        ("color_text_only", scored([0.5, 2.0, 3.0], "text", group="h"), "several groups: g, h"),
        ("color_text_only", scored([0.5, 2.0, 3.0], "text", item="other"), "no answer from"),
        ("color_text_only", scored([0.5, 2.0, 3.0], "image"), "from the image alone twice"),
        ("color_text_only", {"doc_id": 4}, "filtered_resps"),
        ("other", {"doc_id": 4, "doc": FIELDS, "filtered_resps": "red"}, "no `modality`"),
    ],
)
def test_what_cannot_be_told_is_refused(harness: Path, name: str, row: Row, message: str) -> None:
    write_lines(harness / "owner__model" / f"20260101_000000_samples_{name}.jsonl", [row])
    with pytest.raises(InputError, match=message):
        read_lmms_eval(harness)


def test_an_empty_folder_and_an_endless_line_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="--log_samples"):
        read_lmms_eval(tmp_path)
    monkeypatch.setattr(jsonlines, "LONGEST_LINE", 20)
    file = write_lines(tmp_path / "samples_a.jsonl", [{"a": "b" * 30}])
    with pytest.raises(InputError, match=r"Line 1 of .* more than 20 bytes"):
        read_lmms_eval(file)


def sample(modality: str, answer: str, *, logprobs: list[float] | None = None, **more: Any) -> Row:
    """A sample as Inspect logs it, its answer in one token a character."""
    numbers = [-0.5] * len(answer) if logprobs is None else logprobs
    tokens = [{"token": letter, "logprob": each} for letter, each in zip(answer, numbers, strict=True)]
    tokens[0]["top_logprobs"] = [{"token": "x", "logprob": math.log(p)} for p in (0.6, 0.3, 0.05)]
    choice = {"message": {"role": "assistant", "content": answer}, "logprobs": {"content": tokens}}
    metadata = {**FIELDS, "modality": modality, "item": "i", "group": "g"}
    return {"id": f"i-{modality}", "epoch": 1, "metadata": metadata, "output": {"choices": [choice]}, **more}


def log(*rows: Row) -> Row:
    return {"version": 2, "status": "success", "eval": {"task": "color", "model": "api/m"}, "samples": list(rows)}


def write_archive(path: Path, rows: list[Row], *, head: str = "header.json") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        whole = log(*rows)
        archive.writestr(head, json.dumps({name: whole[name] for name in ("version", "eval")}))
        for row in rows:
            archive.writestr(f"samples/{row['id']}_epoch_{row['epoch']}.json", json.dumps(row))
    return path


ROWS = [sample("text", "Red"), sample("image", "Azure"), sample("both", "red")]


@pytest.mark.parametrize("head", ["header.json", "_journal/start.json", None])
def test_archives_and_json_logs_are_read_alike(tmp_path: Path, head: str | None) -> None:
    if head is None:
        path = tmp_path / "a.json"
        path.write_text(json.dumps(log(*ROWS)))
        (tmp_path / "unrelated.json").write_text("[]")
    else:
        path = write_archive(tmp_path / "a.eval", ROWS, head=head)
    for place in (path, tmp_path):
        row = check_trials(read_inspect(place).trials).iloc[0]
        assert row[["model", "task", "group", "item", "choice"]].tolist() == ["api/m", "color", "g", "i", "text"]
        np.testing.assert_allclose(row[["nll_text", "nll_image"]].astype(float), [1.5, 2.5])
        np.testing.assert_allclose(row[["margin_uncertainty_text", "least_confidence_text"]].astype(float), [0.7, 0.4])
        np.testing.assert_allclose(row["unseen_probability_text"], 0.05)
        assert row["text_correct"]
        assert row["image_correct"]
        assert "H_text" not in read_inspect(place).trials


@given(
    st.lists(st.floats(-6, 6), min_size=3, max_size=9).filter(lambda values: len(set(values)) > 1),
    st.integers(2, 5),
)
def test_the_floor_is_below_the_entropy_and_the_rest_is_exact(logits: list[float], n_known: int) -> None:
    logprobs = np.sort(np.asarray(logits) - np.logaddexp.reduce(logits))[::-1]
    p = np.exp(logprobs)
    found = inspect_ai._read_first_token([float(each) for each in logprobs[:n_known]])
    whole = float(entropy(np.asarray(logits)))
    assert found["entropy_floor"] <= whole + 1e-9
    if n_known >= len(p):
        assert found["entropy_floor"] == pytest.approx(whole, abs=1e-9)
    assert found["least_confidence"] == pytest.approx(1 - p[0], abs=1e-12)
    assert found["margin_uncertainty"] == pytest.approx(1 - (p[0] - p[1]), abs=1e-12)


def test_likelihoods_of_more_than_the_answer_are_no_index(tmp_path: Path) -> None:
    reasoned = sample("text", "ANSWER: red", scores={"match": {"answer": "red"}})
    path = tmp_path / "a.json"
    path.write_text(json.dumps(log(reasoned, *ROWS[1:])))
    imported = read_inspect(path)
    assert imported.trials.empty
    assert any("no likelihood" in note for note in imported.notes)
    assert imported.ratios["n_text"].tolist() == [1]


def test_special_tokens_and_marked_spaces_are_no_part_of_the_answer(tmp_path: Path) -> None:
    row = sample("text", "red")
    tokens = [{"token": "▁red", "logprob": -0.5}, {"token": "</s>", "logprob": -0.125}]
    row["output"]["choices"][0]["logprobs"] = {"content": tokens}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(log(row, *ROWS[1:])))
    assert read_inspect(path).trials["nll_text"].tolist() == [0.625]


def test_later_epochs_and_failures_are_left_out_and_told(tmp_path: Path) -> None:
    failed = {**sample("both", "red"), "id": "j", "error": {"message": "x"}}
    again = {**sample("both", "blue"), "epoch": 2}
    path = write_archive(tmp_path / "a.eval", [*ROWS, again, failed])
    imported = read_inspect(path)
    assert imported.trials["choice"].tolist() == ["text"]
    assert any("1 sample of later epochs" in note for note in imported.notes)
    assert any("1 sample left out that ended in an error" in note for note in imported.notes)


def test_letters_are_answers_too(tmp_path: Path) -> None:
    rows = [sample("text", "A"), sample("image", "B"), sample("both", "a")]
    for row in rows:
        row["metadata"] |= {"text_answer": "A", "image_answer": "B"}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(log(*rows)))
    assert read_inspect(path).trials["choice"].tolist() == ["text"]


def test_a_control_takes_what_its_conflict_has(tmp_path: Path) -> None:
    control = sample("both", "blue")
    control["id"] = "c"
    control["metadata"]["kind"] = "control"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(log(*ROWS, control)))
    trials = read_inspect(path).trials
    assert trials["kind"].tolist() == ["conflict", "control"]
    assert trials["choice"].tolist() == ["text", "image"]


def test_fields_of_the_whole_task_count_and_missing_groups_are_told(tmp_path: Path) -> None:
    for modality, row in zip(("text", "image", "both"), ROWS, strict=True):
        plain = {**row, "id": "i", "metadata": {"mfbayes": {**FIELDS}}}
        whole = log(plain)
        whole["eval"]["task_args"] = {"modality": modality}
        (tmp_path / f"{modality}.json").write_text(json.dumps(whole))
    imported = read_inspect(tmp_path)
    assert imported.trials["group"].tolist() == ["i"]
    assert any("a group of its own" in note for note in imported.notes)


def _not_a_zip(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 nothing")


def _no_header(path: Path) -> None:
    write_archive(path, ROWS, head="other.json")


def _bad_sample(path: Path) -> None:
    write_archive(path, ROWS)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("samples/z_epoch_1.json", "{'a': __import__('os')}")


def _damaged(path: Path) -> None:
    write_archive(path, [*ROWS, {**ROWS[0], "id": "k", "store": {"a": list(range(5000))}}])
    content = bytearray(path.read_bytes())
    place = content.index(b"samples/k") + 60
    content[place : place + 400] = bytes(400)
    path.write_bytes(content)


def _bad_logprob(path: Path) -> None:
    write_archive(path, [sample("text", "Red", logprobs=[0.5, -1.0, -1.0]), *ROWS[1:]])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_not_a_zip, "zip archive"),
        (_no_header, "neither header.json"),
        (_bad_sample, r"Expected JSON in samples/z"),
        (_damaged, "damaged"),
        (_bad_logprob, "Sample 'i-text' of"),
    ],
)
def test_broken_logs_are_refused(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "a.eval"
    spoil(path)
    with pytest.raises(InputError, match=message):
        read_inspect(path)


def test_bombs_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.eval"
    write_archive(path, [*ROWS, {**ROWS[0], "id": "k", "store": {"a": "0" * 200_000}}])
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 100_000)
    with pytest.raises(InputError, match="expected at most 100,000"):
        read_inspect(path)
    monkeypatch.setattr(archives, "LARGEST_TOTAL", 100_000)
    with pytest.raises(InputError, match="would unpack to"):
        read_inspect(path)


def test_an_archive_that_tells_too_little_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.eval", [*ROWS, {**ROWS[0], "id": "k", "store": {"a": "0" * 200_000}}])
    with zipfile.ZipFile(path) as archive:
        true = archive.getinfo("samples/k_epoch_1.json").file_size
    content = path.read_bytes().replace(true.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged|not the size"):
        read_inspect(path)


def test_zstandard_is_read_or_its_package_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member marked as Zstandard: its content, or a message that says what to install where the package is absent."""
    path = write_archive(tmp_path / "plain.eval", ROWS)
    packed = tmp_path / "a.eval"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, zstandard.compress(content))
        sizes = {member.filename: member.file_size for member in source.infolist()}
    raw = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        members = archive.infolist()
    place = raw.index(b"PK\x01\x02")
    for member in members:
        raw[member.header_offset + 8] = 93
        raw[place + 10] = 93
        raw[place + 24 : place + 28] = sizes[member.filename].to_bytes(4, "little")
        place = raw.find(b"PK\x01\x02", place + 4)
    packed.write_bytes(raw)
    assert len(read_inspect(packed).trials) == 1
    if not hasattr(zipfile, "ZIP_ZSTANDARD"):
        monkeypatch.setitem(sys.modules, "zstandard", None)
        with pytest.raises(InputError, match=r"pip install 'mfbayes\[inspect\]'"):
            read_inspect(packed)
