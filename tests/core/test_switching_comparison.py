"""Versions of the hazard model compared: evidence by Laplace's method, groups left out, and what is said of them."""

import os
from typing import Any

import numpy as np
import pytest
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from scipy.special import logsumexp
from scipy.stats import multivariate_t, norm

from mfbayes.errors import InputError
from mfbayes.sampling import Effort
from mfbayes.switching import comparison, leaving_out
from mfbayes.switching.comparison import compare_switching, note_unknown
from mfbayes.switching.evidence import Posterior, integrate
from mfbayes.switching.fit import EFFORTS, SwitchingFit, fit_switching, pair_with_points
from mfbayes.switching.informed import inform
from mfbayes.switching.layout import lay_out_pairs
from mfbayes.switching.leaving_out import leave_groups_out, likelihood_by_group, measure_ratio, refit_without
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.pilot import estimate_roughly
from mfbayes.switching.priors import SwitchingPriors
from mfbayes.switching.simulation import Hazards, simulate_switching
from mfbayes.switching.structure import build_structure
from mfbayes.trajectories import Trajectories

type Traces = tuple[Trajectories, dict[str, float]]

QUICK = (Effort(tune=50, draws=60, target_accept=0.7),)
PRIORS = SwitchingPriors(level_mean=-2.0, slope_sd=0.3)
VERSIONS = {"without x": (), "x": ("x",)}


@pytest.fixture(scope="module")
def traces() -> Traces:
    return simulate_switching(n_layers=(4, 4), n_groups=8, n_items=10, rng=np.random.default_rng(1))[:2]


@pytest.fixture(scope="module")
def fit(traces: Traces) -> SwitchingFit:
    return fit_switching(*traces, terms=("x",), priors=PRIORS, attempts=QUICK)


def prepare(traces: Traces, *, terms: tuple[str, ...]) -> tuple[Posterior, np.ndarray]:
    """A posterior, and where to climb from."""
    structure = build_structure(lay_out_pairs(*pair_with_points(*traces), terms=terms), PRIORS)
    pilot = estimate_roughly(structure)
    likelihood = SwitchingLikelihood(structure.layout, effects=pilot.effects, scores=pilot.scores)
    posterior = Posterior(likelihood, structure, inform(structure, pilot))
    return posterior, posterior.place(pilot.spread)


def test_the_posterior_s_gradient_is_that_of_its_value(traces: Traces) -> None:
    posterior, start = prepare(traces, terms=("x",))
    point = start + np.random.default_rng(0).normal(size=posterior.n)
    gradient = posterior.evaluate(point)[1]
    moves = 1e-5 * np.eye(posterior.n)
    differences = [(posterior.evaluate(point + m)[0] - posterior.evaluate(point - m)[0]) / 2e-5 for m in moves]
    np.testing.assert_allclose(gradient, differences, atol=1e-6)


def test_evidence_is_that_of_importance_sampling() -> None:
    """One model of few layers, whose posterior is close enough to normal that it can be integrated by sampling."""
    traces = simulate_switching(n_layers=(3,), n_groups=12, n_items=40, rng=np.random.default_rng(3))[:2]
    posterior, start = prepare(traces, terms=("x",))
    found = integrate(posterior, start)
    rng, lower = np.random.default_rng(4), np.linalg.cholesky(np.linalg.inv(found.precision))
    # Heavier tails than the normal's, so that weights are bounded.
    df, n_draws = 5, 20_000
    noise = rng.standard_normal((n_draws, posterior.n)) / np.sqrt(rng.chisquare(df, (n_draws, 1)) / df)
    points = found.mode + noise @ lower.T
    value = np.array([posterior.evaluate(point)[0] for point in points])
    proposal = multivariate_t(np.zeros(posterior.n), np.eye(posterior.n), df=df).logpdf(noise)
    proposal -= np.log(np.diag(lower)).sum()
    weights = value - 0.5 * posterior.n * np.log(2 * np.pi) - proposal
    sampled = logsumexp(weights) - np.log(n_draws)
    _, k_hat = array_stats.psislw(-weights)
    assert k_hat < 0.7
    assert found.log_evidence == pytest.approx(sampled, abs=0.6)


def test_integrals_start_anywhere(traces: Traces) -> None:
    posterior, start = prepare(traces, terms=("x",))
    first = integrate(posterior, start)
    again = integrate(posterior, start + 0.3, first.precision)
    assert again.log_evidence == pytest.approx(first.log_evidence, abs=1e-3)


def test_groups_foretold_without_sampling_are_foretold_as_by_a_fit_without_them() -> None:
    """Few groups that differ much; what Laplace's method may err by is added to the bridge's Monte Carlo error."""
    traces = simulate_switching(
        n_layers=(4, 4), n_groups=8, n_items=40, rng=np.random.default_rng(7), hazards=Hazards(group_sd=1.2)
    )[:2]
    fit = fit_switching(*traces, priors=PRIORS, attempts=EFFORTS[:1])
    density = leave_groups_out(fit.layout, priors=PRIORS)
    assert density.shape == (8,)
    for group in (int(np.argmin(density)), int(np.argmax(density))):
        bridged, error, passed = refit_without(fit, group)
        assert passed and error < 0.3
        assert abs(density[group] - bridged) < 0.5 + 4 * error


@pytest.mark.parametrize("seen", [1.0, 3.0])
def test_bridges_find_what_is_known(seen: float) -> None:
    """An effect of N(0, 1) is seen with an error of .5."""
    rng = np.random.default_rng(4)
    without, having = rng.normal(size=4000), rng.normal(seen / 1.25, np.sqrt(0.2), 4000)
    likelihood = norm(seen, 0.5).logpdf
    found, error = measure_ratio(likelihood(having), likelihood(without))
    # The error is told by four chains: that of Student's t with three degrees of freedom.
    assert abs(found - norm(0, np.sqrt(1.25)).logpdf(seen)) < 6 * error < 1.2


