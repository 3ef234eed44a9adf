"""Calibration: intervals cover as often as they say, also where groups and models differ a lot."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import mfbayes

REPLICATES = 12


@pytest.mark.slow
@pytest.mark.parametrize(("group_sd", "cell_sd"), [(0.8, 0.5), (0.5, 1.3)])
def test_intervals_cover_balance_points_and_their_differences(
    simulate: Callable[..., pd.DataFrame], group_sd: float, cell_sd: float
) -> None:
    """Nominal .9: 48 balance points (expected 43, binomial sd 2.1) and 36 differences (32, sd 1.8)."""
    rng = np.random.default_rng(31)
    covered, covered_differences = 0, 0
    errors: list[float] = []
    for seed in range(REPLICATES):
        truth = {f"m{i}": float(rng.normal(-0.1, 0.4)) for i in range(4)}
        trials = simulate(seed=100 + seed, balance_points=truth, n_groups=20, group_sd=group_sd, cell_sd=cell_sd)
        tree = mfbayes.fit(trials, seed=seed, ci_prob=0.9)
        assert tree.attrs["status"] == "ok"
        table = mfbayes.balance_points(tree).set_index("model")
        true = pd.Series(truth)[table.index]
        covered += int(((table["lower"] < true) & (true < table["upper"])).sum())
        errors.extend((table["mean"] - true) / table["sd"])
        draws = tree["posterior"]["balance_point"]
        for other in ("m1", "m2", "m3"):
            difference = draws.sel(subject=other) - draws.sel(subject="m0")
            lower, upper = np.quantile(difference, [0.05, 0.95])
            covered_differences += int(lower < truth[other] - truth["m0"] < upper)
    assert covered >= 36
    assert covered_differences >= 26
    # Models share the groups, so their errors go together: a mean within 3 / sqrt(12), not 3 / sqrt(48).
    assert abs(np.mean(errors)) < 3 / REPLICATES**0.5
