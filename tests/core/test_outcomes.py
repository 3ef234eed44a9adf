"""Three outcomes: who is refused, which trials take part, and what the verdict follows from."""

from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from scipy.special import log_expit

from mfbayes.errors import InputError
from mfbayes.outcomes import NO_SIGN, NOT_IGNORABLE, UNCLEAR, _judge, fit_three_outcomes, three_outcome_model
from mfbayes.trials import check_trials, select_trials


@pytest.fixture(scope="module")
def trials(simulate) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    table = simulate(seed=2, balance_points={"a": -0.3, "b": 0.3}, n_groups=8, n_images=3, other_share=0.3)
    table.loc[table["group"] == "g0003", "choice"] = "other"
    return select_trials(check_trials(table), subset="all").trials


def evaluate(model: pm.Model, wanted: list[str], point: dict[str, Any]) -> list[Any]:
    outputs = model.replace_rvs_by_values([model[name] for name in wanted])
    function = model.compile_fn(outputs, inputs=model.value_vars, on_unused_input="ignore", point_fn=False)
    return list(function(*(point[value.name] for value in model.value_vars)))


@pytest.mark.parametrize(
    ("choice", "message"), [("text", "every answer is text or image"), ("other", "every choice is 'other'")]
)
def test_one_kind_of_choice_is_refused(trials: pd.DataFrame, choice: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        three_outcome_model(trials.assign(choice=choice))


def test_few_others_are_refused(trials: pd.DataFrame) -> None:
    few = trials.assign(choice=np.where(np.arange(len(trials)) < 4, "other", "text"))
    with pytest.raises(InputError, match="got 4 in 1"):
        fit_three_outcomes(few)


def test_groups_of_nothing_but_other_take_part(trials: pd.DataFrame) -> None:
    """Their effect is the scale times their own coordinate; a known group's follows the loading."""
    model = three_outcome_model(trials)
    point = {name: np.full(np.shape(value), 0.4) for name, value in model.initial_point().items()}
    wanted = ["group_effect", "group_sd", "correlation_group", "other_group_effect"]
    u, scale, rho, h = evaluate(model, wanted, point)
    spread = np.hypot(0.4, 0.4 * scale)
    assert (len(u), len(h)) == (7, 8)
    assert rho == pytest.approx(0.4 * scale / spread)
    assert h[3] == pytest.approx(0.4 * spread)
    known = np.delete(h, 3)
    np.testing.assert_allclose(known, 0.4 * u + 0.4 * 0.4)


def test_likelihood_of_other_counts_every_trial(trials: pd.DataFrame) -> None:
    model = three_outcome_model(trials)
    point = {name: np.zeros(np.shape(value)) for name, value in model.initial_point().items()}
    point |= {name: np.full(np.shape(v), 0.5) for name, v in point.items() if name.endswith("_signed")}
    point["other_group_sd_signed"] = point["other_group_model_sd_signed"] = np.array(0.0)
    slopes = ["other_intercept", "other_slope_dH", "other_slope_dH_squared", "other_slope_total_uncertainty"]
    beta = np.array(evaluate(model, slopes, point))
    total = (trials["H_text"] + trials["H_image"]).to_numpy()
    dH = trials["dH"].to_numpy()
    x = np.array([np.ones_like(dH), dH, dH**2, (total - total.mean()) / total.std()])
    logit = (beta[:, (trials["model"] == "b").to_numpy(int)] * x).sum(axis=0)
    expected = log_expit(np.where(trials["choice"] == "other", logit, -logit)).sum()
    found = model.compile_logp(vars=[model["is_other"]], jacobian=False)(point)
    assert float(found) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("above", "reach", "passed", "verdict"),
    [
        (0.5, 0.05, True, NO_SIGN),
        (0.03, 0.05, True, NO_SIGN),
        (0.02, 0.05, True, NOT_IGNORABLE),
        (0.995, 0.05, True, NOT_IGNORABLE),
        (0.5, 0.15, True, UNCLEAR),
        (0.01, 0.05, False, UNCLEAR),
    ],
)
def test_verdict_follows_its_rule(above: float, reach: float, passed: bool, verdict: str) -> None:
    table = xr.Dataset(
        {
            "p_positive": ("level", [above, 0.5]),
            "shift_lower": ("subject", [-reach]),
            "shift_upper": ("subject", [reach]),
        }
    )
    assert _judge(table, ci_prob=0.95, passed=passed) == verdict
