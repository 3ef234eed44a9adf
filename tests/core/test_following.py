"""The following model: the coordinates it is sampled in do not change what it says."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_expit
from scipy.stats import halfnorm, norm

from mfbayes.following import Design, Priors, following_model, lay_out
from mfbayes.trials import check_trials, select_trials

EFFECTS = ("balance_point_mean", "balance_point", "log_slope_mean", "log_slope", "group_effect", "cell_effect")
SCALES = ("balance_point_sd", "log_slope_sd", "group_sd", "group_model_sd")


@pytest.fixture(scope="module")
def design() -> Design:
    rng = np.random.default_rng(5)
    subject, group = np.repeat([0, 0, 1, 1, 1], 4), np.repeat([0, 1, 0, 1, 2], 4)
    return Design(
        subjects=("a", "b"),
        subject_model=("a", "b"),
        subject_task=("t", "t"),
        groups=("g", "h", "i"),
        uncertainty=rng.uniform(-2, 2, 20),
        is_text=(rng.random(20) < 0.5).astype(np.float64),
        trial_subject=subject,
        trial_group=group,
    )


def log_joint(design: Design, values: dict[str, np.ndarray], priors: Priors) -> float:
    """The density as statistics states it: effects with their priors, and the likelihood."""
    b_sd, k_sd, g_sd, c_sd = (float(values[name]) for name in SCALES)
    b, log_k, u, v = (values[name] for name in ("balance_point", "log_slope", "group_effect", "cell_effect"))
    mu_b, mu_k = float(values["balance_point_mean"]), float(values["log_slope_mean"])
    total = norm.logpdf(mu_b, 0, priors.balance_point_mean_sd)
    total += norm.logpdf(mu_k, priors.log_slope_mean, priors.log_slope_mean_sd)
    total += halfnorm.logpdf(b_sd, scale=priors.balance_point_sd) + halfnorm.logpdf(k_sd, scale=priors.log_slope_sd)
    total += halfnorm.logpdf(g_sd, scale=priors.group_sd) + halfnorm.logpdf(c_sd, scale=priors.group_model_sd)
    total += norm.logpdf(b, mu_b, b_sd).sum() + norm.logpdf(log_k, mu_k, k_sd).sum()
    total += norm.logpdf(u, 0, g_sd).sum() + norm.logpdf(v, 0, c_sd).sum()
    subject = design.trial_subject
    logit = np.exp(log_k)[subject] * (b[subject] - design.uncertainty) + u[design.trial_group] + v[design.trial_cell]
    return float(total + np.where(design.is_text == 1, log_expit(logit), log_expit(-logit)).sum())


def test_density_is_the_models_whatever_the_coordinates(design: Design) -> None:
    """Density in coordinates = density of the effects times the Jacobian, found here by moving coordinates."""
    priors = Priors(group_sd=0.7)
    model = following_model(design, priors=priors)
    inputs = model.value_vars
    outputs = [model[name] for name in (*EFFECTS, *SCALES)]
    values_of = model.compile_fn(
        model.replace_rvs_by_values(outputs), inputs=inputs, on_unused_input="ignore", point_fn=False
    )
    density_of = model.compile_fn(model.logp(jacobian=False), inputs=inputs, point_fn=False)
    shapes = {name: np.shape(value) for name, value in model.initial_point().items()}
    rng = np.random.default_rng(11)
    for _ in range(5):
        point = {value.name: rng.normal(size=shapes[value.name]) for value in inputs}
        values = dict(zip((*EFFECTS, *SCALES), values_of(*point.values()), strict=True))
        # A scale and its mirror image share the half-normal density.
        log_jacobian = -len(SCALES) * float(np.log(2))
        for name in EFFECTS:
            moved = point | {f"{name}_coordinate": point[f"{name}_coordinate"] + 1.0}
            after = dict(zip((*EFFECTS, *SCALES), values_of(*moved.values()), strict=True))
            log_jacobian += float(np.log(np.abs(after[name] - values[name])).sum())
        expected = log_joint(design, values, priors) + log_jacobian
        assert float(density_of(*point.values())) == pytest.approx(expected, abs=1e-8)


def test_without_repeats_there_is_no_cell_effect(design: Design) -> None:
    once = replace(
        design,
        uncertainty=design.uncertainty[::4],
        is_text=design.is_text[::4],
        trial_subject=design.trial_subject[::4],
        trial_group=design.trial_group[::4],
    )
    assert design.has_repeats
    assert not once.has_repeats
    model = following_model(once)
    assert "cell_effect" not in model.named_vars
    assert np.isfinite(model.compile_logp(jacobian=False)(model.initial_point()))


def test_layout_leaves_other_out_but_keeps_its_subject(simulate) -> None:  # type: ignore[no-untyped-def]
    trials = simulate(seed=1, balance_points={"b": 0.0, "a": 0.3}, n_groups=3)
    trials.loc[trials["model"] == "a", "choice"] = "other"
    chosen = select_trials(check_trials(trials)).trials
    design = lay_out(chosen)
    assert design.subjects == ("a", "b")
    assert set(design.trial_subject.tolist()) == {1}
    fitted = chosen[chosen["choice"] != "other"]
    assert design.is_text.sum() == (fitted["choice"] == "text").sum()
    np.testing.assert_array_equal(design.cell_subject[design.trial_cell], design.trial_subject)
    np.testing.assert_array_equal(design.cell_group[design.trial_cell], design.trial_group)
    np.testing.assert_array_equal(design.uncertainty, fitted["dH"])
