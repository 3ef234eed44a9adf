"""Simulated conflict trials: the same table for every contender.

python -m benchmarks.data --models 6 --groups 40 --repeats 21 --seed 1 trials.csv
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from mfbayes import names
from mfbayes.uncertainty import relative_uncertainty

BALANCE_POINT_SD = 0.4
LOG_SLOPE_SD = 0.3
GROUP_SD = 0.8
GROUP_MODEL_SD = 0.5


def simulate(*, n_models: int, n_groups: int, n_repeats: int, rng: np.random.Generator) -> pd.DataFrame:
    """Trials of the following model, a row a trial, `n_repeats` for every model and group.

    Parameters
    ----------
    n_models, n_groups, n_repeats : int
        Every model answers every item; a group has `n_repeats` items.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    DataFrame
        Columns `model, group, H_text, H_image, choice`, and for peers `dH` and `is_text` (0 or 1).

    Examples
    --------
    >>> simulate(n_models=2, n_groups=3, n_repeats=4, rng=np.random.default_rng(0)).shape
    (24, 7)
    """
    balance_point = rng.normal(0, BALANCE_POINT_SD, n_models)
    slope = 2 * np.exp(rng.normal(0, LOG_SLOPE_SD, n_models))
    group_effect = rng.normal(0, GROUP_SD, n_groups)
    group_model_effect = rng.normal(0, GROUP_MODEL_SD, (n_models, n_groups))

    model, group = (each.ravel() for each in np.indices((n_models, n_groups, n_repeats))[:2])
    H_text, H_image = np.exp(rng.normal(-1, 0.8, (2, model.size)))
    dH = relative_uncertainty(H_text, H_image)
    logit_p = slope[model] * (balance_point[model] - dH) + group_effect[group] + group_model_effect[model, group]
    is_text = rng.random(model.size) < expit(logit_p)
    return pd.DataFrame(
        {
            names.MODEL: np.array([f"m{i}" for i in range(n_models)])[model],
            names.GROUP: np.array([f"g{i:05d}" for i in range(n_groups)])[group],
            names.H_TEXT: H_text,
            names.H_IMAGE: H_image,
            names.CHOICE: np.where(is_text, names.TEXT, names.IMAGE),
            names.DH: dH,
            "is_text": is_text.astype(np.int64),
        }
    )


def main() -> None:
    """Write a table as CSV or parquet, as the file's name says."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--models", "--groups", "--repeats", "--seed"):
        parser.add_argument(option, type=int, required=True)
    parser.add_argument("path", type=Path)
    options = parser.parse_args()
    trials = simulate(
        n_models=options.models,
        n_groups=options.groups,
        n_repeats=options.repeats,
        rng=np.random.default_rng(options.seed),
    )
    if options.path.suffix == ".csv":
        trials.to_csv(options.path, index=False)
    else:
        trials.to_parquet(options.path, index=False)


if __name__ == "__main__":
    main()
