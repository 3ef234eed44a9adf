"""Sample logs of lmms-eval, read as trials.

`lmms_eval --log_samples --output_path OUT` writes `OUT/MODEL/DATE_samples_TASK.jsonl`, a line a sample with `doc_id`,
`target`, `filtered_resps`, and `resps` where filters changed them. It keeps log-likelihoods of tasks with
`output_type: multiple_choice` only, so text alone and image alone must be such tasks; the answer to both may also be
generated text. The figures are the mean loss over an option's tokens, whatever their name, hence the answer's negative
log-likelihood *a token*; logs with figures of at most zero hold log-likelihoods and are turned around.

Beside the fields of `mfbayes.imports.samples`, metadata needs `choices`, the list of options in the order in which
they were scored. Since July 2025 logs leave out the `doc`; what `process_results` returns stays in them, so
`return {"mfbayes": {"modality": "text", "item": doc["id"], ...}}` there puts the fields where they are found. Logs
that have a `doc` may have them in it.

References
----------
Zhang et al., "LMMs-Eval: Reality Check on the Evaluation of Large Multimodal Models", arXiv:2407.12772.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mfbayes.errors import InputError
from mfbayes.imports.jsonlines import read_lines
from mfbayes.imports.literals import read_literal
from mfbayes.imports.results import Imported, normalise
from mfbayes.imports.samples import BOTH, FIELDS, Sample, describe_sample, join_samples

# Older logs, and those of its sibling for texts, have the date behind.
_FILE = re.compile(r"^(?:.*_)?samples_(?P<task>.+?)(?:_\d{4}-\d\d-\d\dT[\d.:-]+)?\.jsonl$")
_MEAN_LOSS = (
    "Where lmms-eval logged losses, they are means over an option's tokens: nll_text and nll_image are negative "
    "log-likelihoods a token then."
)
_NEEDED = (
    "lmms-eval keeps log-likelihoods of tasks with `output_type: multiple_choice` only; run the text alone and the "
    "image alone as such tasks"
)


def read_lmms_eval(path: str | Path) -> Imported:
    """Read the sample logs of one or several models.

    Parameters
    ----------
    path : str or Path
        A file `*samples_TASK.jsonl`, or a folder with such files below it. The folder of a file names the model.

    Raises
    ------
    InputError
        Where there is no log, a line cannot be read, or it cannot be told what was given to the model or what its
        answers mean; names file and line.
    """
    files = find_logs(Path(path))
    samples = [sample for file in files for sample in _read_log(file)]
    if not samples:
        raise InputError(f"The sample logs at {path} are empty. Run lmms-eval with --log_samples.")
    return join_samples(samples, notes=[_MEAN_LOSS])


def find_logs(path: Path) -> list[Path]:
    """Sample logs at a path, in the order of their names."""
    found = [path] if path.is_file() else sorted(path.rglob("*samples_*.jsonl"))
    logs = [file for file in found if _FILE.match(file.name)]
    if not logs:
        raise InputError(
            f"Expected a sample log DATE_samples_TASK.jsonl at {path} or below it, but found none. Run lmms-eval with "
            "--log_samples and --output_path."
        )
    return logs


def _read_log(file: Path) -> Iterator[Sample]:
    # The program writes "owner__name" for "owner/name".
    model = file.resolve().parent.name.replace("__", "/", 1)
    for number, row in read_lines(file):
        place = f"Line {number} of {file}"
        own, document = row.get(FIELDS), row.get("doc")
        sources: list[Any] = [{FIELDS: own}, document]
        answer, losses, choices = _read_responses(row, sources, place)
        sample = describe_sample(
            sources,
            place=place,
            model=model,
            task=_FILE.sub(r"\g<task>", file.name),
            default_item=str(row.get("doc_id", number)),
            answer=answer,
            indices={},
        )
        if losses is None:
            if sample.modality != BOTH:
                raise InputError(f"{place} holds generated text without a likelihood: {_NEEDED}.")
            yield sample
            continue
        yield _with_nll(sample, losses, choices)


def _with_nll(sample: Sample, losses: Sequence[float], choices: Sequence[str]) -> Sample:
    """The sample with the negative log-likelihood of its modality's designed answer."""
    wanted = {"text": sample.text_answers, "image": sample.image_answers}.get(sample.modality)
    if wanted is None:
        return sample
    own = [loss for loss, choice in zip(losses, choices, strict=True) if normalise(choice) in wanted]
    if not own:
        raise InputError(
            f"{sample.place}: the {sample.modality} answer {wanted[0]!r} is none of the choices "
            f"{', '.join(map(repr, choices))}."
        )
    return replace(sample, indices={"nll": min(own)})


def _read_responses(
    row: Mapping[str, Any], sources: Sequence[Any], place: str
) -> tuple[str, list[float] | None, list[str]]:
    """The answer, and the losses of all choices where the log has them."""
    responses = row.get("filtered_resps", row.get("resps"))
    if responses is None:
        raise InputError(f"Expected `filtered_resps` or `resps` in {place[0].lower()}{place[1:]}. Is it a sample log?")
    while isinstance(responses, list) and len(responses) == 1:
        responses = responses[0]
    if isinstance(responses, str):
        return responses, None, []
    pairs = [_read_pair(each) for each in responses] if isinstance(responses, list) else [None]
    losses = [pair for pair in pairs if pair is not None]
    if len(losses) < len(pairs):
        raise InputError(
            f"{place}: expected one answer, or a pair of figure and greediness for each choice, got "
            f"{str(responses)[:60]!r}. Samples with several answers are not read."
        )
    choices = _find_choices(sources)
    if len(choices) != len(losses):
        raise InputError(
            f"{place} scores {len(losses)} choices but its metadata lists {len(choices)} in `choices`. Log the options "
            "in the order in which they are scored."
        )
    if max(losses) <= 0 and min(losses) < 0:
        losses = [-each for each in losses]
    if min(losses) < 0 or not all(map(math.isfinite, losses)):
        raise InputError(f"{place}: expected losses of one sign, all finite, got {losses}.")
    return choices[losses.index(min(losses))], [abs(each) for each in losses], choices


def _read_pair(value: Any) -> float | None:
    """Figure of a pair (figure, greedy or not), which older logs print as text."""
    try:
        pair = read_literal(value) if isinstance(value, str) else value
        while isinstance(pair, list) and len(pair) == 1:
            pair = pair[0]
        if isinstance(pair, list) and len(pair) == 2 and str(pair[1]) in ("True", "False"):
            return float(pair[0])
    except (InputError, TypeError, ValueError):
        pass
    return None


def _find_choices(sources: Sequence[Any]) -> list[str]:
    nested = [source[FIELDS] for source in sources if isinstance(source, Mapping) and FIELDS in source]
    for source in (*nested, *sources):
        if isinstance(source, Mapping) and isinstance(source.get("choices"), list):
            return [str(each) for each in source["choices"]]
    return []
