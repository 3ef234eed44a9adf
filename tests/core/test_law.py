"""The free slope: a law that rises or is absent is told as such, and labels do not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbayes.laws.free_slope import estimate_free_slope


def choices(
    *, slope: float, seed: int, n_groups: int = 40, n: int = 20, group_sd: float = 0.8
) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), n)
    dH = rng.uniform(-2, 2, group.size)
    p = 1 / (1 + np.exp(-(slope * dH + group_sd * rng.standard_normal(n_groups)[group])))
    return dH, (rng.random(group.size) < p).astype(float), group


@pytest.mark.parametrize(("slope", "law"), [(-1.5, "falls"), (1.5, "rises"), (0.0, "unclear")])
def test_each_law_is_told(slope: float, law: str) -> None:
    found = estimate_free_slope(*choices(slope=slope, seed=7))
    assert found.law == law
    assert found.lower < found.slope < found.upper


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(-2, 2))
def test_swapping_text_and_image_leaves_the_slope_as_it_is(seed: int, slope: float) -> None:
    dH, is_text, group = choices(slope=slope, seed=seed, n_groups=6, n=5)
    one, other = estimate_free_slope(dH, is_text, group), estimate_free_slope(-dH, 1 - is_text, group)
    np.testing.assert_allclose(one, other, atol=1e-7)


def test_intervals_cover_the_marginal_slope_where_groups_differ() -> None:
    """Nominal .9 over 150 data sets: the binomial sd is .024, so below .83 something is wrong."""
    truth = estimate_free_slope(*choices(slope=-1.0, seed=0, n_groups=4000, group_sd=1.2)).slope
    found = [
        estimate_free_slope(*choices(slope=-1.0, seed=seed, n_groups=25, group_sd=1.2), ci_prob=0.9)
        for seed in range(1, 151)
    ]
    assert np.mean([interval.lower < truth < interval.upper for interval in found]) > 0.83


def test_perfect_separation_one_side_and_one_group_stay_finite() -> None:
    separated = estimate_free_slope([-2, -1, 1, 2] * 3, [1, 1, 0, 0] * 3, np.repeat([0, 1, 2], 4))
    assert np.isfinite(separated).all()
    assert separated.slope < -1
    dH, _, group = choices(slope=0.0, seed=3)
    for side in (0.0, 1.0):
        one_sided = estimate_free_slope(dH + 0.3, np.full(dH.size, side), group)
        assert one_sided.law == "unknown"
    alone = estimate_free_slope([-1, 1], [1, 0], [0, 0])
    assert np.isnan(alone.lower)
    assert alone.law == "unknown"
    assert estimate_free_slope([], [], []).law == "unknown"


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.1])
def test_a_slope_that_trials_cannot_tell_is_not_told(spread: float) -> None:
    """P(text) = .2 whatever dH, which hardly varies around .6: at most 2.5 % may seem to fall, 7 % by chance of 200."""
    told = []
    for seed in range(200):
        rng = np.random.default_rng([9, seed])
        group = np.repeat(np.arange(30), 10)
        dH = 0.6 + spread * rng.standard_normal(group.size)
        told.append(estimate_free_slope(dH, (rng.random(group.size) < 0.2).astype(float), group).law)
    assert told.count("falls") <= 14
    assert told.count("rises") <= 14
    if not spread:
        assert set(told) == {"unknown"}
