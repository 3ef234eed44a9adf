"""The hidden model: tables against SciPy, exactness of the gradient, recovery, estimates and bad input."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import t as student

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.switching.forward import evaluate
from mfbayes.switching.hidden import PARAMETERS, POPULATION, HiddenPriors, hidden_switching_model
from mfbayes.switching.hidden_codes import Coded, encode
from mfbayes.switching.hidden_estimates import REGIONS, decode, describe_effects, describe_hazards, describe_sides
from mfbayes.switching.hidden_fit import fit_hidden
from mfbayes.switching.hidden_influence import likelihood_by_trace, measure_influence, widen
from mfbayes.switching.hidden_simulation import draw_truth, simulate_hidden
from mfbayes.switching.hidden_tables import Parameters, evaluate_parameters, place_knots, tabulate
from mfbayes.trajectories import Trajectories


def in_units(truth: Parameters, coded: Coded) -> Parameters:
    """Parameters with logit differences in the units of the codes."""
    emission = truth.emission.copy()
    emission[:, :, :2] -= np.log(coded.unit)[:, None, None]
    return replace(truth, emission=emission)


def repeat(parameters: Parameters, n: int) -> xr.Dataset:
    """A posterior of which all draws are the same."""
    dims = {
        "emission": (names.SUBJECT, names.LAYER, "feature"),
        "nu": (),
        "hazard": ("direction", names.SUBJECT, "knot"),
        "effect": ("direction", names.SUBJECT, "covariate"),
        "start": (names.SUBJECT, "term"),
        "effect_mean": ("direction", "covariate"),
    }
    values = {name: getattr(parameters, name) for name in PARAMETERS} | {"effect_mean": parameters.effect.mean(axis=1)}
    return xr.Dataset(
        {
            name: (("chain", "draw", *dims[name]), np.broadcast_to(value, (1, n, *np.shape(value))))
            for name, value in values.items()
        },
        coords={names.SUBJECT: [f"model-{own + 1}" for own in range(len(parameters.start))]},
    )


def draw_case(
    seed: int, n_layers: Sequence[int], n_traces: int
) -> tuple[Parameters, Trajectories, dict[str, float], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    truth = draw_truth(n_layers, rng=rng)
    return truth, *simulate_hidden(truth, n_layers=n_layers, n_traces=n_traces, rng=rng)


def test_tables_agree_with_scipy() -> None:
    truth, trajectories, points, _ = draw_case(1, [5, 8], 80)
    coded = encode(trajectories, points, n_codes=12, n_bins=4)
    p = in_units(truth, coded)
    tables = tabulate(p, coded)
    s, layer, code, b = 1, 6, 5, 2
    for side, sign in ((0, 1), (1, -1)):
        location, scale = sign * np.exp(p.emission[s, layer, 0]), np.exp(p.emission[s, layer, 1])
        density = student.logpdf(coded.difference[s, layer, code], p.nu, location, scale)
        unseen = expit(p.emission[s, layer, 2 + side])
        expected = density + np.log([1 - unseen, unseen])
        np.testing.assert_allclose(tables.emission[s, layer, 2 * code : 2 * code + 2, side], expected, rtol=1e-12)
    x = coded.x[s, b]
    at = place_knots(coded.n_layers, p.hazard.shape[2])[s, 3] @ p.hazard[1, s]
    np.testing.assert_allclose(
        tables.hazard[1, s, 3, b], at + p.effect[1, s] @ [x, -(np.sqrt(x**2 + 0.01) - 0.5)], rtol=1e-12
    )
    np.testing.assert_allclose(tables.start[s, b], p.start[s] @ [1, x], rtol=1e-12)


def test_gradient_in_the_parameters_is_the_derivative() -> None:
    truth, trajectories, points, _ = draw_case(2, [4, 6], 60)
    coded = encode(trajectories, points, n_codes=16, n_bins=4)
    _, exact = evaluate_parameters(truth, coded)
    for name in PARAMETERS:
        start = np.asarray(getattr(truth, name), dtype=float)
        for index in np.ndindex(start.shape):
            step = np.zeros(start.shape)
            step[index] = 1e-5
            above, below = (
                evaluate_parameters(_replace(truth, name, start + sign * step), coded)[0] for sign in (1, -1)
            )
            np.testing.assert_allclose(np.asarray(getattr(exact, name))[index], (above - below) / 2e-5, atol=2e-6)


def _replace(parameters: Parameters, name: str, value: NDArray[np.float64]) -> Parameters:
    changes: dict[str, Any] = {name: float(value) if name == "nu" else value}
    return replace(parameters, **changes)


def test_the_model_has_the_likelihood_in_it() -> None:
    """The graph's potential, in Python, is the likelihood of the parameters that it makes."""
    _, trajectories, points, _ = draw_case(3, [4, 6], 50)
    coded = encode(trajectories, points, n_codes=16, n_bins=4)
    model = hidden_switching_model(coded, n_knots=3)
    point = model.initial_point()
    drawn = {name: model[name] for name in PARAMETERS}
    wanted = model.replace_rvs_by_values([*drawn.values(), model["sides_summed_out"]])
    values = model.compile_fn(wanted, inputs=model.value_vars, mode="FAST_COMPILE", on_unused_input="ignore")(point)
    made: dict[str, Any] = dict(zip(drawn, values[:-1], strict=True))
    parameters = Parameters(**made | {"nu": float(made["nu"])})
    np.testing.assert_allclose(values[-1], evaluate_parameters(parameters, coded)[0], rtol=1e-10)


