"""Trials and traces of one model, put together from the responses to unique prompts."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mfbayes.inference.prompts import BOTH, IMAGE_ONLY, INPUTS, TEXT_ONLY, Plan
from mfbayes.inference.responses import Response
from mfbayes.names import (
    CHOICE,
    D_IMAGE,
    D_TEXT,
    GROUP,
    H_IMAGE,
    H_TEXT,
    IMAGE,
    IMAGE_CORRECT,
    ITEM,
    KIND,
    LEAST_CONFIDENCE_IMAGE,
    LEAST_CONFIDENCE_TEXT,
    LOGIT_NOISE,
    MARGIN_UNCERTAINTY_IMAGE,
    MARGIN_UNCERTAINTY_TEXT,
    MODEL,
    NLL_IMAGE,
    NLL_TEXT,
    OTHER,
    TASK,
    TEXT,
    TEXT_CORRECT,
)
from mfbayes.traces import write_traces

# Largest relative error of rounding to each precision.
_ROUNDING: Final = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
_KEPT: Final = (TASK, GROUP, ITEM, KIND, D_TEXT, D_IMAGE)


def build_trials(plan: Plan, responses: Mapping[str, Response], *, model: str, logit_noise: float) -> pd.DataFrame:
    """One row an item: its indices of uncertainty, the model's own answers and choice, the designed answers' scores.

    Parameters
    ----------
    plan : Plan
    responses : mapping
        By key of the prompt, one for every prompt of the plan.
    model : str
        Name for column `model`.
    logit_noise : float
        Error of the model's logits, in nats; see `bound_noise`.
    """
    rows: list[dict[str, Any]] = []
    for item in plan.items.to_dict("records"):
        asked = {name: responses[item[name]] for name in INPUTS}
        designed = {TEXT: str(item["text_answer"]), IMAGE: str(item["image_answer"])}
        row: dict[str, Any] = {MODEL: model, **{name: item[name] for name in _KEPT}}
        row |= {H_TEXT: asked[TEXT_ONLY].entropy, H_IMAGE: asked[IMAGE_ONLY].entropy}
        row |= {
            MARGIN_UNCERTAINTY_TEXT: asked[TEXT_ONLY].margin_uncertainty,
            MARGIN_UNCERTAINTY_IMAGE: asked[IMAGE_ONLY].margin_uncertainty,
            LEAST_CONFIDENCE_TEXT: asked[TEXT_ONLY].least_confidence,
            LEAST_CONFIDENCE_IMAGE: asked[IMAGE_ONLY].least_confidence,
            NLL_TEXT: asked[TEXT_ONLY].nlls[plan.answers.index(designed[TEXT])],
            NLL_IMAGE: asked[IMAGE_ONLY].nlls[plan.answers.index(designed[IMAGE])],
            LOGIT_NOISE: logit_noise,
        }
        row[CHOICE] = _choice(asked[BOTH].designed, designed)
        row[TEXT_CORRECT] = asked[TEXT_ONLY].designed == designed[TEXT]
        row[IMAGE_CORRECT] = asked[IMAGE_ONLY].designed == designed[IMAGE]
        row |= {
            "answer_text": asked[TEXT_ONLY].answer,
            "answer_image": asked[IMAGE_ONLY].answer,
            "answer_both": asked[BOTH].answer,
            "text_answer": designed[TEXT],
            "image_answer": designed[IMAGE],
        }
        for side, answer in designed.items():
            index = plan.answers.index(answer)
            for name in INPUTS:
                row[f"logit_{side}_{name}"] = asked[name].logits[index]
                row[f"p_{side}_{name}"] = asked[name].probabilities[index]
        rows.append(row)
    return pd.DataFrame(rows)


def bound_noise(responses: Iterable[Response], *, batch_sensitivity: float | None, dtype: str) -> float:
    """How far rounding puts a logit off, in nats: as measured, else as the precision lets one expect.

    Parameters
    ----------
    responses : iterable of Response
    batch_sensitivity : float or None
        Largest difference of logits between padded batches and single prompts, as the self-test measured
        it; None where prompts are asked one at a time. Logits are kept in single precision at best, so
        that a smaller difference tells nothing.
    dtype : {"float32", "bfloat16", "float16"}
        Precision of the model.
    """
    size = max(abs(score) for response in responses for score in response.logits)
    if batch_sensitivity is None:
        return _ROUNDING[dtype] * size
    return max(batch_sensitivity, _ROUNDING["float32"] * size)


def _choice(answer: str, designed: Mapping[str, str]) -> str:
    sides = [side for side, word in designed.items() if word == answer]
    return sides[0] if sides else OTHER


def write_item_traces(path: Path, plan: Plan, responses: Mapping[str, Response]) -> None:
    """Write layer states and logit differences of every item's conflict input."""
    asked = [responses[key] for key in plan.items[BOTH]]
    states = np.array([list(response.states) for response in asked], dtype=np.int8)
    differences = np.array([list(response.differences) for response in asked], dtype=np.float32)
    write_traces(path, plan.items[ITEM].astype(str).to_numpy(), states, differences)
