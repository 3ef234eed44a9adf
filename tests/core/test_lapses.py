"""Lapses: the density that the formula states, and a slope that random answers no longer flatten."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from scipy.special import expit
from scipy.stats import beta, norm

import mfbayes
from mfbayes import sampling
from mfbayes.convergence import Sample
from mfbayes.design import Design, lay_out
from mfbayes.errors import InputError
from mfbayes.fitting import choose_method
from mfbayes.following import following_model
from mfbayes.lapses import LapsePrior, describe_lapses, lapsing_model
from mfbayes.marginal.fast import approximate
from mfbayes.priors import Priors
from mfbayes.reports.page import render
from mfbayes.sampling import sample
from mfbayes.selection import select_trials
from mfbayes.trials import check_trials


@pytest.fixture(scope="module")
def design(simulate) -> Design:  # type: ignore[no-untyped-def]
    """Two models that answer at random in a fifth of their trials: lambda is .1."""
    trials = simulate(seed=3, balance_points={"a": -0.4, "b": 0.3}, slope=4.0, n_groups=20, other_share=0.0)
    rng = np.random.default_rng(4)
    guess = np.where(rng.random(len(trials)) < 0.5, "text", "image")
    trials["choice"] = np.where(rng.random(len(trials)) < 0.2, guess, trials["choice"])
    return lay_out(select_trials(check_trials(trials), subset="all").trials)


def test_density_is_a_mixture_with_chance_under_the_stated_priors(design: Design) -> None:
    """Coordinates change with the rate of lapses; the density of what they stand for is known from the formula."""
    model, priors = lapsing_model(design), Priors()
    density = model.compile_logp(jacobian=False)
    kept = (
        *("balance_point", "log_slope", "balance_point_mean", "log_slope_mean", "balance_point_sd", "log_slope_sd"),
        *("group_sd", "group_model_sd", "group_effect", "group_model_effect", "lapse", "lapse_coordinate"),
    )
    tell = model.compile_fn(model.replace_rvs_by_values([model[name] for name in kept]))
    rng = np.random.default_rng(0)
    start = model.initial_point()
    spreads = {name: np.full(np.shape(value), 0.4) for name, value in start.items() if name.endswith("_signed")}

    def compare() -> float:
        """Density in the coordinates less the density by the formula: the change of variables, a constant."""
        point = {name: rng.normal(0, 0.7, np.shape(value)) for name, value in start.items()} | spreads
        v = dict(zip(kept, tell(point), strict=True))
        explicit = norm.logpdf(v["balance_point"], v["balance_point_mean"], v["balance_point_sd"]).sum()
        explicit += norm.logpdf(v["log_slope"], v["log_slope_mean"], v["log_slope_sd"]).sum()
        explicit += norm.logpdf(v["balance_point_mean"], 0, priors.balance_point_mean_sd)
        explicit += norm.logpdf(v["log_slope_mean"], priors.log_slope_mean, priors.log_slope_mean_sd)
        explicit += norm.logpdf(v["group_effect"], 0, v["group_sd"]).sum()
        explicit += norm.logpdf(v["group_model_effect"], 0, v["group_model_sd"]).sum()
        explicit += norm.logpdf(v["lapse_coordinate"]).sum()
        subject = design.trial_subject
        logit = np.exp(v["log_slope"])[subject] * (v["balance_point"][subject] - design.uncertainty)
        logit += v["group_effect"][design.trial_group] + v["group_model_effect"][design.cell_branch[design.trial_cell]]
        lapse = v["lapse"][subject]
        p = lapse + (1 - 2 * lapse) * expit(logit)
        explicit += np.log(np.where(design.is_text == 1, p, 1 - p)).sum()
        return float(density(point) - explicit)

    constants = [compare() for _ in range(4)]
    assert np.ptp(constants) < 1e-6


def test_rate_has_its_prior(design: Design) -> None:
    """Where its coordinate is standard normal, 2 lambda is Beta(1, 1 / mean - 1)."""
    model = lapsing_model(design, lapse_prior=LapsePrior(mean=0.1))
    (lapse,) = model.replace_rvs_by_values([model["lapse"]])
    (value,) = (v for v in model.value_vars if v.name == "lapse_coordinate")
    for z in (-6.0, -1.0, 0.0, 2.0, 5.0):
        assert 2 * lapse.eval({value: np.full(2, z)}) == pytest.approx(np.full(2, beta(1, 9).isf(norm.sf(z))), rel=1e-9)


def test_lapses_are_described_by_model() -> None:
    draws = np.linspace(0.0, 0.2, 1001)
    posterior = xr.Dataset({"lapse": (("chain", "draw", "model_label"), np.stack([draws, draws / 2], axis=-1)[None])})
    found = describe_lapses(posterior.assign_coords(model_label=["a", "b"]), ci_prob=0.9)
    assert found["mean"].to_series().to_dict() == pytest.approx({"a": 0.1, "b": 0.05})
    assert found["lower"].to_series().to_dict() == pytest.approx({"a": 0.01, "b": 0.005})
    assert found["upper"].to_series().to_dict() == pytest.approx({"a": 0.19, "b": 0.095})


def test_lapses_are_for_one_method() -> None:
    assert choose_method(None, lapse=True) == "reference"
    assert choose_method(None, lapse=False) == "nuts"
    for method in ("nuts", "fast"):
        with pytest.raises(InputError, match="method 'reference' alone"):
            choose_method(method, lapse=True)


def test_a_fit_with_lapses_is_whole(simulate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """From draws to the file; the draws are those of the fast tier, so that nothing is sampled."""
    trials = simulate(seed=3, balance_points={"a": -0.4, "b": 0.3}, n_groups=8, n_images=3)
    asked: list[str] = []

    def draw(model: pm.Model, *, keep: list[str], **_: object) -> Sample:
        asked.extend(name for name in keep if name in model.named_vars)
        chosen = select_trials(check_trials(trials), subset="both-correct").trials
        drawn = approximate(lay_out(chosen))
        size = drawn.posterior.sizes["chain"], drawn.posterior.sizes["draw"]
        lapse = np.broadcast_to(np.array([0.05, 0.1]), (*size, 2))
        dims = ("chain", "draw", "model_label")
        posterior = drawn.posterior.assign(lapse=(dims, lapse)).assign_coords(model_label=["a", "b"])
        # Draws of -2 and of 2 about a mean of the group's or branch's number.
        for name, dim, n in (("group_effect", "group", 8), ("group_model_effect", "branch", 16)):
            sign = np.where(np.arange(size[1]) % 2, 2.0, -2.0)
            values = np.broadcast_to(sign[:, None] + np.arange(n), (*size, n))
            posterior[name] = (("chain", "draw", dim), values)
        return replace(drawn, posterior=posterior)

    monkeypatch.setattr(sampling, "sample", draw)
    tree = mfbayes.fit(trials, lapse=True, checks=False)
    assert {"lapse", "balance_point", "slope", "group_effect", "group_model_effect"} <= set(asked)
    # Effects are those that were sampled with the lapses, and their draws are not kept.
    effects = tree["estimates/group_effects"].to_dataset()
    np.testing.assert_allclose(effects["group_effect"], np.arange(8))
    np.testing.assert_allclose(effects["group_model_effect"], np.arange(16).reshape(8, 2).T)
    np.testing.assert_allclose(effects["group_effect_sd"], 2)
    assert not {"group_effect", "group_model_effect"} & set(tree["posterior"].to_dataset().data_vars)
    assert tree.attrs["method"] == "reference"
    mfbayes.save_fit(tree, tmp_path / "fit.nc")
    again = mfbayes.load_fit(tmp_path / "fit.nc")
    assert again["posterior"]["lapse"].dims == ("chain", "draw", "model_label")
    assert again["estimates/lapses"]["mean"].to_series().to_dict() == pytest.approx({"a": 0.05, "b": 0.1})
    assert any("lapses" in note for note in json.loads(again.attrs["notes"]))
    assert "Random answers" in render(again)
    # Half of random answers are texts: predictions and curves never go below, nor above what is left.
    shares = mfbayes.predict(again, H_text=[1.0, 1e-6], H_image=[1e-6, 1.0])
    plain = again.copy()
    plain["posterior"] = again["posterior"].to_dataset().drop_vars("lapse")
    without = mfbayes.predict(plain, H_text=[1.0, 1e-6], H_image=[1e-6, 1.0])
    for name in ("mean", "lower", "upper", "new_group_median"):
        expected = np.array([[0.05], [0.1]]) + np.array([[0.9], [0.8]]) * without[name].to_numpy()
        assert shares[name].to_numpy() == pytest.approx(expected)
    curves = again["estimates/curves"]["mean"].to_numpy()
    assert (curves >= [[0.05], [0.1]]).all()
    assert (curves <= [[0.95], [0.9]]).all()


def test_mean_of_the_prior_is_a_rate() -> None:
    for mean in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="between 0 and 1, got"):
            LapsePrior(mean=mean)


@pytest.mark.slow
def test_lapses_are_told_from_a_shallow_slope(design: Design) -> None:
    def fit(model) -> Sample:  # type: ignore[no-untyped-def]
        keep = ["slope", "balance_point", *(["lapse"] if "lapse" in model.named_vars else [])]
        return sample(model, keep=keep, gate=keep, seed=1)

    plain, lapsing = fit(following_model(design)), fit(lapsing_model(design))
    assert lapsing.passed
    assert (plain.posterior["slope"].quantile(0.975, ("chain", "draw")) < 4).all()
    for name, truth in (("slope", 4.0), ("lapse", 0.1)):
        low, high = lapsing.posterior[name].quantile([0.005, 0.995], ("chain", "draw")).to_numpy()
        assert (low < truth).all()
        assert (truth < high).all()
