r"""Multiple choice with letters, asked in both orders, so that a liking for a letter or a place averages out.

A model that answers "A" whatever A stands for follows neither text nor image. So every item is asked twice, once with
the text's answer as option A and once with the image's, and the two are put together by what the letters mean:

.. math::
    p(\text{text}) = \tfrac{1}{2} \bigl( p_1(A) + p_2(B) \bigr), \qquad
    \text{position bias} = \tfrac{1}{2} \bigl( (l_A - l_B)_1 + (l_A - l_B)_2 \bigr)

with l the logits of the letters: positive where the first option is favoured, zero where order makes no difference.

References
----------
Zheng et al., "Large Language Models Are Not Robust Multiple Choice Selectors", ICLR 2024, arXiv:2309.03882.
Wang et al., "Large Language Models are not Fair Evaluators", ACL 2024, doi:10.18653/v1/2024.acl-long.511.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes.errors import InputError
from mfbayes.inference.prompts import BOTH, IMAGE_ONLY, INPUTS, TEXT_ONLY, Plan
from mfbayes.inference.responses import Response
from mfbayes.names import (
    CHOICE,
    H_IMAGE,
    H_TEXT,
    IMAGE,
    IMAGE_CORRECT,
    ITEM,
    LEAST_CONFIDENCE_IMAGE,
    LEAST_CONFIDENCE_TEXT,
    MARGIN_UNCERTAINTY_IMAGE,
    MARGIN_UNCERTAINTY_TEXT,
    NLL_IMAGE,
    NLL_TEXT,
    OTHER,
    STATE_CODES,
    TEXT,
    TEXT_CORRECT,
)
from mfbayes.traces import write_traces

type Floats = NDArray[np.float64]

FIRST, SECOND = "A", "B"
COMMAND: Final = "Please answer with the letter of one option."
POSITION_BIAS: Final = "position_bias"
ORDERS_AGREE: Final = "orders_agree"
_TEXT_FIRST, _IMAGE_FIRST = "~text-first", "~image-first"
# Which option each column of uncertainty alone is judged by.
_ALONE: Final = {
    TEXT: (TEXT_ONLY, H_TEXT, MARGIN_UNCERTAINTY_TEXT, LEAST_CONFIDENCE_TEXT, NLL_TEXT, TEXT_CORRECT),
    IMAGE: (IMAGE_ONLY, H_IMAGE, MARGIN_UNCERTAINTY_IMAGE, LEAST_CONFIDENCE_IMAGE, NLL_IMAGE, IMAGE_CORRECT),
}


def ask_both_orders(manifest: pd.DataFrame, *, command: str = COMMAND) -> pd.DataFrame:
    """A manifest that asks every item twice as a choice between letters, the text's answer first and then second.

    Parameters
    ----------
    manifest : DataFrame
        As `mfbayes.datasets` has it.
    command : str
        Asks for a letter; stands after the options.

    Returns
    -------
    DataFrame
        Two rows an item, with letters for answers and the options in the question.

    Raises
    ------
    InputError
        Where an item's name ends like those that are given here.

    Examples
    --------
    >>> frame = pd.DataFrame({"item": ["i"], "question": ["Which?"], "text_answer": "red", "image_answer": "blue"})
    >>> ask_both_orders(frame)[["item", "question", "text_answer"]].to_numpy().tolist()
    [['i~text-first', 'Which? A: red. B: blue.', 'A'], ['i~image-first', 'Which? A: blue. B: red.', 'B']]
    """
    taken = manifest[ITEM].astype(str).str.endswith((_TEXT_FIRST, _IMAGE_FIRST))
    if taken.any():
        raise InputError(f"Item {manifest.loc[taken, ITEM].iloc[0]!r} is asked in both orders already.")
    orders = []
    for ending, first, letters in (
        (_TEXT_FIRST, "text_answer", (FIRST, SECOND)),
        (_IMAGE_FIRST, "image_answer", (SECOND, FIRST)),
    ):
        second = "image_answer" if first == "text_answer" else "text_answer"
        options = [
            f"{question} {FIRST}: {one}. {SECOND}: {two}."
            for question, one, two in zip(manifest["question"], manifest[first], manifest[second], strict=True)
        ]
        orders.append(
            manifest.assign(
                item=manifest[ITEM].astype(str) + ending,
                question=options,
                command=command,
                text_answer=letters[0],
                image_answer=letters[1],
            )
        )
    # Neighbours share their image.
    return pd.concat(orders).sort_index(kind="stable").reset_index(drop=True)


def average_orders(trials: pd.DataFrame, manifest: pd.DataFrame) -> pd.DataFrame:
    """Put the two orders of each item together, by meaning.

    Probabilities are averaged, and all else follows from them: the choice and the answers alone are the likelier
    option where the two orders disagree; the negative log-likelihood is that of the averaged probability. Of the
    entropy that part which lies between text option, image option and all else is taken anew from the averaged
    probabilities, so that a model that only likes a letter counts as unsure; what lies within them is averaged. Margin
    and maximum probability are those of the two options, all spellings together.

    Parameters
    ----------
    trials : DataFrame
        A row an item and order, as collected with the manifest of `ask_both_orders`.
    manifest : DataFrame
        The manifest before that, with the answers in words.

    Returns
    -------
    DataFrame
        A row an item, with `position_bias_text_only`, `position_bias_image_only`, `position_bias_both` (nats) and
        `orders_agree`, whether both orders led to the same choice.

    Raises
    ------
    InputError
        Where an item was not asked in both orders.
    """
    names = trials[ITEM].astype(str)
    halves = [
        trials[names.str.endswith(ending)].assign(**{ITEM: names.str.removesuffix(ending)})
        for ending in (_TEXT_FIRST, _IMAGE_FIRST)
    ]
    one, two = (half.set_index(ITEM, drop=False) for half in halves)
    alone = one.index.symmetric_difference(two.index)
    if len(alone) or len(one) + len(two) < len(trials):
        raise InputError(f"Item {alone[0] if len(alone) else names.iloc[0]!r} was asked in one order only.")
    two = two.loc[one.index]
    words = manifest.assign(**{ITEM: manifest[ITEM].astype(str)}).set_index(ITEM).loc[one.index]
    result = one.copy()
    for side in (TEXT, IMAGE):
        result[f"{side}_answer"] = words[f"{side}_answer"].astype(str)
        for given in INPUTS:
            for score in ("p", "logit"):
                column = f"{score}_{side}_{given}"
                result[column] = (one[column] + two[column]) / 2
    for given in INPUTS:
        # The text is the first option in one order and the second in the other.
        leads = [half[f"logit_{TEXT}_{given}"] - half[f"logit_{IMAGE}_{given}"] for half in (one, two)]
        result[f"{POSITION_BIAS}_{given}"] = (leads[0] - leads[1]) / 2
    for side, (given, h, margin, least, nll, correct) in _ALONE.items():
        shares = [_shares(half, given) for half in (one, two)]
        together = (shares[0] + shares[1]) / 2
        within = [
            half[h].to_numpy(np.float64) - group_entropy(part) for half, part in zip((one, two), shares, strict=True)
        ]
        result[h] = group_entropy(together) + np.clip(within[0] + within[1], 0.0, None) / 2
        result[margin] = 1 - np.abs(together[:, 0] - together[:, 1])
        result[least] = 1 - together[:, :2].max(axis=1)
        result[nll] = np.clip(np.log(2) - np.logaddexp(-one[nll], -two[nll]), 0.0, None)
        result[correct] = _prefer(one[correct], two[correct], result, given, side)
    same = one[CHOICE] == two[CHOICE]
    result[ORDERS_AGREE] = same
    result[CHOICE] = np.where(same, one[CHOICE], _likelier(result, BOTH))
    for given in INPUTS:
        column = f"answer_{given.removesuffix('_only')}"
        result[column] = _name_answers(one[column], two[column], result, given)
    return result.reset_index(drop=True)


def write_averaged_traces(path: Path, plan: Plan, responses: Mapping[str, Response]) -> None:
    """Write layer traces of both orders together: mean logit differences, and states where both orders have the same.

    Parameters
    ----------
    path : Path
    plan : Plan
        Of the manifest of `ask_both_orders`.
    responses : mapping
        By key of the prompt.
    """
    items = plan.items[ITEM].astype(str)
    halves = []
    for ending in (_TEXT_FIRST, _IMAGE_FIRST):
        chosen = items.str.endswith(ending)
        halves.append(plan.items.loc[chosen, BOTH].set_axis(items[chosen].str.removesuffix(ending)))
    one, two = halves
    asked = [(responses[one[item]], responses[two[item]]) for item in one.index]
    states = np.array([[first.states, second.states] for first, second in asked], dtype=np.int8)
    differences = np.array([[first.differences, second.differences] for first, second in asked], dtype=np.float64)
    agreed = np.where(states[:, 0] == states[:, 1], states[:, 0], STATE_CODES[OTHER]).astype(np.int8)
    write_traces(path, one.index.to_numpy(), agreed, differences.mean(axis=1).astype(np.float32))


def group_entropy(shares: Floats) -> Floats:
    """Entropy in nats between groups, shape (n,) from shares of shape (n, n_groups).

    Examples
    --------
    >>> group_entropy(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).round(4).tolist()
    [0.6931, 0.0]
    """
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    result: Floats = -(shares * logs).sum(axis=1) + 0.0
    return result


def _shares(half: pd.DataFrame, given: str) -> Floats:
    """Probabilities of text option, image option and all else; shape (n, 3)."""
    options = half[[f"p_{TEXT}_{given}", f"p_{IMAGE}_{given}"]].to_numpy(np.float64)
    rest = np.clip(1 - options.sum(axis=1, keepdims=True), 0.0, None)
    return np.concatenate([options, rest], axis=1)


def _likelier(result: pd.DataFrame, given: str) -> NDArray[np.str_]:
    return np.where(result[f"p_{TEXT}_{given}"] >= result[f"p_{IMAGE}_{given}"], TEXT, IMAGE)


def _prefer(one: pd.Series, two: pd.Series, result: pd.DataFrame, given: str, side: str) -> NDArray[np.bool_]:
    """Whether the answer alone is right: as both orders say, else by the averaged probabilities."""
    chosen: NDArray[np.bool_] = np.where(one == two, one.astype(bool), _likelier(result, given) == side)
    return chosen


def _name_answers(one: pd.Series, two: pd.Series, result: pd.DataFrame, given: str) -> list[str]:
    """The model's own answers, letters by what they mean; the likelier option where the orders differ."""
    named = []
    likelier = _likelier(result, given)
    for first, second, text, image, chosen in zip(
        one.astype(str), two.astype(str), result["text_answer"], result["image_answer"], likelier, strict=True
    ):
        meant = {FIRST.lower(): text, SECOND.lower(): image}.get(first, first)
        otherwise = {FIRST.lower(): image, SECOND.lower(): text}.get(second, second)
        named.append(meant if meant == otherwise else {TEXT: text, IMAGE: image}[chosen])
    return named
