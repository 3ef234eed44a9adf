"""Logs with anything anywhere: read or refused in one message, never a fault of the program."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mfbayes.errors import InputError
from mfbayes.imports.chartqa_conflict import read_chartqa_conflict
from mfbayes.imports.inspect_ai import read_inspect
from mfbayes.imports.lmms_eval import read_lmms_eval
from mfbayes.imports.results import Imported
from mfbayes.trials import check_trials

JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        0.5,
        1e400,
        float("nan"),
        "",
        "x",
        "9" * 400,
        [],
        [None],
        [[]],
        {},
        {"a": 1},
        ["x", 2],
        "Ünïcode",
    ]
)
FIELDS = {"text_answer": "red", "image_answer": ["blue"], "group": 1, "item": 2, "kind": "conflict", "d_text": 0}


def inspect_log() -> dict[str, Any]:
    samples = []
    for modality, word in (("text", "red"), ("image", "blue"), ("both", "red")):
        token = {"token": word, "logprob": -0.5, "top_logprobs": [{"logprob": -0.5}, {"logprob": -2.0}]}
        choice = {"message": {"content": [{"type": "text", "text": word}]}, "logprobs": {"content": [token]}}
        sample = {"id": 1, "epoch": 1, "metadata": {**FIELDS, "modality": modality}, "output": {"choices": [choice]}}
        samples.append({**sample, "scores": {"match": {"answer": word}}})
    return {"version": 2, "eval": {"task": "t", "model": "m", "metadata": {}}, "samples": samples}


def harness_lines() -> list[dict[str, Any]]:
    rows = []
    for modality in ("text", "image", "both"):
        fields = {**FIELDS, "modality": modality, "choices": ["red", "blue"]}
        rows.append({"doc_id": 1, "filtered_resps": [["0.5", "True"], ["0.75", "False"]], "mfbayes": fields})
    return rows


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every node of a JSON value but its root."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from places(inner, (*path, key))


def put(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    garbled = copy.deepcopy(value)
    node = garbled
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = junk
    return garbled


def read_or_refuse(read: Callable[[Path], Imported], path: Path) -> None:
    try:
        trials = read(path).trials
        if len(trials):
            check_trials(trials)
    except InputError:
        pass


SETTINGS = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(st.sampled_from(list(places(inspect_log()))), JUNK)
def test_inspect(tmp_path: Path, place: tuple[Any, ...], junk: Any) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(put(inspect_log(), place, junk)))
    read_or_refuse(read_inspect, file)


@SETTINGS
@given(st.sampled_from(list(places(harness_lines()))), JUNK)
def test_lmms_eval(tmp_path: Path, place: tuple[Any, ...], junk: Any) -> None:
    file = tmp_path / "samples_t.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in put(harness_lines(), place, junk)))
    read_or_refuse(read_lmms_eval, file)


ARTIFACT = {
    "items": {
        "conflict_id": 0,
        "chartqa_test_index": 3,
        "chart_answer": "1",
        "report_answer": "2",
        "source_table": "a",
    },
    "excluded": [{"conflict_id": 9}],
    "generation": {"i": 0, "follows": "text", "extracted_final": "1"},
    "cll": {"i": 0, "margin": {"cll_text_sum": -1.0, "cll_image_sum": -2.0}},
    "decodability": {"i": 0, "correct": True},
}


@SETTINGS
@given(st.sampled_from([place for place in places(ARTIFACT) if len(place) > 1]), JUNK)
def test_chartqa_conflict(tmp_path: Path, place: tuple[Any, ...], junk: Any) -> None:
    parts = put(ARTIFACT, place, junk)
    folders = [tmp_path / "main" / arm / "m" for arm in ("image", "text")]
    alone = [tmp_path / "chartqa_unimodal" / arm / "m" for arm in ("image", "text")]
    for folder in (*folders, *alone):
        folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / "items.jsonl").write_text(json.dumps(parts["items"]) + "\n")
    (tmp_path / "excluded_items.json").write_text(json.dumps(parts["excluded"]))
    for folder in folders:
        (folder / "level_0_clean.generation.jsonl").write_text(json.dumps(parts["generation"]) + "\n")
        (folder / "level_5_any.cll.jsonl").write_text(json.dumps(parts["cll"]) + "\n")
    for folder in alone:
        (folder / "level_0_clean.decodability.jsonl").write_text(json.dumps(parts["decodability"]) + "\n")
    read_or_refuse(read_chartqa_conflict, tmp_path)


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    """The controls of these tests: unspoilt, both logs are a trial."""
    log, lines = tmp_path / "a.json", tmp_path / "samples_t.jsonl"
    log.write_text(json.dumps(inspect_log()))
    lines.write_text("".join(json.dumps(row) + "\n" for row in harness_lines()))
    assert len(check_trials(read_inspect(log).trials)) == 1
    assert len(check_trials(read_lmms_eval(lines).trials)) == 1
    with pytest.raises(AttributeError):
        read_or_refuse(lambda _: None, tmp_path)  # type: ignore[arg-type, return-value]
