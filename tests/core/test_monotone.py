"""Monotone or not: known splines, known curves, and the rates at which verdicts err."""

import numpy as np
import pandas as pd
import pytest

from mfbayes.errors import InputError
from mfbayes.laws.bases import N_LEVELS, N_STEPS, jumps, rising_splines
from mfbayes.laws.monotonicity import FALLS, NOT_MONOTONE, UNCLEAR, judge_monotonicity, largest_rise
from mfbayes.laws.rates import CURVES, Curve, bump, describe, judge_curve, judge_law, simulate_law

N_MODELS = 8


def simulate_curve(curve: Curve, *, n_groups: int, seed: int, n_models: int = N_MODELS, n: int = 25) -> pd.DataFrame:
    return simulate_law(
        lambda text, image: curve((text - image) / 2),
        n_groups=n_groups,
        n_models=n_models,
        n=n,
        rng=np.random.default_rng(seed),
        along_dH=True,
    )


def test_splines_rise_and_span_straight_lines() -> None:
    dH = np.linspace(-2, 2, 201)
    columns = rising_splines(dH)
    assert columns.shape == (N_STEPS, dH.size)
    assert np.diff(columns, axis=1).min() > -1e-12
    np.testing.assert_allclose(rising_splines(np.zeros(1)), 0, atol=1e-15)
    # Equal steps of .5 between knots .5 apart: a line of slope 1, exactly.
    np.testing.assert_allclose(0.5 * columns.sum(axis=0), dH, atol=1e-12)


def test_splines_fit_any_smooth_curve_closely() -> None:
    dH = np.linspace(-2, 2, 201)
    columns = np.vstack([np.ones(dH.size), rising_splines(dH)])
    for target in (np.sin(2 * dH), dH**3, np.tanh(1.5 * dH)):
        weights = np.linalg.lstsq(columns.T, target, rcond=None)[0]
        # A cubic spline errs by about 5/384 h^4 max|f''''|; that is 16 for the sine and 52 for the tanh.
        assert np.abs(weights @ columns - target).max() < 5 / 384 * 0.5**4 * 60 * 2


def test_the_largest_rise_is_from_any_point_to_any_later_one() -> None:
    curves = np.array([[5.0, 1.0, 2.0, 0.0, 3.0], [4.0, 3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 0.5, 2.0, 1.0]])
    np.testing.assert_array_equal(largest_rise(curves), [3.0, 0.0, 2.0])


def test_bumps_are_found_and_logistic_models_are_not_accused() -> None:
    falls = judge_monotonicity(simulate_curve(CURVES["logistic, slope 2.5"], n_groups=40, seed=1), seed=0)
    bumps = judge_monotonicity(simulate_curve(bump(2.5), n_groups=40, seed=2), seed=0)
    assert (falls["verdict"] == FALLS).all()
    assert (falls["p_monotone"] > falls["prior_p_monotone"]).all()
    assert (falls["bayes_factor"] > 1).all()
    # Rates of about .98 measured at 60 groups; 5 of 8 leaves room for 40.
    assert int((bumps["verdict"] == NOT_MONOTONE).sum()) >= 5
    # True rise 2.5, smoothed by knots .5 apart; standard error about .4 a model, so .15 for the mean of 8.
    assert 1.7 < float(bumps["largest_rise"].mean()) < 3.2


def test_levels_fall_where_a_curve_falls_however_steep() -> None:
    dH = np.linspace(-2, 2, 2001)
    columns = np.vstack([np.ones(dH.size), jumps(dH)])
    smooth = np.vstack([np.ones(dH.size), rising_splines(dH)])
    assert columns.shape == (N_LEVELS, dH.size)
    for target in (-3 * np.tanh(8 * dH), -3 * np.sign(dH - 0.1)):
        fitted, swinging = (part.T @ np.linalg.lstsq(part.T, target)[0] for part in (columns, smooth))
        assert largest_rise(fitted[None])[0] < 1e-9
        assert largest_rise(swinging[None])[0] > 0.3


def test_a_steep_fall_is_not_taken_for_a_rise_by_many_groups() -> None:
    """The spline swings about the curve and is sure of it; the levels are not."""
    judged = judge_monotonicity(
        simulate_curve(CURVES["steep: -3 tanh(8 dH)"], n_groups=800, seed=1, n_models=2), seed=0
    )
    assert (judged["p_monotone"] < 0.01).all()
    assert (judged["p_rise"] > 0.99).all()
    assert (judged["p_level_rise"] < 0.99).all()
    assert (judged["verdict"] == UNCLEAR).all()


def test_no_slope_is_never_called_falling() -> None:
    flat = judge_monotonicity(simulate_curve(CURVES["flat"], n_groups=40, seed=3), seed=0)
    assert (flat["verdict"] != FALLS).all()


def test_too_few_trials_are_unclear_and_the_rest_is_as_it_was() -> None:
    trials = simulate_curve(CURVES["logistic, slope 2.5"], n_groups=30, seed=4, n_models=2)
    few = pd.concat([trials[trials["model"] == "m0"], trials[trials["model"] == "m1"].head(6)], ignore_index=True)
    judged = judge_monotonicity(few, seed=0)
    assert judged["verdict"].to_numpy().tolist() == [FALLS, UNCLEAR]
    assert np.isnan(judged["p_monotone"].to_numpy()[1])
    again = judge_monotonicity(few, seed=0)
    assert judged.identical(again)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, np.nan, np.inf])
def test_a_tolerance_must_be_above_zero(tolerance: float) -> None:
    trials = simulate_curve(CURVES["flat"], n_groups=3, seed=1, n_models=1)
    with pytest.raises(InputError, match="tolerance"):
        judge_monotonicity(trials, seed=0, tolerance=tolerance)


def test_rates_are_counted() -> None:
    counted = judge_curve("logistic, slope 2.5", n_groups=40, replicate=0)
    assert counted == {FALLS: 8}
    rows = [
        {"judgement": "monotone", "truth": "flat", "groups": 60, "replicate": i, "verdicts": verdicts}
        for i, verdicts in enumerate(({"unclear": 8}, {"unclear": 6, "falls": 2}))
    ]
    assert "| flat | 60 | 2 | 0.125 (0.125) | 0.875 (0.125) | 0.000 (0.000) |" in describe(rows)


def test_entropies_that_matter_apart_are_found_out() -> None:
    assert judge_law("entropies, slopes 1 and .5", n_groups=60, replicate=0) == {"no": 1}
