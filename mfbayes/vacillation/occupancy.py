"""Occupancy: what each layer reads, the text answer, the image answer or neither, by region."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.traces import measure_occupancy
from mfbayes.trajectories import Trajectories
from mfbayes.vacillation.regions import REGIONS, place_in_regions

type Floats = NDArray[np.float64]


def describe_occupancy(trajectories: Trajectories, centre: Floats) -> xr.Dataset:
    """Share of traces that read text, image or neither at each layer, by region around the median balance point.

    Parameters
    ----------
    trajectories : Trajectories
        Traces.
    centre : ndarray, shape (n_subjects,)
        Balance points, NaN where unknown.

    Returns
    -------
    Dataset
        `text`, `image`, `other` over (subject, region, layer), `n` (traces) over (subject, region); NaN beyond the
        last layer of a shallower model.
    """
    deepest = int(trajectories.n_layers.max())
    shape = (len(trajectories.subjects), len(REGIONS), deepest)
    shares = np.full((*shape, len(names.CHOICES)), np.nan)
    n = np.zeros(shape[:2], dtype=np.int64)
    for i in range(shape[0]):
        own = trajectories.subject == i
        depth = int(trajectories.n_layers[i])
        region = place_in_regions(
            trajectories.uncertainty[own], centre=float(centre[i]), is_control=trajectories.is_control[own]
        )
        members: Mapping[str, NDArray[np.bool_]] = {
            "text-clear": region == 0,
            "ambiguous": region == 1,
            "image-clear": region == 2,
            "clear": (region == 0) | (region == 2),
            "control": region == 3,
        }
        state = trajectories.state[own][:, :depth]
        for j, name in enumerate(REGIONS):
            n[i, j] = members[name].sum()
            if n[i, j]:
                shares[i, j, :depth] = measure_occupancy(state[members[name]])
    dims = (names.SUBJECT, "region", names.LAYER)
    return xr.Dataset(
        {choice: (dims, shares[..., k]) for k, choice in enumerate(names.CHOICES)}
        | {"n": ((names.SUBJECT, "region"), n)},
        coords={
            names.SUBJECT: np.array(trajectories.subjects, dtype=object),
            "region": np.array(REGIONS, dtype=object),
            names.LAYER: np.arange(1, deepest + 1),
        },
    )
