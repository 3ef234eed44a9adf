"""Logs of Inspect AI, read as trials: `.eval` archives and `.json` logs.

Read as files, so that the package inspect_ai is not needed. The log must have the log-probabilities of the answer's
tokens (`GenerateConfig(logprobs=True)`), and the metadata of its samples, or of the whole task, the fields of
`mfbayes.imports.samples`. From a sample's first choice come

- the answer: what a scorer extracted, else the whole completion;
- `nll`, its negative log-likelihood over all tokens, where they spell the answer and nothing else: after a chain of
  thought, or with "ANSWER: " before it, their likelihood says nothing about the answer, and the sample has none;
- with `top_logprobs` of two or more, `margin_uncertainty` and `least_confidence` of the first token, which the two
  largest probabilities give exactly;
- `entropy_floor` and `unseen_probability`: the least entropy, in nats, that the first token can have with its k known
  probabilities, and the probability that they leave out. No index of mfbayes: entropies need the whole vocabulary.

Log-probabilities are taken as the provider gives them; some give them after temperature.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mfbayes.errors import InputError
from mfbayes.imports.archives import LARGEST_MEMBER, open_archive, read_member
from mfbayes.imports.literals import read_logprobs
from mfbayes.imports.results import Imported, normalise
from mfbayes.imports.samples import Sample, describe_sample, join_samples
from mfbayes.values import count

_HEADER, _START, _SAMPLES = "header.json", "_journal/start.json", "samples/"
_SPECIAL = re.compile(r"<[^<>\s]*>")
# Tokenizers that show a leading space as a letter of its own.
_SPACES = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})


def read_inspect(path: str | Path) -> Imported:
    """Read one log, or every log of a folder.

    Only the first epoch of each sample is read: the others ask the same question again.

    Parameters
    ----------
    path : str or Path
        A `.eval` or `.json` log, or a folder with such files below it.

    Raises
    ------
    InputError
        Where there is no log, it is damaged or too large, or it cannot be told what was given to the model or what its
        answers mean; names the sample.
    """
    samples: list[Sample] = []
    n_again = n_failed = 0
    for file in _find_logs(Path(path)):
        for evaluation, row, place in _read_log(file):
            if row.get("epoch", 1) != 1:
                n_again += 1
            elif row.get("error") or not isinstance(_dig(row, "output", "choices", 0), Mapping):
                n_failed += 1
            else:
                samples.append(_read_sample(evaluation, row, place))
    if not samples:
        raise InputError(f"The logs at {path} have no finished sample. Run the evaluation to its end.")
    notes = []
    if n_again:
        notes.append(f"{count(n_again, 'sample')} of later epochs left out: they ask the same items again.")
    if n_failed:
        notes.append(f"{count(n_failed, 'sample')} left out that ended in an error or without an output.")
    return join_samples(samples, notes=notes)


def _find_logs(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix in (".eval", ".json") and file.is_file())
    logs = [file for file in found if file.suffix == ".eval" or _looks_like_log(file)]
    if not logs:
        raise InputError(f"Expected a log of Inspect (.eval or .json) at {path} or below it, but found none.")
    return logs


def _looks_like_log(file: Path) -> bool:
    with file.open("rb") as handle:
        return b'"eval"' in handle.read(4096)


def _read_log(file: Path) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], str]]:
    """What the log says of the evaluation, each sample, and where it stands."""
    with file.open("rb") as handle:
        is_archive = handle.read(2) == b"PK"
    if not is_archive:
        if file.stat().st_size > LARGEST_MEMBER:
            raise InputError(
                f"{file} has {file.stat().st_size:,} bytes; a .json log of at most {LARGEST_MEMBER:,} is read. Convert "
                "it with `inspect log convert --to eval`, which is read sample by sample."
            )
        log = _parse(file.read_bytes(), str(file))
        rows = log.get("samples") or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            rows = None
        if not isinstance(log.get("eval"), dict) or rows is None:
            raise InputError(f"Expected a log of Inspect with `eval` and `samples` in {file}.")
        for row in rows:
            yield log["eval"], row, f"Sample {row.get('id')!r} of {file}"
        return
    with open_archive(file) as archive:
        members = archive.namelist()
        head = next((name for name in (_HEADER, _START) if name in members), None)
        if head is None:
            raise InputError(f"{file} has neither {_HEADER} nor {_START}, so it is no log of Inspect.")
        evaluation = _parse(read_member(archive, head), f"{head} of {file}").get("eval")
        if not isinstance(evaluation, dict):
            raise InputError(f"Expected a log of Inspect with `eval` in {head} of {file}.")
        for name in members:
            if name.startswith(_SAMPLES) and name.endswith(".json"):
                row = _parse(read_member(archive, name), f"{name} of {file}")
                yield evaluation, row, f"Sample {row.get('id')!r} of {file}"


def _parse(content: bytes, place: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"Expected JSON in {place}. Is the log whole?") from error
    if not isinstance(value, dict):
        raise InputError(f"Expected a JSON object in {place}, got {type(value).__name__}.")
    return value


def _read_sample(evaluation: Mapping[str, Any], row: Mapping[str, Any], place: str) -> Sample:
    choice = row["output"]["choices"][0]
    completion = _read_text(_dig(choice, "message", "content")) or str(row["output"].get("completion") or "")
    answer = _extracted(row) or completion
    try:
        indices = _read_indices(_dig(choice, "logprobs", "content"), answer)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    return describe_sample(
        [row.get("metadata"), evaluation.get("metadata"), evaluation.get("task_args")],
        place=place,
        model=str(evaluation.get("model", row["output"].get("model", ""))),
        task=str(evaluation.get("task", "")),
        default_item=str(row.get("id")),
        answer=answer.strip(),
        indices=indices,
    )


def _dig(value: Any, *path: str | int) -> Any:
    """A value deep inside others, or None where there is no such place."""
    for key in path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _read_text(content: Any) -> str:
    """Words of a message, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(
        str(part.get("text", "")) for part in parts if isinstance(part, Mapping) and part.get("type") == "text"
    )


