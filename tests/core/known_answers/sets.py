"""The simulated sets that other programs have fitted: `python sets.py` writes them here as CSV.

The CSVs are kept, not drawn again by the tests: other versions of numpy, or of the simulation, would draw
other numbers.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from mfbayes.selection import select_trials
from mfbayes.simulation import Scenario, simulate_trials

SCENARIOS = {
    "even": Scenario(
        models={"a": -0.5, "b": -0.2, "c": 0.0, "d": 0.1, "e": 0.4, "f": 0.8},
        slopes={"a": 1.5, "b": 2.0, "c": 2.5, "d": 3.0, "e": 2.2, "f": 1.8},
        n_groups=60,
        image_tiers=12,
        group_sd=0.8,
        group_model_sd=0.5,
    ),
    "uneven": Scenario(
        models={"a": -0.3, "b": 0.2, "c": 0.6},
        slopes={"a": 3.0, "b": 2.0, "c": 2.5},
        n_groups=150,
        image_tiers=8,
        group_sd=0.5,
        group_model_sd=1.3,
        both_correct={"a": 0.9, "b": 0.5, "c": 0.15},
    ),
    "single": Scenario(
        models={"a": 0.25}, slopes={"a": 2.5}, n_groups=1500, image_tiers=1, text_tiers=1, group_sd=0, group_model_sd=0
    ),
}
SEEDS = {"even": 101, "uneven": 202, "single": 303}


def write_set(name: str) -> None:
    """Write y (1 text), m, g and dH of the selected trials, without answers of neither side."""
    trials, _ = simulate_trials(SCENARIOS[name], rng=np.random.default_rng(SEEDS[name]))
    kept = select_trials(trials).trials
    kept = kept[kept["choice"] != "other"]
    columns = {"y": (kept["choice"] == "text").astype(int), "m": kept["model"], "g": kept["group"]}
    table = pd.DataFrame({**columns, "dH": kept["dH"].map("{:.4f}".format)})
    table.to_csv(Path(__file__).with_name(f"{name}.csv"), index=False, lineterminator="\n")


if __name__ == "__main__":
    for name in SCENARIOS:
        write_set(name)