def exact_likelihood(p: Parameters, trajectories: Trajectories) -> float:
    """With the density of every logit difference and x itself, in logarithms; of one subject."""
    knots = place_knots(trajectories.n_layers, p.hazard.shape[2])
    x = trajectories.uncertainty
    shift = p.effect[:, 0] @ np.stack([x, -(np.sqrt(x**2 + 0.01) - 0.5)])
    level = p.start[0, 0] + p.start[0, 1] * x
    log_p = -np.logaddexp(0, np.stack([-level, level]))
    for layer in range(trajectories.n_layers[0]):
        own = p.emission[0, layer]
        if layer:
            hazard = (p.hazard[:, 0] @ knots[0, layer - 1])[:, None] + shift
            leave, stay = (-np.logaddexp(0, sign * hazard) for sign in (-1, 1))
            log_p = np.logaddexp(log_p + stay, log_p[::-1] + leave[::-1])
        location = np.array([[1], [-1]]) * np.exp(own[0])
        log_p = log_p + student.logpdf(trajectories.logit_difference[:, layer], p.nu, location, np.exp(own[1]))
        sign = np.where(trajectories.state[:, layer] == names.STATE_CODES[names.OTHER], -1, 1)
        log_p = log_p - np.logaddexp(0, sign * own[2:, None])
    return float(np.logaddexp(*log_p).sum())


def test_codes_lose_next_to_nothing() -> None:
    """What decides is the error of log-likelihood *ratios*: a standard error away it must stay far below their size."""
    truth, trajectories, points, _ = draw_case(4, [10], 1500)
    coded = encode(trajectories, points)
    unit = len(trajectories) * 10 * np.log(coded.unit[0])
    moved = [
        truth,
        replace(truth, nu=6.0),
        replace(truth, emission=truth.emission + 0.05),
        replace(truth, hazard=truth.hazard + 0.1),
        replace(truth, effect=truth.effect + 0.15),
    ]
    errors, sizes = [], []
    for each in moved:
        approximate = evaluate_parameters(in_units(each, coded), coded)[0] - unit
        exact = exact_likelihood(each, trajectories)
        errors.append(approximate - exact)
        sizes.append(exact)
    assert np.abs(np.array(errors[1:]) - errors[0]).max() < 0.5
    assert np.abs(np.array(sizes[1:]) - sizes[0]).min() > 0.5


