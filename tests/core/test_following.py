"""The following model: the coordinates it is sampled in do not change what it says."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_expit
from scipy.stats import halfnorm, norm

from mfbayes.design import Design, lay_out
from mfbayes.following import following_model, marginal_model
from mfbayes.marginal.likelihood import marginal_likelihood, three_scales
from mfbayes.priors import Priors
from mfbayes.selection import select_trials
from mfbayes.trials import check_trials

EFFECTS = ("balance_point_mean", "balance_point", "log_slope_mean", "log_slope", "group_effect", "group_model_effect")
SCALES = ("balance_point_sd", "log_slope_sd", "group_sd", "group_model_sd")


@pytest.fixture(scope="module")
def design() -> Design:
    rng = np.random.default_rng(5)
    subject, group = np.repeat([0, 0, 1, 1, 1], 4), np.repeat([0, 1, 0, 1, 2], 4)
    order = np.lexsort((subject, group))
    return Design(
        subjects=("a", "b"),
        subject_model=("a", "b"),
        subject_task=("t", "t"),
        subject_condition=("", ""),
        subject_family=("", ""),
        groups=("g", "h", "i"),
        uncertainty=rng.uniform(-2, 2, 20),
        is_text=(rng.random(20) < 0.5).astype(np.float64),
        trial_subject=subject[order],
        trial_group=group[order],
        row=np.arange(20),
    )


def log_joint(design: Design, values: dict[str, np.ndarray], priors: Priors) -> float:
    """The density as statistics states it: effects with their priors, and the likelihood."""
    b_sd, k_sd, g_sd, c_sd = (float(values[name]) for name in SCALES)
    b, log_k, u, v = (values[name] for name in ("balance_point", "log_slope", "group_effect", "group_model_effect"))
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


def test_the_marginal_model_has_the_density_of_priors_and_marginal_likelihood(design: Design) -> None:
    priors = Priors(balance_point_sd=0.4)
    model = marginal_model(design, priors=priors)
    inputs = model.value_vars
    wanted = [model[name] for name in (*EFFECTS[:4], *SCALES)]
    values_of = model.compile_fn(
        model.replace_rvs_by_values(wanted), inputs=inputs, on_unused_input="ignore", point_fn=False
    )
    density_of = model.compile_fn(model.logp(jacobian=False), inputs=inputs, point_fn=False)
    slope_of = model.compile_dlogp()
    shapes = {name: np.shape(value) for name, value in model.initial_point().items()}
    likelihood = marginal_likelihood(design)
    rng = np.random.default_rng(12)
    constant = []
    for _ in range(4):
        point = {value.name: rng.normal(size=shapes[value.name]) for value in inputs}
        b_mean, b, k_mean, log_k, b_sd, k_sd, g_sd, c_sd = values_of(*point.values())
        expected = norm.logpdf(b_mean, 0, priors.balance_point_mean_sd) + norm.logpdf(b, b_mean, b_sd).sum()
        expected += norm.logpdf(k_mean, priors.log_slope_mean, priors.log_slope_mean_sd)
        expected += norm.logpdf(log_k, k_mean, k_sd).sum()
        expected += halfnorm.logpdf(b_sd, scale=0.4) + halfnorm.logpdf(k_sd, scale=priors.log_slope_sd)
        expected += halfnorm.logpdf([g_sd, c_sd], scale=1.0).sum()
        slope = np.exp(log_k)
        coefficients = np.column_stack([slope * b, slope])
        expected += likelihood.evaluate(coefficients, three_scales(design, [g_sd, c_sd])).value
        log_jacobian = 0.0
        for name in EFFECTS[:4]:
            moved = point | {f"{name}_coordinate": point[f"{name}_coordinate"] + 1.0}
            after = dict(zip((*EFFECTS[:4], *SCALES), values_of(*moved.values()), strict=True))
            before = dict(zip((*EFFECTS[:4], *SCALES), values_of(*point.values()), strict=True))
            log_jacobian += float(np.log(np.abs(after[name] - before[name])).sum())
        constant.append(float(density_of(*point.values())) - expected - log_jacobian)
        # What the sampler climbs is the derivative of that density.
        by_point = slope_of(point)
        step = 1e-5 * rng.normal(size=by_point.size)
        ends = []
        for sign in (1, -1):
            moved, position = {}, 0
            for name, value in point.items():
                size = np.size(value)
                moved[name] = value + sign * step[position : position + size].reshape(np.shape(value))
                position += size
            ends.append(float(density_of(*moved.values())))
        assert ends[0] - ends[1] == pytest.approx(2 * float(by_point @ step), rel=1e-3, abs=1e-8)
    np.testing.assert_allclose(constant, -len(SCALES) * np.log(2), atol=1e-7)


def test_without_repeats_there_is_no_effect_of_group_and_model(design: Design) -> None:
    first = np.append(True, np.diff(design.trial_cell) > 0)
    once = design.keep(first)
    assert design.has_model_effect
    assert not once.has_model_effect
    assert once.group_scales == ("group_sd",)
    model = following_model(once)
    assert "group_model_effect" not in model.named_vars
    assert np.isfinite(model.compile_logp(jacobian=False)(model.initial_point()))


def test_levels_that_tell_something_are_there() -> None:
    """Two tasks and two conditions of three models in two families: no level twice, none that is the subjects."""
    parts = [(m, t, c) for t in ("s", "t") for m in ("x1", "x2", "y1") for c in ("", "hint")]
    n = len(parts)
    model, task, condition = zip(*parts, strict=True)
    crossed = Design(
        subjects=tuple(" / ".join(part) for part in parts),
        subject_model=model,
        subject_task=task,
        subject_condition=condition,
        subject_family=tuple(name[0] for name in model),
        groups=("g",),
        uncertainty=np.linspace(-1, 1, 2 * n),
        is_text=np.tile([0.0, 1.0], n),
        trial_subject=np.repeat(np.argsort(np.argsort(parts, axis=0)[:, 0]), 2),
        trial_group=np.zeros(2 * n, dtype=np.int64),
        row=np.arange(2 * n),
    )
    assert list(crossed.levels) == ["family", "model", "task", "condition", "model_task"]
    one = replace(crossed, subject_task=("t",) * n, subject_condition=("",) * n, subject_model=crossed.subjects)
    assert list(one.levels) == ["family"]
    model_of_levels = marginal_model(crossed)
    for level in crossed.levels:
        assert f"balance_point_{level}_sd" in model_of_levels.named_vars
        assert f"log_slope_{level}_sd" in model_of_levels.named_vars


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
