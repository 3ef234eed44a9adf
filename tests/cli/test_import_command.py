"""`mfbayes import`: a published repository becomes trials, told with its ratios, and nothing is replaced unasked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

type Run = Callable[..., Any]

TEXT = "_intext=caption_textsrc=contradict_stat_textsrcmodel=writer_capnum=1"


def write_repository(root: Path, *, logprobs: str = "[{'token': 'x', 'logprob': -1.5}]") -> Path:
    folder = root / "outputs" / "owner" / "DocVQA" / "model"
    folder.mkdir(parents=True)
    for name, word in (("", "dog"), (f"_intype=wo-img{TEXT}", "cat"), (TEXT, "cat")):
        rows = [{"question_id": i, "output": word, "answers": ["dog"], "logprobs": logprobs} for i in range(3)]
        (folder / f"t=0_seed=0{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return root


def test_trials_and_ratios_are_written(tmp_path: Path, run: Run) -> None:
    repository = write_repository(tmp_path / "copy")
    done = run("import", "words-or-vision", repository, "--out", tmp_path / "out")
    assert done.code == 0
    assert "100.00%" in done.out
    assert "--index nll" in done.out
    trials = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    assert trials["group"].tolist() == ["0", "1", "2"]
    assert trials["nll_text"].tolist() == [1.5] * 3
    ratios = pd.read_csv(tmp_path / "out" / "published_ratios.csv")
    assert ratios["text_preference_ratio"].tolist() == [1.0]
    again = run("import", "words-or-vision", repository, "--out", tmp_path / "out")
    assert again.code == 2
    assert "--overwrite" in again.err
    assert run("import", "words-or-vision", repository, "--out", tmp_path / "out", "--overwrite").code == 0


def test_ratios_alone_are_kept_where_nothing_can_be_fitted(tmp_path: Path, run: Run) -> None:
    repository = write_repository(tmp_path / "copy", logprobs="None")
    done = run("import", "words-or-vision", repository, "--out", tmp_path / "out")
    assert done.code == 2
    assert "no uncertainty to fit" in done.err
    assert (tmp_path / "out" / "published_ratios.csv").is_file()
    assert not (tmp_path / "out" / "trials.parquet").exists()
