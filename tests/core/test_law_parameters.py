"""Parameters of the laws: known ones are found within their errors, and what trials cannot tell is not told."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import mfbayes
from mfbayes.errors import InputError
from mfbayes.laws.catalogue import DH, IDEAL_ARBITER, LOG_RATIO, TWO_ENTROPIES
from mfbayes.laws.laplace import LawFit, fit_law
from mfbayes.laws.law import Law
from mfbayes.laws.parameters import PARAMETERS, find_zero, law_parameters
from mfbayes.names import UNIMODAL_PROBABILITIES
from tests.core.test_laws import arbiter, falls_in_dH, simulate_law, two_effects

type Floats = np.ndarray


def falls_in_log_ratio(trials: pd.DataFrame) -> Floats:
    log_odds: Floats = 0.5 - np.log(trials["H_text"].to_numpy() / trials["H_image"].to_numpy())
    return log_odds


TRUTHS: Mapping[str, tuple[Callable[[pd.DataFrame], Floats], Mapping[str, float]]] = {
    DH: (falls_in_dH, {"level": 0.6, "slope": -2.0, "balance point": 0.3}),
    LOG_RATIO: (falls_in_log_ratio, {"level": 0.5, "slope": -1.0, "balance point": 0.5}),
    TWO_ENTROPIES: (two_effects, {"level": -1.0, "text slope": -1.0, "image slope": 3.0, "sum of slopes": 2.0}),
    IDEAL_ARBITER: (arbiter, {"level": 0.0, "kappa": 1.5, "r": 0.4}),
}


def width(found: xr.Dataset) -> xr.DataArray:
    return found["upper"] - found["lower"]


@pytest.mark.parametrize("law", PARAMETERS)
def test_known_parameters_are_found_and_told_better_with_more_groups(law: str) -> None:
    simulate, truth = TRUTHS[law]
    assert set(truth) == set(PARAMETERS[law])
    for seed in (11, 12):
        few, many = (law_parameters(simulate_law(simulate, seed=seed, n_groups=n)).sel(law=law) for n in (40, 160))
        for found in (few, many):
            for name, value in truth.items():
                own = found.sel(parameter=name)
                # An interval of 95 % is about four standard errors wide.
                assert (np.abs(own["median"] - value) < width(own)).all(), name
                assert ((own["lower"] < own["median"]) & (own["median"] < own["upper"])).all(), name
            np.testing.assert_array_equal(
                np.isfinite(found["median"].isel(subject=0)), found["parameter"].isin(list(truth))
            )
        narrower = (width(many).mean("subject") / width(few).mean("subject")).sel(parameter=list(truth))
        assert ((narrower > 0.35) & (narrower < 0.7)).all()


def test_intervals_cover_at_their_rate() -> None:
    """Intervals of 80 % of four laws' slopes, 96 in all: the sd is .041; half as wide cover .48, twice as wide .99."""
    covered = []
    for law, name in ((DH, "slope"), (LOG_RATIO, "slope"), (TWO_ENTROPIES, "image slope"), (IDEAL_ARBITER, "kappa")):
        simulate, truth = TRUTHS[law]
        for seed in range(6):
            trials = simulate_law(simulate, seed=100 + seed, n_groups=20, n_models=4)
            own = law_parameters(trials, ci_prob=0.8).sel(law=law, parameter=name)
            covered += ((own["lower"] < truth[name]) & (truth[name] < own["upper"])).to_numpy().tolist()
    assert len(covered) == 96
    assert np.mean(covered) == pytest.approx(0.8, abs=4 * 0.041)


def test_slopes_are_in_units_of_the_uncertainty() -> None:
    """In thirds of a nat slopes are a third; dH, the log ratio and the arbiter do not change."""
    trials = simulate_law(two_effects, seed=13, n_groups=20)
    found = mfbayes.law_parameters(trials)
    scaled = mfbayes.law_parameters(trials.assign(H_text=3 * trials["H_text"], H_image=3 * trials["H_image"]))
    for name in ("text slope", "image slope", "sum of slopes"):
        own, its = (table.sel(law=TWO_ENTROPIES, parameter=name) for table in (found, scaled))
        xr.testing.assert_allclose(own, 3 * its, rtol=1e-6)
    for law in (DH, LOG_RATIO, IDEAL_ARBITER):
        xr.testing.assert_allclose(found.sel(law=law), scaled.sel(law=law), rtol=1e-4)


def test_a_balance_point_has_the_quantiles_of_the_ratio() -> None:
    mean, covariance = np.array([0.7, -1.5]), np.array([[0.05, -0.03], [-0.03, 0.04]])
    middle, lower, upper = find_zero(mean, covariance, reach=1.96)
    level, slope = np.random.default_rng(0).multivariate_normal(mean, covariance, 400_000).T
    # Monte Carlo errors of the outer quantiles are about .001.
    np.testing.assert_allclose((lower, middle, upper), np.quantile(-level / slope, [0.025, 0.5, 0.975]), atol=0.005)


def test_what_trials_do_not_tell_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = simulate_law(falls_in_dH, seed=14, n_groups=20)
    whole = law_parameters(trials)
    without = law_parameters(trials.drop(columns=UNIMODAL_PROBABILITIES[0]))
    assert np.isnan(without.sel(law=IDEAL_ARBITER).to_dataarray()).all()
    xr.testing.assert_identical(without.drop_sel(law=IDEAL_ARBITER), whole.drop_sel(law=IDEAL_ARBITER))

    one_sided = law_parameters(trials.assign(choice=trials["choice"].where(trials["model"] != "m1", "text")))
    assert np.isnan(one_sided.sel(subject="m1").to_dataarray()).all()
    assert np.isfinite(one_sided["median"].sel(subject="m0", law=DH, parameter="slope"))

    flat = law_parameters(trials.assign(H_text=trials["H_text"].where(trials["model"] != "m1", 0.5)))
    assert np.isnan(flat.sel(subject="m1", law=TWO_ENTROPIES).to_dataarray()).all()
    assert np.isfinite(flat["median"].sel(subject="m1", law=LOG_RATIO, parameter="slope"))

    rng = np.random.default_rng(0)
    chance = law_parameters(trials.assign(choice=rng.choice(["text", "image"], len(trials)))).sel(law=DH)
    slope, point = (chance.sel(parameter=name) for name in ("slope", "balance point"))
    told = (slope["lower"] > 0) | (slope["upper"] < 0)
    np.testing.assert_array_equal(np.isfinite(point["median"]), told)
    assert not told.all()

    def lose(law: Law, *arguments: Any, **options: Any) -> LawFit:
        return replace(fit_law(law, *arguments, **options), found=law.label != DH)

    monkeypatch.setattr("mfbayes.laws.parameters.fit_law", lose)
    lost = law_parameters(trials)
    assert np.isnan(lost.sel(law=DH).to_dataarray()).all()
    xr.testing.assert_identical(lost.drop_sel(law=DH), whole.drop_sel(law=DH))


def test_what_cannot_be_fitted_is_refused() -> None:
    trials = simulate_law(falls_in_dH, seed=15, n_groups=4, n_models=1)
    with pytest.raises(InputError, match="ci_prob"):
        law_parameters(trials, ci_prob=95)
    with pytest.raises(InputError, match="two groups"):
        law_parameters(trials.assign(group="one"))
