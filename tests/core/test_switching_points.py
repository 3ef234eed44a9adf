"""Uncertainty of the balance points in the draws of hazards, where its effect is known."""

import numpy as np
import pytest

from mfbayes import names
from mfbayes.sampling import Effort
from mfbayes.switching.fit import SwitchingFit, fit_switching
from mfbayes.switching.points import carry_points
from mfbayes.switching.simulation import Hazards, simulate_switching

SHIFT = 0.4
OVER = ("chain", "draw")


@pytest.fixture(scope="module")
def points() -> dict[str, float]:
    return {}


@pytest.fixture(scope="module")
def fit(points: dict[str, float]) -> SwitchingFit:
    hazards = Hazards(by_x=(1.2, -1.2), by_closeness=(0.0, 0.0), group_sd=0.0, group_model_sd=0.0)
    traces, found, _ = simulate_switching(
        n_layers=(8, 8), n_groups=10, n_items=200, rng=np.random.default_rng(3), hazards=hazards
    )
    points.update(found)
    effort = (Effort(tune=150, draws=200, target_accept=0.7),)
    return fit_switching(traces, found, groups=False, terms=("x",), seed=1, attempts=effort)


def test_hazards_do_not_move_with_balance_points_that_are_certain(fit: SwitchingFit, points: dict[str, float]) -> None:
    known = {subject: np.full(7, b) for subject, b in points.items()}
    carried = carry_points(fit, known, rng=np.random.default_rng(1), n_draws=3)
    np.testing.assert_allclose(carried.sample.posterior["hazards"], fit.sample.posterior["hazards"], atol=1e-12)


def test_levels_move_as_a_line_in_x_has_them_move(fit: SwitchingFit, points: dict[str, float]) -> None:
    """With beta x alone, a balance point that is higher by c has levels higher by beta c, and the same beta."""
    first, second = points
    moved = {first: np.full(7, points[first] + SHIFT), second: np.full(7, points[second])}
    carried = carry_points(fit, moved, rng=np.random.default_rng(1), n_draws=1).posterior
    level = (carried["level"] - fit.posterior["level"]).mean(OVER).mean(names.LAYER)
    slope = fit.posterior["effect"].sel(term="x").mean(OVER)
    assert abs(slope).min() > 0.6
    # Priors hold levels and slopes a little, and the pilot stops a hundredth away from its mode.
    expected = SHIFT * slope.sel(subject=first)
    np.testing.assert_allclose(level.sel(subject=first), expected, atol=0.05)
    np.testing.assert_allclose(level.sel(subject=second), 0, atol=0.05)
    by_x = (carried["effect"] - fit.posterior["effect"]).sel(term="x").mean(OVER)
    np.testing.assert_allclose(by_x, 0, atol=0.05)


def test_levels_are_as_much_wider_as_the_balance_points_are_uncertain(
    fit: SwitchingFit, points: dict[str, float]
) -> None:
    """As many draws above the median by c as below: the variance of levels grows by (beta c)^2, and no mean moves."""
    spread = {subject: b + SHIFT * np.array([-1.0, 1.0]) for subject, b in points.items()}
    carried = carry_points(fit, spread, rng=np.random.default_rng(2), n_draws=60).posterior["level"]
    level = fit.posterior["level"]
    slope = fit.posterior["effect"].sel(term="x").mean(OVER)
    grown = (carried.var(OVER) - level.var(OVER)).mean(names.LAYER)
    # The mean of 60 signs is off by 1 / 8, which is squared in the variance; the pilot's prior takes a tenth.
    np.testing.assert_allclose(np.sqrt(grown) / (SHIFT * abs(slope)), 1, atol=0.15)