def test_truth_is_where_the_gradient_vanishes() -> None:
    """The score of a correct likelihood has mean zero, and the variance that its curvature says."""
    scores = []
    rng = np.random.default_rng(5)
    truth = draw_truth([8, 5], rng=rng)
    for _ in range(60):
        trajectories, points, _ = simulate_hidden(truth, n_layers=[8, 5], n_traces=400, rng=rng)
        coded = encode(trajectories, points)
        _, gradient = evaluate_parameters(in_units(truth, coded), coded)
        scores.append(np.concatenate([np.ravel(getattr(gradient, name)) for name in PARAMETERS]))
    sd = np.std(scores, axis=0, ddof=1)
    z = np.mean(scores, axis=0)[sd > 0] / (sd[sd > 0] / np.sqrt(60))
    assert np.abs(z).max() < 4.5
    assert 0.7 < np.sqrt(np.mean(z**2)) < 1.35


def test_sides_are_decoded() -> None:
    truth, trajectories, points, is_text = draw_case(6, [12, 7], 600)
    coded = encode(trajectories, points)
    posterior = repeat(in_units(truth, coded), 4)
    found = decode(posterior, coded, trajectories, np.arange(len(trajectories)))
    within = np.arange(12) < trajectories.n_layers[trajectories.subject, None]
    p, right = found["p_text"].to_numpy()[within], is_text[within]
    for low in np.arange(0, 1, 0.2):
        chosen = (p >= low) & (p < low + 0.2)
        se = np.sqrt(0.25 / chosen.sum())
        assert abs(right[chosen].mean() - p[chosen].mean()) < 4 * se
    changes = ((is_text[:, 1:] != is_text[:, :-1]) & within[:, 1:]).sum(axis=1)
    difference = found["switches"].to_numpy() - changes
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(changes))


def test_flicker_is_not_a_hidden_switch() -> None:
    """Noisy readings show several times more switches than there are; the model's number is the true one."""
    truth, trajectories, points, is_text = draw_case(7, [12], 1500)
    coded = encode(trajectories, points)
    x = trajectories.uncertainty
    switches, occupancy = describe_sides(
        repeat(in_units(truth, coded), 40), coded, trajectories, x, ci_prob=0.95, rng=np.random.default_rng(7)
    )
    changes = (is_text[:, 1:] != is_text[:, :-1]).sum(axis=1)
    region = np.where(x < -0.5, 0, np.where(x > 0.5, 2, 1))
    for number, name in enumerate(REGIONS):
        own = switches.sel(region=name, subject="model-1")
        true = changes[region == number]
        assert own["n"] == (region == number).sum()
        assert abs(own["mean"] - true.mean()) < 4 * true.std() / np.sqrt(true.size)
        assert own["observed"] > true.mean() + 0.2
    # All draws are the same and traces independent, so that intervals are Student's; 40 draws tell ends roughly.
    width = (occupancy["upper"] - occupancy["lower"]).sel(subject="model-1").to_numpy()
    p_text = decode(repeat(in_units(truth, coded), 1), coded, trajectories, np.arange(len(x)))["p_text"].to_numpy()
    np.testing.assert_allclose(width, 2 * 2.02 * p_text.std(axis=0) / np.sqrt(len(x)), rtol=0.5)
    few = replace(trajectories, group=trajectories.group % 5)
    bounds = describe_sides(
        repeat(in_units(truth, coded), 2), coded, few, x, ci_prob=0.95, rng=np.random.default_rng(7)
    )
    assert all(np.isnan(each["lower"]).all() and np.isfinite(each["mean"]).all() for each in bounds)
    edge, _ = describe_sides(
        repeat(in_units(truth, coded), 2), coded, trajectories, np.full(x.size, 0.5), ci_prob=0.95,
        rng=np.random.default_rng(7),
    )  # fmt: skip
    assert edge["n"].to_numpy().tolist() == [[0, 0, x.size]], "half a unit is clear, as everywhere"
    se = 4 * 0.5 / np.sqrt(1500)
    np.testing.assert_allclose(occupancy["mean"].sel(subject="model-1"), is_text.mean(axis=0), atol=se)


