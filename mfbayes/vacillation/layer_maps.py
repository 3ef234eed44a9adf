"""Layer maps: the mean logit difference over layers and dH."""

import numpy as np
import xarray as xr

from mfbayes import names
from mfbayes.clusters import FEW_GROUPS
from mfbayes.estimates.responses import place_in_bins
from mfbayes.trajectories import Trajectories
from mfbayes.vacillation.regions import Redraws, divide
from mfbayes.vacillation.summaries import bound

_EDGES = np.linspace(-2, 2, 17)


def map_layers(trajectories: Trajectories, redraws: Redraws, *, ci_prob: float) -> xr.Dataset:
    """Mean logit difference (text minus image) of the conflict trials over layers and bins of dH.

    Returns
    -------
    Dataset
        `mean`, `n`, and `lower` and `upper` from a bootstrap over groups, over (subject, layer, bin);
        `n_layers` over subject, `dH_lower` and `dH_upper` over bin. NaN beyond the last layer of a
        shallower model and where a bin is empty; bounds NaN also where it has fewer than 6 groups.
    """
    conflicts = trajectories.conflicts
    n_groups, n_bins = len(trajectories.groups), _EDGES.size - 1
    shape = (len(trajectories.subjects), int(trajectories.n_layers.max()), n_bins)
    mean, lower, upper = (np.full(shape, np.nan) for _ in range(3))
    n = np.zeros(shape, dtype=np.int64)
    for i, depth in enumerate(trajectories.n_layers):
        own = conflicts.subject == i
        if not own.any():
            continue
        column = place_in_bins(conflicts.uncertainty[own], _EDGES)
        code = conflicts.group[own] * n_bins + column
        counts = np.bincount(code, minlength=n_groups * n_bins).reshape(n_groups, n_bins).astype(np.float64)
        drawn = redraws.weight @ counts
        differences = np.ascontiguousarray(conflicts.logit_difference[own].T)
        usable = (counts > 0).sum(axis=0) >= FEW_GROUPS
        for layer in range(depth):
            sums = np.bincount(code, weights=differences[layer], minlength=n_groups * n_bins)
            means = divide(redraws.weight @ sums.reshape(n_groups, n_bins), drawn)
            n[i, layer] = counts.sum(axis=0)
            mean[i, layer], lower[i, layer], upper[i, layer], _ = bound(
                means.T, ci_prob=ci_prob, n_groups=n_groups, usable=usable
            )
    dims = (names.SUBJECT, names.LAYER, "bin")
    return xr.Dataset(
        {
            "mean": (dims, mean),
            "lower": (dims, lower),
            "upper": (dims, upper),
            "n": (dims, n),
            "n_layers": (names.SUBJECT, trajectories.n_layers),
            "dH_lower": ("bin", _EDGES[:-1]),
            "dH_upper": ("bin", _EDGES[1:]),
        },
        coords={
            names.SUBJECT: np.array(trajectories.subjects, dtype=object),
            names.LAYER: np.arange(1, shape[1] + 1),
        },
        attrs={"ci_prob": ci_prob},
    )
