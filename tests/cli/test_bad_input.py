"""Bad input is refused with exit code 2 and one message that says what is wrong and what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

type Run = Callable[..., Any]


def _trials(n: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "model": "m",
            "group": np.arange(n) // 3,
            "H_text": rng.uniform(0.1, 2, n),
            "H_image": rng.uniform(0.1, 2, n),
            "choice": rng.choice(["text", "image", "other"], n),
        }
    )


@pytest.fixture
def refuse(run: Run, tmp_path: Path) -> Callable[..., str]:
    """Fit a table through the command line; gives back the message of its refusal."""

    def call(frame: pd.DataFrame | str | bytes, name: str = "trials.csv") -> str:
        file = tmp_path / name
        if isinstance(frame, bytes):
            file.write_bytes(frame)
        elif isinstance(frame, str):
            file.write_text(frame, encoding="utf-8")
        elif name.endswith(".parquet"):
            frame.to_parquet(file)
        else:
            frame.to_csv(file, index=False)
        outcome = run("fit", "--trials", file, "--out", tmp_path / "out")
        assert outcome.code == 2, outcome.err
        assert not (tmp_path / "out" / "fit.nc").exists()
        return str(outcome.err)

    return call


@pytest.mark.parametrize("column", ["model", "group", "H_text", "H_image", "choice"])
def test_a_missing_column_is_named(refuse: Callable[..., str], column: str) -> None:
    assert column in refuse(_trials().drop(columns=column))


def test_a_misspelt_column_names_the_nearest(refuse: Callable[..., str]) -> None:
    message = refuse(_trials().rename(columns={"H_image": "H_imge"}))
    assert "H_image" in message
    assert "H_imge" in message


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("choice", "texte", ["choice", "texte", "text"]),
        ("H_text", -0.5, ["H_text", "-0.5"]),
        ("H_text", np.nan, ["H_text"]),
        ("H_image", np.inf, ["H_image", "inf"]),
        ("H_image", "high", ["H_image", "high"]),
    ],
)
@pytest.mark.parametrize("name", ["trials.csv", "trials.parquet"])
def test_a_bad_value_is_named_with_row_and_column(
    refuse: Callable[..., str], column: str, value: Any, words: list[str], name: str
) -> None:
    frame = _trials()
    if isinstance(value, str):
        frame[column] = frame[column].astype(str)
    frame.loc[4, column] = value
    message = refuse(frame, name)
    # Fifth trial: line 6 of a CSV file with its header, row 5 of a table without one.
    assert ("Line 6," if name.endswith("csv") else "Row 5,") in message
    assert name in message
    for word in words:
        assert word in message


def test_an_empty_file_is_told(refuse: Callable[..., str]) -> None:
    assert "empty" in refuse("")
    assert "row" in refuse("model,group,H_text,H_image,choice\n")


def test_unreadable_files_are_told(refuse: Callable[..., str], tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    _trials().to_parquet(whole)
    assert "parquet" in refuse(whole.read_bytes()[:-100], "cut.parquet")
    assert "trials.csv" in refuse(b"\xff\xfe\x00\x01\x02" * 50)


def test_a_missing_file_and_a_folder_are_told(run: Run, tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere.csv", tmp_path):
        outcome = run("fit", "--trials", place, "--out", tmp_path / "out")
        assert outcome.code == 2
        assert str(place) in outcome.err


def test_an_output_path_under_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    trials = tmp_path / "trials.csv"
    _trials().to_csv(trials, index=False)
    outcome = run("fit", "--trials", trials, "--out", trials / "run")
    assert outcome.code == 2
    assert "stands in its way" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit"], "--model"),
        (["fit", "--model", "all", "--trials", "x.csv"], "either"),
        (["fit", "--trials", "x.csv", "--groups", "5"], "--groups"),
        (["fit", "--trials", "x.csv", "--ci-prob", "95"], "0.95"),
        (["fit", "--trials", "x.csv", "--subset", "both"], "both-correct"),
        (["fit", "--trials", "x.csv", "--method", "quick"], "reference"),
        (["fit", "--trials", "x.csv", "--lapse", "--method", "nuts"], "--lapse"),
        (["fit", "--trials", "x.csv", "--no-switching", "--compare-switching"], "--no-switching"),
        (["fit", "--trials", "x.csv", "--seed", "-1"], "seed"),
        (["fit", "--tirals", "x.csv"], "--trials"),
        (["generate", "color", "--groups", "0", "--out", "x"], "groups"),
        (["report", "nowhere"], "fit.nc"),
        (["collect", "--model", "llava-r50", "--data", "nowhere"], "manifest.parquet"),
    ],
)
def test_bad_options_are_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(*arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["fit", "collect"])
def test_an_unknown_model_suggests_the_nearest(run: Run, tmp_path: Path, command: str) -> None:
    from mfbayes.data_gen.generation import generate

    generate(tmp_path / "data", n_groups=1, seed=0, workers=1)
    outcome = run(command, "--model", "lava-r50", "--out", tmp_path)
    assert outcome.code == 2
    assert "Did you mean llava-r50?" in outcome.err
