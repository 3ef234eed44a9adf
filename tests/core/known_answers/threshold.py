"""psignifit's threshold, slope and intervals: `python threshold.py single.csv > single-psignifit.json`.

Every dH is a block of its own (stimulus, hits, trials). psignifit's curves rise, so its stimulus is -dH and its
threshold -b. Its width is the distance between P = .05 and P = .95, 2 log(19) / kappa for a logistic curve.
"""

import json
import sys
from importlib.metadata import version
from typing import Any

import numpy as np

ALPHA = 0.05


def estimate_threshold(path: str) -> dict[str, Any]:
    """Estimates of one set, as they are kept."""
    # Not a dependency: the tests only read its answers.
    from psignifit import psignifit  # type: ignore[import-not-found]

    is_text, dH = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 3), unpack=True)
    level, place = np.unique(-dH, return_inverse=True)
    steps = {"threshold": 150, "width": 150, "lambda": 1, "gamma": 1, "eta": 1}
    result = psignifit(
        np.column_stack([level, np.bincount(place, is_text), np.bincount(place)]),
        sigmoid="logistic",
        experiment_type="yes/no",
        width_alpha=ALPHA,
        stimulus_range=(-2.0, 2.0),
        fixed_parameters={"lambda": 0.0, "gamma": 0.0, "eta": 0.0},
        grid_steps=steps,
        steps_moving_bounds=steps,
        pool_max_blocks=level.size,
    )
    by_width = 2 * np.log(1 / ALPHA - 1)
    lower, upper = result.confidence_intervals["threshold"]["0.95"]
    narrow, wide = result.confidence_intervals["width"]["0.95"]
    answer: dict[str, Any] = {
        "package": f"psignifit {version('psignifit')}",
        "n_trials": int(is_text.size),
        "mode": {
            "balance_point": -result.parameter_estimate_MAP["threshold"],
            "slope": by_width / result.parameter_estimate_MAP["width"],
        },
        "mean": {"balance_point": -result.parameter_estimate_mean["threshold"]},
        "interval": {"balance_point": [-upper, -lower], "slope": [by_width / wide, by_width / narrow]},
        "prob": 0.95,
    }
    return answer


if __name__ == "__main__":
    print(json.dumps(estimate_threshold(sys.argv[1]), indent=2))
