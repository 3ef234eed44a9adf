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


def write_log(folder: Path) -> Path:
    """A log of Inspect with three items, each answered from the text, from the image and from both."""
    samples = []
    for i in range(3):
        for modality, word in (("text", "red"), ("image", "blue"), ("both", "red" if i else "blue")):
            top = [{"token": word, "logprob": -0.25 - i / 8}, {"token": "x", "logprob": -3.0}]
            token = {"token": word, "logprob": -0.25 - i / 8, "top_logprobs": top}
            choice = {"message": {"content": word}, "logprobs": {"content": [token]}}
            fields = {"modality": modality, "item": i, "group": i, "text_answer": "red", "image_answer": "blue"}
            samples.append({"id": 3 * i, "epoch": 1, "metadata": fields, "output": {"choices": [choice]}})
    folder.mkdir()
    path = folder / "log.json"
    path.write_text(json.dumps({"version": 2, "eval": {"task": "color", "model": "m"}, "samples": samples}))
    return path


def test_a_log_names_every_index_that_it_has(tmp_path: Path, run: Run) -> None:
    done = run("import", "inspect", write_log(tmp_path / "logs"), "--out", tmp_path / "out")
    assert done.code == 0
    assert "66.67%" in done.out
    assert "--index nll" in done.out
    assert "--index margin" in done.out
    assert "--index max-probability" in done.out
    trials = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    assert trials["choice"].tolist() == ["image", "text", "text"]
    assert {"nll_text", "margin_uncertainty_text", "least_confidence_image"} <= set(trials)
    assert trials["H_text"].isna().all()


def test_logs_without_what_is_needed_are_refused(tmp_path: Path, run: Run) -> None:
    for name in ("lmms-eval", "inspect", "chartqa-conflict"):
        done = run("import", name, tmp_path, "--out", tmp_path / "out")
        assert done.code == 2
        assert done.err.startswith("Error: Expected")
    log = write_log(tmp_path / "logs")
    log.write_text(log.read_text().replace('"modality"', '"given"'))
    done = run("import", "inspect", log, "--out", tmp_path / "out")
    assert done.code == 2
    assert "no `modality`" in done.err
