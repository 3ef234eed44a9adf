"""Answered prompts on disk: files that are whole or absent, found again by what they are answers of.

A model's folder holds `answers/KEY/` for each KEY, the hash of everything but the prompt that decides an answer:
weights and processor, precision, protocol and designed answers; `manifest.json` there spells it out. A prompt's
own key stands for its text and pixels. Each shard is a parquet file named by its prompts and by the SHA-256 of
its bytes, so that one rename puts answers and hash in place, and writers on many machines need not agree.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mfbayes.errors import InputError
from mfbayes.inference.responses import Response, list_responses, tabulate_responses
from mfbayes.storage import hash_content, make_folder, read_json, write_bytes, write_json

ANSWERS_FOLDER: Final = "answers"
CONTENT_FILE: Final = "manifest.json"
_SHARD: Final = re.compile(r"^[0-9a-f]{24}-(?P<sha256>[0-9a-f]{64})\.parquet$")
_FACTS: Final = b"mfbayes"
_ABANDONED_SECONDS: Final = 3600

type Facts = dict[str, Any]


class Shard(NamedTuple):
    """One unit's answers.

    Attributes
    ----------
    responses : list of Response
    facts : dict
        How they were asked: device, batch size, checks, seconds; JSON values only.
    """

    responses: list[Response]
    facts: Facts


class Answers(NamedTuple):
    """What a folder of shards holds.

    Attributes
    ----------
    responses : dict
        Responses by the key of their prompt.
    facts : list of dict
        Of each shard, in the order of their names.
    """

    responses: dict[str, Response]
    facts: list[Facts]


def answers_folder(model_folder: Path, content: Mapping[str, Any]) -> Path:
    """Where answers of one content lie."""
    return model_folder / ANSWERS_FOLDER / hash_content(json.dumps(dict(content), sort_keys=True))[:16]


def open_answers(model_folder: Path, content: Mapping[str, Any]) -> Path:
    """Make the folder for answers of one content, unless it is there, and say in it what that content is."""
    folder = make_folder(answers_folder(model_folder, content))
    if read_content(folder) != content:
        write_json(folder / CONTENT_FILE, dict(content))
    return folder


def read_content(folder: Path) -> dict[str, Any] | None:
    """What a folder's answers are answers of; None where that cannot be read."""
    try:
        content = read_json(folder / CONTENT_FILE)
    except (OSError, InputError):
        return None
    return content if isinstance(content, dict) else None


def save_shard(folder: Path, shard: Shard) -> Path:
    """Write a unit's answers: whole, or not at all."""
    table = tabulate_responses(shard.responses)
    table = table.replace_schema_metadata({_FACTS: json.dumps(shard.facts, sort_keys=True)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    name = hash_content(*(response.key for response in shard.responses))[:24]
    file = folder / f"{name}-{hashlib.sha256(content).hexdigest()}.parquet"
    write_bytes(file, content)
    return file


def read_shards(folder: Path, wanted: Container[str], *, on_damage: Callable[[str], None] | None = None) -> Answers:
    """Answers of whole shards to the prompts wanted; damaged shards do not count.

    Parameters
    ----------
    folder : Path
        As `answers_folder` names it; it need not be there.
    wanted : container of str
        Keys of prompts.
    on_damage : callable, optional
        Told one line about each damaged shard, which is then removed so that its prompts are asked again.
    """
    responses: dict[str, Response] = {}
    facts: list[Facts] = []
    for file in sorted(folder.glob("*.parquet")):
        try:
            shard = _decode(file.name, file.read_bytes())
        except FileNotFoundError:
            continue
        if shard is None:
            if on_damage is not None:
                on_damage(f"Shard {file.name} is damaged or cut short: its prompts are asked again.")
                file.unlink(missing_ok=True)
            continue
        found = {response.key: response for response in shard.responses if response.key in wanted}
        if found:
            responses = found | responses
            facts.append(shard.facts)
    return Answers(responses, facts)


def _decode(name: str, content: bytes) -> Shard | None:
    match = _SHARD.match(name)
    if match is None or hashlib.sha256(content).hexdigest() != match["sha256"]:
        return None
    try:
        table = pq.read_table(pa.BufferReader(content))
        facts: Facts = json.loads((table.schema.metadata or {})[_FACTS])
        return Shard(list(list_responses(table)), facts)
    except (pa.ArrowException, ValueError, KeyError):
        return None


def sweep(folder: Path) -> None:
    """Remove files that killed processes left half written an hour ago or longer."""
    for file in folder.glob(".*.part"):
        try:
            if time.time() - file.stat().st_mtime > _ABANDONED_SECONDS:
                file.unlink(missing_ok=True)
        except OSError:
            continue
