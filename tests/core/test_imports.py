"""Outputs of others: printed values are parsed and never run, and the published ratio comes out again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mfbayes
from mfbayes.errors import InputError
from mfbayes.imports.literals import read_literal, read_logprobs
from mfbayes.imports.results import normalise
from mfbayes.imports.words_or_vision import read_words_or_vision
from mfbayes.selection import select_trials
from mfbayes.trials import check_trials

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
CONTRADICTING = "caption+custom-25_textsrc=contradict_stat_textsrcmodel=writer_capnum=1"


@given(PLAIN)
def test_what_repr_prints_is_read_back(value: Any) -> None:
    assert read_literal(repr(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "[x for x in (1, 2)]",
        "(1).__class__",
        "1 + 1",
        "f'{1}'",
        "os",
        "{**{'a': 1}}",
        "Token(**{'a': 1})",
        "lambda: 0",
        "[" * 5000 + "]" * 5000,
        "'unfinished",
        "",
    ],
)
def test_nothing_is_run(text: str) -> None:
    with pytest.raises(InputError, match="printed"):
        read_literal(text)


def test_records_become_dicts() -> None:
    text = "[ChatToken(token='a', bytes=[97], logprob=-0.25, top=[]), {'token': \"b's\", 'logprob': -1e-06}]"
    assert read_logprobs(text) == [-0.25, -1e-06]
    assert read_logprobs("None") is None
    assert read_logprobs("[]") is None
    assert read_logprobs([{"logprob": -1}]) == [-1.0]


@pytest.mark.parametrize("text", ["[{'logprob': 0.5}]", "[{'token': 'a'}]", "{'a': 1}", "[{'logprob': nan}]", "['a']"])
def test_other_things_are_no_logprobs(text: str) -> None:
    with pytest.raises(InputError, match="logprob"):
        read_logprobs(text)


def test_answers_are_compared_without_case_articles_and_punctuation() -> None:
    assert normalise("A big Dog.") == normalise(" big, dog") == "big dog"
    assert normalise("no") != normalise("not")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Four questions: answered by the text, by the image, otherwise, and alike from both."""
    outputs = {"text": ["cat", "cat", "cat", "dog"], "image": ["dog", "dog", "dog", "Dog."]}
    both = ["The cat", "dog", "bird", "dog"]

    def answer(words: list[str], nll: float) -> list[dict[str, Any]]:
        tokens = f"[Token(token='x', logprob={-nll}), {{'token': '', 'logprob': -0.5}}]"
        return [
            {"question_id": 7000 + i, "output": word, "answers": ["dog"], "logprobs": tokens}
            for i, word in enumerate(words)
        ]

    for model in ("one", "two"):
        folder = tmp_path / "outputs" / "owner" / "VQAv2" / model
        write_lines(folder / "t=0_seed=0.jsonl", answer(outputs["image"], 1.0))
        write_lines(folder / f"t=0_seed=0_intype=wo-img_intext={CONTRADICTING}.jsonl", answer(outputs["text"], 2.0))
        write_lines(folder / f"t=0_seed=0_intext={CONTRADICTING}.jsonl", answer(both, 3.0))
        write_lines(folder / "t=0_seed=0_intext=caption+custom-25_textsrc=irrel_wiki.jsonl", answer(["dog"] * 4, 4.0))
    designed = [{"question_id": 7000 + i, "changed_ans": ["cat"]} for i in range(4)]
    write_lines(tmp_path / "syth_response" / "owner" / "VQAv2" / "writer" / "contradict_stat.jsonl", designed)
    return tmp_path


def test_a_run_is_read(repository: Path) -> None:
    imported = read_words_or_vision(repository)
    conflicts = imported.trials[imported.trials["kind"] == "conflict"]
    own = conflicts[conflicts["model"] == "one"]
    assert own["choice"].tolist() == ["text", "image", "other"]
    assert own["group"].tolist() == ["7", "7", "7"]
    np.testing.assert_allclose(own["nll_text"], 2.5)
    np.testing.assert_allclose(own["nll_image"], 1.5)
    assert own["text_correct"].all()
    assert own["image_correct"].all()
    assert imported.ratios["text_preference_ratio"].tolist() == [0.5, 0.5]
    assert imported.ratios["n_same"].tolist() == [1, 1]
    assert "nothing conflicts" in imported.notes[0]
    controls = imported.trials[imported.trials["kind"] == "control"]
    assert controls["choice"].tolist() == ["image"] * 8


def test_models_without_logprobs_are_counted_and_left_out(repository: Path) -> None:
    for path in (repository / "outputs" / "owner" / "VQAv2" / "two").glob("*.jsonl"):
        rows = [json.loads(line) | {"logprobs": "None"} for line in path.read_text().splitlines()]
        write_lines(path, rows)
    imported = read_words_or_vision(repository)
    assert set(imported.trials["model"]) == {"one"}
    assert imported.ratios["model"].tolist() == ["one", "two"]
    assert any(note.startswith("two: 3 conflict rows") for note in imported.notes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 1"),
        ('{"question_id": 1, "output": "a"}', "answers in line 1"),
        ('{"question_id": 1, "output": "a", "answers": [], "logprobs": "exit()"}', "line 1"),
    ],
)
def test_a_broken_line_is_named(repository: Path, line: str, message: str) -> None:
    path = repository / "outputs" / "owner" / "VQAv2" / "one" / "t=0_seed=0.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_words_or_vision(repository)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is the copy whole"):
        read_words_or_vision(tmp_path)


def test_trials_without_entropies_fit_by_their_index(simulate: Callable[..., Any]) -> None:
    trials = simulate(seed=3, balance_points={"a": -0.3, "b": 0.4}, n_groups=12)
    plain = trials.rename(columns={"H_text": "nll_text", "H_image": "nll_image"})
    with pytest.raises(InputError, match="Ask for --index nll"):
        select_trials(check_trials(plain))
    tree = mfbayes.fit(plain, method="fast", index="nll", seed=1)
    same = mfbayes.fit(trials, method="fast", seed=1)
    np.testing.assert_allclose(tree["posterior"]["balance_point"], same["posterior"]["balance_point"])
    assert "halves" not in tree["estimates"].children


def test_the_published_ratio_comes_out_again() -> None:
    """Table 2 of arXiv:2503.02199: 85.52 % for LLaVA-NeXT-7B on VQAv2, within half a point."""
    data = Path(os.environ.get("MFBAYES_TEST_DATA", "/nowhere")) / "words-or-vision"
    if not data.is_dir():
        pytest.skip("the published outputs are not there")
    ratios = read_words_or_vision(data).ratios.set_index("model")
    assert len(ratios) == 4
    found = ratios["text_preference_ratio"].to_dict()["llava-hf-llava-v1.6-vicuna-7b-hf"]
    assert 100 * found == pytest.approx(85.52, abs=0.5)
