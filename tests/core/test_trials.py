"""Trials at the border: what is accepted, what is refused, and where the message points."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbayes.errors import InputError
from mfbayes.selection import label_groups, label_subjects, select_trials
from mfbayes.trials import check_trials, read_trials

HEADER = "model,group,H_text,H_image,choice"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def read(tmp_path: Path, *lines: str, header: str = HEADER) -> pd.DataFrame:
    return read_trials(write(tmp_path / "trials.csv", "\n".join([header, *lines]) + "\n"))


def test_csv_keeps_ids_as_written(tmp_path: Path) -> None:
    trials = read(tmp_path, "m,007,0.5,1e-20,Text", "NA,null, .25,0,IMAGE ")
    assert trials["group"].tolist() == ["007", "null"]
    assert trials["model"].tolist() == ["m", "NA"]
    assert trials["choice"].tolist() == ["text", "image"]
    assert trials["H_image"].tolist() == [1e-20, 0.0]
    assert trials["kind"].unique().tolist() == ["conflict"]
    assert trials["task"].nunique() == 1


def test_csv_and_parquet_give_the_same_trials(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "model": ["m", "m"],
            "group": [1, 2],
            "H_text": [0.5, 1.0],
            "H_image": [1.0, 0.25],
            "choice": ["text", "other"],
            "d_text": [0, 2],
            "text_correct": [True, False],
            "image_correct": [1, 0],
            "note": ["a", None],
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_trials(tmp_path / "t.csv"), read_trials(tmp_path / "t.parquet"))


def test_byte_order_mark_and_blank_lines_are_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"\ufeff{HEADER}\n\nm,g,1,2,text\n\n", encoding="utf-8")
    assert len(read_trials(path)) == 1


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["m,g,1,2,text", "m,g,1,-2,text"], ["Line 3", "'H_image'", "'-2'"]),
        (["m,g,nan,2,text"], ["Line 2", "'H_text'", "finite"]),
        (["m,g,inf,2,text"], ["Line 2", "'H_text'", "'inf'"]),
        (["m,g,1;5,2,text"], ["Line 2", "'H_text'", "'1;5'"]),
        (["m,g,,2,text"], ["Line 2", "'H_text'", "nothing"]),
        (["", '"m\nm",g,1,2,text', "m,g,1,2,txt", "m,g,1,2,txt"], ["Line 5", "'txt'", "Is 'text' meant", "1 more row"]),
        (["m,,1,2,text"], ["Line 2", "'group'", "nothing"]),
        (["m,g,1,2"], ["Line 2", "'choice'"]),
        (["m,g,1,2,text,9"], ["comma-separated", "as many values"]),
        ([], ["no row"]),
    ],
)
def test_unusable_values_are_named_with_their_place(tmp_path: Path, lines: list[str], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, *lines)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ("model,group,h_text,H_image,choice", ["'H_text' is missing", "'h_text' meant"]),
        ("modle,group,H_text,H_image,choice", ["'model' is missing", "'modle' meant"]),
        ("model,group,H_text,H_image,answer", ["'choice' is missing"]),
        (f"{HEADER},text_corect", ["'text_corect'", "'text_correct' meant"]),
        (f"{HEADER},Task", ["'Task'", "'task' meant"]),
        (f"{HEADER},choice", ["'choice'", "more than once"]),
        (HEADER.replace(",", ";"), ["semicolons"]),
    ],
)
def test_columns_that_are_missing_or_misspelt(tmp_path: Path, header: str, parts: list[str]) -> None:
    row = ",".join(["m", "g", "1", "2", "text", "1"][: header.count(",") + 1])
    with pytest.raises(InputError) as caught:
        read(tmp_path, row, header=header)
    for part in parts:
        assert part in str(caught.value)


def test_probabilities_of_answers_are_probabilities_or_missing(tmp_path: Path) -> None:
    header = f"{HEADER},p_text_text_only"
    found = read(tmp_path, "m,g,1,2,text,0.25", "m,g,1,2,text,", header=header)["p_text_text_only"]
    assert found[0] == 0.25
    assert np.isnan(found[1])
    for value in ("1.5", "-0.1", "high"):
        with pytest.raises(InputError, match=f"Line 2.*'p_text_text_only'.*{value}"):
            read(tmp_path, f"m,g,1,2,text,{value}", header=header)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    good = tmp_path / "good.parquet"
    pd.DataFrame({"model": ["m"] * 500, "x": np.arange(500)}).to_parquet(good)
    (tmp_path / "short.parquet").write_bytes(good.read_bytes()[:-20])
    (tmp_path / "empty.csv").touch()
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + "\nmödel,g,1,2,text\n".encode("latin-1"))
    for name, part in [
        ("short.parquet", "cut short"),
        ("empty.csv", "is empty"),
        ("latin.csv", "UTF-8"),
        ("absent.csv", "there is none"),
        (".", "is a folder"),
    ]:
        with pytest.raises(InputError, match=part):
            read_trials(tmp_path / name)


def test_frames_are_named_by_row() -> None:
    frame = pd.DataFrame({"model": ["m"] * 2, "group": "g", "H_text": [1.0, -1.0], "H_image": 1.0, "choice": "text"})
    with pytest.raises(InputError, match=r"^Row 2, column 'H_text'"):
        check_trials(frame)


def test_what_is_left_out_is_said() -> None:
    frame = pd.DataFrame(
        {
            "model": ["a", "a", "a", "b", "a"],
            "group": "g",
            "H_text": [1.0, 0.0, 1.0, 1.0, 1.0],
            "H_image": [1.0, 0.0, 1.0, 1.0, 1.0],
            "choice": "text",
            "kind": ["conflict"] * 4 + ["control"],
            "text_correct": [True, True, True, False, True],
            "image_correct": [True, True, False, True, True],
        }
    )
    chosen = select_trials(check_trials(frame))
    assert len(chosen.trials) == 1
    assert chosen.trials["dH"].tolist() == [0.0]
    assert any("both entropies are zero" in note and note.startswith("1 row ") for note in chosen.notes)
    assert any("No trial is left of b" in note for note in chosen.notes)
    assert len(select_trials(check_trials(frame), subset="all").trials) == 3
    bare = select_trials(check_trials(frame.drop(columns=["text_correct", "image_correct"])))
    assert bare.subset == "all"
    assert any("All trials are used" in note for note in bare.notes)
    with pytest.raises(InputError, match="'both-correct' is empty"):
        select_trials(check_trials(frame.assign(text_correct=False)))
    with pytest.raises(InputError, match="every row is a control"):
        select_trials(check_trials(frame.assign(kind="control")))
    with pytest.raises(InputError, match="Expected subset"):
        select_trials(check_trials(frame), subset="some")


def test_groups_belong_to_their_task() -> None:
    frame = pd.DataFrame(
        {"model": "m", "task": ["colour", "shape"], "group": "1", "H_text": 1.0, "H_image": 2.0, "choice": "text"}
    )
    chosen = select_trials(check_trials(frame)).trials
    assert label_groups(chosen).nunique() == 2
    assert chosen["subject"].tolist() == ["m / colour", "m / shape"]
    clash = pd.concat([frame, frame.assign(model="m / colour", task="x"), frame.assign(task="colour / x")])
    with pytest.raises(InputError, match="read the same"):
        select_trials(check_trials(clash))


PARTS = {"model": ["a", "b"] * 4, "task": ["t", "t", "u", "u"] * 2, "condition": [*"xxxxyyyy"]}


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        ([], ["a", "b"]),
        (["task"], ["a / t", "b / t"]),
        (["condition"], ["a / x", "b / x"]),
        (["task", "condition"], ["a / t / x", "b / t / x"]),
    ],
)
def test_subjects_are_named_by_what_is_several(several: list[str], expected: list[str]) -> None:
    frame = pd.DataFrame({**PARTS, "group": "g", "H_text": 1.0, "H_image": 2.0, "choice": "text"})
    for part in {"task", "condition"} - set(several):
        frame = frame[frame[part] == frame[part].iloc[0]]
    chosen = select_trials(check_trials(frame)).trials
    assert chosen["subject"].tolist()[:2] == expected
    assert chosen["subject"].nunique() == 2 * 2 ** len(several)
    assert (chosen.groupby("subject")[["model", "task", "condition"]].nunique() == 1).all(axis=None)


def test_subjects_are_named_like_other_trials() -> None:
    frame = check_trials(pd.DataFrame({**PARTS, "group": "g", "H_text": 1.0, "H_image": 2.0, "choice": "text"}))
    one = frame[(frame["task"] == "u") & (frame["condition"] == "x")]
    assert label_subjects(one).tolist() == ["a", "b"]
    assert label_subjects(one, like=frame).tolist() == ["a / u / x", "b / u / x"]
    assert label_subjects(one).index.tolist() == one.index.tolist()


def test_subjects_that_read_the_same_are_refused() -> None:
    frame = pd.DataFrame(
        {
            "model": ["m", "m / t"],
            "task": ["t / u", "u"],
            "condition": ["x", "x"],
            "group": "g",
            "H_text": 1.0,
            "H_image": 2.0,
            "choice": "text",
        }
    )
    with pytest.raises(InputError, match="model and task read the same"):
        select_trials(check_trials(frame))


def test_conditions_and_families_are_names(tmp_path: Path) -> None:
    header = f"{HEADER},condition,family"
    trials = read(tmp_path, "m,g,1,2,text, 1 ,Qwen-VL", "m,h,1,2,text,02,Qwen-VL ", header=header)
    assert trials["condition"].tolist() == ["1", "02"]
    chosen = select_trials(trials).trials
    assert chosen["family"].tolist() == ["Qwen-VL"] * 2
    assert chosen["subject"].tolist() == ["m / 1", "m / 02"]
    with pytest.raises(InputError, match=r"trials.csv: Line 3, column 'condition': expected a name, got nothing"):
        read(tmp_path, "m,g,1,2,text,x,f", "m,h,1,2,text,,f", header=header)
    with pytest.raises(InputError, match="m is of the family 'f' and, at line 4, of 'F'"):
        read(tmp_path, "m,g,1,2,text,x,f", "n,g,1,2,text,x,F", "m,h,1,2,text,x,F", header=header)
    bare = check_trials(pd.DataFrame({"model": "m", "group": [1], "H_text": 1, "H_image": 1, "choice": "text"}))
    assert not {"condition", "family"} & set(bare)


def test_ids_that_are_equal_but_differently_written_stay_apart() -> None:
    groups = [1, 1.0, True, "1 ", np.int64(2)]
    frame = pd.DataFrame({"model": "m", "H_text": 1.0, "H_image": 2.0, "choice": ["text"] * 5})
    frame["group"] = pd.Series(groups, dtype=object)
    assert check_trials(frame)["group"].tolist() == ["1", "1.0", "True", "1", "2"]
    for dtype in ("int64", "Int64", "category", "str"):
        frame["group"] = pd.Series([3, 1, 2, 1, 3], dtype="int64").astype(dtype)
        assert check_trials(frame)["group"].tolist() == ["3", "1", "2", "1", "3"]
    frame["group"] = pd.Series([1, None, 2, 1, 3], dtype="Int64")
    with pytest.raises(InputError, match=r"^Row 2, column 'group'"):
        check_trials(frame)


@pytest.mark.parametrize(
    "values", [[True, False], [1, 0], ["TRUE", "0"], [1.0, 0.0], pd.Categorical(["true", "false"])]
)
def test_truths_in_any_spelling(values: list[Any]) -> None:
    frame = pd.DataFrame({"model": "m", "group": "g", "H_text": 1.0, "H_image": 2.0, "choice": ["text"] * 2})
    checked = check_trials(frame.assign(text_correct=values, image_correct=values))
    assert checked["text_correct"].tolist() == [True, False]
    assert checked["text_correct"].dtype == bool


def test_rows_that_repeat_to_the_last_digit_are_told() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "model": "m",
            "group": "g",
            "H_text": np.repeat(rng.random(4), 4),
            "H_image": np.tile(rng.random(4), 4),
            "choice": "text",
            "tags": [["a"], ["b"]] * 8,
        }
    )

    def notes(table: pd.DataFrame) -> list[str]:
        return [note for note in select_trials(check_trials(table)).notes if "an earlier row" in note]

    assert not notes(frame)
    copied = pd.concat([frame, frame[3:6]])
    assert len(select_trials(check_trials(copied)).trials) == 19
    assert notes(copied)[0].startswith("3 rows repeat an earlier row in every column")
    assert not notes(pd.concat([frame, frame[3:6].assign(choice="image")]))
    assert not notes(pd.concat([frame, frame[3:6].assign(tags=pd.Series([["c"]] * 3, index=[3, 4, 5]))]))
    assert not notes(copied.round({"H_text": 2, "H_image": 2}))
    assert not notes(copied.assign(item=np.arange(19)))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["text", "Image", " OTHER ", "imgae", "", "yes"]), min_size=1, max_size=8))
def test_choices_are_kept_or_refused_never_changed(words: list[str]) -> None:
    frame = pd.DataFrame({"model": "m", "group": "g", "H_text": 1.0, "H_image": 1.0, "choice": words})
    folded = [word.strip().lower() for word in words]
    if set(folded) <= {"text", "image", "other"}:
        assert check_trials(frame)["choice"].tolist() == folded
    else:
        first = next(i for i, word in enumerate(folded, start=1) if word not in {"text", "image", "other"})
        with pytest.raises(InputError, match=rf"^Row {first}, column 'choice'"):
            check_trials(frame)


def test_no_model_is_called_as_all_of_them_are() -> None:
    frame = pd.DataFrame({"model": ["m", "all"], "group": 1, "H_text": 0.5, "H_image": 1.0, "choice": "text"})
    with pytest.raises(InputError, match="'all' came at row 2; in tables"):
        check_trials(frame)
