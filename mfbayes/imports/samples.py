"""Samples of an evaluation log, put together as trials: one answer from each modality alone and one from both.

Evaluation programs log one answer a sample and know nothing of conflicts, so the log's own metadata must say what
belongs together. Importers look for these fields, by these names:

| field | says |
|---|---|
| `modality` | what the model was given: "text", "image" or "both" |
| `text_answer`, `image_answer` | what text and image say: a string, or a list of spellings |
| `item` | which samples belong together; the sample's own id by default |
| `group` | which items share a question or an image; every item is a group of its own by default |
| `task`, `kind` | as in any table of trials; the log's task and "conflict" by default |
| `condition`, `d_text`, `d_image` | as in any table of trials; may be absent |

A task whose name ends in `_text_only`, `_image_only` or `_both` says the modality by that, and the same without the
ending names the task of the trials.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.imports.results import Imported, count_choices, normalise
from mfbayes.values import count, list_choices

BOTH = "both"
MODALITIES = (names.TEXT, names.IMAGE, BOTH)
FIELDS = "mfbayes"
"""Metadata may hold the fields themselves, or a dict of them under this name, which comes first."""

_ENDINGS = {"_text_only": names.TEXT, "_image_only": names.IMAGE, "_both": BOTH}
_OPTIONAL = (names.CONDITION, names.D_TEXT, names.D_IMAGE)
_NO_MODALITY = (
    "its metadata have no `modality` and the name of its task does not end in _text_only, _image_only or _both. "
    "Without it nobody can tell whether text, image or both were given"
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answer in a log.

    Attributes
    ----------
    place : str
        Where it stands, for messages.
    model, task, item, kind : str
    modality : str
        "text", "image" or "both": what the model was given.
    group : str or None
        None where the log names none.
    text_answers, image_answers : tuple of str
        What counts as following the text and the image, normalised.
    answer : str
        The model's answer.
    indices : mapping
        What the log tells of its uncertainty, by the stem of the column ("nll" for `nll_text` and `nll_image`).
    optional : mapping
        `condition`, `d_text` and `d_image` where the log has them.
    """

    place: str
    model: str
    task: str
    item: str
    kind: str
    modality: str
    group: str | None
    text_answers: tuple[str, ...]
    image_answers: tuple[str, ...]
    answer: str
    indices: Mapping[str, float] = field(default_factory=dict)
    optional: Mapping[str, Any] = field(default_factory=dict)


def describe_sample(
    sources: Sequence[Any],
    *,
    place: str,
    model: str,
    task: str,
    default_item: str,
    answer: str,
    indices: Mapping[str, float],
) -> Sample:
    """A sample with the fields that its log's metadata has for it.

    Parameters
    ----------
    sources : sequence
        Where fields may be, the nearest to the sample first; what is no mapping is passed over.
    place : str
        Where the sample stands, for messages.
    model, task : str
        As the log names them.
    default_item : str
        The sample's own id.
    answer : str
        The model's answer.
    indices : mapping
        See `Sample`.

    Raises
    ------
    InputError
        Where a field that cannot be guessed is absent, or is none of the words expected.
    """
    mappings = [source for source in sources if isinstance(source, Mapping)]
    found = [source[FIELDS] for source in mappings if isinstance(source.get(FIELDS), Mapping)] + mappings

    def look_up(name: str) -> Any:
        value = next((source[name] for source in found if source.get(name) is not None), None)
        entries = value if isinstance(value, list) and name.endswith("_answer") else [value]
        if any(isinstance(each, (list, dict)) for each in entries):
            raise InputError(f"{place}: expected a word or a number as {name}, got {str(value)[:60]}.")
        return value

    ending = next((end for end in _ENDINGS if task.endswith(end)), "")
    modality = look_up("modality") or _ENDINGS.get(ending)
    if modality is None:
        raise InputError(f"{place} cannot be read as part of a conflict: {_NO_MODALITY}.")
    if modality not in MODALITIES:
        raise InputError(f"{place}: expected modality {list_choices(MODALITIES)}, got {modality!r}.")
    answers = {}
    for side in (names.TEXT, names.IMAGE):
        value = look_up(f"{side}_answer")
        spellings = value if isinstance(value, list) else [value]
        answers[side] = tuple(normalise(str(each)) for each in spellings if each is not None)
        if not any(answers[side]):
            raise InputError(
                f"{place} has no {side}_answer in its metadata, so nobody can tell whether an answer follows the "
                f"{side}. Log both `text_answer` and `image_answer` with each sample."
            )
    shared = set(answers[names.TEXT]) & set(answers[names.IMAGE])
    if shared:
        raise InputError(f"{place}: text and image both say {min(shared)!r}, so nothing conflicts.")
    kind = look_up(names.KIND) or names.CONFLICT
    if kind not in names.KINDS:
        raise InputError(f"{place}: expected kind {list_choices(names.KINDS)}, got {kind!r}.")
    item, group = look_up(names.ITEM), look_up(names.GROUP)
    return Sample(
        place=place,
        model=model,
        task=str(look_up(names.TASK) or task.removesuffix(ending) or names.DEFAULT_TASK),
        item=default_item if item is None else str(item),
        kind=kind,
        modality=modality,
        group=None if group is None else str(group),
        text_answers=answers[names.TEXT],
        image_answers=answers[names.IMAGE],
        answer=answer,
        indices=indices,
        optional={name: look_up(name) for name in _OPTIONAL if look_up(name) is not None},
    )


