"""The compiled posterior of method nuts, held to the PyMC graph that it stands for."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import nutpie
import pymc as pm
import pytest

from mfbayes.design import Design, lay_out
from mfbayes.following import marginal_model
from mfbayes.marginal.posterior import Posterior, compile_density, compile_posterior, form_posterior
from mfbayes.priors import Priors
from mfbayes.sampling import MARGINAL_ATTEMPTS, sample
from mfbayes.selection import select_trials
from mfbayes.simulation import Scenario, simulate_trials
from mfbayes.trials import check_trials

PRIORS = Priors(balance_point_sd=0.4, log_slope_sd=0.7, log_slope_mean=0.5, balance_point_mean_sd=0.6, group_sd=0.8)
ALONE = Scenario(models={"x1": 0.3, "x2": -0.4, "y1": 0.1}, n_groups=12)
CROSSED = Scenario(
    models={"x1": 0.3, "x2": -0.4, "y1": 0.1, "z1": 0.0},
    families={"x1": "x", "x2": "x", "y1": "y", "z1": "y"},
    tasks={"s": 0.0, "t": 0.3},
    conditions={"plain": 0.0, "hint": -0.5},
    n_groups=5,
)


def lay_out_scenario(scenario: Scenario, *, seed: int) -> Design:
    trials, _ = simulate_trials(scenario, rng=np.random.default_rng(seed))
    return lay_out(select_trials(check_trials(trials)).trials)


def once_a_group(design: Design) -> Design:
    """One trial a group and model, so that only u can be told."""
    return design.keep(np.append(True, np.diff(design.trial_cell) > 0))


DESIGNS = {
    "alone": lay_out_scenario(ALONE, seed=3),
    "crossed": lay_out_scenario(CROSSED, seed=4),
    "once": once_a_group(lay_out_scenario(ALONE, seed=5)),
}


def quantities(design: Design) -> list[str]:
    """Names of the quantities of every level that the two forms of the model share."""
    levels = ["", *(f"_{level}" for level in design.levels)]
    return [f"{name}{level}_sd" for name in ("balance_point", "log_slope") for level in levels]


def at_point(model: pm.Model, posterior: Posterior, design: Design, point: np.ndarray) -> dict[str, np.ndarray]:
    """The graph's inputs at a point of the compiled posterior."""
    inputs, at = {}, 0

    def take(name: str, size: int, scale: float = 1.0) -> None:
        nonlocal at
        shape = model[name].type.shape
        inputs[name] = (scale * point[at : at + size]).reshape(() if shape == () else (size,))
        at += size

    for i, name in enumerate(("balance_point", "log_slope")):
        scale = posterior.subjects.prior[i, 2]
        for level in ["", *(f"_{level}" for level in design.levels)]:
            take(f"{name}{level}_sd_signed", 1, scale)
        take(f"{name}_mean_coordinate", 1)
        for level, (labels, _) in design.levels.items():
            take(f"{name}_{level}_effect_coordinate", len(labels))
        take(f"{name}_coordinate", design.n_subjects)
    for name in design.group_scales:
        take(f"{name}_signed", 1, getattr(PRIORS, name))
    assert at == point.size
    return inputs


def test_designs_have_what_they_are_for() -> None:
    assert list(DESIGNS["crossed"].levels) == ["family", "model", "task", "condition", "model_task"]
    assert [len(design.group_scales) for design in DESIGNS.values()] == [2, 3, 1]