def test_a_fit_recovers_the_truth() -> None:
    truth, trajectories, points, _ = draw_case(8, [7, 5], 700)
    tree = fit_hidden(trajectories, points, seed=1, n_knots=4)
    # Its hazards are drawn at more knots than are fitted: compare in effects, starts and readings.
    coded = encode(trajectories, points)
    posterior = tree["posterior"].to_dataset().stack(sample=("chain", "draw"))
    true = in_units(truth, coded)
    z = []
    for name in ("effect", "start", "emission"):
        values = posterior[name]
        each = (values.mean("sample").to_numpy() - getattr(true, name)) / values.std("sample").to_numpy()
        known = np.ones(each.shape, dtype=bool)
        if name == "emission":
            known[1, 5:] = False
        z.append(each[known])
    together = np.concatenate(z)
    assert np.abs(together).max() < 4.5
    assert 0.6 < np.sqrt(np.mean(together**2)) < 1.4
    assert tree["convergence"].attrs["divergences"] <= 10
    effects = tree["estimates/hidden_effects"]
    assert effects.attrs["groups"] == "widened"
    assert effects.attrs["status"] == ("ok" if tree["convergence"].attrs["passed"] else "not-converged")
    assert set(effects.dims) == {"direction", names.SUBJECT, "covariate"}
    depth = tree["estimates/hidden_hazard_by_depth"]
    assert np.isnan(depth["mean"].sel(subject="model-2", layer=[5, 6])).all()
    assert ((depth["lower"] <= depth["mean"]) & (depth["mean"] <= depth["upper"])).sum() == 2 * (6 + 4)


def test_estimates_of_one_draw_are_its_parameters() -> None:
    truth, trajectories, points, _ = draw_case(9, [6, 4], 60)
    coded = encode(trajectories, points)
    posterior = repeat(truth, 3).assign_coords(
        direction=["text-to-image", "image-to-text"], covariate=["x", "distance"]
    )
    by_depth, by_distance = describe_hazards(posterior, coded, ci_prob=0.9)
    knots = place_knots(coded.n_layers, truth.hazard.shape[2])
    expected = expit(truth.hazard[1, 0] @ knots[0, 2] - truth.effect[1, 0, 1] * (0.1 - 0.5))
    np.testing.assert_allclose(by_depth["mean"].sel(direction="image-to-text", subject="model-1", layer=3), expected)
    assert by_distance.sizes["x"] == 41
    effects = describe_effects(posterior, ci_prob=0.9)
    np.testing.assert_allclose(effects["lower"].transpose("direction", names.SUBJECT, "covariate"), truth.effect)
    np.testing.assert_array_equal(effects["p_positive"], truth.effect > 0)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("one layer", "one layer"),
        ("no point", "no balance point"),
        ("not a number", "not a finite number"),
        ("no trace", "no layer trace"),
        ("nothing", "at least one layer trace"),
    ],
)
def test_what_cannot_be_used_is_refused(fault: str, said: str) -> None:
    _, trajectories, points, _ = draw_case(10, [6, 4], 30)
    if fault == "one layer":
        trajectories = replace(trajectories, n_layers=np.array([6, 1]))
    elif fault == "no point":
        points = {"model-1": 0.0}
    elif fault == "not a number":
        broken = trajectories.logit_difference.copy()
        broken[3, 2] = np.nan
        trajectories = replace(trajectories, logit_difference=broken)
    elif fault == "no trace":
        trajectories = trajectories.keep(trajectories.subject == 0)
    else:
        trajectories = trajectories.keep(np.zeros(len(trajectories), dtype=bool))
    with pytest.raises(InputError, match=said):
        encode(trajectories, points)


def test_few_traces_and_silent_ones_are_still_likely() -> None:
    """Three traces of a model, all of them of other tokens, have a finite likelihood and gradient."""
    truth, trajectories, points, _ = draw_case(11, [6, 4], 3)
    silent = replace(trajectories, state=np.full_like(trajectories.state, names.STATE_CODES[names.OTHER]))
    coded = encode(silent, points)
    value, gradient = evaluate_parameters(truth, coded)
    assert np.isfinite(value)
    assert all(np.isfinite(getattr(gradient, name)).all() for name in PARAMETERS)
    tables = tabulate(truth, coded)
    assert np.isfinite(evaluate(coded.chains, emission=tables.emission, hazard=tables.hazard, start=tables.start).value)


