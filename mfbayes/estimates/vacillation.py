"""Vacillation: how often a model changes its mind over its layers, near its balance point and far from it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes.clusters import bound_means
from mfbayes.errors import InputError
from mfbayes.estimates.draws import subject_coordinates
from mfbayes.estimates.responses import place_in_bins
from mfbayes.indices import relative_index
from mfbayes.traces import count_oscillations, never_committed
from mfbayes.trials import check_trials, label_groups, label_subjects, select_trials

REGIONS = ("text-clear", "ambiguous", "image-clear", "clear", "control")
AMBIGUOUS_REACH = 0.5
_MAP_EDGES = np.linspace(-2, 2, 17)


def add_trace_estimates(tree: xr.DataTree, trials: pd.DataFrame, traces: Mapping[str, xr.Dataset]) -> None:
    """Add `/estimates/oscillations` and `/estimates/layer_map` to a fit, in place.

    Parameters
    ----------
    tree : DataTree
        A fit of the same trials.
    trials : DataFrame
        The trials, with `item`; controls may be among them.
    traces : mapping of str to Dataset
        Layer traces by model, as `mfbayes.traces.read_traces` returns them; models without are NaN.

    Raises
    ------
    InputError
        Where trials have no `item`, or a trial of a traced model has no trace.
    """
    if not traces:
        return
    checked = check_trials(trials)
    if names.ITEM not in checked:
        raise InputError("Expected the column 'item' in the trials, to join them with the layer traces.")
    subset, index, ci_prob = str(tree.attrs["subset"]), str(tree.attrs["index"]), float(tree.attrs["ci_prob"])
    rng = np.random.default_rng(int(tree.attrs["seed"]))
    points = tree["estimates/balance_points"].to_dataset()
    traced = _join(_trials_to_trace(checked, subset=subset, index=index), traces)
    estimates = {
        "oscillations": count_by_region(points, traced, ci_prob=ci_prob, rng=rng),
        "layer_map": map_layers(points, traced, traces, ci_prob=ci_prob, rng=rng),
    }
    for name, dataset in estimates.items():
        tree[f"estimates/{name}"] = xr.DataTree(dataset=dataset)


def count_by_region(
    points: xr.Dataset, traced: pd.DataFrame, *, ci_prob: float, rng: np.random.Generator
) -> xr.Dataset:
    """Mean oscillations of each subject in the regions around its median balance point.

    Ambiguous: abs(dH - b) < 0.5. Clear is the rest, split into its text side (dH below b) and its
    image side. Traces that never commit are left out of the mean and told as a share.

    Parameters
    ----------
    points : Dataset
        `/estimates/balance_points`.
    traced : DataFrame
        A row a trial: `subject`, `kind`, `dH`, `group_code`, `oscillations`, `never_committed`.
    ci_prob : float
        Probability of the intervals, from a bootstrap over groups.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Dataset
        `mean`, `lower`, `upper`, `n` (traces that commit), `never_committed` over (subject, region);
        regions of a one-sided subject are NaN, since its balance point is not known.
    """
    shape = (points.sizes[names.SUBJECT], len(REGIONS))
    found = {name: np.full(shape, np.nan) for name in ("mean", "lower", "upper", "never_committed")}
    found["n"] = np.zeros(shape, dtype=np.int64)
    for i, subject in enumerate(points[names.SUBJECT].to_numpy()):
        own = traced[traced[names.SUBJECT] == subject]
        distance = own[names.DH] - float(points["median"].to_numpy()[i])
        known = points["status"].to_numpy()[i] != "one-sided"
        conflict = (own[names.KIND] == names.CONFLICT) & known
        inside = conflict & (distance.abs() < AMBIGUOUS_REACH)
        members = {
            "text-clear": conflict & ~inside & (distance < 0),
            "ambiguous": inside,
            "image-clear": conflict & ~inside & (distance > 0),
            "clear": conflict & ~inside,
            "control": own[names.KIND] == names.CONTROL,
        }
        for j, region in enumerate(REGIONS):
            rows = own[members[region]]
            if rows.empty:
                continue
            found["never_committed"][i, j] = rows["never_committed"].mean()
            rows = rows[~rows["never_committed"]]
            mean, lower, upper, n = bound_means(
                rows["oscillations"].to_numpy(np.float64),
                group=rows["group_code"].to_numpy(np.int64),
                column=np.zeros(len(rows), dtype=np.int64),
                n_columns=1,
                ci_prob=ci_prob,
                rng=rng,
            )
            found["mean"][i, j], found["lower"][i, j], found["upper"][i, j] = mean[0], lower[0], upper[0]
            found["n"][i, j] = n[0]
    return xr.Dataset(
        {name: ((names.SUBJECT, "region"), values) for name, values in found.items()},
        coords=subject_coordinates(points) | {"region": np.array(REGIONS, dtype=object)},
        attrs={"ci_prob": ci_prob, "ambiguous_reach": AMBIGUOUS_REACH},
    )


def map_layers(
    points: xr.Dataset,
    traced: pd.DataFrame,
    traces: Mapping[str, xr.Dataset],
    *,
    ci_prob: float,
    rng: np.random.Generator,
) -> xr.Dataset:
    """Mean logit difference (text minus image) of the conflict trials over layers and bins of dH.

    Returns
    -------
    Dataset
        `mean`, `n`, and `lower` and `upper` from a bootstrap over groups, over (subject, layer, bin);
        `n_layers` over subject, `dH_lower` and `dH_upper` over bin. NaN beyond the last layer of a
        shallower model and where a bin is empty; bounds NaN also where it has a single group.
    """
    models = points[names.MODEL].to_numpy().tolist()
    n_layers = [traces[model].sizes[names.LAYER] if model in traces else 0 for model in models]
    shape = (len(n_layers), max(n_layers), _MAP_EDGES.size - 1)
    mean, lower, upper = (np.full(shape, np.nan) for _ in range(3))
    n = np.zeros(shape, dtype=np.int64)
    for i, subject in enumerate(points[names.SUBJECT].to_numpy()):
        own = traced[(traced[names.SUBJECT] == subject) & (traced[names.KIND] == names.CONFLICT)]
        if own.empty:
            continue
        column = place_in_bins(own[names.DH].to_numpy(np.float64), _MAP_EDGES)
        group = own["group_code"].to_numpy(np.int64)
        differences = traces[models[i]][names.LOGIT_DIFFERENCE].to_numpy()[own["trace"].to_numpy(np.int64)]
        for layer in range(n_layers[i]):
            mean[i, layer], lower[i, layer], upper[i, layer], n[i, layer] = bound_means(
                differences[:, layer].astype(np.float64),
                group=group,
                column=column,
                n_columns=shape[2],
                ci_prob=ci_prob,
                rng=rng,
            )
    dims = (names.SUBJECT, names.LAYER, "bin")
    return xr.Dataset(
        {
            "mean": (dims, mean),
            "lower": (dims, lower),
            "upper": (dims, upper),
            "n": (dims, n),
            "n_layers": (names.SUBJECT, np.array(n_layers, dtype=np.int64)),
            "dH_lower": ("bin", _MAP_EDGES[:-1]),
            "dH_upper": ("bin", _MAP_EDGES[1:]),
        },
        coords=subject_coordinates(points) | {names.LAYER: np.arange(1, shape[1] + 1)},
        attrs={"ci_prob": ci_prob},
    )


def _trials_to_trace(trials: pd.DataFrame, *, subset: str, index: str) -> pd.DataFrame:
    """The conflicts that were analysed, and the controls."""
    selected = select_trials(trials, subset=subset, index=index).trials
    controls = trials[trials[names.KIND] == names.CONTROL]
    if subset == names.BOTH_CORRECT and not controls.empty:
        # A control's text is about something else: only its image can be answered rightly.
        controls = controls[controls[names.IMAGE_CORRECT]]
    pooled = pd.concat([selected, controls], ignore_index=True)
    pooled[names.DH] = relative_index(pooled, index)
    pooled[names.SUBJECT] = label_subjects(pooled, like=selected)
    return pooled.assign(group_code=label_groups(pooled).astype("category").cat.codes)


def _join(trials: pd.DataFrame, traces: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    joined = []
    for model, own in trials.groupby(names.MODEL):
        if model not in traces:
            continue
        found = traces[str(model)]
        position = found.indexes[names.ITEM].get_indexer(pd.Index(own[names.ITEM]))
        if (position < 0).any():
            missing = own[names.ITEM].iloc[int(np.flatnonzero(position < 0)[0])]
            raise InputError(f"Item {missing!r} of {model} has no layer trace. Collect the model again.")
        state = found[names.STATE].to_numpy()[position]
        joined.append(
            own.assign(trace=position, oscillations=count_oscillations(state), never_committed=never_committed(state))
        )
    if not joined:
        raise InputError(f"None of the trials is of a model with traces ({', '.join(traces)}).")
    return pd.concat(joined, ignore_index=True)
