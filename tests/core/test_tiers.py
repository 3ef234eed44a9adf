"""Three tiers, one model: the same tree, the same balance points."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from arviz_stats import ess  # type: ignore[attr-defined]

import mfbayes
from mfbayes.errors import ConvergenceError, InputError
from mfbayes.marginal.likelihood import Evaluation, MarginalLikelihood
from mfbayes.simulation import Scenario, simulate_trials

TIERS = ("nuts", "fast", "reference")


@pytest.fixture(scope="module")
def trials(simulate: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return simulate(seed=6, balance_points={"reader": 0.4, "seer": -0.5, "third": 0.0}, n_groups=30)


@pytest.fixture(scope="module")
def conditions(simulate: Callable[..., pd.DataFrame], trials: pd.DataFrame) -> pd.DataFrame:
    """The models under two prompts, so that every level of effects and of the population is there."""
    hinted = simulate(seed=6, balance_points={"reader": 0.7, "seer": -0.2, "third": 0.3}, n_groups=30)
    return pd.concat([trials.assign(condition="default"), hinted.assign(condition="hint")], ignore_index=True)


@pytest.fixture(scope="module")
def crossed() -> pd.DataFrame:
    """Three models of two families, on two tasks under two conditions, without two of the twelve cells."""
    scenario = Scenario(
        models={"x1": -0.5, "x2": 0.5, "y1": 0.0},
        families={"x1": "x", "x2": "x", "y1": "y"},
        family_sd=0.2,
        tasks={"s": 0.0, "t": 0.2},
        conditions={"plain": 0.0, "hint": 0.3},
        n_groups=15,
        image_tiers=5,
        text_tiers=2,
    )
    found, _ = simulate_trials(scenario, rng=np.random.default_rng(2))
    cell = found["model"] + found["task"] + found["condition"]
    return found[~cell.isin(["y1shint", "x2tplain"])].reset_index(drop=True)


@pytest.fixture(scope="module")
def trees(trials: pd.DataFrame) -> dict[str, xr.DataTree]:
    return {method: mfbayes.fit(trials, method=method, seed=2, checks=False) for method in TIERS}


def shift(balance_point: xr.DataArray) -> xr.DataArray:
    """From plain to hint, in every model and task that has both."""
    subjects = set(balance_point.indexes["subject"])
    hinted = sorted(name for name in subjects if name.endswith("hint") and name.replace("hint", "plain") in subjects)
    plain = [name.replace("hint", "plain") for name in hinted]
    after, before = (
        balance_point.sel(subject=own).drop_vars("subject").rename(subject="cell") for own in (hinted, plain)
    )
    return after - before


def assert_same(
    own: xr.DataArray, reference: xr.DataArray, *, spare_mean: float = 0.1, effective_share: float = 1.0
) -> None:
    """Means within 4 Monte Carlo errors and a tenth of a standard deviation (slopes: a quarter); that within 6 %.

    Draws that were weighed and drawn again look independent; their effective share says how many they are.
    """
    over = ("chain", "draw")
    sd = reference.std(over)
    sizes = [np.asarray(ess(draws.to_dataset(name="value"))["value"]) for draws in (own, reference)]
    sizes[0] = sizes[0] * effective_share
    error = sd * np.sqrt(1 / sizes[0] + 1 / sizes[1])
    distance = np.abs(own.mean(over) - reference.mean(over))
    assert bool((distance < 4 * error + spare_mean * sd).all()), distance / sd
    ratio = own.std(over) / sd
    # A standard deviation's own Monte Carlo error is about 1 / sqrt(2 ess).
    spare = 0.06 + 3 * np.sqrt(1 / (2 * sizes[0]) + 1 / (2 * sizes[1]))
    assert bool((np.abs(np.log(ratio)) < spare).all()), ratio.to_numpy()


def test_all_have_the_same_variables_and_estimates(trees: dict[str, xr.DataTree]) -> None:
    shapes = []
    for tree in trees.values():
        assert tree.attrs["status"] == "ok"
        shapes.append(
            (
                {name: values.dims for name, values in tree["posterior"].to_dataset().data_vars.items()},
                {name: set(node.to_dataset().data_vars) for name, node in tree["estimates"].children.items()}
                | {"convergence": set()},
            )
        )
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize("method", ["nuts", "fast"])
def test_they_agree_with_the_explicit_model(trees: dict[str, xr.DataTree], method: str) -> None:
    own, reference = (trees[name]["posterior"].to_dataset() for name in (method, "reference"))
    assert_same(own["balance_point"], reference["balance_point"])
    assert_same(own["slope"], reference["slope"], spare_mean=0.25)
    for name in ("group_sd", "group_model_sd", "balance_point_sd", "log_slope_sd"):
        expected, width = float(reference[name].mean()), float(reference[name].std())
        known = [float(ess(draws[name].to_dataset())[name]) for draws in (own, reference)]
        # The fast tier has no mass at zero, so that a spread told poorly comes out somewhat larger.
        allowed = 0.06 * expected + (
            0.5 * width if method == "fast" else 4 * width * (1 / known[0] + 1 / known[1]) ** 0.5
        )
        assert abs(float(own[name].mean()) - expected) < allowed, name


@pytest.mark.parametrize("method", [pytest.param("nuts", marks=pytest.mark.slow), "fast"])
def test_shifts_between_conditions_are_found(conditions: pd.DataFrame, method: str) -> None:
    tree = mfbayes.fit(conditions, method=method, seed=2, checks=False)
    assert tree.attrs["status"] == "ok"
    assert {"balance_point_model_sd", "group_condition_sd"} <= set(tree["posterior"].to_dataset().data_vars)
    shifts = tree["estimates/condition_shifts"].to_dataset()
    assert shifts.attrs["baseline"] == "default"
    assert bool(((shifts["lower"] < 0.3) & (shifts["upper"] > 0.3)).all())
    assert float(shifts["mean"][-1]) == pytest.approx(0.3, abs=0.15)


def test_fast_fits_small_crossed_designs(crossed: pd.DataFrame) -> None:
    """Ten subjects and five levels above them: twelve spreads, of which trials tell little."""
    fits = {method: mfbayes.fit(crossed, method=method, seed=2, checks=False) for method in ("nuts", "fast")}
    assert all(fitted.attrs["status"] == "ok" for fitted in fits.values())
    checks = fits["fast"]["estimates/convergence"].attrs
    assert checks["effective_nodes"] > 4 * checks["min_effective_nodes"]
    exact, quick = (fits[name]["posterior"].to_dataset() for name in ("nuts", "fast"))
    levels = ("family", "model", "task", "condition", "model_task")
    spreads = [f"{name}_sd" for level in levels for name in (f"balance_point_{level}", f"log_slope_{level}")]
    assert set(spreads) <= set(exact.data_vars)
    share = checks["effective_share"]
    assert_same(quick["balance_point"], exact["balance_point"], effective_share=share)
    assert_same(quick["slope"], exact["slope"], spare_mean=0.25, effective_share=share)
    shifts = [shift(draws["balance_point"]) for draws in (quick, exact)]
    assert shifts[0].sizes["cell"] == 4
    assert_same(*shifts, effective_share=share)
    for name in spreads:
        # With a score of effective nodes instead of hundreds, some are half a standard deviation away.
        assert abs(float(quick[name].mean() - exact[name].mean())) < 0.35 * float(exact[name].std()), name


def test_effects_of_groups_are_brought_back(trees: dict[str, xr.DataTree]) -> None:
    first, second = (trees[name]["estimates/group_effects"].to_dataset() for name in ("nuts", "reference"))
    np.testing.assert_allclose(first["group_effect"], second["group_effect"], atol=0.15)
    np.testing.assert_allclose(first["group_effect_sd"], second["group_effect_sd"], rtol=0.1)
    assert float(first["group_effect"].std()) > 0.3


def test_what_cannot_be_fitted_is_refused_with_a_reason(trials: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"dH is .* in every trial"):
        mfbayes.fit(trials.assign(H_text=1.0, H_image=1.0))
    with pytest.raises(InputError, match="baseline"):
        mfbayes.fit(trials, baseline="none")
    with pytest.raises(InputError, match="zone"):
        mfbayes.fit(trials, zone=3)
    many = trials.assign(model=trials["model"] + trials["group"] + trials["d_text"].astype(str))
    crowd = pd.concat([many.assign(model=many["model"] + str(i)) for i in range(3)])
    for method in ("fast", "nuts"):
        with pytest.raises(InputError, match=r"at most 200 models.*got 810.*in parts"):
            mfbayes.fit(crowd, method=method)


def test_choices_that_are_nearly_certain_are_fitted_with_all_checks(simulate: Callable[..., pd.DataFrame]) -> None:
    """dH at its bounds only, steep slopes: the tilt of the groups' spreads once ran away from any mode."""
    base = simulate(seed=13, balance_points={"a": -0.3, "b": 0.0, "c": 0.3}, n_groups=30, n_images=5, n_texts=2)
    rng = np.random.default_rng(14)
    dH = rng.choice([-2.0, 2.0], len(base))
    b, slope = base["model"].map({"a": -0.3, "b": 0.0, "c": 0.3}).to_numpy(), 2.5
    level = rng.normal(0, 0.6, 30)[base["group"].str[1:].astype(int)]
    text = rng.random(len(base)) < 1 / (1 + np.exp(-(slope * (b - dH) + level)))
    trials = base.assign(H_text=1 + dH / 2, H_image=1 - dH / 2, choice=np.where(text, "text", "image"))
    fits = {method: mfbayes.fit(trials, seed=2, method=method, checks=method == "nuts") for method in ("nuts", "fast")}
    for name, fitted in fits.items():
        assert fitted.attrs["status"] == "ok", name
    exact, quick = (fits[name]["posterior"].to_dataset() for name in ("nuts", "fast"))
    over = ("chain", "draw")
    for name in ("balance_point", "slope"):
        away = np.abs(exact[name].median(over) - quick[name].median(over)) / exact[name].std(over)
        assert (away < 0.35).all(), name
        np.testing.assert_allclose(quick[name].std(over), exact[name].std(over), rtol=0.4)
    assert "sensitivity" in fits["nuts"]["estimates"].children


