"""Layer traces: counted by hand, and the same after a round trip through a file."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbayes.errors import InputError
from mfbayes.traces import count_oscillations, never_committed, read_traces, write_traces

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
