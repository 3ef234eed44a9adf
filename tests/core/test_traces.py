"""Layer traces: counted by hand, and the same after a round trip through a file."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbayes.errors import InputError
from mfbayes.traces import (
    count_oscillations,
    count_round_trips,
    find_first_commitment,
    find_last_switch,
    measure_dwell_times,
    measure_occupancy,
    never_committed,
    read_traces,
    write_traces,
)

states = st.lists(st.sampled_from([1, 0, -1]), min_size=1, max_size=12)


@settings(deadline=None)
@given(states)
def test_oscillations_are_the_changes_among_committed_layers(trace: list[int]) -> None:
    committed = [state for state in trace if state >= 0]
    expected = sum(first != second for first, second in pairwise(committed))
    assert count_oscillations(trace) == expected
    assert never_committed(trace) == (not committed)


@settings(deadline=None)
@given(states)
def test_oscillations_do_not_care_which_answer_is_which(trace: list[int]) -> None:
    swapped = [1 - state if state >= 0 else state for state in trace]
    assert count_oscillations(swapped) == count_oscillations(trace)


@settings(deadline=None)
@given(states, st.integers(0, 3))
def test_each_measure_is_what_a_walk_through_the_layers_finds(trace: list[int], padding: int) -> None:
    held, runs, first, last = -1, 0, np.nan, np.nan
    for layer, state in enumerate(trace, start=1):
        if state >= 0 and state != held:
            first, last = (layer, last) if held < 0 else (first, layer)
            runs, held = runs + 1, state
    committed = [state for state in trace if state >= 0]
    needed = int(bool(committed) and committed[0] != committed[-1])
    padded = [*trace, *[-1] * padding]
    np.testing.assert_equal(find_first_commitment(padded), first)
    np.testing.assert_equal(find_last_switch(padded), last)
    assert count_round_trips(padded) == max(runs - 1, 0) - needed
    assert count_round_trips(padded) % 2 == 0
    filled = len(trace) + 1 - first
    dwell = filled / runs if runs else np.nan
    np.testing.assert_allclose(np.float64(measure_dwell_times(padded, n_layers=len(trace))), np.float64(dwell))


def test_occupancy_is_by_relative_depth_and_knows_no_padding() -> None:
    state = [[1, 1, 0, 0], [1, -1, -1, -1]]
    shares = measure_occupancy(state, places=2, n_layers=[4, 2])
    # First halves: text, text and text; second halves: image, image and other.
    np.testing.assert_allclose(shares, [[1.0, 0.0, 0.0], [0.0, 2 / 3, 1 / 3]])
    alone = measure_occupancy(state[:1])
    np.testing.assert_allclose(alone[:, 0], [1, 1, 0, 0])
    assert np.isnan(measure_occupancy([[1]], places=3)[[0, 2]]).all(), "one layer lies in the middle"


def test_traces_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "m" / "traces.nc"
    write_traces(path, ["a", "b"], [[1, -1, 0], [0, 0, 1]], [[0.5, 0.0, -1.0], [-2.0, -1.0, 3.0]])
    traces = read_traces(path)
    assert traces["state"].dims == ("item", "layer")
    assert traces["state"].dtype == np.int8
    assert traces["state"].attrs["flag_meanings"] == "other image text"
    assert traces["state"].attrs["flag_values"].tolist() == [-1, 0, 1]
    assert traces["layer"].to_numpy().tolist() == [1, 2, 3]
    assert traces["logit_difference"].sel(item="b", layer=3) == 3.0
    assert count_oscillations(traces["state"]).tolist() == [1, 1]
    assert [child.name for child in path.parent.iterdir()] == ["traces.nc"]


def test_files_that_are_no_traces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_traces(tmp_path / "traces.nc")
    broken = tmp_path / "broken.nc"
    broken.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    with pytest.raises(InputError, match="not a whole netCDF file"):
        read_traces(broken)
    other = tmp_path / "other.nc"
    xr.Dataset({"x": ("y", [1])}).to_netcdf(other, engine="h5netcdf")
    with pytest.raises(InputError, match="'state'"):
        read_traces(other)
    with pytest.raises(InputError, match="more than once"):
        write_traces(tmp_path / "twice.nc", ["a", "a"], [[1], [0]], [[0.0], [0.0]])


@pytest.mark.parametrize(
    ("state", "difference", "said"),
    [
        ([[1, np.nan]], [[0.0, 0.0]], "got nan at layer 2 of row 1"),
        ([[0.7, 1]], [[0.0, 0.0]], "got 0.7 at layer 1"),
        ([[1, 1], [1, 257]], [[0.0, 0.0]] * 2, "got 257 at layer 2 of row 2"),
        ([["text", "image"]], [[0.0, 0.0]], "states as numbers"),
        ([[1, 0], [1]], [[0.0, 0.0]] * 2, "states of the same number of layers"),
        ([[1, 0], [1, 0]], [[0.0, 0.0], [0.0]], "logit differences of the same number of layers"),
        ([1, 0], [0.0, 0.0], "a row for every item"),
        ([[]], [[]], "one or more"),
        ([[1, 0]], [[0.0]], r"states of shape \(1, 2\) and logit differences of shape \(1, 1\)"),
        ([[1, 0], [0, 1]], [[0.0, 0.0]] * 2, r"got \(1,\) items"),
        ([[1, 0]], [["0.5", "1.5"]], "logit differences as numbers"),
    ],
)
def test_what_is_no_trace_is_refused_and_not_written(
    tmp_path: Path, state: list[Any], difference: list[Any], said: str
) -> None:
    path = tmp_path / "traces.nc"
    with pytest.raises(InputError, match=said):
        write_traces(path, ["a"], state, difference)
    assert not path.exists()


def test_whole_numbers_of_any_type_are_states_and_logits_may_be_missing(tmp_path: Path) -> None:
    write_traces(tmp_path / "traces.nc", ["a"], [[1.0, -1.0]], [[np.nan, 2]])
    found = read_traces(tmp_path / "traces.nc")
    assert found["state"].dtype == np.int8
    assert found["state"].to_numpy().tolist() == [[1, -1]]


def test_files_of_others_are_checked_as_traces_are_written(tmp_path: Path) -> None:
    path, dims = tmp_path / "own.nc", ("item", "layer")
    good = {"state": (dims, [[1.0, 0.0]]), "logit_difference": (dims, [[0.5, -0.5]])}
    item = {"item": np.array(["a"], dtype=object)}
    for changes, coords, said in (
        ({}, {}, "coordinate 'item'"),
        ({"logit_difference": (dims, np.array([["0.5", "1"]], dtype=object))}, item, "'logit_difference' as numbers"),
        ({"state": (dims, [[1.0, 0.5]])}, item, "got 0.5 at layer 2 of row 1"),
    ):
        xr.Dataset(good | changes, coords=coords).to_netcdf(path, engine="h5netcdf")
        with pytest.raises(InputError, match=said):
            read_traces(path)
    xr.Dataset(good, coords=item).to_netcdf(path, engine="h5netcdf")
    assert read_traces(path)["state"].dtype == np.int8
