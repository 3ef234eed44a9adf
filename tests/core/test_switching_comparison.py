"""Versions of the hazard model compared: which fits are used, and what is said of them."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from mfbayes.errors import InputError
from mfbayes.sampling import Effort
from mfbayes.switching import comparison
from mfbayes.switching.comparison import compare_switching, note_weights
from mfbayes.switching.fit import SwitchingFit, fit_switching
from mfbayes.switching.priors import SwitchingPriors
from mfbayes.switching.simulation import simulate_switching
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
    """Of densities that are normal over the draws weights are even; of a heavy tail they are not."""
    rng = np.random.default_rng(2)
    even = 0.1 * rng.standard_normal((8, 400))
    uneven = even.copy()
    uneven[:2] = -2 * rng.standard_exponential((2, 400))
    made = {"": iter([even, even]), "bad": iter([even, uneven])}

    def give(which: str, *_: object, **__: object) -> NDArray[np.float64]:
        return next(made[which])

    passed = replace(fit, sample=replace(fit.sample, convergence=fit.sample.convergence.assign_attrs(passed=1)))
    monkeypatch.setattr(comparison, "fit_switching", lambda *_, **__: passed)
    for which, n_bad in (("", 0), ("bad", 2)):
        monkeypatch.setattr(comparison, "likelihood_by_group", partial(give, which))
        found = compare_switching(*traces, versions=VERSIONS)
        assert found["n_bad_k"].to_numpy().tolist() == [0, n_bad]
        assert found.attrs["reliable"] == (n_bad == 0)
        assert [f"up to {n_bad} of 8 groups" in note for note in note_weights(found)] == [True] * (n_bad > 0)
