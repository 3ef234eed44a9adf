"""Versions of the hazard model compared: which fits are used, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from mfbayes.errors import InputError
from mfbayes.sampling import Effort
from mfbayes.switching import comparison, leaving_out
from mfbayes.switching.comparison import compare_switching, note_weights
from mfbayes.switching.fit import EFFORTS, SwitchingFit, fit_switching
from mfbayes.switching.leaving_out import LeftOut, leave_groups_out, likelihood_by_group
from mfbayes.switching.priors import SwitchingPriors
from mfbayes.switching.simulation import Hazards, simulate_switching
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


def test_a_fit_without_groups_is_refused(traces: Traces, fit: SwitchingFit) -> None:
    pooled = replace(fit, layout=replace(fit.layout, has_groups=False))
    with pytest.raises(InputError, match="groups=True"):
        compare_switching(*traces, fitted=pooled, versions=VERSIONS)


@pytest.mark.parametrize(
    ("priors", "expected"),
    [(None, [((), PRIORS)]), (SwitchingPriors(), [((), SwitchingPriors()), (("x",), SwitchingPriors())])],
)
def test_versions_share_the_fit_s_priors_and_others_are_fitted_anew(
    traces: Traces,
    fit: SwitchingFit,
    monkeypatch: pytest.MonkeyPatch,
    priors: SwitchingPriors | None,
    expected: list[tuple[tuple[str, ...], SwitchingPriors]],
) -> None:
    asked = []

    def record(*_: object, terms: tuple[str, ...], priors: SwitchingPriors, **__: object) -> SwitchingFit:
        asked.append((terms, priors))
        return fit

    monkeypatch.setattr(comparison, "fit_switching", record)
    compare_switching(*traces, fitted=fit, versions=VERSIONS, priors=priors)
    assert asked == expected


def test_uneven_weights_are_counted_and_make_it_unreliable(
    traces: Traces, fit: SwitchingFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = np.full(8, np.nan)
    even = LeftOut(np.arange(8.0), np.full(8, 0.5), 0.7, unknown)
    k_hat = np.where(np.arange(8) < 4, [0.8, np.nan, 0.9, 0.9, 0, 0, 0, 0], 0.5)
    # Two are not refitted, one is and known well, one is and not known well.
    error = np.where(np.arange(8) == 2, 0.1, np.where(np.arange(8) == 3, 0.5, np.nan))
    uneven = LeftOut(even.elpd - 1, k_hat, 0.7, error)
    passed = replace(fit, sample=replace(fit.sample, convergence=fit.sample.convergence.assign_attrs(passed=1)))
    monkeypatch.setattr(comparison, "fit_switching", lambda *_, **__: passed)
    for second, n_bad in ((even, 0), (uneven, 3)):
        given = iter([even, second])
        monkeypatch.setattr(comparison, "leave_groups_out", lambda *_, given=given, **__: next(given))
        found = compare_switching(*traces, versions=VERSIONS)
        assert found["n_inexact"].to_numpy().tolist() == [0, n_bad]
        assert found["n_refitted"].to_numpy().tolist() == [0, second.refitted.sum()]
        assert found.attrs["reliable"] == (n_bad == 0)
        assert [f"up to {n_bad} of 8 groups" in note for note in note_weights(found)] == [True] * (n_bad > 0)


def test_a_density_that_is_not_finite_is_never_exact_nor_best(
    traces: Traces, fit: SwitchingFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = LeftOut(
        np.where(np.arange(8) == 1, np.nan, 5.0), np.full(8, 0.2), 0.7, np.where(np.arange(8) == 1, 0.0, np.nan)
    )
    assert lost.is_exact.tolist() == [True, False, *[True] * 6]
    known = LeftOut(np.zeros(8), np.full(8, 0.2), 0.7, np.full(8, np.nan))
    given = iter([lost, known])
    monkeypatch.setattr(comparison, "fit_switching", lambda *_, **__: fit)
    monkeypatch.setattr(comparison, "leave_groups_out", lambda *_, **__: next(given))
    found = compare_switching(*traces, versions=VERSIONS, refit=True)
    assert found.attrs["best"] == "x"
    assert not found.attrs["reliable"]
    assert "more draws" in note_weights(found)[0]


@pytest.mark.parametrize(("seen", "is_known"), [(1.0, True), (3.0, True), (8.0, False)])
def test_bridges_find_what_is_known_or_say_that_they_do_not(seen: float, is_known: bool) -> None:
    """An effect of N(0, 1) is seen with an error of .5; at 8 the draws with it and without it are far apart."""
    rng = np.random.default_rng(4)
    without, having = rng.normal(size=4000), rng.normal(seen / 1.25, np.sqrt(0.2), 4000)
    likelihood = norm(seen, 0.5).logpdf
    found, error = leaving_out.measure_ratio(likelihood(having), likelihood(without))
    assert (error <= leaving_out.MAX_ERROR) == is_known
    if is_known:
        # The error is told by four chains: that of Student's t with three degrees of freedom.
        assert abs(found - norm(0, np.sqrt(1.25)).logpdf(seen)) < 6 * error


def test_groups_that_are_taken_keep_their_likelihood(fit: SwitchingFit) -> None:
    whole, chosen = likelihood_by_group(fit), np.arange(8) % 3 != 1
    assert whole.shape == (8, 4 * 60)
    np.testing.assert_allclose(likelihood_by_group(fit, groups=chosen), whole[chosen], rtol=1e-9)


def test_weights_foretell_a_group_as_a_fit_without_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few groups that differ much; the tolerance is some four Monte Carlo errors of either."""
    traces = simulate_switching(
        n_layers=(4, 4), n_groups=8, n_items=40, rng=np.random.default_rng(7), hazards=Hazards(group_sd=1.2)
    )[:2]
    fit = fit_switching(*traces, priors=PRIORS, attempts=EFFORTS[:1])
    weighed = leave_groups_out(fit)
    assert not weighed.refitted.any()
    worst = int(np.argmax(weighed.k_hat))
    monkeypatch.setattr(leaving_out, "MAX_K_HAT", min(np.sort(weighed.k_hat)[-2], 0.7))
    refitted = leave_groups_out(fit, refit=True)
    assert refitted.refitted.tolist() == (weighed.k_hat > refitted.limit).tolist()
    others = ~refitted.refitted
    np.testing.assert_array_equal(refitted.elpd[others], weighed.elpd[others])
    assert refitted.elpd[worst] == pytest.approx(weighed.elpd[worst], abs=0.8)
    assert refitted.is_exact.all()
    # Two fits without the group, from other seeds, must agree as well as they say.
    again = leave_groups_out(fit, refit=True, seed=1)
    assert abs(again.elpd[worst] - refitted.elpd[worst]) < 6 * np.hypot(again.error[worst], refitted.error[worst])
