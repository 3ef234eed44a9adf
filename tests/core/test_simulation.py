"""Simulated trials and traces: accepted as a collection is, and lawful in every parameter they claim."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from mfbayes.design import lay_out
from mfbayes.errors import InputError
from mfbayes.marginal.fast import approximate
from mfbayes.selection import select_trials
from mfbayes.simulated_traces import Switching, simulate_traces
from mfbayes.simulation import Scenario, draw_population, simulate_trials
from mfbayes.traces import count_oscillations, write_traces
from mfbayes.trials import check_trials
from mfbayes.uncertainty import relative_uncertainty


def draw(seed: int = 1, **parameters: Any) -> pd.DataFrame:
    return simulate_trials(Scenario(**parameters), rng=np.random.default_rng(seed))[0]


def distance(trials: pd.DataFrame) -> np.ndarray:
    return relative_uncertainty(trials["H_text"], trials["H_image"])


def test_trials_pass_the_checks_unchanged_and_fill_the_design() -> None:
    trials = draw(models=3, n_groups=5)
    pd.testing.assert_frame_equal(check_trials(trials), trials)
    assert len(trials) == 3 * 5 * 14 * 3
    assert (trials.groupby(["model", "group"]).size() == 42).all()
    design = lay_out(select_trials(trials).trials)
    assert design.subjects == ("m1", "m2", "m3") and len(design.groups) == 5
    # One text on its own has one entropy, whatever image it is shown beside.
    assert (trials.groupby(["model", "group", "d_text"])["H_text"].nunique() == 1).all()
    assert (trials.groupby(["model", "group", "d_image"])["H_image"].nunique() == 1).all()


def test_the_same_seed_gives_the_same_trials() -> None:
    pd.testing.assert_frame_equal(draw(4, n_groups=3), draw(4, n_groups=3))
    assert not draw(4, n_groups=3).equals(draw(5, n_groups=3))


def test_tasks_conditions_and_families_are_labelled_and_shifted() -> None:
    scenario = Scenario(
        models={"a": 0.2, "b": -0.3},
        families={"a": "x", "b": "y"},
        tasks={"color": 0.0, "shape": 0.25},
        conditions={"plain": 0.0, "urged": 0.4},
        model_task_sd=0.0,
        n_groups=4,
    )
    trials, truth = simulate_trials(scenario, rng=np.random.default_rng(2))
    pd.testing.assert_frame_equal(check_trials(trials), trials)
    points = truth["balance_point"].to_series()
    assert points["a / color / plain"] == 0.2
    assert points["b / shape / urged"] == pytest.approx(-0.3 + 0.25 + 0.4)
    assert truth["family"].to_series()["b / shape / urged"] == "y"
    selection = select_trials(trials)
    assert set(selection.trials["subject"]) == set(truth["subject"].values)
    assert set(lay_out(selection.trials).levels) == {"family", "task", "condition", "model_task"}
    assert trials.loc[trials["task"] == "shape", "item"].str.startswith("shape-g").all()


def test_choices_follow_the_law() -> None:
    trials = draw(models={"a": 0.4}, slopes={"a": 3.0}, n_groups=800, group_sd=0, group_model_sd=0, other_share=0)
    dH = distance(trials)
    p = expit(3.0 * (0.4 - dH))
    is_text = trials["choice"] == "text"
    for low, high in ((-2, -0.5), (-0.5, 0.4), (0.4, 1), (1, 2)):
        own = (low <= dH) & (dH < high)
        error = np.sqrt((p * (1 - p))[own].sum()) / own.sum()
        assert abs(is_text[own].mean() - p[own].mean()) < 4 * error


def test_group_effects_have_their_sds() -> None:
    # A flat law lays the groups' effects bare: logits of the groups' shares.
    shared: dict[str, Any] = {
        "slopes": {"a": 1e-9},
        "models": {"a": 0.0},
        "image_tiers": 20,
        "text_tiers": 10,
        "other_share": 0.0,
    }
    trials = draw(n_groups=900, group_sd=0.3, group_model_sd=0.4, **shared)
    shares = (trials["choice"] == "text").groupby(trials["group"]).mean()
    noise = np.mean(1 / (200 * shares * (1 - shares)))
    sd = np.sqrt(np.var(logit(shares), ddof=1) - noise)
    # Relative Monte Carlo error of a sd of 900 groups: 1 / sqrt(1800).
    assert sd == pytest.approx(0.5, rel=4 / 1800**0.5)


def test_shares_of_other_correct_and_lapses_are_as_asked() -> None:
    n = 400 * 42
    trials = draw(models={"a": 0.0, "b": 0.0}, n_groups=400, other_share=0.1, both_correct={"a": 0.4, "b": 0.9})
    both = (trials["text_correct"] & trials["image_correct"]).groupby(trials["model"]).mean()
    for model, share in {"a": 0.4, "b": 0.9}.items():
        assert abs(both[model] - share) < 4 * np.sqrt(share * (1 - share) / n)
    assert abs((trials["choice"] == "other").mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / (2 * n))
    sure = draw(models={"a": 50.0}, slopes={"a": 5.0}, n_groups=400, lapse=0.04, other_share=0)
    assert abs((sure["choice"] == "image").mean() - 0.04) < 4 * np.sqrt(0.04 * 0.96 / n)


def test_other_depends_on_the_groups_effects_only_where_asked() -> None:
    def correlation(by_effect: float) -> float:
        trials = draw(n_groups=300, models={"a": 0.0}, group_sd=1.0, other_share=0.2, other_by_effect=by_effect)
        other = (trials["choice"] == "other").groupby(trials["group"]).mean()
        text = (trials["choice"] == "text").groupby(trials["group"]).mean() / (1 - other)
        return float(np.corrcoef(other, text)[0, 1])

    assert abs(correlation(0.0)) < 4 / 300**0.5
    assert correlation(1.0) > 0.5
    assert correlation(-1.0) < -0.5


def test_other_laws_leave_dH_behind() -> None:
    shared: dict[str, Any] = {
        "models": {"a": 0.0},
        "slopes": {"a": 2.0},
        "group_sd": 0.0,
        "group_model_sd": 0.0,
        "other_share": 0.0,
    }
    bumped = draw(n_groups=500, bump=4.0, bump_at=1.0, bump_width=0.2, **shared)
    dH, is_text = distance(bumped), bumped["choice"] == "text"
    valley, hill = is_text[(dH > 0.3) & (dH < 0.6)].mean(), is_text[(dH > 0.9) & (dH < 1.1)].mean()
    assert hill > valley + 0.2
    entropies = draw(n_groups=500, entropy_effects=(0.0, 1.0), **shared)
    p = expit(entropies["H_image"])
    easy = entropies["d_text"] == 0
    shares = (entropies["choice"] == "text").groupby(easy).mean()
    expected = p.groupby(easy).mean()
    assert np.abs(shares - expected).max() < 4 * 0.5 / (500 * 14) ** 0.5


def test_the_fast_tier_finds_the_truth() -> None:
    scenario = Scenario(models={"a": 0.5, "b": -0.4, "c": 0.0}, n_groups=80)
    trials, truth = simulate_trials(scenario, rng=np.random.default_rng(3))
    drawn = approximate(lay_out(select_trials(trials).trials)).posterior
    for name in ("balance_point", "slope", "group_sd", "group_model_sd"):
        z = (drawn[name].mean(("chain", "draw")) - truth[name]) / drawn[name].std(("chain", "draw"))
        assert float(np.abs(z).max()) < 4, name


def test_populations_are_drawn_from_the_priors() -> None:
    drawn = [draw_population(Scenario(), rng=np.random.default_rng(seed)) for seed in range(400)]
    means = np.array([scenario.balance_point_mean for scenario in drawn])
    assert means.std() == pytest.approx(0.75, rel=4 / 800**0.5)
    assert np.mean([scenario.group_sd for scenario in drawn]) == pytest.approx(0.798, rel=4 * 0.756 / 400**0.5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_groups": 0}, "n_groups to be at least 1"),
        ({"models": 0}, "at least one model"),
        ({"group_sd": -1.0}, "group_sd to be a finite number >= 0"),
        ({"lapse": 0.5}, "lapse from 0 to below 0.5"),
        ({"other_share": 1.0}, "other_share from 0"),
        ({"both_correct": 0.0}, "both_correct above 0"),
        ({"models": {"a": np.nan}}, "finite balance points"),
        ({"models": {"a": 0.0}, "slopes": {"b": 1.0}}, "slopes for exactly the models"),
        ({"models": {"a": 0.0}, "slopes": {"a": -1.0}}, "slopes above 0"),
        ({"family_sd": 0.1}, "families where family_sd"),
    ],
)
def test_impossible_scenarios_are_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scenario(**parameters)  # type: ignore[arg-type]


def trace(seed: int, trials: pd.DataFrame, switching: Switching, n_layers: int = 12):  # type: ignore[no-untyped-def]
    return simulate_traces(trials, {"a": 0.3}, rng=np.random.default_rng(seed), n_layers=n_layers, switching=switching)


def test_traces_end_in_the_choice_and_can_be_written(tmp_path) -> None:  # type: ignore[no-untyped-def]
    trials = draw(models={"a": 0.3}, n_groups=20, other_share=0.2)
    traces, _ = trace(1, trials, Switching())
    state = traces["a"]["state"].to_numpy()
    expected = trials["choice"].map({"text": 1, "image": 0, "other": -1}).to_numpy()
    np.testing.assert_array_equal(state[:, -1], expected)
    np.testing.assert_array_equal(traces["a"]["item"], trials["item"])
    difference = traces["a"]["logit_difference"].to_numpy()
    assert ((difference > 0) == (state == 1))[state >= 0].all()
    assert (state[:, 0] == -1).mean() > (state[:, -2] == -1).mean()
    write_traces(tmp_path / "traces.nc", traces["a"]["item"], state, difference)


def test_hazards_are_the_known_ones_given_the_choice() -> None:
    trials = draw(models={"a": 0.3}, n_groups=600, other_share=0.0)
    process = Switching(intercept=-2.0, model_sd=0.0, group_sd=0.0, by_distance=1.5, by_depth=-1.0, other_share=0.0)
    traces, truth = trace(2, trials, process)
    assert float(truth["hazard_intercept"].item()) == -2.0
    state = traces["a"]["state"].to_numpy()
    x = distance(trials) - 0.3
    hazard = expit(-2.0 - 1.5 * (np.sqrt(x**2 + 0.01) - 0.5)[:, None] - (np.linspace(0, 1, 11) - 0.5))
    switched = state[:, 1:] != state[:, :-1]
    for near in (np.abs(x) < 0.5, np.abs(x) >= 0.5):
        # Into the text and into the image, and at the first and the last pair of layers.
        for after in (0, 1):
            for layer in (0, 10):
                own = near & (state[:, layer + 1] == after)
                h = hazard[own, layer]
                assert abs(switched[own, layer].mean() - h.mean()) < 4 * np.sqrt((h * (1 - h)).sum()) / own.sum()
    oscillations = count_oscillations(state)
    assert oscillations[np.abs(x) < 0.5].mean() > oscillations[np.abs(x) >= 0.5].mean()


def test_traces_refuse_what_they_cannot_name() -> None:
    conditions = draw(models={"a": 0.3}, n_groups=2, conditions={"p": 0.0, "q": 0.1})
    with pytest.raises(InputError, match="one condition at a time"):
        trace(1, conditions, Switching())
    trials = draw(models={"b": 0.3}, n_groups=2)
    with pytest.raises(InputError, match="balance point for every subject"):
        trace(1, trials, Switching())
    with pytest.raises(InputError, match="at least 3 layers"):
        trace(1, trials, Switching(), n_layers=2)
    with pytest.raises(InputError, match="other_share of the traces"):
        Switching(other_share=2.0)
