"""What a model answered to one prompt, and tables of many answers."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import pyarrow as pa


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


# Differences were computed in single precision, so that nothing is lost by keeping them in it.
_SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),
        ("entropy", pa.float64()),
        ("margin_uncertainty", pa.float64()),
        ("least_confidence", pa.float64()),
        ("answer", pa.string()),
        ("designed", pa.string()),
        ("logits", pa.list_(pa.float64())),
        ("probabilities", pa.list_(pa.float64())),
        ("nlls", pa.list_(pa.float64())),
        ("states", pa.list_(pa.int8())),
        ("differences", pa.list_(pa.float32())),
    ]
)


def tabulate_responses(responses: Sequence[Response]) -> pa.Table:
    """Responses as an Arrow table, a row each."""
    columns = list(zip(*responses, strict=True)) or [()] * len(_SCHEMA)
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)], _SCHEMA)


def list_responses(table: pa.Table) -> Iterator[Response]:
    """Responses of a table, in its order."""
    for row in zip(*(table.column(name).to_pylist() for name in Response._fields), strict=True):
        yield Response(*row)
