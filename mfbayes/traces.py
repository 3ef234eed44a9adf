"""Layer traces: what the logit lens reads at each decoder layer on the way to an answer."""

from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.storage import write_bytes

_REMEDY = "Collect the model again, or write its traces with mfbayes.traces.write_traces."
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

    Raises
    ------
    InputError
        Where rows have different depths, shapes do not agree, an item is twice, or a value is no state or no number.
    """
    states, differences, items = _read_states(state), _read_differences(logit_difference), np.asarray(item, object)
    if states.shape != differences.shape or items.shape != states.shape[:1]:
        raise InputError(
            "Expected an item for every row of the states, and logit differences of the shape of the states, got "
            f"{items.shape} items, states of shape {states.shape} and logit differences of shape {differences.shape}."
        )
    codes = dict(sorted(names.STATE_CODES.items(), key=lambda pair: pair[1]))
    traces = xr.Dataset(
        {
            names.STATE: (
                (names.ITEM, names.LAYER),
                states,
                {
                    "long_name": "top-1 token of the logit lens",
                    "flag_values": np.array(list(codes.values()), dtype=np.int8),
                    "flag_meanings": " ".join(codes),
                },
            ),
            names.LOGIT_DIFFERENCE: (
                (names.ITEM, names.LAYER),
                differences,
                {"long_name": "logit of the text answer minus logit of the image answer"},
            ),
        },
        coords={
            names.ITEM: items,
            names.LAYER: (
                names.LAYER,
                np.arange(1, states.shape[1] + 1),
                {"long_name": "decoder layer, the last is the model"},
            ),
        },
    )
    _check(traces, path)
    compressed = {"zlib": True, "complevel": 4}
    encoding = {names.STATE: compressed, names.LOGIT_DIFFERENCE: compressed}
    write_bytes(path, traces.to_netcdf(engine="h5netcdf", encoding=encoding))


def read_traces(path: str | Path) -> xr.Dataset:
    """Read `traces.nc` into memory: `state` and `logit_difference` over (item, layer).

    Raises
    ------
    InputError
        Where there is no such file, or it is no file of traces.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"Expected layer traces at {path}, but there is no such file. {_REMEDY}")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            traces = opened.load()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"The file {path} is not a whole netCDF file. {_REMEDY}") from error
    _check(traces, path)
    return traces.assign({names.STATE: traces[names.STATE].astype(np.int8)})


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
    switches: NDArray[np.int64] = _find_switches(np.asarray(state)).sum(axis=-1, dtype=np.int64)
    return switches


def count_round_trips(state: ArrayLike) -> NDArray[np.int64]:
    """Switches beyond the one that the final answer needs, given the first committed layer.

    Parameters
    ----------
    state : array_like of int, shape (..., n_layers)
        1 text, 0 image, -1 neither.

    Returns
    -------
    ndarray of int, shape (...)
        Always even: a trace that ends where it began needs no switch, any other needs one. The final answer is
        the last committed layer.

    Examples
    --------
    >>> count_round_trips([[0, -1, 1, 1], [0, 1, 0, 1], [1, 0, -1, 1]])
    array([0, 2, 2])
    """
    switches = count_oscillations(state)
    return switches - switches % 2


def find_first_commitment(state: ArrayLike) -> NDArray[np.float64]:
    """First layer, counted from 1, that reads the text or the image answer; NaN without; shape (...)."""
    committed = np.asarray(state) >= 0
    first: NDArray[np.float64] = np.where(committed.any(axis=-1), committed.argmax(axis=-1) + 1.0, np.nan)
    return first


def find_last_switch(state: ArrayLike) -> NDArray[np.float64]:
    """Layer, counted from 1, at which the answer last became another one; NaN where it never did; shape (...).

    It is the first layer that reads the new answer: image, other, text switches at layer 3.
    """
    switches = _find_switches(np.asarray(state))
    from_the_end = switches[..., ::-1].argmax(axis=-1) if switches.shape[-1] else 0
    last: NDArray[np.float64] = np.where(switches.any(axis=-1), switches.shape[-1] + 1.0 - from_the_end, np.nan)
    return last


def measure_dwell_times(state: ArrayLike, *, n_layers: ArrayLike | None = None) -> NDArray[np.float64]:
    """Mean length of the runs of one answer, in layers; NaN where a trace never commits.

    A layer of neither belongs to the answer held before it, and layers before the first commitment to none: runs
    fill what is left from there to the last layer.

    Parameters
    ----------
    state : array_like of int, shape (..., n_layers)
        1 text, 0 image, -1 neither.
    n_layers : array_like of int, optional
        Depth of each trace, shape (...); layers beyond it are padding.

    Examples
    --------
    >>> measure_dwell_times([[-1, 0, -1, 1, 1, 1], [0, 0, 0, 0, -1, -1]], n_layers=[6, 4])
    array([2.5, 4. ])
    """
    states = np.asarray(state)
    depth = np.asarray(states.shape[-1] if n_layers is None else n_layers)
    dwell: NDArray[np.float64] = (depth + 1 - find_first_commitment(states)) / (count_oscillations(states) + 1)
    return dwell


