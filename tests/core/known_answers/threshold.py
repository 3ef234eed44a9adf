"""psignifit's threshold, interval and slope: `python threshold.py single.csv > single-psignifit.json`.

Every dH is a block of one trial, as psignifit wants (stimulus, hits, trials). Its curves rise, so the stimulus is
-dH and the threshold -b.
"""

import json
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
import psignifit

trials = pd.read_csv(sys.argv[1])
level, place = np.unique(-trials["dH"].to_numpy(), return_inverse=True)
blocks = np.column_stack([level, np.bincount(place, trials["y"]), np.bincount(place)])
result = psignifit.psignifit(
    blocks,
    sigmoid="logistic",
    experiment_type="yes/no",
    fixed_parameters={"lambda": 0.0, "gamma": 0.0, "eta": 0.0},
    CI_method="percentiles",
)
print("estimates", result.parameter_estimate_MAP, result.parameter_estimate_mean, file=sys.stderr)
print("intervals", result.confidence_intervals, file=sys.stderr)