def test_bridges_say_where_they_do_not_know() -> None:
    """At 8 the draws with it and without it are far apart."""
    rng = np.random.default_rng(4)
    without, having = rng.normal(size=4000), rng.normal(8 / 1.25, np.sqrt(0.2), 4000)
    likelihood = norm(8, 0.5).logpdf
    assert measure_ratio(likelihood(having), likelihood(without))[1] > 0.2


def test_groups_that_are_taken_keep_their_likelihood(fit: SwitchingFit) -> None:
    whole, chosen = likelihood_by_group(fit, np.ones(8, dtype=bool)), np.arange(8) % 3 != 1
    assert whole.shape == (8, 4 * 60)
    np.testing.assert_allclose(likelihood_by_group(fit, chosen), whole[chosen], rtol=1e-9)


def test_groups_without_a_density_take_no_part(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    lost, known = np.where(np.arange(8) == 1, np.nan, 5.0), np.arange(8.0)
    for second, n_unknown in ((known, 0), (lost, 1)):
        given = iter([known, second])
        monkeypatch.setattr(comparison, "leave_groups_out", lambda *_, given=given, **__: next(given))
        found = compare_switching(*traces, versions=VERSIONS)
        assert found["n_unknown"].to_numpy().tolist() == [0, n_unknown]
        assert (found["n_groups"] == 8 - n_unknown).all()
        assert found["elpd"].to_numpy().tolist() == [28 - n_unknown, 35 if n_unknown else 28]
        assert ["compared on 7 groups" in note for note in note_unknown(found)] == [True] * n_unknown


def test_a_version_without_any_density_leaves_the_others_compared(
    traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = iter([np.full(8, np.nan), np.arange(8.0), np.ones(8)])
    monkeypatch.setattr(comparison, "leave_groups_out", lambda *_, **__: next(given))
    found = compare_switching(*traces, versions=VERSIONS | {"x and distance": ("x", "distance")})
    assert found.attrs["best"] == "x"
    np.testing.assert_array_equal(found["elpd"], [np.nan, 28, 8])
    assert "on 8 groups" in note_unknown(found)[0] and "of without x it finds none" in note_unknown(found)[0]


def test_nothing_is_best_where_no_density_is_found(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "leave_groups_out", lambda *_, **__: np.full(8, np.nan))
    found = compare_switching(*traces, versions=VERSIONS)
    assert found.attrs == {"best": ""} and not found["n_groups"].any()
    assert found["elpd"].isnull().all() and found["difference_se"].isnull().all()


def test_a_posterior_without_a_mode_has_no_density(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Posterior, "measure_precision", lambda self, _: -np.eye(self.n))
    assert np.isnan(leave_groups_out(lay_out_pairs(*pair_with_points(*traces), terms=()), priors=PRIORS)).all()


class Bowl:
    """A normal log-density around one, with a wall: beyond it nothing is finite."""

    def __init__(self, n: int, *, wall: float) -> None:
        self.n, self.wall, self.n_asked = n, wall, 0
        self.precision = np.diag(np.arange(1.0, n + 1)) + 0.3

    def evaluate(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        self.n_asked += 1
        if point.max() > self.wall:
            return np.nan, np.full(self.n, np.nan)
        away = point - 1
        return -0.5 * float(away @ self.precision @ away), -self.precision @ away

    measure_precision = Posterior.measure_precision


@pytest.mark.parametrize("guess", [None, 0.01, 30.0])
def test_a_wall_beside_the_mode_does_not_stop_the_climb(guess: float | None) -> None:
    """A poor guess of the curvature, too, costs time and nothing else: with too small a one the first step is far."""
    bowl = Bowl(5, wall=1.2)
    found = integrate(bowl, np.full(5, -3.0), None if guess is None else guess * np.eye(5))  # type: ignore[arg-type]
    np.testing.assert_allclose(found.mode, 1, atol=1e-4)
    assert found.log_evidence == pytest.approx(-0.5 * np.linalg.slogdet(bowl.precision)[1], abs=1e-6)


def test_what_is_finite_nowhere_has_no_evidence() -> None:
    assert np.isnan(integrate(Bowl(3, wall=-9.0), np.zeros(3), np.eye(3)).log_evidence)  # type: ignore[arg-type]


def test_threads_change_nothing(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = lay_out_pairs(*pair_with_points(*traces), terms=("x",))
    found = []
    for n_threads in (1, 4):
        monkeypatch.setattr(os, "cpu_count", lambda n=n_threads: n)
        found.append(leave_groups_out(layout, priors=PRIORS))
    np.testing.assert_array_equal(found[0], found[1])


def test_bad_input_is_refused(traces: Traces) -> None:
    with pytest.raises(InputError, match="two versions"):
        compare_switching(*traces, versions={"x": ("x",)})
    one = traces[0].keep(traces[0].group == 0)
    with pytest.raises(InputError, match="two groups"):
        compare_switching(one, traces[1], versions=VERSIONS)


def test_all_groups_are_left_out_of_the_same_coordinates(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = []

    def place(*args: Any) -> Any:
        placed.append(args)
        return inform(*args)

    monkeypatch.setattr(leaving_out, "inform", place)
    leave_groups_out(lay_out_pairs(*pair_with_points(*traces), terms=()), priors=PRIORS)
    assert len(placed) == 1
    counted: list[None] = []
    leave_groups_out(
        lay_out_pairs(*pair_with_points(*traces), terms=()), priors=PRIORS, on_group=lambda: counted.append(None)
    )
    assert len(counted) == 8
