"""The hazard model beside a fit: who takes part, what is noted, and what is written."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mfbayes.errors import InputError
from mfbayes.sampling import Effort
from mfbayes.simulated_traces import simulate_traces
from mfbayes.simulation import Scenario, simulate_trials
from mfbayes.switching import additions
from mfbayes.switching.additions import add_switching_estimates
from mfbayes.switching.fit import fit_switching
from mfbayes.switching.terms import APART
from mfbayes.trajectories import join_traces

POINTS = {"reader": 0.3, "seer": -0.4, "stubborn": 0.0}

QUICK = (Effort(tune=50, draws=60, target_accept=0.7),)

type Study = tuple[pd.DataFrame, dict[str, xr.Dataset]]


@pytest.fixture(scope="module")
def study() -> Study:
    rng = np.random.default_rng(4)
    scenario = Scenario(models=POINTS, n_groups=8, image_tiers=6, text_tiers=2)
    trials, _ = simulate_trials(scenario, rng=rng)
    traces, _ = simulate_traces(trials, POINTS, rng=rng, n_layers=6)
    return trials, traces


@pytest.fixture
def tree() -> xr.DataTree:
    """What of a fit counts here: balance points, of which one is of one-sided choices, and settings."""
    points = xr.Dataset(
        {
            "status": ("subject", ["not-converged"] * 3),
            "median": ("subject", [0.3, -0.4, 0.0]),
            "n_text": ("subject", [9, 9, 0]),
            "n_image": ("subject", [9, 9, 9]),
        },
        coords={"subject": list(POINTS)},
    )
    draws = np.random.default_rng(2).normal([0.3, -0.4, 0.0], 0.05, size=(2, 30, 3))
    posterior = xr.Dataset({"balance_point": (("chain", "draw", "subject"), draws)})
    made = xr.DataTree.from_dict({"/estimates/balance_points": points, "/posterior": posterior})
    made.attrs = {"ci_prob": 0.9, "seed": 1, "subset": "all", "index": "entropy", "notes": '["first"]'}
    return made


def test_estimates_are_added_for_models_with_a_balance_point(
    study: Study, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(additions, "MAX_STEPS", 100)
    monkeypatch.setattr(additions, "fit_switching", partial(fit_switching, attempts=QUICK))
    points = tree["estimates/balance_points"].to_dataset().assign(median=("subject", [0.3, -2.5, 0.0]))
    tree["estimates/balance_points"] = xr.DataTree(dataset=points)
    add_switching_estimates(tree, *study, compare=True)
    depth = tree["estimates/hazard_by_depth"].to_dataset()
    assert depth["subject"].to_numpy().tolist() == ["reader", "seer"]
    assert depth.attrs["status"] in ("ok", "not-converged")
    assert {"hazard_by_distance", "switching_effects", "switching_convergence", "missing_at_random"} <= set(
        tree["estimates"].children
    )
    notes = json.loads(tree.attrs["notes"])
    assert notes[0] == "first"
    assert any("no effects of groups" in note for note in notes)
    assert "predictive_checks" not in tree["estimates"].children
    # Groups left out need a model with groups, and it is not fitted unasked.
    assert any("were not compared" in note for note in notes)
    assert "switching_comparison" not in tree["estimates"].children
    assert any("balance point of seer lies outside" in note for note in notes)
    assert depth.attrs["outside"] == "seer"


@pytest.mark.parametrize(("most", "compare", "is_there"), [(1e12, None, True), (1, None, False), (1e12, False, False)])
def test_versions_are_compared_unasked_where_that_is_quick(
    study: Study, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch, most: float, compare: bool | None, is_there: bool
) -> None:
    monkeypatch.setattr(additions, "MAX_COMPARED", most)
    monkeypatch.setattr(additions, "fit_switching", partial(fit_switching, attempts=QUICK))
    add_switching_estimates(tree, *study, compare=compare)
    assert ("switching_comparison" in tree["estimates"].children) == is_there
    assert any("--compare-switching" in note for note in json.loads(tree.attrs["notes"])) == (most == 1)
    # What is told of simulated traces is no finding of this fit, so that it has none of its states.
    assert "status" not in tree["estimates/switching_calibration"].attrs


def test_without_entropies_no_version_has_them_apart(
    study: Study, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, traces = study
    other = trials.rename(columns={"H_text": "nll_text", "H_image": "nll_image"})
    monkeypatch.setattr(additions, "MAX_COMPARED", 1e12)
    monkeypatch.setattr(additions, "fit_switching", partial(fit_switching, attempts=QUICK))
    tree.attrs["index"] = "nll"
    add_switching_estimates(tree, other, traces)
    compared = tree["estimates/switching_comparison"].to_dataset()
    assert compared["version"].to_numpy().tolist() == ["without x", "x", "x and distance"]
    assert np.isfinite(compared["elpd"]).all()
    assert any("no entropies" in note for note in json.loads(tree.attrs["notes"]))
    joined, _ = join_traces(other, traces, subset="all", index="nll")
    with pytest.raises(InputError, match="Expected H_text and H_image of every trace"):
        fit_switching(joined, POINTS, terms=APART)


def test_traces_that_say_nothing_are_a_note(study: Study, tree: xr.DataTree) -> None:
    trials, traces = study
    silent = {model: own.assign(state=own["state"] * 0 - 1) for model, own in traces.items()}
    add_switching_estimates(tree, trials, silent)
    assert set(tree["estimates"].children) == {"balance_points"}
    assert "Hazards of switching were not estimated" in json.loads(tree.attrs["notes"])[-1]


def test_trajectories_of_some_subjects(study: Study) -> None:
    joined, notes = join_traces(*study, subset="all", index="entropy")
    assert notes == []
    some = joined.only(["stubborn", "reader"])
    assert some.subjects == some.subject_model == ("reader", "stubborn")
    assert some.n_layers.tolist() == [6, 6]
    for position, subject in enumerate(some.subjects):
        code = joined.subjects.index(subject)
        assert some.items[some.subject == position].tolist() == joined.items[joined.subject == code].tolist()
    with pytest.raises(InputError, match="nobody"):
        joined.only(["nobody"])


def test_what_cannot_be_joined_is_noted(study: Study) -> None:
    trials, traces = study
    own = traces["reader"].isel(item=slice(5, None))
    broken = traces["seer"].copy(deep=True)
    broken["logit_difference"][3, 2] = np.nan
    renamed = traces["stubborn"].assign_coords(item=[f"x{i}" for i in range(traces["stubborn"].sizes["item"])])
    joined, notes = join_traces(trials, {"reader": own, "seer": broken}, subset="all", index="entropy")
    assert [note.split(":")[0] for note in notes] == ["reader", "seer", "stubborn"]
    assert "5 of" in notes[0]
    assert "1 layer traces have a logit" in notes[1]
    assert "no layer traces" in notes[2]
    assert len(joined) == 2 * len(traces["seer"]["item"]) - 6
    with pytest.raises(InputError, match="Check that items"):
        join_traces(trials, {"stubborn": renamed}, subset="all", index="entropy")


def test_a_model_without_switches_to_learn_from_takes_no_part_and_is_named(
    study: Study, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(additions, "MAX_STEPS", 100)
    monkeypatch.setattr(additions, "fit_switching", partial(fit_switching, attempts=QUICK))
    trials, traces = study
    silent = traces | {"seer": traces["seer"].assign(state=traces["seer"]["state"] * 0 - 1)}
    add_switching_estimates(tree, trials, silent)
    for name in ("hazard_by_depth", "hazard_by_distance", "switching_effects"):
        assert tree[f"estimates/{name}/subject"].to_numpy().tolist() == ["reader"]
    assert tree["estimates/missing_at_random/subject"].to_numpy().tolist() == ["reader", "all"]
    assert any("no trace of seer has two layers" in note for note in json.loads(tree.attrs["notes"]))
    # b = .3: dH = b + x is in [-2, 2] from x = -2.3, which is beyond the grid, to 1.7.
    by_x = tree["estimates/hazard_by_distance"].to_dataset().sel(subject="reader", side="text")
    for end in ("mean", "lower", "upper"):
        known = by_x["x"].to_numpy()[np.isfinite(by_x[end].to_numpy())]
        np.testing.assert_allclose(known[[0, -1]], [-2.0, 1.7])


def test_items_that_several_conditions_share_have_no_trace(study: Study) -> None:
    """A trace names its item alone: it would be counted under each of them."""
    trials, traces = study
    first = set(trials["item"].iloc[:4])
    plain, primed = trials.assign(condition="plain"), trials.assign(condition="primed")
    joined, notes = join_traces(
        pd.concat([plain, primed[primed["item"].isin(first)]], ignore_index=True), traces, subset="all", index="entropy"
    )
    assert not first & set(joined.items)
    assert len(joined) == sum(len(own["item"]) for own in traces.values()) - 4 * len(traces)
    assert len(notes) == len(traces)
    assert all("share their item with trials of other conditions" in note for note in notes)
    with pytest.raises(InputError, match="such as CONDITION/ITEM") as refused:
        join_traces(pd.concat([plain, primed], ignore_index=True), traces, subset="all", index="entropy")
    assert "Check that items" not in str(refused.value)


def test_advice_is_about_what_is_wrong_and_is_given_once(study: Study, tree: xr.DataTree) -> None:
    trials, traces = study
    one = {model: own.isel(layer=[0]) for model, own in traces.items()}
    nameless = {model: own.assign(logit_difference=own["logit_difference"] * np.nan) for model, own in traces.items()}
    for bad, said in ((one, "have one layer"), (nameless, "not a number")):
        with pytest.raises(InputError, match=said) as refused:
            join_traces(trials, bad, subset="all", index="entropy")
        assert "Check that items" not in str(refused.value)
        assert ".;" not in str(refused.value)
    add_switching_estimates(tree, trials, one)
    assert json.loads(tree.attrs["notes"])[-1] == (
        "Hazards of switching were not estimated, for no layer trace can be used."
    )


def test_traces_without_trials_are_noted(study: Study) -> None:
    trials, traces = study
    few = trials[trials["model"] != "seer"]
    _, notes = join_traces(few, traces, subset="all", index="entropy")
    assert notes == ["seer: it has layer traces, but it has no trials, so they are left out."]


def test_a_model_whose_traces_are_all_broken_leaves_no_layers_behind(study: Study) -> None:
    trials, traces = study
    deep = traces["seer"].isel(layer=np.arange(15) % 6).assign_coords(layer=np.arange(1, 16))
    deep["logit_difference"][:] = np.nan
    joined, _ = join_traces(trials, traces | {"seer": deep}, subset="all", index="entropy")
    assert joined.state.shape[1] == 6
    assert "seer" not in joined.subjects
