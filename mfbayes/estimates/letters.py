"""Multiple choice with letters: how far a model likes a place among the options, and how often that decides."""

from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes.clusters import Floats, Indices, bound_means, bound_shares
from mfbayes.selection import label_groups

type Bound = Callable[..., tuple[Floats, Floats, Floats, Indices]]

BOTH: Final = "both"
INPUTS: Final = {
    BOTH: "position_bias_both",
    names.TEXT: "position_bias_text_only",
    names.IMAGE: "position_bias_image_only",
}
"""What was given, and the column of its position bias as collections with `--letters` have it."""
ORDERS_AGREE: Final = "orders_agree"


def describe_letters(trials: pd.DataFrame, *, ci_prob: float = 0.95, seed: int = 0) -> xr.Dataset | None:
    """Mean position bias of each model, and the share of items on which both orders lead to the same choice.

    Every conflict trial that was asked in both orders counts, also those that the analysis subset leaves out.

    Parameters
    ----------
    trials : DataFrame
        Trials; only those of a collection with letters have the columns.
    ci_prob : float
        Probability of the intervals, from a bootstrap over groups.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Dataset or None
        `position_bias` (nats: the lead of the first option over the second in logits, whatever they say) over
        (model, modality), modality being "both", "text" or "image"; `orders_agree` and `n_items` over model. Each with
        `_lower` and `_upper`; those of a mean are NaN with fewer than 6 groups. None where no trial has the columns.
    """
    if not {ORDERS_AGREE, *INPUTS.values()} <= set(trials):
        return None
    biases = trials[list(INPUTS.values())].apply(pd.to_numeric, errors="coerce")
    known = biases.notna().all(axis="columns") & trials[ORDERS_AGREE].notna()
    if names.KIND in trials:
        known &= trials[names.KIND] == names.CONFLICT
    asked = trials[known]
    if asked.empty:
        return None
    group, _ = pd.factorize(label_groups(asked))
    model, labels = pd.factorize(asked[names.MODEL], sort=True)
    rng = np.random.default_rng(seed)

    def average(bound: Bound, values: pd.Series) -> tuple[Floats, Floats, Floats, Indices]:
        return bound(
            values[known].to_numpy(np.float64),
            group=group.astype(np.int64),
            column=model.astype(np.int64),
            n_columns=len(labels),
            ci_prob=ci_prob,
            rng=rng,
        )

    means = [average(bound_means, biases[column])[:3] for column in INPUTS.values()]
    # What users keep as text may write it in any way.
    agreed = trials[ORDERS_AGREE].astype(str).str.casefold().isin(("true", "1", "1.0"))
    *shares, n_items = average(bound_shares, agreed)
    over = (names.MODEL, "modality")
    return xr.Dataset(
        {
            name: (over, np.stack(values, axis=1))
            for name, values in zip(_ends("position_bias"), zip(*means, strict=True), strict=True)
        }
        | {name: (names.MODEL, values) for name, values in zip(_ends(ORDERS_AGREE), shares, strict=True)}
        | {"n_items": (names.MODEL, n_items)},
        coords={names.MODEL: np.asarray(labels, dtype=object), "modality": list(INPUTS)},
        attrs={"ci_prob": ci_prob},
    )


def add_letters(tree: xr.DataTree, trials: pd.DataFrame) -> None:
    """Add `/estimates/letters` to a fit of trials that were asked for letters; nothing to any other."""
    found = describe_letters(trials, ci_prob=float(tree.attrs["ci_prob"]), seed=int(tree.attrs["seed"]))
    if found is not None:
        tree["estimates/letters"] = xr.DataTree(dataset=found)


def word_letters(found: xr.Dataset) -> list[str]:
    """A line a model, for the terminal."""
    percent, lines = f"{100 * float(found.attrs['ci_prob']):g} %", []
    for model in found[names.MODEL].to_numpy():
        own = found.sel({names.MODEL: model})
        biases = [
            f"{_write(own.sel(modality=modality), 'position_bias', '+.2f')} from {words}"
            for modality, words in ((BOTH, "both inputs"), (names.TEXT, "the text"), (names.IMAGE, "the image"))
        ]
        lines.append(
            f"{model}: both orders agree on {_write(own, ORDERS_AGREE, '.0%')} of {int(own['n_items'])} items; lead of "
            f"the first option, nats: {', '.join(biases)}. {percent} intervals."
        )
    return lines


def _ends(name: str) -> tuple[str, str, str]:
    return name, f"{name}_lower", f"{name}_upper"


def _write(own: xr.Dataset, name: str, digits: str) -> str:
    value, lower, upper = (float(own[end]) for end in _ends(name))
    known = np.isfinite(lower) and np.isfinite(upper)
    return f"{value:{digits}}" + (f" [{lower:{digits}}, {upper:{digits}}]" if known else "")
