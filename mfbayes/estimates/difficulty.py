"""Difficulty as designed against uncertainty as measured: entropy and accuracy over the tiers."""

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes.clusters import bound_means
from mfbayes.selection import label_groups

_MODALITIES = {
    names.TEXT: (names.D_TEXT, names.H_TEXT, names.TEXT_CORRECT),
    names.IMAGE: (names.D_IMAGE, names.H_IMAGE, names.IMAGE_CORRECT),
}


def entropy_by_tier(trials: pd.DataFrame, *, ci_prob: float, rng: np.random.Generator) -> xr.Dataset | None:
    """Mean entropy (nats) and accuracy of each modality alone over its difficulty tiers.

    Every conflict trial counts, also those that the analysis subset leaves out. A text or image
    asked in several items of a group and tier counts once: its rows are averaged first.

    Parameters
    ----------
    trials : DataFrame
        Checked trials.
    ci_prob : float
        Probability of the intervals, from a bootstrap over groups.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Dataset or None
        `mean`, `lower`, `upper`, `n` (groups), `accuracy` over (model, modality, tier), NaN where
        there is nothing; None where the trials have no tiers or no entropies.
    """
    conflicts = trials[trials[names.KIND] == names.CONFLICT].dropna(subset=[names.H_TEXT, names.H_IMAGE])
    present = {modality: columns for modality, columns in _MODALITIES.items() if columns[0] in conflicts}
    tiers = sorted({int(tier) for tier, *_ in present.values() for tier in conflicts[tier].dropna().unique()})
    if not tiers:
        return None
    conflicts = conflicts.assign(group_code=label_groups(conflicts).astype("category").cat.codes)
    models = sorted(conflicts[names.MODEL].unique())
    shape = (len(models), len(_MODALITIES), len(tiers))
    found = {name: np.full(shape, np.nan) for name in ("mean", "lower", "upper", "accuracy")}
    found["n"] = np.zeros(shape, dtype=np.int64)
    for i, model in enumerate(models):
        for j, (modality, (tier, entropy, correct)) in enumerate(_MODALITIES.items()):
            own = conflicts[conflicts[names.MODEL] == model]
            if modality not in present or own[tier].isna().all():
                continue
            own = own[own[tier].notna()]
            values = [entropy, correct] if correct in own else [entropy]
            once = own.groupby(["group_code", tier])[values].mean().reset_index()
            column = np.searchsorted(tiers, once[tier].to_numpy(np.int64))
            found["mean"][i, j], found["lower"][i, j], found["upper"][i, j], found["n"][i, j] = bound_means(
                once[entropy].to_numpy(np.float64),
                group=once["group_code"].to_numpy(np.int64),
                column=column,
                n_columns=len(tiers),
                ci_prob=ci_prob,
                rng=rng,
            )
            if correct in own:
                accuracy = once.groupby(tier)[correct].mean()
                found["accuracy"][i, j, np.searchsorted(tiers, accuracy.index.to_numpy(np.int64))] = accuracy
    return xr.Dataset(
        {name: ((names.MODEL, "modality", "tier"), values) for name, values in found.items()},
        coords={
            names.MODEL: np.array(models, dtype=object),
            "modality": np.array(list(_MODALITIES), dtype=object),
            "tier": tiers,
        },
        attrs={"ci_prob": ci_prob},
    )
