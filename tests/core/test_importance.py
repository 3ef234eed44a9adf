"""Importance: draws of an approximation stand for the truth once they are drawn again by its density."""

import numpy as np
import pytest
from scipy.stats import multivariate_t, norm, t

from mfbayes.calibration.studies import Study, simulate_study
from mfbayes.design import Design
from mfbayes.marginal.fast import approximate
from mfbayes.marginal.importance import count_affordable, weigh
from mfbayes.marginal.modes import find_modes
from mfbayes.marginal.population import populate
from mfbayes.marginal.skewness import reshape
from mfbayes.marginal.spreads import integrate
from mfbayes.priors import Priors


def test_draws_that_are_too_narrow_become_as_wide_as_the_truth() -> None:
    """From Student's t of scale .8 to a standard normal; its sd has an error of 1 / sqrt(2 n) = .007."""
    rng = np.random.default_rng(1)
    draws = 0.8 * rng.standard_t(8, size=10_000)
    found = weigh(norm.logpdf(draws) - t.logpdf(draws / 0.8, 8), draws.size, rng=rng)
    assert found is not None
    again = draws[found.rows]
    assert again.std() == pytest.approx(1, abs=0.03)
    assert again.mean() == pytest.approx(0, abs=0.04)
    assert np.quantile(again, [0.025, 0.975]) == pytest.approx([-1.96, 1.96], abs=0.1)
    assert found.k_hat < 0.5
    assert 0.5 < found.effective_share < 1


def test_impossible_draws_never_come_back() -> None:
    rng = np.random.default_rng(2)
    ratios = np.where(np.arange(2000) % 4 == 0, -np.inf, rng.normal(size=2000) / 10)
    found = weigh(ratios, 4000, rng=rng)
    assert found is not None
    assert found.rows.size == 4000
    assert (found.rows % 4 != 0).all()


def test_weights_without_a_mean_are_refused() -> None:
    """Ratios of Cauchy tails over normal draws' have none: what is drawn hardly says anything of the truth."""
    rng = np.random.default_rng(3)
    assert weigh(-1.5 * np.log(rng.random(4000)), 4000, rng=rng) is None
    assert weigh(np.full(4000, -np.inf), 4000, rng=rng) is None


def test_as_many_draws_are_weighed_as_is_affordable() -> None:
    """Of 4,000: all, half, or none; more where groups are few, for there it matters."""
    assert count_affordable(4000, 2000, 400) == 4000
    assert count_affordable(4000, 20_000, 400) == 2000
    assert count_affordable(4000, 30_000, 400) == 0
    assert count_affordable(4000, 50_000, 40) == 4000
    assert count_affordable(4000, 100_000, 40) == 2000
    assert count_affordable(4000, 110_000, 40) == 0
    assert count_affordable(200, 60_000, 400) == 200


def test_bent_draws_say_how_much_they_were_stretched() -> None:
    """A density is what it was, over the stretch: here a normal in two dimensions becomes a leaning one."""
    rng = np.random.default_rng(4)
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])

    def log_density(some: np.ndarray) -> np.ndarray:
        heights: np.ndarray = -0.5 * (some @ np.linalg.inv(covariance) * some).sum(axis=1) + 0.04 * some[:, 0] ** 3
        return heights

    def bend(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return reshape(some, log_density=log_density, mean=np.zeros(2), covariance=covariance)

    points = rng.multivariate_normal([0, 0], covariance, size=50)
    moved, log_stretch = bend(points)
    step = 0.05  # twice the grid on which densities are summed
    columns = []
    for i in range(2):
        ends = [bend(points + sign * step * np.eye(2)[i])[0] for sign in (1, -1)]
        columns.append((ends[0] - ends[1])[:, i] / (2 * step))
    np.testing.assert_allclose(log_stretch, np.log(np.prod(columns, axis=0)), atol=0.02)
    assert (moved[:, 0] - points[:, 0]).mean() > 0


@pytest.fixture(scope="module")
def few_groups() -> Design:
    """40 groups of which each differs between models: the normal approximation is far off."""
    study = Study(n_groups=40, n_models=4, group_sd=0.3, group_model_sd=1.5, tilt=0.0)
    design, _ = simulate_study(study, rng=np.random.default_rng([1, 2, 3]))
    return design


def test_few_groups_have_intervals_as_wide_as_sampled_ones(few_groups: Design) -> None:
    """The sds of the four balance points are those of two runs of `nuts` on these trials (Monte Carlo error 2 %).

    The fast tier's own error is 5 %, at some 400 effective draws. Without weights they are 15 % too narrow.
    """
    sampled = np.array([0.477, 0.455, 0.359, 0.300])
    drawn = approximate(few_groups, seed=3)
    assert drawn.convergence.attrs["weighed"]
    sds = drawn.posterior["balance_point"].std(("chain", "draw")).to_numpy()
    assert abs(np.log(sds / sampled).mean()) < 0.12


def test_the_density_of_a_mixture_is_that_of_its_parts() -> None:
    """Student's t of every node, weighed, from scipy; up to one constant."""
    design, _ = simulate_study(
        Study(n_groups=12, group_sd=0.8, group_model_sd=0.5, n_models=3, tilt=0.0), rng=np.random.default_rng(9)
    )
    population = populate(design, Priors())
    [mode] = find_modes(design, population, Priors())
    nodes = integrate(population, mode.quadratic, rng=np.random.default_rng(10))
    points = nodes.draw(50, tail=8.0, rng=np.random.default_rng(11))
    density = np.zeros(50)
    for weight, mean, factor in zip(nodes.weights, nodes.conditional.mean, nodes.conditional.factor, strict=True):
        shape = np.linalg.inv(factor @ factor.T)
        density += weight * multivariate_t(loc=mean, shape=(shape + shape.T) / 2, df=8.0).pdf(points)
    away = nodes.log_density(points, tail=8.0) - np.log(density)
    np.testing.assert_allclose(away, away[0], atol=1e-7)
