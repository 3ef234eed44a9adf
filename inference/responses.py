"""What a model answered, and the files that keep it while a collection is under way."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd

from mfbayes.storage import hash_content, replacing

PARTS_FOLDER: Final = "parts"


class Response(NamedTuple):
    """What a model made of one prompt.

    Attributes
    ----------
    key : str
        Of the prompt.
    entropy : float
        Of the first answer token over the full vocabulary, in nats.
    margin_uncertainty, least_confidence : float
        Of the same distribution, as `mfbayes.indices` has them.
    answer : str
        The model's own greedy answer, in lower case.
    designed : str
        The designed answer it gave, or empty.
    logits, probabilities : sequence of float
        Of each designed answer, in the plan's order: logit of its likeliest spelling, and summed probability
        of all its spellings.
    nlls : sequence of float
        Negative logarithm of that probability, in nats, exact near certainty too.
    states : sequence of int
        Per decoder layer, whether its top token begins the text answer (1), the image answer (0) or neither
        (-1); empty where no traces were wanted.
    differences : sequence of float
        Per decoder layer, logit of the text answer minus logit of the image answer.
    """

    key: str
    entropy: float
    margin_uncertainty: float
    least_confidence: float
    answer: str
    designed: str
    logits: Sequence[float]
    probabilities: Sequence[float]
    nlls: Sequence[float]
    states: Sequence[int]
    differences: Sequence[float]


def parts_folder(folder: Path, key: str) -> Path:
    """Where the responses of one collection lie until it is finished."""
    return folder / PARTS_FOLDER / key[:16]


def save_part(folder: Path, responses: Sequence[Response]) -> None:
    """Write responses to a file of their own: whole, or not at all."""
    name = hash_content(*(response.key for response in responses))[:24]
    with replacing(folder / f"{name}.parquet") as temporary:
        pd.DataFrame(responses, columns=pd.Index(Response._fields)).to_parquet(temporary, index=False)


def read_parts(folder: Path, wanted: Iterable[str]) -> dict[str, Response]:
    """Responses that are there already, by the key of their prompt."""
    keys = set(wanted)
    found: dict[str, Response] = {}
    for file in sorted(folder.glob("*.parquet")):
        for values in pd.read_parquet(file).itertuples(index=False, name=None):
            response = Response(*values)
            if response.key in keys:
                found[response.key] = response
    return found


def remove_parts(folder: Path) -> None:
    """Delete all parts of a model's folder once they are in the finished files."""
    shutil.rmtree(folder / PARTS_FOLDER, ignore_errors=True)