@pytest.mark.parametrize("name", list(DESIGNS))
def test_the_compiled_posterior_is_the_graph(name: str) -> None:
    design = DESIGNS[name]
    model, posterior = marginal_model(design, priors=PRIORS), form_posterior(design, priors=PRIORS)
    wanted = [*quantities(design), "balance_point", "slope", "intercept", "balance_point_mean", "log_slope_mean"]
    wanted += design.group_scales
    inputs = model.value_vars
    outputs = model.replace_rvs_by_values([model[each] for each in wanted])
    together = model.compile_fn([model.logp(jacobian=False), *outputs], inputs=inputs, point_fn=False)
    slope_of = model.compile_dlogp()
    rng = np.random.default_rng(6)
    constants = []
    for size in (0.3, 1.0, 2.0):
        point = size * rng.normal(size=posterior.n_dim)
        at = at_point(model, posterior, design, point)
        value, gradient = posterior.evaluate(point)
        expected, *values = together(**at)
        constants.append(value - expected)
        described = posterior.describe(point)
        assert set(described) == set(wanted)
        for each, own in zip(wanted, values, strict=True):
            np.testing.assert_allclose(described[each], own, rtol=1e-10, atol=1e-12)
        # Both gradients, in the graph's order of variables and the graph's scale.
        by_input, places = slope_of(at), iter(range(posterior.n_dim))
        index = {key: [next(places) for _ in range(np.size(own))] for key, own in at.items()}
        mine = np.concatenate([gradient[index[each.name]] / _scale(each.name) for each in inputs])
        np.testing.assert_allclose(mine, by_input, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(constants, constants[0], atol=1e-8)


def _scale(name: str) -> float:
    """How many units of the graph's variable a unit of the compiled coordinate is."""
    if not name.endswith("_signed"):
        return 1.0
    name = name.removesuffix("_signed")
    quantity = next((each for each in ("balance_point", "log_slope") if name.startswith(each)), None)
    return float(getattr(PRIORS, f"{quantity}_sd" if quantity else name))


def test_signs_of_standard_deviations_mean_nothing() -> None:
    """A spread and its mirror image, with the coordinates mirrored below it, are one and the same point."""
    posterior = form_posterior(DESIGNS["alone"], priors=PRIORS)
    point = np.random.default_rng(8).normal(size=posterior.n_dim)
    mirrored = point.copy()
    mirrored[-2:] *= -1
    assert posterior.evaluate(mirrored)[0] == pytest.approx(posterior.evaluate(point)[0], rel=1e-12)
    zero = point.copy()
    zero[[0, -1]] = 0.0
    value, gradient = posterior.evaluate(zero)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_draws_of_the_compiled_posterior_are_those_of_the_graph() -> None:
    """Two samplers of one posterior: means within four Monte Carlo errors, sds alike."""
    design = DESIGNS["alone"]
    keep = ["balance_point", "slope", "group_sd", "group_model_sd", "balance_point_sd"]
    compiled, graph = (
        sample(build(design, priors=PRIORS), keep=keep, gate=keep, seed=9, attempts=MARGINAL_ATTEMPTS)
        for build in (compile_posterior, marginal_model)
    )
    assert compiled.passed
    assert graph.passed
    assert compiled.posterior["balance_point"].dims == ("chain", "draw", "subject")
    assert list(compiled.posterior["subject"].values) == list(design.subjects)
    for name in keep:
        one, other = (drawn.posterior[name] for drawn in (compiled, graph))
        over = ("chain", "draw")
        error = np.hypot(*(np.asarray(each.std(over)) / np.sqrt(400) for each in (one, other)))
        assert (np.abs(np.asarray(one.mean(over) - other.mean(over))) < 4 * error).all(), name
        np.testing.assert_allclose(one.std(over), other.std(over), rtol=0.2)


def test_points_that_are_no_coordinates_are_refused() -> None:
    posterior = form_posterior(DESIGNS["alone"], priors=PRIORS)
    for ask in (posterior.evaluate, posterior.describe):
        with pytest.raises(ValueError, match=f"Expected {posterior.n_dim} coordinates"):
            ask(np.zeros(posterior.n_dim + 1))
    ones = np.ones(posterior.n_dim)
    assert posterior.evaluate(ones.astype(np.int64))[0] == posterior.evaluate(ones)[0]


def test_a_copy_stands_on_arrays_of_its_own() -> None:
    """Addresses must not be copied: what they lead to goes with the original."""
    posterior = form_posterior(DESIGNS["crossed"], priors=PRIORS)
    point = np.random.default_rng(10).normal(size=posterior.n_dim)
    value, gradient = posterior.evaluate(point)
    twin = copy.deepcopy(posterior)
    assert not set(twin.packed.find()) & set(posterior.packed.find())
    del posterior
    again, slope = twin.evaluate(point)
    assert again == value
    np.testing.assert_array_equal(slope, gradient)


def test_threads_do_not_disturb_each_other() -> None:
    posterior = form_posterior(DESIGNS["crossed"], priors=PRIORS)
    points = np.random.default_rng(11).normal(size=(200, posterior.n_dim))
    alone = [posterior.evaluate(point) for point in points]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(posterior.evaluate, points))
    for (value, gradient), (other, slope) in zip(alone, together, strict=True):
        assert value == other
        np.testing.assert_array_equal(gradient, slope)


def test_where_no_mode_is_found_the_sampler_is_told() -> None:
    design = DESIGNS["alone"]
    posterior = form_posterior(design, priors=PRIORS)
    lost = replace(posterior.likelihood, start=np.full_like(posterior.likelihood.start, np.nan))
    broken = replace(posterior, likelihood=lost)
    assert np.isnan(broken.evaluate(np.zeros(broken.n_dim))[0])
    with pytest.raises(RuntimeError, match="nitialization"):
        nutpie.sample(compile_density(broken, subjects=design.subjects), progress_bar=False)
