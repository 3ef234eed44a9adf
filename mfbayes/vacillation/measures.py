"""Measures of a trace: what is averaged over traces of one region."""

import numpy as np
from numpy.typing import NDArray

from mfbayes.traces import (
    count_oscillations,
    count_round_trips,
    find_first_commitment,
    find_last_switch,
    measure_dwell_times,
    never_committed,
)
from mfbayes.trajectories import Trajectories

type Floats = NDArray[np.float64]

OSCILLATIONS, ROUND_TRIPS = "oscillations", "round-trips"
CLAIMS = (OSCILLATIONS, ROUND_TRIPS)
MEASURES = (*CLAIMS, "first-commitment", "last-switch", "dwell")
COMMITTED, NEVER, SWITCHED = "committed", "never-committed", "switched"


def measure_traces(trajectories: Trajectories) -> dict[str, Floats]:
    """Every measure of every trace, and whether it commits and switches at all; each of shape (n,).

    Traces that never commit are 0 in every measure and have a column of their own: they count nowhere else.
    """
    state = trajectories.state
    never = never_committed(state)
    last = find_last_switch(state)
    dwell = measure_dwell_times(state, n_layers=trajectories.n_layers[trajectories.subject])
    return {
        OSCILLATIONS: count_oscillations(state).astype(np.float64),
        ROUND_TRIPS: count_round_trips(state).astype(np.float64),
        "first-commitment": np.nan_to_num(find_first_commitment(state)),
        "last-switch": np.nan_to_num(last),
        "dwell": np.nan_to_num(dwell),
        COMMITTED: (~never).astype(np.float64),
        NEVER: never.astype(np.float64),
        SWITCHED: (~np.isnan(last)).astype(np.float64),
    }


def counter_of(measure: str) -> str:
    """The column that counts the traces with this measure."""
    return SWITCHED if measure == "last-switch" else COMMITTED
