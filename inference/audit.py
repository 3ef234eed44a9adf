"""How far a narrow precision puts entropies off: a sample of items asked again in float32."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes.inference.prompts import IMAGE_ONLY, INPUTS, TEXT_ONLY, Plan, Prompt
from mfbayes.inference.responses import Response
from mfbayes.names import CONFLICT, KIND
from mfbayes.storage import hash_content
from mfbayes.uncertainty import relative_uncertainty

WIDE: Final = "float32"
SHARE: Final = 0.02
LEAST_PROMPTS: Final = 32


def choose_items(plan: Plan, *, share: float = SHARE, least: int = LEAST_PROMPTS) -> pd.DataFrame:
    """Items whose prompts make up a sample of all prompts, chosen by the hash of their content.

    Whole items, since dH takes an entropy of each side. The same plan gives the same sample on every machine.

    Parameters
    ----------
    plan : Plan
    share : float
        Of the plan's prompts, at least.
    least : int
        Prompts, at least, as far as there are so many.
    """
    wanted = max(least, int(np.ceil(share * len(plan.prompts))))
    items = plan.items[plan.items[KIND] == CONFLICT] if (plan.items[KIND] == CONFLICT).any() else plan.items
    keys = items[list(INPUTS)].astype(str)
    order = np.argsort([hash_content(*row) for row in keys.itertuples(index=False, name=None)], kind="stable")
    chosen: list[int] = []
    prompts: set[str] = set()
    for row in order:
        if len(prompts) >= wanted:
            break
        chosen.append(int(row))
        prompts.update(keys.iloc[row])
    return items.iloc[sorted(chosen)]


def sample_prompts(plan: Plan, items: pd.DataFrame) -> list[Prompt]:
    """Prompts of items, in the plan's order."""
    wanted = set(items[list(INPUTS)].to_numpy().ravel())
    return [prompt for key, prompt in plan.prompts.items() if key in wanted]


def measure_errors(
    items: pd.DataFrame, narrow: Mapping[str, Response], wide: Mapping[str, Response], *, dtype: str
) -> dict[str, Any]:
    """Error of H and dH: median, 95th percentile and largest of its absolute value.

    Parameters
    ----------
    items : pandas.DataFrame
        As `choose_items` gives them.
    narrow, wide : mapping
        Responses in the precision of the collection and in float32, by key of the prompt.
    dtype : str
        Precision of the collection.

    Returns
    -------
    dict
        `H` in nats, once a prompt of one modality; `H_relative` as a share of the float32 value; `dH`, once an
        item; each with `median`, `p95` and `largest`. Further `items`, `prompts`, `answers_changed` (share of
        the prompts whose own answer differs) and `dtype`.
    """
    prompts = sorted(set(items[list(INPUTS)].to_numpy().ravel()))
    alone = sorted(set(items[[TEXT_ONLY, IMAGE_ONLY]].to_numpy().ravel()))
    exact = _entropies(wide, alone)
    errors = np.abs(_entropies(narrow, alone) - exact)
    relative = [
        relative_uncertainty(_entropies(given, items[TEXT_ONLY]), _entropies(given, items[IMAGE_ONLY]))
        for given in (narrow, wide)
    ]
    changed = [narrow[key].answer != wide[key].answer for key in prompts]
    return {
        "dtype": dtype,
        "items": len(items),
        "prompts": len(prompts),
        "H": _summarise(errors),
        "H_relative": _summarise(errors[exact > 0] / exact[exact > 0]),
        "dH": _summarise(np.abs(relative[0] - relative[1])),
        "answers_changed": float(np.mean(changed)),
    }


def _entropies(responses: Mapping[str, Response], keys: Sequence[str] | pd.Series) -> NDArray[np.float64]:
    return np.array([responses[key].entropy for key in keys], dtype=np.float64)


def _summarise(errors: NDArray[np.float64]) -> dict[str, float | None]:
    known = errors[np.isfinite(errors)]
    if not len(known):
        return {"median": None, "p95": None, "largest": None}
    median, p95, largest = np.quantile(known, [0.5, 0.95, 1.0])
    return {"median": float(median), "p95": float(p95), "largest": float(largest)}