def test_population_is_named() -> None:
    _, trajectories, points, _ = draw_case(12, [3], 20)
    model = hidden_switching_model(encode(trajectories, points))
    assert {*PARAMETERS, *POPULATION} <= {variable.name for variable in [*model.free_RVs, *model.deterministics]}


def test_likelihood_by_trace_is_that_of_its_own_layers() -> None:
    truth, trajectories, points, _ = draw_case(13, [6, 4], 200)
    coded = encode(trajectories, points)
    tables = tabulate(truth, coded)
    each = likelihood_by_trace(coded.chains, tables)
    np.testing.assert_allclose(each.sum(), evaluate_parameters(truth, coded)[0], rtol=1e-10)
    # In the order of the traces, however they come.
    shuffled = np.random.default_rng(1).permutation(len(trajectories))
    by_row = (
        "items",
        "subject",
        "group",
        "uncertainty",
        "h_text",
        "h_image",
        "is_control",
        "state",
        "logit_difference",
    )
    moved = replace(trajectories, **{name: getattr(trajectories, name)[shuffled] for name in by_row})
    again = encode(moved, points)
    np.testing.assert_allclose(likelihood_by_trace(again.chains, tabulate(truth, again)), each[shuffled])


def test_influence_of_groups_is_their_score_times_the_variance() -> None:
    """Draws that are normal, each on its own, near where the likelihood is linear; its slope by differences."""
    truth, trajectories, points, _ = draw_case(14, [6, 4], 80)
    coded = encode(trajectories, points)
    rng, n_draws, sd = np.random.default_rng(3), 4000, 0.05
    posterior = repeat(truth, n_draws)
    for name in ("hazard", "effect"):
        noise = sd * rng.standard_normal(posterior[name].shape)
        posterior[name] = posterior[name] + xr.DataArray(noise, dims=posterior[name].dims)
    found = measure_influence(posterior, coded, trajectories.group, n_draws=n_draws)
    step = np.zeros(truth.effect.shape)
    step[0, 1, 0] = 1e-4
    ends = [
        likelihood_by_trace(coded.chains, tabulate(replace(truth, effect=truth.effect + sign * step), coded))
        for sign in (1, -1)
    ]
    slope = (ends[0] - ends[1]) / 2e-4
    n_groups = len(trajectories.groups)
    by_group = np.bincount(trajectories.group, slope, n_groups)
    expected = sd**2 * (by_group - by_group.mean()) * np.sqrt(n_groups / (n_groups - 1))
    own = found.groups["effect"][0, 1, 0]
    # A covariance of 4,000 draws is off by a part of 63 of the product of both standard deviations: of q, sd, and of a
    # group's log-likelihood, which are tenths.
    np.testing.assert_allclose(own, expected, atol=4 * sd * 0.3 / np.sqrt(n_draws))
    assert np.corrcoef(own, expected)[0, 1] > 0.9
    of_traces = (found.traces["effect"][0, 1, 0] ** 2).sum()
    np.testing.assert_allclose(of_traces, (sd**4 * slope**2).sum(), rtol=0.25)


def test_draws_are_widened_to_the_variance_that_groups_add_and_never_narrowed() -> None:
    draws = np.random.default_rng(4).standard_normal((2, 500))
    traces = np.array([[0.6, 0.8], [3.0, 4.0]])
    found = widen(draws, groups=np.array([[2.0, 0.0, 0.0], [1.0, 2.0, 2.0]]), traces=traces)
    np.testing.assert_allclose(found.var(axis=1), [draws[0].var() + 3, draws[1].var()])
    np.testing.assert_allclose(found.mean(axis=1), draws.mean(axis=1))


@pytest.mark.parametrize(
    "changes", [{"walk_sd": -1.0}, {"nu_rate": 0.0}, {"hazard_mean": np.inf}, {"sd_spread": np.nan}]
)
def test_priors_of_the_hidden_model_are_checked(changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        HiddenPriors(**changes)
