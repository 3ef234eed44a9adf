"""Conditions: how far a prompt, an instruction or a fine-tuning shifts the balance point."""

import numpy as np
import xarray as xr

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.estimates.draws import labelled_posterior, stack_draws, tails

_USUAL_BASELINES = ("baseline", "default", "none")
MEAN_OF_MODELS = "mean of models"


def shift_of_conditions(tree: xr.DataTree, *, baseline: str | None = None) -> xr.Dataset | None:
    """Balance point of each model under a condition minus that under the baseline, with its interval.

    Parameters
    ----------
    tree : DataTree
        A fit.
    baseline : str, optional
        The condition that others are compared with: by default "baseline", "default" or "none" if one
        of them is there, else the first in order.

    Returns
    -------
    Dataset or None
        `mean`, `lower`, `upper` in units of dH and `p_positive` over `shift`, with coordinates model,
        task, condition, baseline; last the means over the models that have both conditions, as model
        "mean of models". None where no model is asked under two conditions.

    Raises
    ------
    InputError
        Where no trial has the baseline's condition.
    """
    posterior, ci_prob = labelled_posterior(tree), float(tree.attrs["ci_prob"])
    model, task, condition = (
        [str(label) for label in posterior[part].to_numpy()] for part in (names.MODEL, names.TASK, names.CONDITION)
    )
    present = sorted(set(condition))
    if len(present) < 2:
        return None
    if baseline is None:
        baseline = next((name for name in _USUAL_BASELINES if name in present), present[0])
    if baseline not in present:
        raise InputError(f"Expected a baseline among the conditions {', '.join(present)}, got {baseline!r}.")
    place = {key: i for i, key in enumerate(zip(model, task, condition, strict=True))}
    draws = stack_draws(posterior, "balance_point")
    shifts = {
        (m, t, c): draws[i] - draws[place[m, t, baseline]]
        for (m, t, c), i in place.items()
        if c != baseline and (m, t, baseline) in place
    }
    if not shifts:
        return None
    for t, c in dict.fromkeys((t, c) for _, t, c in shifts):
        own = [values for (_, *rest), values in shifts.items() if rest == [t, c]]
        if len(own) > 1:
            shifts[MEAN_OF_MODELS, t, c] = np.mean(own, axis=0)
    values = np.stack(list(shifts.values()))
    lower, upper = np.quantile(values, tails(ci_prob), axis=1)
    found = {"mean": values.mean(axis=1), "lower": lower, "upper": upper, "p_positive": (values > 0).mean(axis=1)}
    labels = np.array([[*key, baseline] for key in shifts], dtype=object).T
    coordinates = zip((names.MODEL, names.TASK, names.CONDITION, "baseline"), labels, strict=True)
    return xr.Dataset(
        {name: ("shift", column) for name, column in found.items()},
        coords={name: ("shift", column) for name, column in coordinates},
        attrs={"ci_prob": ci_prob, "baseline": baseline},
    )
