"""Posteriors with two modes: where slopes are in doubt, balance points can be on either side."""

import numpy as np
import pytest
from scipy.special import expit

from mfbayes import names
from mfbayes.design import Design, lay_out
from mfbayes.marginal import fast
from mfbayes.marginal.fast import approximate
from mfbayes.marginal.modes import find_modes
from mfbayes.marginal.population import populate
from mfbayes.priors import Priors
from mfbayes.selection import select_trials
from mfbayes.simulation import Scenario, simulate_trials
from mfbayes.uncertainty import relative_uncertainty

RISING = ("m0", "m1")
SUBJECT = "m0 / low"


@pytest.fixture(scope="module")
def design() -> Design:
    """Three models that lean to the image, two of which follow the text under "low", the more the higher dH."""
    rng = np.random.default_rng(14)
    scenario = Scenario(
        models={"m0": -1.4, "m1": -1.7, "m2": -1.6},
        slopes={"m0": 1.0, "m1": 0.8, "m2": 0.9},
        conditions={"low": -1.2, "high": 0.0},
        n_groups=20,
        image_tiers=7,
        text_tiers=2,
        group_sd=0.5,
        group_model_sd=0.3,
        group_condition_sd=1.4,
    )
    found, _ = simulate_trials(scenario, rng=rng)
    rising = found[names.MODEL].isin(RISING) & (found[names.CONDITION] == "low") & (found[names.CHOICE] != names.OTHER)
    dH = relative_uncertainty(found.loc[rising, names.H_TEXT], found.loc[rising, names.H_IMAGE])
    text = rng.random(int(rising.sum())) < expit(1.1 + 0.5 * dH)
    found.loc[rising, names.CHOICE] = np.where(text, names.TEXT, names.IMAGE)
    return lay_out(select_trials(found).trials)


def test_draws_are_shared_between_two_modes_as_by_sampling(design: Design) -> None:
    """NUTS, 5,000 draws of two seeds: b above zero with probability .841 (Monte Carlo error .01), its sd 2.42."""
    fitted = approximate(design, seed=1)
    assert fitted.passed
    assert fitted.convergence.attrs["modes"] == 2
    point = fitted.posterior["balance_point"].sel(subject=SUBJECT).to_numpy()
    # About 200 effective draws: an error of .03 in the share.
    assert (point > 0).mean() == pytest.approx(0.841, abs=0.1)
    assert point.std() == pytest.approx(2.42, rel=0.15)


def test_the_modes_differ_in_those_whose_slope_is_in_doubt(design: Design) -> None:
    wide, narrow = find_modes(design, populate(design, Priors()), Priors())
    assert wide.found
    assert narrow.found
    own = design.subjects.index(SUBJECT)
    assert wide.quadratic.point[own] > 2
    assert narrow.quadratic.point[own] < -1


def test_the_heavier_mode_is_kept_where_there_are_too_many_trials_to_weigh(
    design: Design, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "count_affordable", lambda n_draws, n_trials, n_groups: 0)
    fitted = approximate(design, seed=1)
    assert fitted.convergence.attrs["modes"] == 1
    assert float(fitted.posterior["balance_point"].sel(subject=SUBJECT).median()) > 2


def test_clear_slopes_have_one_mode() -> None:
    trials, _ = simulate_trials(Scenario(n_groups=20), rng=np.random.default_rng(3))
    plain = lay_out(select_trials(trials).trials)
    assert len(find_modes(plain, populate(plain, Priors()), Priors())) == 1
    assert approximate(plain).convergence.attrs["modes"] == 1
