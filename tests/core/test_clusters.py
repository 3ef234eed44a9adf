"""Intervals for clustered trials: right where groups differ, honest where every trial agrees."""

import numpy as np
import pytest
from scipy.stats import binomtest

from mfbayes.clusters import bound_means, bound_shares, expand_tails


def bounds(values: np.ndarray, group: np.ndarray, **options: float) -> tuple[float, float, float]:
    column = np.zeros(values.size, dtype=np.int64)
    mean, lower, upper, n = bound_shares(
        values, group=group, column=column, n_columns=1, ci_prob=0.9, rng=np.random.default_rng(3)
    )
    assert n[0] == values.size
    return float(mean[0]), float(lower[0]), float(upper[0])


def test_copies_of_a_trial_add_nothing() -> None:
    rng = np.random.default_rng(1)
    group, values = np.arange(30), (rng.random(30) < 0.4).astype(float)
    assert bounds(np.repeat(values, 50), np.repeat(group, 50)) == pytest.approx(bounds(values, group))


def test_intervals_cover_the_mean_of_groups_that_differ() -> None:
    """Nominal .9, 150 data sets: binomial sd .024; trials taken as independent would cover about .4."""
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(40), 20)
    covered = 0
    for _ in range(150):
        share = rng.beta(1, 1, 40)[group]
        _, lower, upper = bounds((rng.random(group.size) < share).astype(float), group)
        covered += lower < 0.5 < upper
    assert abs(covered / 150 - 0.9) < 3 * 0.0245


def test_where_all_agree_the_interval_is_wilsons_with_one_trial_a_group() -> None:
    mean, lower, upper = bounds(np.ones(80), np.repeat(np.arange(8), 10))
    expected = binomtest(8, 8).proportion_ci(0.9, method="wilson")
    assert (mean, lower, upper) == pytest.approx((1.0, expected.low, 1.0))
    assert bounds(np.zeros(80), np.repeat(np.arange(8), 10)) == pytest.approx((0.0, 0.0, 1 - expected.low))


@pytest.mark.parametrize("n_groups", [6, 10, 30])
def test_intervals_of_means_cover_with_few_groups(n_groups: int) -> None:
    """Nominal .95, 600 data sets: Monte Carlo error .009. Plain percentiles cover .86, .90 and .94."""
    rng = np.random.default_rng(n_groups)
    group, covered = np.repeat(np.arange(n_groups), 5), 0
    for _ in range(600):
        values = rng.normal(size=n_groups)[group] + rng.normal(size=group.size)
        _, lower, upper, _ = bound_means(
            values, group=group, column=np.zeros(group.size, dtype=np.int64), n_columns=1, ci_prob=0.95, rng=rng
        )
        covered += lower[0] < 0 < upper[0]
    assert abs(covered / 600 - 0.95) < 0.027


def test_tails_of_many_groups_are_percentiles() -> None:
    assert expand_tails(0.95, 10**6, n_drawn=10**6) == pytest.approx((0.025, 0.975), abs=1e-5)
    # Student's t with 5 degrees of freedom, 2.5706, times the root of 6 / 5.
    assert expand_tails(0.95, 6, n_drawn=6)[0] == pytest.approx(0.00243, abs=1e-5)
    assert expand_tails(0.95, 6, n_drawn=5)[0] == pytest.approx(0.00507, abs=1e-5)


def test_empty_columns_and_few_groups_have_no_interval() -> None:
    mean, lower, upper, n = bound_means(
        np.array([1.0, 3.0, 5.0]),
        group=np.array([0, 0, 1]),
        column=np.array([0, 0, 2]),
        n_columns=3,
        ci_prob=0.9,
        rng=np.random.default_rng(0),
    )
    np.testing.assert_array_equal(mean, [2.0, np.nan, 5.0])
    assert np.isnan(lower).all()
    assert np.isnan(upper).all()
    assert n.tolist() == [2, 0, 1]


def test_few_groups_are_never_narrower_than_wilsons() -> None:
    """Three groups that happen to agree would give the bootstrap no spread at all."""
    mean, lower, upper = bounds(np.tile([0.0, 1.0], 30), np.repeat([0, 1, 2], 20))
    expected = 1.645 * np.sqrt(0.25 / 3 + 1.645**2 / 36) / (1 + 1.645**2 / 3)
    assert (mean, lower, upper) == pytest.approx((0.5, 0.5 - expected, 0.5 + expected), abs=1e-3)
