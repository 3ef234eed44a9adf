"""Description of traces and checks of the claim: answers worked out otherwise, and traces made to have them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from mfbayes.errors import InputError
from mfbayes.simulated_traces import Switching, simulate_traces
from mfbayes.simulation import Scenario, simulate_trials
from mfbayes.trajectories import Trajectories, join_traces
from mfbayes.vacillation.contrasts import contrast_regions
from mfbayes.vacillation.estimates import add_trace_estimates, describe_traces
from mfbayes.vacillation.layer_maps import map_layers
from mfbayes.vacillation.measures import CLAIMS, measure_traces
from mfbayes.vacillation.peaks import measure_error, score_groups
from mfbayes.vacillation.placebos import move_centre
from mfbayes.vacillation.regions import ENTROPY_BINS, place_in_regions, redraw, tally_regions
from mfbayes.vacillation.summaries import choose_pooled
from mfbayes.vacillation.total_entropy import adjust_for_total_entropy, estimate_propensity, measure_effective_share
from mfbayes.vacillation.verdicts import (
    BOTH_SIDES,
    IMAGE_SIDE_ONLY,
    NO,
    NO_POSITIVITY,
    ON_AVERAGE,
    REVERSED,
    TEXT_SIDE_ONLY,
    UNDECIDED,
    UNTOLD,
    YES,
    judge_claim,
)

POINTS = {"seer": -0.4, "reader": 0.3}
REGION_OF = ("text-clear", "ambiguous", "image-clear", "control")
REGULAR = [[1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 1]]


def lay_traces(
    state: ArrayLike,
    dH: ArrayLike,
    *,
    subject: ArrayLike | None = None,
    group: ArrayLike | None = None,
    total: ArrayLike | None = None,
    is_control: ArrayLike | None = None,
    subjects: tuple[str, ...] = ("m",),
) -> Trajectories:
    """Trajectories from states and dH, by default each a group of its own."""
    states, uncertainty = np.asarray(state, dtype=np.int8), np.asarray(dH, dtype=np.float64)
    groups = np.arange(len(states)) if group is None else np.asarray(group)
    half = np.ones(len(states)) if total is None else np.asarray(total) / 2
    return Trajectories(
        subjects=subjects,
        subject_model=subjects,
        groups=tuple(f"g{i}" for i in range(int(groups.max()) + 1)),
        items=np.arange(len(states)).astype(object),
        subject=np.zeros(len(states), dtype=np.int64) if subject is None else np.asarray(subject),
        group=groups,
        n_layers=np.full(len(subjects), states.shape[1]),
        uncertainty=uncertainty,
        h_text=half * (1 + uncertainty / 2),
        h_image=half * (1 - uncertainty / 2),
        is_control=np.zeros(len(states), dtype=bool) if is_control is None else np.asarray(is_control),
        state=states,
        logit_difference=np.where(states == 1, 1.0, -1.0),
    )


def simulate_both(
    *, seed: int, by_distance: float, n_groups: int = 20
) -> tuple[pd.DataFrame, dict[str, xr.Dataset], Trajectories]:
    rng = np.random.default_rng(seed)
    scenario = Scenario(models=POINTS, n_groups=n_groups, both_correct=1.0, other_share=0.0)
    trials, _ = simulate_trials(scenario, rng=rng)
    traces, _ = simulate_traces(trials, POINTS, rng=rng, n_layers=12, switching=Switching(by_distance=by_distance))
    return trials, traces, join_traces(trials, traces, subset="all", index="entropy")[0]


def known_points(trajectories: Trajectories, sd: float = 0.0, n: int = 50) -> NDArray[np.float64]:
    middle = np.array([POINTS.get(subject, 0.0) for subject in trajectories.subjects])
    drawn: NDArray[np.float64] = middle[:, None] + sd * np.random.default_rng(0).standard_normal((middle.size, n))
    return drawn


def test_half_a_unit_is_clear_and_an_unknown_centre_is_nowhere() -> None:
    dH, control = np.array([-0.25, 0.0, 0.25, 0.5, 0.75, 1.0]), np.array([False] * 5 + [True])
    assert place_in_regions(dH, centre=0.25, is_control=control).tolist() == [0, 1, 1, 1, 2, 3]
    assert place_in_regions(dH, centre=np.nan, is_control=control).tolist() == [4] * 5 + [3]


def test_means_and_contrasts_are_those_of_the_regions() -> None:
    """Twelve traces a region: text none, ambiguous two, image one switch; a third never commits."""
    dH = np.repeat([-1.0, 0.0, 1.0, 0.0], 12)
    state = np.repeat([REGULAR[0], REGULAR[1], REGULAR[2], [0, -1, 1, 1]], 12, axis=0)
    state[::3] = -1
    laid = lay_traces(state, dH, group=np.tile(np.arange(12), 4), is_control=np.repeat([False] * 3 + [True], 12))
    estimates, _ = describe_traces(laid, np.zeros((1, 10)), ci_prob=0.9, rng=np.random.default_rng(1))
    means = estimates["traces"].sel(subject="m")
    by_region = means["mean"].sel(region=list(REGION_OF))
    np.testing.assert_allclose(by_region.sel(measure="oscillations"), [0, 2, 1, 1])
    np.testing.assert_allclose(by_region.sel(measure="round-trips"), [0, 2, 0, 0])
    np.testing.assert_allclose(by_region.sel(measure="last-switch"), [np.nan, 3, 4, 3])
    np.testing.assert_allclose(by_region.sel(measure="dwell"), [4, 4 / 3, 2, 2])
    np.testing.assert_allclose(means["mean"].sel(region="clear", measure="oscillations"), 0.5)
    np.testing.assert_allclose(means["never_committed"], 1 / 3)
    assert means["n"].sel(measure="last-switch").to_numpy().tolist() == [0, 8, 8, 8, 8]


def test_too_few_committed_traces_give_a_number_but_no_interval_and_no_verdict() -> None:
    dH = np.repeat([-1.0, 0.0, 1.0], 12)
    state = np.repeat(REGULAR, 12, axis=0)
    state[::3] = -1
    laid = lay_traces(state, dH, group=np.tile(np.arange(12), 3))
    estimates, notes = describe_traces(laid, np.zeros((1, 10)), ci_prob=0.9, rng=np.random.default_rng(1))
    contrasts = estimates["contrasts"].sel(subject="m")
    np.testing.assert_allclose(contrasts["mean"].sel(measure="oscillations"), [1.5, 2, 1, 1.5])
    assert np.isnan(contrasts["lower"]).all()
    assert np.isnan(contrasts["p"]).all()
    assert (estimates["vacillation"]["verdict"] == UNTOLD).all()
    assert any("too few traces" in note for note in notes)


def test_draws_agree_with_regions_made_anew_for_each() -> None:
    laid = simulate_both(seed=2, by_distance=1.0, n_groups=8)[2]
    redraws = redraw(known_points(laid, sd=0.3), n_groups=8, rng=np.random.default_rng(3), n_draws=4)
    assert redraws.weight.sum(axis=1).tolist() == [8, 7, 7, 7, 7]
    columns = measure_traces(laid)
    tally = tally_regions(laid, columns, redraws)
    for draw in range(5):
        for subject in range(2):
            own = laid.subject == subject
            distance = laid.uncertainty - redraws.centre[subject, draw]
            weight = redraws.weight[draw][laid.group] * columns["round-trips"]
            expected = [weight[own & rows].sum() for rows in (distance <= -0.5, abs(distance) < 0.5, distance >= 0.5)]
            np.testing.assert_allclose(tally.sums["round-trips"][subject, draw, :3].sum(axis=-1), expected)


def test_a_peak_at_the_balance_point_is_found_there_and_nowhere_on_nulls() -> None:
    """A hazard that falls steeply with distance; without, the verdict is one of the cautious ones."""
    found = {}
    for by_distance in (0.0, 2.0):
        laid = simulate_both(seed=5, by_distance=by_distance, n_groups=30)[2]
        estimates, _ = describe_traces(laid, known_points(laid, 0.05), ci_prob=0.99, rng=np.random.default_rng(6))
        found[by_distance] = estimates
    verdicts = found[2.0]["vacillation"]
    assert (verdicts["verdict"] == BOTH_SIDES).all()
    assert (verdicts["peak_near"].sel(subject="all") > 0.7).all()
    assert abs(float(verdicts["peak"].sel(subject="all", measure="oscillations"))) <= 0.2
    assert (found[2.0]["contrasts"]["p"].sel(contrast="balanced") <= 0.01).all()
    assert (found[0.0]["vacillation"]["verdict"] == UNDECIDED).all()
    assert (found[0.0]["vacillation"]["separable"] == NO).all()
    size = found[0.0]["contrasts"]["size"].sel(subject="all", contrast=["balanced", "text-side", "image-side"])
    assert (np.abs(size - 0.05) < 0.05).all()


def test_a_contrast_that_total_entropy_makes_is_gone_with_overlap_weights() -> None:
    """Switches depend on total entropy alone, which is low near balance: raw contrasts see it, weighted do not."""
    rng = np.random.default_rng(8)
    n, groups = 9000, 100
    dH = rng.uniform(-1.5, 1.5, n)
    total = np.exp(0.5 * rng.standard_normal(n) + 0.5 * (np.abs(dH) > 0.5))
    switches = rng.random(n) < 0.6 / (1 + total)
    state = np.where(switches[:, None], [0, 1, 0], [0, 0, 0])
    laid = lay_traces(state, dH, group=rng.integers(groups, size=n), total=total)
    redraws = redraw(np.zeros((1, 5)), n_groups=groups, rng=rng, n_draws=200)
    tally = tally_regions(laid, measure_traces(laid), redraws)
    raw = contrast_regions(tally, laid.subjects, ci_prob=0.95).sel(subject="m", measure="round-trips")
    adjusted = adjust_for_total_entropy(tally, laid.subjects, ci_prob=0.99)
    weighted = adjusted.sel(subject="m", measure="round-trips", stratum="overlap")
    assert (raw["lower"] > 0.05).all()
    assert (weighted["lower"] < 0).all()
    assert (weighted["upper"] > 0).all()
    assert (adjusted["positivity"] == "holds").all()
    verdicts = judge_claim(contrast_regions(tally, laid.subjects, ci_prob=0.95), adjusted)
    assert verdicts["verdict"].sel(subject="m", measure="round-trips") == BOTH_SIDES
    assert verdicts["separable"].sel(subject="m", measure="round-trips") == NO


def test_overlap_weights_balance_what_the_propensity_knows() -> None:
    rng = np.random.default_rng(9)
    treated, others = rng.integers(50, 500, size=(2, 3, ENTROPY_BINS)).astype(np.float64)
    chance = estimate_propensity(treated, others)
    place = np.arange(ENTROPY_BINS) / ENTROPY_BINS
    for power in (1, 2, 3):
        first = (treated * (1 - chance) * place**power).sum(axis=1) / (treated * (1 - chance)).sum(axis=1)
        second = (others * chance * place**power).sum(axis=1) / (others * chance).sum(axis=1)
        np.testing.assert_allclose(first, second, atol=2e-3)
    np.testing.assert_allclose(measure_effective_share(treated, np.full(ENTROPY_BINS, 0.3)), 1)
    one = measure_effective_share(np.array([9.0, 1.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(one, 0.1)


def test_no_common_total_entropy_is_said_and_decides() -> None:
    rng = np.random.default_rng(10)
    dH = np.tile([-1.0, 0.0, 1.0], 200)
    state = np.where((dH == 0)[:, None], [0, 1, 0], [0, 0, 0])
    total = np.where(dH == 0, 1.0, 3.0) * rng.uniform(0.9, 1.1, dH.size)
    laid = lay_traces(state, dH, group=np.arange(600) // 3 % 40, total=total)
    estimates, notes = describe_traces(laid, np.zeros((1, 5)), ci_prob=0.95, rng=rng)
    assert (estimates["vacillation"]["verdict"] == BOTH_SIDES).all()
    assert (estimates["vacillation"]["separable"] == NO_POSITIVITY).all()
    assert any("hardly share the same total entropy" in note for note in notes)


def test_entropies_that_are_not_known_rule_nothing_out() -> None:
    """Trials with another index of uncertainty alone: what needs no entropies is as it would be with them."""
    rng = np.random.default_rng(10)
    dH = np.tile([-1.0, 0.0, 1.0], 200)
    state = np.where((dH == 0)[:, None], [0, 1, 0], [0, 0, 0])
    some = np.where(np.arange(dH.size) == 7, np.nan, rng.uniform(0.9, 1.1, dH.size))
    known, unknown = (
        describe_traces(
            lay_traces(state, dH, group=np.arange(600) // 3 % 40, total=total),
            np.zeros((1, 5)), ci_prob=0.95, rng=np.random.default_rng(11),
        )
        for total in (np.nan_to_num(some, nan=1.0), some)
    )  # fmt: skip
    xr.testing.assert_allclose(known[0]["contrasts"], unknown[0]["contrasts"])
    assert np.isfinite(known[0]["total_entropy"]["lower"].sel(subject="m", stratum="overlap")).all()
    adjusted = unknown[0]["total_entropy"]
    assert all(np.isnan(adjusted[name]).all() for name in ("mean", "lower", "upper", "smallest_cell"))
    assert (adjusted["positivity"] == "").all()
    assert (unknown[0]["vacillation"]["separable"] == NO_POSITIVITY).all()
    assert any("no entropies" in note and "m." in note for note in unknown[1])
    assert not any("hardly share" in note for note in unknown[1])


@pytest.mark.parametrize(
    ("balanced", "text", "image", "verdict"),
    [
        ((0.1, 0.5), (0.1, 0.5), (0.1, 0.5), BOTH_SIDES),
        ((0.1, 0.5), (0.1, 0.5), (-0.1, 0.5), TEXT_SIDE_ONLY),
        ((-0.1, 0.5), (-0.1, 0.5), (0.1, 0.5), IMAGE_SIDE_ONLY),
        ((0.1, 0.5), (-0.1, 0.5), (-0.1, 0.5), ON_AVERAGE),
        ((-0.1, 0.5), (-0.1, 0.5), (-0.1, 0.5), UNDECIDED),
        ((-0.5, -0.1), (0.1, 0.5), (-2.0, -1.0), REVERSED),
        ((np.nan, np.nan), (0.1, 0.5), (np.nan, np.nan), UNTOLD),
    ],
)
def test_verdicts_follow_their_rule(
    balanced: tuple[float, float], text: tuple[float, float], image: tuple[float, float], verdict: str
) -> None:
    bounds = np.array([balanced, text, image])[None, None].repeat(len(CLAIMS), axis=1)
    coordinates = {"subject": ["m"], "measure": list(CLAIMS), "contrast": ["balanced", "text-side", "image-side"]}
    dims = ("subject", "measure", "contrast")
    raw = xr.Dataset({"lower": (dims, bounds[..., 0]), "upper": (dims, bounds[..., 1])}, coords=coordinates)
    weighted = raw.expand_dims(stratum=["overlap"], axis=-1)
    for positivity in ("holds", "fails"):
        adjusted = weighted.assign(positivity=(("subject", "contrast"), np.full((1, 3), positivity, dtype=object)))
        found = judge_claim(raw, adjusted)
        assert (found["verdict"] == verdict).all()
        telling = verdict not in (UNDECIDED, UNTOLD)
        expected = "" if verdict == UNTOLD else NO if not telling else YES if positivity == "holds" else NO_POSITIVITY
        assert (found["separable"] == expected).all()


def lay_round_trips(
    chance: NDArray[np.float64], dH: NDArray[np.float64], *, n_groups: int, rng: np.random.Generator
) -> Trajectories:
    """Traces that go there and back with a chance of their own, in groups by turns."""
    state = np.where((rng.random(dH.size) < chance)[:, None], [0, 1, 0], [0, 0, 0])
    return lay_traces(state, dH, group=np.arange(dH.size) % n_groups)


def test_placebo_centres_see_a_peak_where_it_was_put() -> None:
    """Round trips within half a unit of dH = 0.6 alone, and there in nine of ten."""
    rng = np.random.default_rng(1)
    dH = np.tile(np.linspace(-1.9, 1.9, 77), 20)
    laid = lay_round_trips(np.where(np.abs(dH - 0.6) < 0.5, 0.9, 0.0), dH, n_groups=20, rng=rng)
    redraws = redraw(np.zeros((1, 5)), n_groups=20, rng=rng, n_draws=100)
    placebos, peaks = move_centre(laid, measure_traces(laid), redraws, ci_prob=0.95, rng=rng)
    assert (peaks["peak"].sel(subject="m") == 0.6).all()
    assert (peaks["peak_near"].sel(subject="m") == 0).all()
    # None of 999 flips is as high.
    np.testing.assert_allclose(peaks["peak_p"].sel(subject="m"), 1 / 1000)
    # 2 x .9 with a binomial error of 2 sqrt(.09 / 400), of which four.
    np.testing.assert_allclose(placebos["mean"].sel(subject="m", centre=0.6), 1.8, atol=0.12)
    # Around 0 a part of them is ambiguous and a part image-clear.
    centre = contrast_regions(tally_regions(laid, measure_traces(laid), redraws), laid.subjects, ci_prob=0.95)
    np.testing.assert_allclose(
        placebos["mean"].sel(subject="m", centre=0.0), centre["mean"].sel(subject="m", contrast="balanced"), atol=0.05
    )


def test_scores_of_groups_sum_to_the_contrast_and_flips_leave_no_trend() -> None:
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 9, size=(12, 4, 3)).astype(np.float64)
    sums = counts * rng.uniform(0, 2, size=counts.shape)
    text, ambiguous, image = np.moveaxis(sums.sum(axis=0) / counts.sum(axis=0), -1, 0)
    np.testing.assert_allclose(score_groups(sums, counts).sum(axis=0), ambiguous - (text + image) / 2)
    # Means that are a line over the regions, in every group, are all null.
    np.testing.assert_allclose(score_groups(counts * [0.5, 1.0, 1.5], counts), 0, atol=1e-12)
    # Independent traces: sqrt(v (1/4n_T + 1/n_A + 1/4n_I)).
    n = counts.sum(axis=0)
    expected = np.sqrt(0.7 * (0.25 / n[:, 0] + 1 / n[:, 1] + 0.25 / n[:, 2]))
    np.testing.assert_allclose(measure_error(counts, (0.0, 0.7)), expected)


@pytest.mark.parametrize("n_sets", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_of_traces_without_a_difference_few_have_a_peak(n_sets: int) -> None:
    """As many as the level says, over all centres together, where few traces are at the edges of dH."""
    n_groups = 30
    rng = np.random.default_rng(3)
    shown = []
    for _ in range(n_sets):
        H_text, H_image = np.exp(0.6 * rng.standard_normal((2, 450)))
        dH = 2 * (H_text - H_image) / (H_text + H_image)
        laid = lay_round_trips(np.full(dH.size, 0.3), dH, n_groups=n_groups, rng=rng)
        redraws = redraw(np.zeros((1, 2)), n_groups=n_groups, rng=rng, n_draws=2)
        _, peaks = move_centre(laid, measure_traces(laid), redraws, ci_prob=0.95, rng=rng)
        shown.append(np.isfinite(float(peaks["peak"].sel(subject="m", measure="round-trips"))))
    assert abs(np.mean(shown) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / n_sets)


def test_a_centre_with_a_region_of_few_groups_has_no_contrast() -> None:
    """Beyond dH = 0.6 are many traces, but of five groups."""
    rng = np.random.default_rng(4)
    dH = rng.uniform(-1.9, 1.9, 3000)
    group = np.where(dH >= 0.6, np.arange(3000) % 5, np.arange(3000) % 30)
    laid = lay_traces(np.tile([0, 1, 0], (3000, 1)), dH, group=group)
    redraws = redraw(np.zeros((1, 2)), n_groups=30, rng=rng, n_draws=2)
    placebos, _ = move_centre(laid, measure_traces(laid), redraws, ci_prob=0.95, rng=rng)
    known = np.isfinite(placebos["mean"].sel(subject="m", measure="round-trips").to_numpy())
    assert placebos["centre"].to_numpy()[known].max() == 0.0


def test_bad_traces_leave_the_rest_alone() -> None:
    """One subject one-sided, one without a side, one without any commitment, one of few groups; one is whole."""
    rng = np.random.default_rng(12)
    subjects = ("few", "mute", "one-sided", "sideless", "whole")
    n = 240
    dH = np.tile([-1.0, 0.0, 1.0], 5 * n // 3)
    subject = np.repeat(np.arange(5), n)
    dH[subject == 3] = np.abs(dH[subject == 3])
    group = np.tile(np.arange(n) // 3 % 20, 5)
    group[subject == 0] %= 3
    state = np.where(rng.random((5 * n, 1)) < 0.3, [0, 1, 0], [0, 0, 0])
    state[subject == 1] = -1
    laid = lay_traces(state, dH, subject=subject, group=group, subjects=subjects, total=rng.uniform(1, 2, 5 * n))
    points = np.zeros((5, 7))
    points[2] = np.nan
    estimates, notes = describe_traces(laid, points, ci_prob=0.9, rng=rng)
    verdict = estimates["vacillation"]["verdict"]
    for name in ("few", "mute", "one-sided", "sideless"):
        assert (verdict.sel(subject=name) == UNTOLD).all(), name
        assert any(note.startswith(f"{name}:") for note in notes), name
    assert (verdict.sel(subject=["whole", "all"]) != UNTOLD).all()
    contrasts = estimates["contrasts"]
    np.testing.assert_allclose(
        contrasts["mean"].sel(subject="all", contrast="balanced"),
        contrasts["mean"].sel(subject="whole", contrast="balanced"),
    )
    assert np.isfinite(contrasts["lower"].sel(subject="sideless", contrast="image-side")).all()
    assert (estimates["traces"]["never_committed"].sel(subject="mute", region="ambiguous") == 1).all()
    occupancy = estimates["occupancy"]
    np.testing.assert_allclose(occupancy["other"].sel(subject="mute", region="clear"), 1)
    assert np.isnan(occupancy["text"].sel(subject="one-sided")).all()


def test_a_fit_takes_traces_of_some_subjects_and_keeps_its_notes() -> None:
    trials, traces, laid = simulate_both(seed=13, by_distance=1.0)
    subjects = np.array(["mute", *laid.subjects], dtype=object)
    points = xr.Dataset(
        {"median": ("subject", [0.0, 0.3, -0.4]), "status": ("subject", np.array(["not-converged"] * 3, dtype=object))},
        coords={"subject": subjects, "model": ("subject", subjects)},
    ).assign(n_text=("subject", [9, 9, 9]), n_image=("subject", [9, 9, 9]))
    posterior = xr.Dataset(
        {"balance_point": (("chain", "draw", "subject"), np.tile([0.0, 0.3, -0.4], (1, 20, 1)))},
        coords={"subject": subjects},
    )
    labels = {f"subject_{part}": ("subject", subjects) for part in ("model", "task", "condition", "family")}
    tree = xr.DataTree.from_dict(
        {
            "/posterior": posterior,
            "/constant_data": xr.Dataset(labels, coords={"subject": subjects}),
            "/estimates/balance_points": points,
        }
    )
    tree.attrs = {"subset": "all", "index": "entropy", "ci_prob": 0.95, "seed": 0, "notes": json.dumps(["earlier"])}
    add_trace_estimates(tree, trials, traces | {"stranger": traces["seer"]})
    assert json.loads(tree.attrs["notes"])[0] == "earlier"
    found = tree["estimates/contrasts"].to_dataset()
    assert found["subject"].to_numpy().tolist() == [*subjects, "all"]
    assert found["model"].to_numpy().tolist()[-1] == "all"
    assert np.isnan(found["mean"].sel(subject="mute")).all()
    assert found["n_text"].dtype.kind == "i"
    assert tree["estimates/oscillations"]["subject"].to_numpy().tolist() == subjects.tolist()
    assert set(tree["estimates"].children) >= {"traces", "occupancy", "layer_map", "placebos", "total_entropy"}
    # One-sided is what choices are, whether or not the sampler converged.
    one_sided = points.assign(n_text=("subject", [9, 9, 0]))
    tree["estimates/balance_points"] = xr.DataTree(dataset=one_sided)
    add_trace_estimates(tree, trials, traces)
    assert any(note.startswith("seer: its choices are all of one side") for note in json.loads(tree.attrs["notes"]))
    assert np.isnan(tree["estimates/contrasts/mean"].sel(subject="seer")).all()
    assert np.isfinite(tree["estimates/contrasts/mean"].sel(subject="reader")).all()
    add_trace_estimates(tree, trials, {"seer": traces["seer"].isel(layer=[0])})
    assert "Nothing is said of layers" in json.loads(tree.attrs["notes"])[-1]
    with pytest.raises(InputError, match="'item'"):
        add_trace_estimates(tree, trials.drop(columns="item"), traces)


def test_all_models_are_the_same_ones_in_every_contrast() -> None:
    """Two have all regions and one no image side, where ambiguous traces oscillate far more than its text side."""
    rng = np.random.default_rng(15)
    n = 360
    dH = np.tile([-1.0, 0.0, 1.0], n)
    subject = np.repeat(np.arange(3), n)
    dH[(subject == 2) & (dH > 0)] = 0.0
    chance = np.where(subject == 2, np.where(dH < 0, 0.0, 0.9), 0.3)
    state = np.where((rng.random(3 * n) < chance)[:, None], [0, 1, 0], [0, 0, 0])
    laid = lay_traces(
        state, dH, subject=subject, group=np.tile(np.arange(n) // 3 % 20, 3), subjects=("a", "b", "half"),
        total=rng.uniform(1, 2, 3 * n),
    )  # fmt: skip
    estimates, _ = describe_traces(laid, np.zeros((3, 5)), ci_prob=0.95, rng=rng)
    contrasts = estimates["contrasts"]
    pooled = contrasts["mean"].sel(subject="all", measure="round-trips")
    sides = pooled.sel(contrast=["text-side", "image-side"])
    np.testing.assert_allclose(pooled.sel(contrast="balanced"), sides.mean(), atol=1e-12)
    assert (contrasts["n_subjects"].sel(subject="all") == 2).all()
    own = contrasts.sel(subject="half", measure="round-trips", contrast="text-side")
    assert float(own["lower"]) > 1
    assert int(own["n_subjects"]) == 1
    # Without it, neither the verdict on all nor its p-value sees the difference that it alone has.
    assert estimates["vacillation"]["verdict"].sel(subject="all", measure="round-trips") == UNDECIDED
    assert float(contrasts["p"].sel(subject="all", measure="round-trips", contrast="text-side")) > 0.01
    weighted = estimates["total_entropy"]["mean"].sel(subject="all", measure="round-trips", contrast="text-side")
    assert (weighted < 0.3).all()


def test_where_no_model_has_all_regions_each_contrast_takes_those_that_have_it() -> None:
    flags = np.array([[[False, True, False]], [[False, True, True]]])
    np.testing.assert_array_equal(choose_pooled(flags), flags)
    flags[1] = True
    np.testing.assert_array_equal(choose_pooled(flags), [[[False] * 3], [[True] * 3]])


def test_the_share_that_never_commits_has_an_interval_over_groups() -> None:
    """Ambiguous: groups of 12 in which all traces commit or none does; text-clear: all commit; image-clear: none."""
    rng = np.random.default_rng(16)
    n, groups = 12, 40
    group = np.tile(np.repeat(np.arange(groups), n), 3)
    dH = np.repeat([-1.0, 0.0, 1.0], n * groups)
    silent = np.where(dH == 0, rng.permutation(groups)[group] < 10, dH > 0)
    laid = lay_traces(np.where(silent[:, None], [-1, -1], [0, 1]), dH, group=group)
    estimates, _ = describe_traces(laid, np.zeros((1, 5)), ci_prob=0.95, rng=rng)
    for table in (estimates["traces"], estimates["oscillations"]):
        share, lower, upper = (
            table[name].sel(subject="m", region=["text-clear", "ambiguous", "image-clear"]).to_numpy()
            for name in ("never_committed", "never_lower", "never_upper")
        )
        np.testing.assert_allclose(share, [0, 0.25, 1])
        # Traces of a group agree, so that there are 40 observations: t(39) sqrt(.25 .75 / 39).
        np.testing.assert_allclose(upper[1] - lower[1], 2 * 2.02 * np.sqrt(0.25 * 0.75 / 39), rtol=0.1)
        edge = 1.96**2 / (40 + 1.96**2)
        np.testing.assert_allclose([lower[0], upper[0]], [0, edge], atol=1e-4)
        np.testing.assert_allclose([lower[2], upper[2]], [1 - edge, 1], atol=1e-4)
    few, _ = describe_traces(laid.keep(group < 5), np.zeros((1, 5)), ci_prob=0.95, rng=rng)
    assert np.isnan(few["traces"]["never_lower"]).all()


def test_a_map_has_intervals_where_six_groups_are_and_they_are_as_wide_as_students() -> None:
    rng = np.random.default_rng(17)
    logits = rng.standard_normal(16)
    dH, group = np.array([0.1] * 8 + [1.1] * 8), np.concatenate([np.arange(8), np.arange(8) % 5])
    laid = replace(lay_traces(np.ones((16, 2)), dH, group=group), logit_difference=np.stack([logits] * 2, axis=1))
    redraws = redraw(np.zeros((1, 5)), n_groups=8, rng=rng, n_draws=4000)
    found = map_layers(laid, redraws, ci_prob=0.95).isel(subject=0, layer=0)
    near, far = (int(np.flatnonzero(found["dH_upper"] > own)[0]) for own in (0.1, 1.1))
    np.testing.assert_allclose(found["mean"][[near, far]], [logits[:8].mean(), logits[8:].mean()])
    width = float(found["upper"][near] - found["lower"][near])
    assert width == pytest.approx(2 * student.ppf(0.975, 7) * logits[:8].std(ddof=1) / np.sqrt(8), rel=0.15)
    assert np.isnan(found["lower"][far])
