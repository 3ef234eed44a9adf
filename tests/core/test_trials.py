"""Trials at the border: what is accepted, what is refused, and where the message points."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbayes.errors import InputError
from mfbayes.trials import check_trials, label_groups, read_trials, select_trials

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
