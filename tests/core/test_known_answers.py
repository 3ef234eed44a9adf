"""Estimates of glmer, glmmTMB and psignifit on the same trials, as `known_answers/README.md` says they came about."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.optimize import minimize

from mfbayes.design import Design, lay_out
from mfbayes.marginal.fast import approximate
from mfbayes.marginal.likelihood import marginal_likelihood
from mfbayes.priors import Priors
from mfbayes.selection import select_trials
from mfbayes.trials import check_trials

FOLDER = Path(__file__).with_name("known_answers")
BY_R = [(name, program) for name in ("even", "uneven") for program in ("glmer", "glmmTMB")]


def read_answer(name: str, program: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((FOLDER / f"{name}-{program}.json").read_text(encoding="utf-8"))
    return answer


@cache
def read_design(name: str) -> Design:
    table = pd.read_csv(FOLDER / f"{name}.csv")
    # Two entropies that have this dH.
    entropies = {"H_text": 1 + table["dH"] / 2, "H_image": 1 - table["dH"] / 2}
    choice = np.where(table["y"] == 1, "text", "image")
    trials = pd.DataFrame({"model": table["m"], "group": table["g"], "choice": choice, **entropies})
    return lay_out(select_trials(check_trials(trials), subset="all").trials)


@cache
def fit_fast(name: str) -> xr.Dataset:
    drawn = approximate(read_design(name), draws=4000)
    assert drawn.passed
    return drawn.posterior


@pytest.mark.parametrize(("name", "program"), BY_R)
def test_the_marginal_is_that_of_glmm_programs_and_at_its_maximum(name: str, program: str) -> None:
    answer, design = read_answer(name, program), read_design(name)
    assert design.n_trials == answer["n_trials"]
    coefficients = np.column_stack([answer["intercept"], answer["slope"]])
    scales = [answer["group_sd"], answer["group_model_sd"], 0.0]
    found = marginal_likelihood(design).evaluate(coefficients, scales)
    # The same approximation: what is left are the optimisers' tolerances.
    assert found.value == pytest.approx(answer["log_likelihood"], abs=1e-3)
    assert np.abs(found.coefficients).max() < 0.01
    assert np.abs(found.scales).max() < 0.01


@pytest.mark.parametrize(("name", "program"), BY_R)
def test_the_fast_tier_estimates_what_glmm_programs_do(name: str, program: str) -> None:
    answer, posterior = read_answer(name, program), fit_fast(name)
    mean, sd = posterior.mean(("chain", "draw")), posterior.std(("chain", "draw"))
    error = np.array(answer["standard_error"])
    # Weak priors and a common mean of the models move balance points by a small part of their errors.
    assert np.abs((mean["balance_point"].to_numpy() - answer["balance_point"]) / error).max() < 0.25
    np.testing.assert_allclose(sd["balance_point"].to_numpy() / error, 1, atol=0.05)
    np.testing.assert_allclose(mean["slope"].to_numpy() / answer["slope"], 1, atol=0.03)
    for scale in ("group_sd", "group_model_sd"):
        assert float(posterior[scale].median()) == pytest.approx(answer[scale], rel=0.04)


def test_without_groups_the_maximum_is_psignifits() -> None:
    answer, design = read_answer("single", "psignifit"), read_design("single")
    assert not design.has_model_effect
    likelihood = marginal_likelihood(design)

    def surprise(point: np.ndarray) -> float:
        return -likelihood.evaluate(np.array([[point[0] * point[1], point[1]]]), (0.0, 0.0, 0.0)).value

    found = minimize(surprise, (0.0, 2.0), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8}).x
    assert found[0] == pytest.approx(answer["mode"]["balance_point"], abs=1e-4)
    assert found[1] == pytest.approx(answer["mode"]["slope"], rel=1e-3)


@pytest.mark.parametrize("with_groups", [True, False])
def test_the_fast_tiers_interval_is_psignifits(with_groups: bool) -> None:
    answer = read_answer("single", "psignifit")
    if with_groups:
        posterior = fit_fast("single")
    else:
        posterior = approximate(read_design("single"), priors=Priors(group_sd=0.01), draws=4000).posterior
    tail = (1 - answer["prob"]) / 2
    draws = posterior["balance_point"].to_numpy().ravel()
    lower, upper = answer["interval"]["balance_point"]
    half_width = (upper - lower) / 2
    assert draws.mean() == pytest.approx(answer["mean"]["balance_point"], abs=0.1 * half_width)
    np.testing.assert_allclose(np.quantile(draws, [tail, 1 - tail]), (lower, upper), atol=0.1 * half_width)
    if with_groups:
        # Slopes given a group are steeper than those averaged over groups, which psignifit estimates.
        assert float(posterior["slope"].mean()) > answer["mode"]["slope"]
        return
    slopes = np.quantile(posterior["slope"].to_numpy(), [tail, 1 - tail])
    low, high = answer["interval"]["slope"]
    np.testing.assert_allclose(slopes, (low, high), atol=0.15 * (high - low) / 2)
