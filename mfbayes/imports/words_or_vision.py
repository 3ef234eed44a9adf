"""The published outputs of "Words or Vision", read as trials.

The repository (github.com/d-ailin/blind-faith-in-text) keeps a file of JSON lines for each data set, model
and input under `raw_code/outputs/OWNER/DATASET/[PART/]MODEL/`. Its conflict input is the image with a description that
contradicts it; the same model also answered the image alone and the description alone. Of the tokens of an answer
only the chosen ones' log-probabilities are there, so the uncertainty is the answer's negative log-likelihood.

References
----------
Deng et al., "Words or Vision: Do Vision-Language Models Have Blind Faith in Text?", arXiv:2503.02199.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.imports.literals import read_logprobs
from mfbayes.imports.results import SAME, Imported, count_choices, normalise

_OUTPUTS = "outputs"
_RESPONSES = "syth_response"
_WITHOUT_IMAGE = "_intype=wo-img"
_IN_TEXT = "_intext="
_CONTRADICTING, _UNRELATED = "textsrc=contradict_stat", "textsrc=irrel_"
_SOURCE = re.compile(r"textsrcmodel=([^/]+?)(?:_capnum=\d+)?\.jsonl$")
# VQAv2 numbers its questions image * 1000 + k.
_QUESTIONS_AN_IMAGE = 1000
_VQA = "VQAv2"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The files of one model on one data set under one contradicting text.

    Attributes
    ----------
    dataset, model, run : str
        Where they lie, and the run's settings as the files name them ("t=0_seed=0").
    image, text, both : Path
        Answers to the image alone, to the text alone, and to both.
    unrelated : Path or None
        Answers to the image with an unrelated text.
    designed : Path or None
        What the contradicting texts were made to say.
    """

    dataset: str
    model: str
    run: str
    image: Path
    text: Path
    both: Path
    unrelated: Path | None
    designed: Path | None


def read_words_or_vision(path: str | Path) -> Imported:
    """Read every data set and model of a copy of the repository, or of a part of it.

    The answer to both inputs is `text` where it is the model's own answer to the text alone and `image` where it
    is its own answer to the image alone, letter case, punctuation and articles aside; items whose two
    answers are the same hold no conflict for the model and are counted only. `text_correct` and `image_correct` compare
    the answers alone with what the text was made to say and with the data set's answer.

    Parameters
    ----------
    path : str or Path
        The repository, or a folder in it.

    Raises
    ------
    InputError
        Where no run is found, or a file cannot be read; names file and line.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"Expected the folder of the repository at {root}, but there is none.")
    runs = list(find_answers(root))
    if not runs:
        raise InputError(
            f"Expected files such as outputs/OWNER/DATASET/MODEL/t=0_seed=0.jsonl under {root}, with the answers to "
            "the image alone, the contradicting text alone and both, but found no such three. Is the copy whole?"
        )
    tables = [_read_run(run) for run in runs]
    several = {(run.dataset, run.model) for run in runs}
    if len(several) < len(runs):
        for run, table in zip(runs, tables, strict=True):
            table[names.CONDITION] = run.run
    everything = pd.concat(tables, ignore_index=True)
    ratios = count_choices(everything)
    notes = []
    is_control = everything[names.KIND] == names.CONTROL
    same = (everything[names.CHOICE] == SAME) & ~is_control
    if same.any():
        notes.append(
            f"{int(same.sum())} conflict rows left out: the model answers the text alone and the image alone alike, so "
            "nothing conflicts."
        )
    silent = everything[[names.NLL_TEXT, names.NLL_IMAGE]].isna().any(axis=1)
    for model in sorted(everything.loc[silent, names.MODEL].unique()):
        n = int((silent & ~is_control & ~same & (everything[names.MODEL] == model)).sum())
        if n:
            notes.append(f"{model}: {n} conflict rows left out, whose answers have no log-probabilities.")
    return Imported(trials=everything[~same & ~silent].reset_index(drop=True), ratios=ratios, notes=notes)


def find_answers(root: Path) -> Iterator[Answers]:
    """Find every run that has all three inputs, in the order of their paths."""
    for both in sorted(root.rglob(f"*{_IN_TEXT}*{_CONTRADICTING}*.jsonl")):
        if _WITHOUT_IMAGE in both.name:
            continue
        run, rest = both.name.split(_IN_TEXT, 1)
        image = both.with_name(f"{run}.jsonl")
        text = both.with_name(f"{run}{_WITHOUT_IMAGE}{_IN_TEXT}{rest}")
        if not (image.is_file() and text.is_file()):
            continue
        prefix = rest.split(_CONTRADICTING, 1)[0]
        unrelated = sorted(both.parent.glob(f"{run}{_IN_TEXT}{prefix}{_UNRELATED}*.jsonl"))
        dataset = both.parent.parent
        yield Answers(
            dataset=dataset.name,
            model=both.parent.name,
            run=f"{run}{_IN_TEXT}{rest}".removesuffix(".jsonl"),
            image=image,
            text=text,
            both=both,
            unrelated=unrelated[0] if unrelated else None,
            designed=_find_designed(dataset, both.name),
        )


def _find_designed(dataset: Path, name: str) -> Path | None:
    """The file of contradicting texts that belongs to a data set's outputs."""
    source = _SOURCE.search(name)
    parts = dataset.parts
    if source is None or _OUTPUTS not in parts:
        return None
    place = len(parts) - 1 - parts[::-1].index(_OUTPUTS)
    found = Path(*parts[:place], _RESPONSES, *parts[place + 1 :], source.group(1), "contradict_stat.jsonl")
    return found if found.is_file() else None


