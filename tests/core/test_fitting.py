"""A fit of simulated trials: the truth is found, everything is labelled, and the file holds all of it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from arviz_stats import summary  # type: ignore[attr-defined]

import mfbayes
from mfbayes import sampling
from mfbayes.errors import CheckError, InputError
from mfbayes.estimates.balance import COLUMNS, describe_balance_points, write_balance_points
from mfbayes.fitting import load_fit, save_fit
from mfbayes.outcome_model import OutcomePriors
from mfbayes.priors import Priors
from mfbayes.sampling import Effort
from mfbayes.trials import check_trials
from mfbayes.vacillation.estimates import add_trace_estimates

TRUTH = {"seer": -0.6, "middle": 0.0, "reader": 0.5}
HASTE = Effort(tune=30, draws=20, target_accept=0.8)


@pytest.fixture(scope="module")
def trials(simulate: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    frame = simulate(seed=20, balance_points=TRUTH, n_groups=16)
    reader = frame["model"] == "reader"
    one_sided = frame[reader].assign(model="stubborn", choice="text")
    return pd.concat([frame, one_sided], ignore_index=True)


@pytest.fixture(scope="module")
def tree(trials: pd.DataFrame) -> xr.DataTree:
    return mfbayes.fit(trials, seed=1)


def test_truth_is_within_the_posterior(tree: xr.DataTree) -> None:
    """Standardised errors of three balance points and slopes; beyond 3.5 about once in 300 such tests."""
    rows = {str(row["model"]): row for row in mfbayes.balance_points(tree).to_dict("records")}
    for model, truth in TRUTH.items():
        row = rows[model]
        assert abs(row["mean"] - truth) < 3.5 * row["sd"]
        assert row["status"] == "ok"
    posterior = tree["posterior"].to_dataset()
    # Posteriors of log-slopes are about normal; the truth is 3.5 standard deviations off as seldom.
    log_slope = np.log(posterior["slope"].sel(subject=list(TRUTH)).stack(sample=("chain", "draw")).to_numpy())
    assert (np.abs(log_slope.mean(axis=1) - np.log(2.5)) < 3.5 * log_slope.std(axis=1)).all()
    for name in ("group_sd", "group_model_sd"):
        assert posterior[name].quantile(0.001) < 0.6 < posterior[name].quantile(0.999)


def test_the_table_has_the_agreed_columns_and_adds_up(tree: xr.DataTree, trials: pd.DataFrame, tmp_path: Path) -> None:
    write_balance_points(tree, tmp_path / "balance_points.csv")
    table = pd.read_csv(tmp_path / "balance_points.csv")
    assert tuple(table.columns) == COLUMNS
    assert (table["n_trials"] == table["n_text"] + table["n_image"] + table["n_other"]).all()
    used = trials[trials["text_correct"] & trials["image_correct"]]
    assert table.set_index("model")["n_trials"].to_dict() == used["model"].value_counts().to_dict()
    np.testing.assert_allclose(table["tfr"], table["n_text"] / (table["n_text"] + table["n_image"]))
    assert (table["lower"] < table["median"]).all()
    assert (table["median"] < table["upper"]).all()
    assert table.set_index("model").loc["stubborn", "status"] == "one-sided"


def test_estimates_agree_with_each_other(tree: xr.DataTree) -> None:
    estimates = {name: node.to_dataset() for name, node in tree["estimates"].children.items()}
    points, curves, binned = estimates["balance_points"], estimates["curves"], estimates["binned"]
    own = points.sel(subject=list(TRUTH))
    assert (own["law"] == "falls").all()
    assert ((own["tfr_lower"] < own["tfr"]) & (own["tfr"] < own["tfr_upper"])).all()
    density = estimates["balance_density"]
    area = np.trapezoid(density["density"], density["value"], axis=1)
    np.testing.assert_allclose(area, 1, atol=0.01)
    pairs = estimates["pairwise"]["p_below"]
    both = pairs.to_numpy() + pairs.to_numpy().T
    np.testing.assert_allclose(both[~np.eye(4, dtype=bool)], 1)
    assert np.isnan(np.diag(pairs)).all()
    assert pairs.sel(subject="seer", other_subject="reader") > 0.99
    # Curves average over groups as the bins do, so the bins scatter around them.
    middle = binned.sel(subject="middle").where(binned["n"].sel(subject="middle") > 0, drop=True)
    expected = np.interp(middle["dH_mean"], curves["dH"], curves["mean"].sel(subject="middle"))
    assert float((np.abs(middle["share"] - expected) * middle["n"]).sum() / middle["n"].sum()) < 0.1
    assert (curves["mean"].diff("dH") < 0).all()
    assert ((curves["lower"] <= curves["mean"]) & (curves["mean"] <= curves["upper"])).all()
    np.testing.assert_array_equal(estimates["dH_histogram"]["count"].sum("bin"), points["n_trials"])
    np.testing.assert_array_equal(binned["n"].sum("bin"), points["n_text"] + points["n_image"])
    tiers = estimates["entropy_by_tier"].sel(modality="image", model="seer")
    assert tiers["mean"].to_numpy()[-1] > tiers["mean"].to_numpy()[0]
    assert 0.7 < float(tiers["accuracy"].mean()) < 1


def test_the_gate_was_passed_and_the_tree_says_how(tree: xr.DataTree) -> None:
    assert tree.attrs["status"] == "ok"
    assert tree.attrs["subset"] == "both-correct"
    assert any("neither answer" in note for note in json.loads(tree.attrs["notes"]))
    convergence = tree["estimates/convergence"].to_dataset()
    assert convergence.attrs["attempts"] == 1
    assert "balance_point[seer]" in convergence["parameter"]
    assert "group_model_sd" in convergence["parameter"]


def test_traces_join_by_item(tree: xr.DataTree, trials: pd.DataFrame) -> None:
    """States made to switch twice in the ambiguous region only must come out so."""
    traced = trials.assign(kind="conflict")
    controls = traced[traced["model"] == "seer"].head(30).assign(kind="control", item=lambda t: t["item"] + "-c")
    traced = pd.concat([traced, controls], ignore_index=True)
    points = mfbayes.balance_points(tree).set_index("model")["median"]
    traces = {}
    for model in ("seer", "reader"):
        own = traced[traced["model"] == model].sample(frac=1, random_state=1)
        dH = mfbayes.uncertainty.relative_uncertainty(own["H_text"], own["H_image"])
        near = (np.abs(dH - points[model]) < 0.5) & (own["kind"] == "conflict").to_numpy()
        state = np.where(near[:, None], [1, -1, 0, 1], [0, 0, -1, 0])
        state[np.flatnonzero(~near)[:20]] = -1
        traces[model] = xr.Dataset(
            {"state": (("item", "layer"), state), "logit_difference": (("item", "layer"), np.outer(dH, [0, 1, 2, 3]))},
            coords={"item": own["item"].to_numpy(object), "layer": [1, 2, 3, 4]},
        )
    grown = tree.copy()
    add_trace_estimates(grown, traced, traces)
    found = grown["estimates/oscillations"].to_dataset()
    for model in traces:
        by_region = found["mean"].sel(subject=model)
        assert by_region.sel(region="ambiguous") == 2
        assert by_region.sel(region="clear") == 0
        assert found["n"].sel(subject=model, region="clear") == found["n"].sel(
            subject=model, region=["text-clear", "image-clear"]
        ).sum("region")
    assert found["mean"].sel(subject="seer", region="control") == 0
    assert found["n"].sel(subject="reader", region="control") == 0
    assert found["never_committed"].sel(subject="seer", region="ambiguous") == 0
    assert np.isnan(found["mean"].sel(subject="middle")).all()
    layers = grown["estimates/layer_map"].to_dataset()
    assert layers["n_layers"].sel(subject=["seer", "middle"]).to_numpy().tolist() == [4, 0]
    middle = (layers["dH_lower"] + layers["dH_upper"]) / 2
    found_line = layers["mean"].sel(subject="reader", layer=4)
    np.testing.assert_allclose(found_line.dropna("bin"), 3 * middle[np.isfinite(found_line.to_numpy())], atol=0.376)
    short = tree.copy()
    add_trace_estimates(short, traced, {"seer": traces["seer"].isel(item=slice(5, None))})
    assert "trials have no layer trace" in short.attrs["notes"]
    assert (short["estimates/traces"]["n"].sel(subject="reader") == 0).all()


def test_the_file_holds_all_and_arviz_reads_it(tree: xr.DataTree, tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"
    save_fit(tree, path)
    again = load_fit(path)
    assert again.attrs["seed"] == 1
    for name, node in tree["estimates"].children.items():
        xr.testing.assert_equal(node.to_dataset(), again[f"estimates/{name}"].to_dataset())
    xr.testing.assert_equal(
        tree["posterior"].to_dataset()["balance_point"], again["posterior"].to_dataset()["balance_point"]
    )
    table = summary(again, var_names=["balance_point", "group_sd"])
    assert "balance_point[seer]" in table.index
    pd.testing.assert_frame_equal(mfbayes.balance_points(again), mfbayes.balance_points(tree), check_dtype=False)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="not a whole netCDF file"):
        load_fit(path)
    with pytest.raises(InputError, match="no such file"):
        load_fit(tmp_path / "absent.nc")


def test_haste_is_told_and_a_seed_repeats(trials: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """One group and model, one trial a cell and no time to converge: still a whole tree, marked as such."""
    monkeypatch.setattr(sampling, "MARGINAL_ATTEMPTS", [HASTE])
    one = trials[(trials["model"] == "seer") & (trials["choice"] != "other")].drop(columns=["text_correct", "item"])
    one = one.groupby("group").head(1)
    once, again = mfbayes.fit(one, seed=3), mfbayes.fit(one, seed=3)
    assert once.attrs["status"] == "not-converged"
    assert (once["estimates/balance_points"].to_dataset()["status"] == "not-converged").all()
    assert not mfbayes.balance_points(once)["converged"].any()
    assert "group_model_sd" not in once["posterior"].to_dataset()
    notes = json.loads(once.attrs["notes"])
    assert any("(v)" in note for note in notes)
    assert any("All trials are used" in note for note in notes)
    xr.testing.assert_identical(once, again)


def test_one_side_only_is_told_whether_the_fit_converged_or_not(tree: xr.DataTree) -> None:
    """A fact of the trials: that the sampler failed too is in the column beside it."""
    trials = pd.DataFrame({"model": "m", "subject": "m", "task": "t", "group": ["a", "b"], "choice": "text", "dH": 0.1})
    draws = tree["posterior"].to_dataset()[["balance_point", "slope", "intercept"]].isel(subject=[0])
    for passed in (True, False):
        found = describe_balance_points(
            draws.assign_coords(subject=["m"]), trials, ci_prob=0.9, passed=passed, rng=np.random.default_rng(0)
        )
        assert found["status"].to_numpy().tolist() == ["one-sided"]
    assert mfbayes.balance_points(tree)["converged"].all()


def test_what_is_no_table_of_trials_is_refused_with_a_way_out(trials: pd.DataFrame, tmp_path: Path) -> None:
    selected = mfbayes.select_trials(check_trials(trials))
    cases: tuple[tuple[Any, str], ...] = (
        ("trials.csv", r"read_trials\('trials.csv'\)"),
        (selected, "'trials'"),
        ([1], "got list"),
    )
    for wrong, remedy in cases:
        with pytest.raises(InputError, match=remedy):
            mfbayes.fit(wrong)
        for judge in (mfbayes.compare_laws, mfbayes.fit_three_outcomes, mfbayes.judge_monotonicity):
            with pytest.raises(InputError, match=remedy):
                judge(wrong, seed=0)
    for judge in (mfbayes.compare_laws, mfbayes.fit_three_outcomes):
        with pytest.raises(InputError, match=r"select_trials\(trials\)"):
            judge(trials, seed=0)
    with pytest.raises(InputError, match="folder of a run, got DataTree"):
        mfbayes.report(xr.DataTree(), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no such file"):
        load_fit(str(tmp_path / "absent.nc"))
    with pytest.raises(InputError, match=str(tmp_path)):
        mfbayes.pool(str(tmp_path))


@pytest.mark.parametrize("wrong", [{"group_sd": -1.0}, {"slope_sd": 0.0}, {"group_model_sd": np.nan}])
def test_priors_that_are_none_are_refused(wrong: dict[str, float]) -> None:
    name = next(iter(wrong))
    for priors in (Priors, OutcomePriors):
        if name in priors.__dataclass_fields__:
            with pytest.raises(InputError, match=f"{name} of the priors to be a finite number above 0"):
                priors(**wrong)
    with pytest.raises(InputError, match="log_slope_mean"):
        Priors(log_slope_mean=np.inf)


def test_options_that_cannot_be_are_refused_before_anything_runs(trials: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="ci_prob"):
        mfbayes.fit(trials, ci_prob=95)
    with pytest.raises(InputError, match="method"):
        mfbayes.fit(trials, method="slow")
    with pytest.raises(InputError, match="'other'"):
        mfbayes.fit(trials.assign(choice="other"))


def test_an_error_of_a_check_takes_its_fit_through_a_pool() -> None:
    """Copies are made as processes hand errors on."""
    fit = xr.DataTree.from_dict({"/posterior": xr.Dataset({"slope": ("draw", [1.0, 2.0])})})
    error = copy.copy(CheckError("Laws could not be told.", fit))
    assert str(error) == "Laws could not be told."
    xr.testing.assert_identical(error.fit, fit)