def measure_occupancy(
    state: ArrayLike, *, places: int | None = None, n_layers: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Shares of layers that read the text answer, the image answer and neither, by relative depth.

    Parameters
    ----------
    state : array_like of int, shape (n_items, n_layers)
        1 text, 0 image, -1 neither.
    places : int, optional
        Equal parts of the depth; by default the number of layers.
    n_layers : array_like of int, optional
        Depth of each trace, shape (n_items,); layers beyond it are padding and count nowhere.

    Returns
    -------
    ndarray, shape (places, 3)
        Shares of text, image and other, each row with the sum 1; NaN where no layer lies.

    Examples
    --------
    >>> measure_occupancy([[0, 1], [-1, 1]])
    array([[0. , 0.5, 0.5],
           [1. , 0. , 0. ]])
    """
    states = np.asarray(state)
    deepest = states.shape[-1]
    depth = np.broadcast_to(deepest if n_layers is None else np.asarray(n_layers), states.shape[:1])[:, None]
    parts = deepest if places is None else places
    layer = np.arange(deepest)
    # The middle of layer l is at (l - 1/2) / depth, in whole numbers, so that no rounding moves it.
    place = np.minimum((2 * layer + 1) * parts // (2 * depth), parts - 1)
    inside = layer < depth
    codes = [names.STATE_CODES[name] for name in names.CHOICES]
    counts = np.stack([np.bincount(place[inside & (states == code)], minlength=parts) for code in codes], axis=-1)
    total = counts.sum(axis=-1, keepdims=True)
    shares: NDArray[np.float64] = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    return shares


def never_committed(state: ArrayLike) -> NDArray[np.bool_]:
    """Whether a trace never reads the text or the image answer at any layer; shape (...)."""
    result: NDArray[np.bool_] = (np.asarray(state) < 0).all(axis=-1)
    return result


def _find_switches(states: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each layer from the second on reads another answer than the last committed one before it."""
    layers = np.broadcast_to(np.arange(states.shape[-1]), states.shape)
    last_committed = np.maximum.accumulate(np.where(states >= 0, layers, -1), axis=-1)
    filled = np.take_along_axis(states, np.maximum(last_committed, 0), axis=-1)
    before, after = filled[..., :-1], filled[..., 1:]
    switches: NDArray[np.bool_] = (before != after) & (before >= 0)
    return switches


def _read_table(values: ArrayLike, what: str) -> NDArray[np.generic]:
    """Numbers over (item, layer)."""
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise InputError(
            f"Expected {what} of the same number of layers in every row, got rows of different depth. The layers of "
            "one model are as many for every item: write each model to a file of its own, and leave out broken traces."
        ) from error
    if found.ndim != 2 or not found.shape[1]:
        raise InputError(
            f"Expected {what} as a row for every item and a column for every layer, one or more, got the shape "
            f"{found.shape}. A single trace is a table of one row."
        )
    if found.dtype.kind not in "biuf":
        raise InputError(
            f"Expected {what} as numbers, got {found.dtype.name} such as {found.flat[0] if found.size else ''!r}. "
            "Convert them first."
        )
    return found


def _read_states(values: ArrayLike) -> NDArray[np.int8]:
    found = _read_table(values, "states")
    _check_states(found, "")
    return found.astype(np.int8)


def _read_differences(values: ArrayLike) -> NDArray[np.float32]:
    return _read_table(values, "logit differences").astype(np.float32)


def _check_states(found: NDArray[np.generic], where: str) -> None:
    """Before they become small whole numbers, which would turn 257 into 1 and NaN into 0."""
    wrong = ~np.isin(found, list(names.STATE_CODES.values()))
    if wrong.any():
        row, layer = np.argwhere(wrong)[0]
        meaning = ", ".join(f"{code} {name}" for name, code in names.STATE_CODES.items())
        raise InputError(
            f"Expected the states {sorted(names.STATE_CODES.values())} ({meaning}){where}, got {found[row, layer]} at "
            f"layer {layer + 1} of row {row + 1}, and {int(wrong.sum())} such in all. Write -1 for whatever is neither "
            "answer."
        )


def _check(traces: xr.Dataset, path: Path) -> None:
    dims = (names.ITEM, names.LAYER)
    for name in (names.STATE, names.LOGIT_DIFFERENCE):
        if name not in traces or traces[name].dims != dims:
            raise InputError(f"Expected {name!r} over {dims} in {path}. {_REMEDY}")
        if traces[name].dtype.kind not in "biuf":
            raise InputError(f"Expected {name!r} as numbers in {path}, got {traces[name].dtype}. {_REMEDY}")
    if names.ITEM not in traces.indexes:
        raise InputError(f"Expected the ids of the items as the coordinate {names.ITEM!r} in {path}. {_REMEDY}")
    if not traces.indexes[names.ITEM].is_unique:
        raise InputError(f"An item is more than once in {path}. {_REMEDY}")
    _check_states(traces[names.STATE].to_numpy(), f" in {path}")