def test_a_check_without_an_answer_leaves_the_fit_as_it_is(
    trials: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConvergenceError("no mode")

    monkeypatch.setattr("mfbayes.finishing.split_by_total_entropy", fail)
    fitted = mfbayes.fit(trials, method="fast")
    assert fitted.attrs["status"] == "ok"
    assert "halves" not in fitted["estimates"].children
    assert {"laws", "monotone", "plane", "sensitivity"} <= set(fitted["estimates"].children)
    assert "Halves by total entropy could not be told: no mode" in fitted.attrs["notes"]


@pytest.mark.parametrize("method", ["nuts", "fast"])
def test_separated_and_meagre_data_give_wide_intervals_not_wrong_ones(
    simulate: Callable[..., pd.DataFrame], method: str
) -> None:
    """A model that switches sides at dH = .3 without exception, one with a group of its own, one trial a cell."""
    base = simulate(seed=9, balance_points={"plain": 0.0, "sharp": 0.0, "alone": 0.2}, n_groups=16, other_share=0.0)
    dH = 2 * (base["H_text"] - base["H_image"]) / (base["H_text"] + base["H_image"])
    sharp = base["model"] == "sharp"
    base.loc[sharp, "choice"] = np.where(dH[sharp] < 0.3, "text", "image")
    base.loc[base["model"] == "alone", "group"] = "its own"
    table = mfbayes.balance_points(mfbayes.fit(base, method=method, checks=False))
    rows = {str(row["model"]): row for row in table.to_dict("records")}
    assert all(row["status"] == "ok" for row in rows.values())
    assert rows["sharp"]["lower"] < 0.3 < rows["sharp"]["upper"]
    assert rows["sharp"]["slope_mean"] > 4
    # One group tells one model's balance point no better than its group effect is known.
    assert rows["alone"]["sd"] > 1.5 * rows["plain"]["sd"]
    once = base[~sharp & (base["model"] != "alone")].groupby("group").head(1)
    single = mfbayes.fit(once, method=method, checks=False)
    assert "group_model_sd" not in single["posterior"].to_dataset()
    assert single["posterior"]["balance_point"].std() > 0.1


def test_a_likelihood_without_curvature_is_refused(trials: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MarginalLikelihood.evaluate

    def evaluate(self: MarginalLikelihood, *args: Any, **kwargs: Any) -> Evaluation:
        found = whole(self, *args, **kwargs)
        return found._replace(coefficients=np.full_like(found.coefficients, np.nan))

    monkeypatch.setattr(MarginalLikelihood, "evaluate", evaluate)
    with pytest.raises(ConvergenceError, match="method 'nuts'"):
        mfbayes.fit(trials, method="fast", checks=False)