def _extracted(row: Mapping[str, Any]) -> str:
    scores = row.get("scores")
    found = scores.values() if isinstance(scores, Mapping) else []
    return next((str(score["answer"]) for score in found if isinstance(score, Mapping) and score.get("answer")), "")


def _read_indices(tokens: Any, answer: str) -> dict[str, float]:
    logprobs = read_logprobs(tokens)
    if logprobs is None or not all(isinstance(token, Mapping) for token in tokens):
        return {}
    spelt = "".join(str(token.get("token", "")) for token in tokens).translate(_SPACES)
    if normalise(_SPECIAL.sub("", spelt)) != normalise(answer):
        return {}
    indices = {"nll": max(0.0, -sum(logprobs))}
    largest = read_logprobs(tokens[0].get("top_logprobs"))
    begins = normalise(_SPECIAL.sub("", str(tokens[0].get("token", "")).translate(_SPACES)))
    if largest is not None and len(largest) > 1 and begins:
        indices |= _read_first_token(sorted((min(each, 0.0) for each in largest), reverse=True))
    return indices


def _read_first_token(logprobs: list[float]) -> dict[str, float]:
    """What the largest log-probabilities tell of the first token, in falling order."""
    known = [each for each in logprobs if math.isfinite(each)]
    unseen = max(0.0, 1.0 - math.fsum(math.exp(each) for each in known))
    floor = -math.fsum(math.exp(each) * each for each in known)
    if unseen > 0:
        # What is unseen is spread least over few tokens, each as likely as the last one seen.
        floor += unseen * max(-known[-1], -math.log(unseen))
    second = math.exp(logprobs[1])
    return {
        "margin_uncertainty": min(1.0, -math.expm1(logprobs[0]) + second),
        "least_confidence": -math.expm1(logprobs[0]),
        "entropy_floor": max(0.0, floor),
        "unseen_probability": unseen,
    }
