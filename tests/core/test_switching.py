"""The hazard model: its density, its structure, and what it recovers from traces of known hazards."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from pytensor.compile.maker import function
from pytensor.compile.mode import Mode
from scipy import stats

from mfbayes import names
from mfbayes.convergence import Sample
from mfbayes.errors import InputError
from mfbayes.sampling import Effort
from mfbayes.switching.comparison import compare_switching
from mfbayes.switching.crossings import check_crossings
from mfbayes.switching.estimates import describe_switching
from mfbayes.switching.fit import EFFORTS, SwitchingFit, fit_switching
from mfbayes.switching.informed import inform
from mfbayes.switching.layout import Layout, lay_out_pairs
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.model import switching_model
from mfbayes.switching.pairs import pair_layers
from mfbayes.switching.parts import Block, divide_effects, divide_levels, walk_waves
from mfbayes.switching.pilot import estimate_roughly
from mfbayes.switching.priors import SwitchingPriors
from mfbayes.switching.replication import check_replicates, measure_switching
from mfbayes.switching.simulation import Hazards, simulate_switching
from mfbayes.switching.structure import build_structure
from mfbayes.switching.terms import DEFAULT_TERMS, find_x
from mfbayes.trajectories import Trajectories

type Floats = NDArray[np.float64]
type Simulated = tuple[Trajectories, dict[str, float], xr.Dataset]


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    return simulate_switching(n_layers=(6, 5, 5), n_groups=20, n_items=20, rng=np.random.default_rng(21))


@pytest.fixture(scope="module")
def fit(simulated: Simulated) -> SwitchingFit:
    return fit_switching(simulated[0], simulated[1], seed=2, attempts=EFFORTS[:1])


def _lay_out(simulated: Simulated, *, groups: bool) -> Layout:
    pairs = pair_layers(simulated[0])
    return lay_out_pairs(pairs, find_x(pairs.trajectories, simulated[1]), terms=DEFAULT_TERMS, groups=groups)


def test_the_walk_has_independent_steps_of_equal_size() -> None:
    waves = walk_waves(np.array([12]))
    covariance = waves @ waves.T
    steps = np.diff(np.eye(12), axis=0)
    assert steps @ covariance @ steps.T == pytest.approx(np.eye(11) / 11, abs=1e-12)
    assert waves.sum(axis=0) == pytest.approx(np.zeros(11), abs=1e-12)
    assert walk_waves(np.array([1])).shape == (1, 0)


def test_models_of_other_depth_share_the_walk_at_equal_depth() -> None:
    waves = walk_waves(np.array([9, 3]))
    # The first and the middle of three layers lie where the second and the fifth of nine do.
    assert waves[10] - waves[9] == pytest.approx(waves[4] - waves[1])


def test_density_is_prior_times_likelihood(simulated: Simulated) -> None:
    layout, priors = _lay_out(simulated, groups=True), SwitchingPriors()
    structure = build_structure(layout, priors)
    pilot = estimate_roughly(structure)
    likelihood = SwitchingLikelihood(layout, effects=pilot.effects, scores=pilot.scores)
    with switching_model(layout) as model:
        inputs = list(model.value_vars)
        hazards = model.replace_rvs_by_values([model["hazards"]])[0]
        evaluate = function(inputs, [model.logp(), hazards], mode=Mode("py", "fast_compile"))
    rng = np.random.default_rng(6)
    values, jacobian = [], []
    place = inform(structure, pilot)

    def find_parts(sd: Floats, coordinate: Floats) -> Floats:
        narrowing = 1 + sd**2 * place.precision
        whitened = place.mean + place.factor @ coordinate
        return sd**2 * place.weighted_estimate / narrowing + sd * whitened / np.sqrt(narrowing)

    for _ in range(2):
        spread = structure.scale_priors * rng.uniform(0.3, 1.0, len(structure.scales))
        coordinate = rng.standard_normal(structure.n_parts)
        point = {"spread_signed": spread, "coordinate": coordinate}
        density, found = evaluate(*(point[str(each.name)] for each in inputs))
        sd = structure.find_sds(spread)
        parts = find_parts(sd, coordinate)
        assert place.map @ parts + structure.centre == pytest.approx(found)
        by_part = np.array([find_parts(sd, coordinate + 1e-4 * step) - parts for step in np.eye(parts.size)]) / 1e-4
        prior = (-0.5 * (parts / sd) ** 2 - np.log(sd)).sum() - 0.5 * ((spread / structure.scale_priors) ** 2).sum()
        table, slopes = structure.tabulate(found)
        told = likelihood.evaluate(table, slopes, structure.scales_of_groups(spread)).value
        values.append(density)
        jacobian.append(prior + told + np.linalg.slogdet(by_part)[1])
    assert values[1] - values[0] == pytest.approx(jacobian[1] - jacobian[0], abs=1e-3)


def test_the_density_has_the_slope_of_its_gradient(simulated: Simulated) -> None:
    with switching_model(_lay_out(simulated, groups=True)) as model:
        inputs = list(model.value_vars)
        logp = model.logp()
        evaluate = function(inputs, [logp, model.dlogp()], mode=Mode("py", "fast_compile"))
    rng = np.random.default_rng(7)
    structure = build_structure(_lay_out(simulated, groups=True), SwitchingPriors())
    spread = rng.uniform(0.2, 1.0, len(structure.scales))
    where = {"spread_signed": spread, "coordinate": rng.standard_normal(structure.n_parts)}
    steps = {name: rng.standard_normal(values.shape) for name, values in where.items()}
    _, slope = evaluate(*(where[str(each.name)] for each in inputs))
    found = float(slope @ np.concatenate([steps[str(each.name)] for each in inputs]))
    ahead, behind = (
        evaluate(*(where[str(each.name)] + sign * 1e-5 * steps[str(each.name)] for each in inputs))[0]
        for sign in (1, -1)
    )
    assert found == pytest.approx((ahead - behind) / 2e-5, rel=1e-5)


SDS = {"level_sd": 0.7, "walk_sd": 1.1, "layer_sd": 0.4, "slope_sd": 0.3, "age_sd": 0.9}


@pytest.mark.parametrize("n_steps", [[3, 3], [3, 5, 5, 4], [6], [1, 1, 1]])
def test_parts_of_levels_have_the_covariance_of_the_sum_that_they_divide(n_steps: list[int]) -> None:
    depths, priors = np.array(n_steps), SwitchingPriors()
    of_subject, waves = np.repeat(np.eye(depths.size), depths, axis=0), walk_waves(depths)
    expected = priors.level_mean_sd**2 + SDS["level_sd"] ** 2 * of_subject @ of_subject.T
    expected += SDS["walk_sd"] ** 2 * waves @ waves.T + SDS["layer_sd"] ** 2 * np.eye(len(waves))
    assert _covariance(divide_levels(depths, priors)) == pytest.approx(expected, abs=1e-12)


def test_parts_of_effects_have_the_covariance_of_the_sum_that_they_divide() -> None:
    priors, scales = SwitchingPriors(), ["slope_sd", "slope_sd", "age_sd"]
    mean = np.asarray(priors.coefficient_mean_sd**2 * np.kron(np.ones((2, 2)), np.eye(3)))
    own = np.diag([SDS[scale] ** 2 for scale in scales] * 2)
    assert _covariance(divide_effects(2, scales, priors)) == pytest.approx(mean + own, abs=1e-12)


def _covariance(blocks: list[Block]) -> Floats:
    covariance = np.zeros((len(blocks[0].columns),) * 2)
    for block in blocks:
        variance = block.known + sum(weight * SDS[name] ** 2 for name, weight in block.variance.items())
        covariance += variance * block.columns @ block.columns.T
    return covariance


def test_known_hazards_are_recovered(simulated: Simulated, fit: SwitchingFit) -> None:
    assert float(fit.sample.convergence["r_hat"].max()) < 1.03
    truth, posterior = simulated[2], fit.posterior
    drawn, true = [], []
    for values, known in ((posterior["effect"].sel(term=t), truth[t]) for t in DEFAULT_TERMS):
        drawn.append(values.transpose("side", names.SUBJECT, "chain", "draw").to_numpy().reshape(known.size, -1))
        true.append(known.to_numpy().ravel())
    level = posterior["level"].transpose("side", names.SUBJECT, names.LAYER, "chain", "draw").to_numpy()
    there = np.isfinite(truth["level"].to_numpy())
    drawn.append(level[there].reshape(there.sum(), -1))
    true.append(truth["level"].to_numpy()[there])
    draws, error = np.concatenate(drawn), np.concatenate(true) - np.concatenate(drawn).mean(axis=1)
    # Errors of 38 correlated quantities: in the posterior's own covariance their squares are chi-squared together.
    distance = error @ np.linalg.solve(np.cov(draws), error)
    assert error.size == 38
    assert 1e-4 < stats.chi2.cdf(distance, error.size) < 1 - 1e-4
    for name in ("group_sd", "group_model_sd"):
        low, high = np.asarray(posterior[name].quantile([0.002, 0.998], dim=("chain", "draw")))
        assert (low < float(truth[name])).all()
        assert (float(truth[name]) < high).all()


def test_estimates_are_labelled_and_bounded(simulated: Simulated, fit: SwitchingFit) -> None:
    found = describe_switching(fit)
    depth = found["hazard_by_depth"]
    assert depth["mean"].dims == (names.SUBJECT, "side", names.LAYER)
    assert np.isnan(depth["mean"].sel(subject="m01").to_numpy()[:, -1]).all()
    known = depth["mean"].notnull()
    assert bool(((depth["lower"] <= depth["mean"]) & (depth["mean"] <= depth["upper"])).where(known, True).all())
    at_point = found["hazard_by_distance"].sel(x=0)["mean"].to_numpy()
    assert at_point == pytest.approx(depth["mean"].mean(names.LAYER).to_numpy(), rel=0.05)
    effects = found["switching_effects"]
    assert effects["p_positive"].sel(side="text", term="x").to_numpy().mean() > 0.9
    assert effects["p_positive"].sel(side="image", term="x").to_numpy().mean() < 0.1
    assert set(effects["scale"].to_numpy()) >= {"walk_sd", "group_sd", "group_model_sd"}


def test_replicates_of_the_true_model_look_like_the_traces(fit: SwitchingFit) -> None:
    found = check_replicates(fit, rng=np.random.default_rng(3), n_replicates=50)
    assert found["p_tail"].notnull().all()
    assert float((found["p_tail"] < 0.02).mean()) < 0.2


def test_measures_by_hand() -> None:
    side = np.array([[0, 1, 1, 0, 1], [0, -1, 0, 0, 0], [0, 0, -1, 1, 1]])
    found = measure_switching(side, np.array([0, 0, 0]), np.array([0, 1, 1]), np.array([5, 5, 5]), n_subjects=2)
    assert found[0, :4] == pytest.approx([4 / 3, 1 / 3, 1 / 3, (1 + 0.75) / 2])
    assert found[0, 4] == pytest.approx(np.std([3, 0.5], ddof=1))
    assert np.isnan(found[1]).all()


def test_crossings_agree_where_silence_is_random_and_not_where_it_is_not(
    simulated: Simulated, fit: SwitchingFit
) -> None:
    found = check_crossings(fit, rng=np.random.default_rng(5))
    total = found.sel(subject=names.POOLED)
    assert float(total["lower"]) <= float(total["observed"]) <= float(total["upper"])
    gaps = fit.layout.gaps
    loud = replace(fit, layout=replace(fit.layout, gaps=replace(gaps, end=1 - gaps.side)))
    assert float(check_crossings(loud, rng=np.random.default_rng(5)).sel(subject=names.POOLED)["p_more"]) < 0.01


def test_draws_of_a_sample_are_unpacked_where_they_belong(fit: SwitchingFit) -> None:
    structure = fit.structure
    n = len(structure.parameters)
    draws = xr.Dataset(
        {
            "hazards": (("chain", "draw", "parameter"), np.arange(float(n))[None, None]),
            "spread": (("chain", "draw", "scale"), np.arange(float(len(structure.scales)))[None, None]),
        }
    )
    sample = Sample(posterior=draws, statistics=xr.Dataset(), convergence=xr.Dataset())
    posterior = replace(fit, sample=sample).posterior
    label = structure.parameters.index("effect[image, m01, distance]")
    assert float(posterior["effect"].sel(side="image", subject="m01", term="distance").item()) == label
    label = structure.parameters.index("level[image, m02, 4]")
    assert float(posterior["level"].sel(side="image", subject="m02", layer=4).item()) == label
    label = structure.scales.index("group_model_sd[image]")
    assert float(posterior["group_model_sd"].sel(side="image").item()) == label
    label = structure.scales.index("slope_sd[image]")
    assert float(posterior["slope_sd"].sel(side="image").item()) == label


@pytest.mark.parametrize("changes", [{"walk_sd": -1.0}, {"group_sd": 0.0}, {"level_mean": np.nan}, {"age_sd": np.inf}])
def test_priors_are_checked(changes: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(changes))):
        SwitchingPriors(**changes)


def test_one_group_cannot_tell_groups_apart(simulated: Simulated) -> None:
    one = simulated[0].keep(simulated[0].group == 0)
    with pytest.raises(InputError, match="groups=False"):
        fit_switching(one, simulated[1])


@pytest.mark.slow
def test_a_model_that_never_switches_is_held_by_the_prior(simulated: Simulated) -> None:
    traces = simulated[0]
    state = traces.state.copy()
    still = traces.subject == 0
    state[still] = traces.state[still].max(axis=1, keepdims=True)
    fit = fit_switching(replace(traces, state=state), simulated[1], groups=False)
    assert fit.sample.passed
    hazard = describe_switching(fit)["hazard_by_depth"]
    assert float(hazard["upper"].sel(subject="m00").max()) < 0.1
    assert float(hazard["lower"].sel(subject="m00").min()) > 0


@pytest.mark.slow
def test_one_subject_two_layers_and_no_gap() -> None:
    hazards = Hazards(other_share=0.0, start_layer=0.0)
    found, points, _ = simulate_switching(
        n_layers=(2,), n_groups=10, n_items=60, rng=np.random.default_rng(2), hazards=hazards
    )
    fit = fit_switching(found, points)
    assert fit.sample.passed
    assert np.isnan(check_crossings(fit, rng=np.random.default_rng(1))["expected"]).all()


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    hits, effort = [], (Effort(tune=300, draws=300, target_accept=0.8),)
    for seed in range(12):
        found, points, truth = simulate_switching(
            n_layers=(8, 7), n_groups=25, n_items=20, rng=np.random.default_rng([4, seed])
        )
        effects = describe_switching(fit_switching(found, points, seed=seed, attempts=effort), ci_prob=0.9)[
            "switching_effects"
        ]
        for term in DEFAULT_TERMS:
            own = effects.sel(term=term)
            hits.append(((own["lower"] < truth[term].T) & (own["upper"] > truth[term].T)).to_numpy().ravel())
    # Four standard errors, from the spread between data sets.
    by_set = np.reshape(hits, (12, -1)).mean(axis=1)
    assert abs(by_set.mean() - 0.9) < 4 * max(by_set.std(ddof=1), 0.05) / np.sqrt(12)


def test_versions_are_compared_by_groups_left_out(simulated: Simulated) -> None:
    found = compare_switching(simulated[0], simulated[1], versions={"without x": (), "x and distance": DEFAULT_TERMS})
    assert found.attrs["best"] == "x and distance"
    ahead = -float(found["elpd_difference"].sel(version="without x"))
    assert ahead > 2 * float(found["difference_se"].sel(version="without x"))