def join_samples(samples: Sequence[Sample], *, notes: Sequence[str] = ()) -> Imported:
    """Trials of all items that were answered from the text alone, from the image alone and from both.

    The answer to both inputs is `text` or `image` where it is the designed answer of that side and `other`
    elsewhere; `text_correct` and `image_correct` say the same of the answers alone. An item without a group
    becomes a group of its own. A control takes its answers alone from the conflict of the same item where it has none.

    Raises
    ------
    InputError
        Where an item lacks a modality or has one twice, or says different things in them.
    """
    told = list(notes)
    items: dict[tuple[str, ...], dict[str, Sample]] = defaultdict(dict)
    for sample in samples:
        condition = str(sample.optional.get(names.CONDITION, ""))
        there = items[(sample.model, sample.task, sample.item, condition, sample.kind)]
        if sample.modality in there:
            raise InputError(
                f"Item {sample.item!r} of {sample.model} is answered from {_spell(sample.modality)} twice: "
                f"{there[sample.modality].place} and {sample.place}. Leave one of the runs out, or tell them apart by "
                "`condition`."
            )
        there[sample.modality] = sample
    rows = []
    for key, there in items.items():
        alone = there if key[-1] == names.CONFLICT else {**items.get((*key[:-1], names.CONFLICT), {}), **there}
        if BOTH not in there and key[-1] == names.CONTROL:
            continue
        rows.append(_describe(key, {**alone, **({BOTH: there[BOTH]} if BOTH in there else {})}))
    table = pd.DataFrame(rows)
    if table[names.GROUP].isna().any():
        n = int(table[names.GROUP].isna().sum())
        told.append(f"{count(n, 'row')} without a `group` in the metadata: each item is taken for a group of its own.")
        table[names.GROUP] = table[names.GROUP].where(table[names.GROUP].notna(), table[names.ITEM])
    ratios = count_choices(table)
    needed = [column for column in (names.NLL_TEXT, names.NLL_IMAGE) if column in table]
    silent = table[needed].isna().any(axis=1) if len(needed) == 2 else pd.Series(True, index=table.index)
    if silent.any():
        told.append(f"{count(int(silent.sum()), 'row')} left out, whose answers alone have no likelihood in the log.")
    return Imported(trials=table[~silent].reset_index(drop=True), ratios=ratios, notes=told)


def _describe(key: tuple[str, ...], there: Mapping[str, Sample]) -> dict[str, Any]:
    """One row of the table."""
    model, task, item, _, kind = key
    missing = [modality for modality in MODALITIES if modality not in there]
    if missing:
        found = next(iter(there.values()))
        raise InputError(
            f"Item {item!r} of {model} (task {task}) has no answer from {_spell(missing[0])}, only "
            f"{' and '.join(_spell(each) for each in there)} ({found.place}). Import the logs of all three together, "
            "and give the samples that belong together the same `item`."
        )
    text, image, both = (there[modality] for modality in MODALITIES)
    for other in (text, image):
        if kind == names.CONFLICT and (other.text_answers, other.image_answers) != (
            both.text_answers,
            both.image_answers,
        ):
            raise InputError(
                f"Item {item!r} of {model}: {other.place} and {both.place} have different designed answers."
            )
    given = normalise(both.answer)
    choice = names.TEXT if given in both.text_answers else names.IMAGE if given in both.image_answers else names.OTHER
    groups = {sample.group for sample in (text, image, both)} - {None}
    if len(groups) > 1:
        raise InputError(f"Item {item!r} of {model} is in several groups: {', '.join(sorted(map(str, groups)))}.")
    row: dict[str, Any] = {
        names.MODEL: model,
        names.TASK: task,
        names.GROUP: next(iter(groups), np.nan),
        names.ITEM: item,
        names.KIND: kind,
        names.CHOICE: choice,
        names.TEXT_CORRECT: normalise(text.answer) in text.text_answers,
        names.IMAGE_CORRECT: normalise(image.answer) in image.image_answers,
        "answer_text": text.answer,
        "answer_image": image.answer,
        "answer_both": both.answer,
        **text.optional,
        **image.optional,
        **both.optional,
    }
    for side, sample in ((names.TEXT, text), (names.IMAGE, image)):
        row |= {f"{stem}_{side}": value for stem, value in sample.indices.items()}
    return row


def _spell(modality: str) -> str:
    return {names.TEXT: "the text alone", names.IMAGE: "the image alone", BOTH: "both"}[modality]
