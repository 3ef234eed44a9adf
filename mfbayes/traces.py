"""Layer traces: what the logit lens reads at each decoder layer on the way to an answer."""

from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.storage import write_bytes

_TEXT, _IMAGE = names.STATE_CODES[names.TEXT], names.STATE_CODES[names.IMAGE]


def write_traces(path: Path, item: ArrayLike, state: ArrayLike, logit_difference: ArrayLike) -> None:
    """Write the traces of one model's conflict inputs to a netCDF file, atomically.

    Parameters
    ----------
    path : Path
        Where `traces.nc` goes.
    item : array_like of str, shape (n_items,)
        Item ids, as in the trials.
    state : array_like of int, shape (n_items, n_layers)
        Top-1 token of the lens: 1 the text answer, 0 the image answer, -1 anything else.
        The last layer is the model's own answer.
    logit_difference : array_like of float, shape (n_items, n_layers)
        Logit of the text answer minus logit of the image answer.
    """
    codes = dict(sorted(names.STATE_CODES.items(), key=lambda pair: pair[1]))
    layers = np.asarray(state).shape[1]
    traces = xr.Dataset(
        {
            names.STATE: (
                (names.ITEM, names.LAYER),
                np.asarray(state, dtype=np.int8),
                {
                    "long_name": "top-1 token of the logit lens",
                    "flag_values": np.array(list(codes.values()), dtype=np.int8),
                    "flag_meanings": " ".join(codes),
                },
            ),
            names.LOGIT_DIFFERENCE: (
                (names.ITEM, names.LAYER),
                np.asarray(logit_difference, dtype=np.float32),
                {"long_name": "logit of the text answer minus logit of the image answer"},
            ),
        },
        coords={
            names.ITEM: np.asarray(item, dtype=object),
            names.LAYER: (names.LAYER, np.arange(1, layers + 1), {"long_name": "decoder layer, the last is the model"}),
        },
    )
    _check(traces, path)
    compressed = {"zlib": True, "complevel": 4}
    encoding = {names.STATE: compressed, names.LOGIT_DIFFERENCE: compressed}
    write_bytes(path, traces.to_netcdf(engine="h5netcdf", encoding=encoding))


def read_traces(path: Path) -> xr.Dataset:
    """Read `traces.nc` into memory: `state` and `logit_difference` over (item, layer).

    Raises
    ------
    InputError
        Where there is no such file, or it is no file of traces.
    """
    if not path.is_file():
        raise InputError(f"Expected layer traces at {path}, but there is no such file. Collect the model again.")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            traces = opened.load()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"The file {path} is not a whole netCDF file. Collect the model again.") from error
    _check(traces, path)
    return traces


def count_oscillations(state: ArrayLike) -> NDArray[np.int64]:
    """Switches between the text and the image answer over the layers, layers of neither skipped.

    Parameters
    ----------
    state : array_like of int, shape (..., n_layers)
        1 text, 0 image, -1 neither.

    Returns
    -------
    ndarray of int, shape (...)
        Number of switches: image, other, text counts one. A trace that never commits to either
        has none; `never_committed` tells it from one that stays with its first answer.

    Examples
    --------
    >>> count_oscillations([[0, -1, 1, 1], [0, 1, 0, 1], [-1, -1, -1, -1]])
    array([1, 3, 0])
    """
    states = np.asarray(state)
    layers = np.broadcast_to(np.arange(states.shape[-1]), states.shape)
    last_committed = np.maximum.accumulate(np.where(states >= 0, layers, -1), axis=-1)
    filled = np.take_along_axis(states, np.maximum(last_committed, 0), axis=-1)
    before, after = filled[..., :-1], filled[..., 1:]
    switches: NDArray[np.int64] = ((before != after) & (before >= 0)).sum(axis=-1, dtype=np.int64)
    return switches


def never_committed(state: ArrayLike) -> NDArray[np.bool_]:
    """Whether a trace never reads the text or the image answer at any layer; shape (...)."""
    result: NDArray[np.bool_] = (np.asarray(state) < 0).all(axis=-1)
    return result


def _check(traces: xr.Dataset, path: Path) -> None:
    dims = (names.ITEM, names.LAYER)
    for name in (names.STATE, names.LOGIT_DIFFERENCE):
        if name not in traces or traces[name].dims != dims:
            raise InputError(f"Expected {name!r} over {dims} in {path}. Collect the model again.")
    if not traces.indexes[names.ITEM].is_unique:
        raise InputError(f"An item is more than once in {path}. Collect the model again.")
    if not np.isin(traces[names.STATE].values, list(names.STATE_CODES.values())).all():
        raise InputError(f"Expected the states {sorted(names.STATE_CODES.values())} in {path}, got others.")