def _read_run(run: Answers) -> pd.DataFrame:
    image, text, both = (_read_answers(path) for path in (run.image, run.text, run.both))
    designed = _read_lines(run.designed) if run.designed else {}
    rows = []
    for question, answer in both.items():
        if question not in image or question not in text:
            lacking = run.text if question in image else run.image
            raise InputError(f"Question {question} of {run.both} has no answer in {lacking.name}. Is the copy whole?")
        rows.append(_describe(run, question, names.CONFLICT, image[question], text[question], answer, designed))
    if run.unrelated:
        for question, answer in _read_answers(run.unrelated).items():
            if question in image and question in text:
                rows.append(_describe(run, question, names.CONTROL, image[question], text[question], answer, designed))
    return pd.DataFrame(rows)


def _describe(
    run: Answers,
    question: int,
    kind: str,
    image: Mapping[str, Any],
    text: Mapping[str, Any],
    both: Mapping[str, Any],
    designed: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any]:
    """One row of the table."""
    of_image, of_text, of_both = (normalise(str(each["output"])) for each in (image, text, both))
    if kind == names.CONTROL:
        choice = names.IMAGE if of_both == of_image else names.OTHER
    elif of_text == of_image:
        choice = SAME
    else:
        choice = {of_text: names.TEXT, of_image: names.IMAGE}.get(of_both, names.OTHER)
    row = {
        names.MODEL: run.model,
        names.TASK: run.dataset,
        names.GROUP: str(question // _QUESTIONS_AN_IMAGE if run.dataset == _VQA else question),
        names.ITEM: str(question),
        names.KIND: kind,
        names.CHOICE: choice,
        names.NLL_TEXT: text["nll"],
        names.NLL_IMAGE: image["nll"],
        "answer_text": text["output"],
        "answer_image": image["output"],
        "answer_both": both["output"],
        names.IMAGE_CORRECT: of_image in {normalise(str(each)) for each in image["answers"]},
    }
    if designed:
        wanted = designed.get(question, {}).get("changed_ans", [])
        row[names.TEXT_CORRECT] = of_text in {normalise(str(each)) for each in wanted}
    return row


def _read_answers(path: Path) -> dict[int, dict[str, Any]]:
    """Answers by question, with `nll`: the summed negative log-likelihood of their tokens, NaN where unknown."""
    found = _read_lines(path, needed=("output", "answers"))
    for number, (question, row) in enumerate(found.items(), start=1):
        try:
            logprobs = read_logprobs(row.get("logprobs"))
        except InputError as error:
            raise InputError(f"{error} In {path}, line {number} (question {question}).") from error
        row["nll"] = np.nan if logprobs is None else max(0.0, -sum(logprobs))
    return found


def _read_lines(path: Path, *, needed: tuple[str, ...] = ()) -> dict[int, dict[str, Any]]:
    """JSON lines by `question_id`."""
    rows: dict[int, dict[str, Any]] = {}
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                question = int(row["question_id"])
                absent = [name for name in needed if name not in row]
            except (ValueError, TypeError, KeyError) as error:
                raise InputError(f"Expected JSON with a question_id in line {number} of {path}.") from error
            if absent:
                raise InputError(f"Expected {' and '.join(absent)} in line {number} of {path}.")
            if question in rows:
                raise InputError(f"Question {question} comes again in line {number} of {path}. Remove the copy.")
            rows[question] = row
    return rows
