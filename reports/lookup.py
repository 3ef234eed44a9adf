"""Numbers of an estimate by their labels: read once, since each look-up in a Dataset costs a millisecond."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray


class Numbers:
    """The variables of a Dataset over the given dims, by name and labels; NaN where one is not there.

    Examples
    --------
    >>> numbers = Numbers(xr.Dataset({"mean": ("subject", [1.5])}, {"subject": ["a"]}), "subject")
    >>> numbers("mean", "a"), numbers("mean", "b"), numbers("sd", "a")
    (1.5, nan, nan)
    """

    def __init__(self, table: xr.Dataset, *dims: str) -> None:
        self.labels = {dim: [str(label) for label in table[dim].values] for dim in dims}
        self._places = [{label: i for i, label in enumerate(self.labels[dim])} for dim in dims]
        self._values: dict[str, NDArray[np.float64]] = {
            str(name): array.transpose(*dims).values.astype(float)
            for name, array in table.data_vars.items()
            if set(array.dims) == set(dims) and array.dtype.kind in "biuf"
        }

    def __call__(self, name: str, *labels: str) -> float:
        """The number of that name at the labels."""
        places = [place.get(label) for place, label in zip(self._places, labels, strict=True)]
        if name not in self._values or None in places:
            return float("nan")
        return float(self._values[name][tuple(place for place in places if place is not None)])


def read_words(table: xr.Dataset, name: str, dims: Sequence[str]) -> dict[tuple[str, ...], str]:
    """The words of a variable or coordinate by their labels; empty where it is not there."""
    if name not in table.variables:
        return {}
    array = table[name].transpose(*dims)
    labels = [[str(label) for label in table[dim].values] for dim in dims]
    return {
        tuple(labels[axis][i] for axis, i in enumerate(place)): str(array.values[place])
        for place in np.ndindex(array.shape)
    }
