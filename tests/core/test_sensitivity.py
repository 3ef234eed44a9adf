"""Sensitivity: which analyses there are, and that each differs from the main one as it must."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mfbayes.errors import InputError
from mfbayes.estimates.sensitivity import estimate_sensitivity
from mfbayes.indices import flag_near_ties
from mfbayes.trials import check_trials

type Simulate = Callable[..., pd.DataFrame]
BARE = ["model", "task", "kind", "group", "H_text", "H_image", "choice"]
TRUE = {"a": -0.5, "b": 0.4}


@pytest.fixture(scope="module")
def trials(simulate: Simulate) -> pd.DataFrame:
    """Least confidence has the entropies' ratio; by the margin every text is twice as uncertain."""
    table = simulate(seed=11, balance_points=TRUE, n_groups=40)
    largest = table[["H_text", "H_image"]].to_numpy().max()
    for side, factor in (("text", 1.0), ("image", 0.5)):
        table[f"least_confidence_{side}"] = table[f"H_{side}"] / largest
        table[f"margin_uncertainty_{side}"] = table[f"H_{side}"] / largest * factor
    return check_trials(table.assign(logit_noise=0.05, family=table["model"].map({"a": "F", "b": "G"})))


def test_every_possible_analysis_is_there(trials: pd.DataFrame) -> None:
    found = estimate_sensitivity(trials)
    assert found["analysis"].to_numpy().tolist() == [
        *("main", "all items", "without near ties"),
        *("index: margin", "index: max-probability"),
    ]
    assert found["mean"].dims == ("subject", "analysis")
    assert found["subject"].to_numpy().tolist() == ["a", "b"]
    assert found["family"].to_numpy().tolist() == ["F", "G"]
    assert found.attrs == {"ci_prob": 0.95, "subset": "both-correct", "index": "entropy", "seed": 0}
    main = found.sel(analysis="main")
    for subject, truth in TRUE.items():
        own = main.sel(subject=subject)
        # Half of the width is about two standard errors: four of them are missed once in 16,000 tries.
        assert abs(own["mean"] - truth) < own["upper"] - own["lower"]
    assert (found["lower"] < found["mean"]).all()
    assert (found["mean"] < found["upper"]).all()
    n = found["n_trials"].to_pandas()
    assert n["all items"].tolist() == [840, 840]
    right = trials[trials["text_correct"] & trials["image_correct"]]
    kept = ~flag_near_ties(right)
    assert 0 < (~kept).sum() < kept.sum()
    assert n["without near ties"].tolist() == kept.groupby(right["model"]).sum().tolist()
    assert (n["index: margin"] == n["main"]).all()


def test_same_ratio_of_uncertainties_gives_the_same_balance_point(trials: pd.DataFrame) -> None:
    found = estimate_sensitivity(trials)["mean"]
    np.testing.assert_allclose(
        found.sel(analysis="index: max-probability"), found.sel(analysis="main"), rtol=0, atol=1e-6
    )


def test_other_index_moves_the_balance_point_as_it_must(trials: pd.DataFrame) -> None:
    """Twice the uncertainty ratio: the point where P(text) is 1/2 lies log 2 further in the log ratio."""
    found = estimate_sensitivity(trials)["mean"]
    main, margin = (found.sel(analysis=label).to_numpy() for label in ("main", "index: margin"))
    expected = 2 * np.tanh(np.arctanh(main / 2) + np.log(2) / 2)
    assert (expected - main > 0.5).all()
    # The logistic law holds in one of the two alone, so that they agree only roughly.
    np.testing.assert_allclose(margin, expected, atol=0.15)


def test_uncertainties_that_vanish_are_left_out_without_known_noise(trials: pd.DataFrame) -> None:
    vanishing = trials[BARE].copy()
    vanishing.loc[:4, ["H_text", "H_image"]] = [1e-9, 1e-11]
    n = estimate_sensitivity(vanishing)["n_trials"]
    assert n["analysis"].to_numpy().tolist() == ["main", "without near ties"]
    assert int((n.sel(analysis="main") - n.sel(analysis="without near ties")).sum()) == 5


def test_labels_agree_where_an_analysis_has_one_task_left(trials: pd.DataFrame) -> None:
    second = trials[BARE].assign(task="other task", text_correct=False, image_correct=False)
    found = estimate_sensitivity(pd.concat([trials[[*BARE, "text_correct", "image_correct"]], second]))
    assert found["subject"].to_numpy().tolist() == [f"{m} / {t}" for t in ("other task", "task") for m in ("a", "b")]
    assert found["status"].sel(analysis="main").to_numpy().tolist() == ["absent", "absent", "ok", "ok"]
    assert (found["status"].sel(analysis="all items") == "ok").all()


def test_counts_and_ratios_are_those_of_the_trials(trials: pd.DataFrame) -> None:
    found = estimate_sensitivity(trials, subset="all")
    assert found["analysis"].to_numpy()[:2].tolist() == ["main", "both correct"]
    own = trials[trials["model"] == "a"]
    n_text, n_image = (own["choice"] == "text").sum(), (own["choice"] == "image").sum()
    assert found["n_trials"].sel(subject="a", analysis="main") == len(own)
    assert found["tfr"].sel(subject="a", analysis="main") == n_text / (n_text + n_image)


def test_analyses_that_trials_do_not_allow_are_left_out(trials: pd.DataFrame) -> None:
    found = estimate_sensitivity(trials[BARE])
    assert found["analysis"].to_numpy().tolist() == ["main"]
    assert found.attrs["subset"] == "all"
    exact = trials.assign(logit_noise=0.0, margin_uncertainty_text=np.nan)
    assert estimate_sensitivity(exact)["analysis"].to_numpy().tolist() == [
        *("main", "all items", "index: max-probability"),
    ]
    level = {"least_confidence_text": 0.2, "least_confidence_image": 0.3}
    assert "index: max-probability" not in estimate_sensitivity(exact.assign(**level))["analysis"].to_numpy()


def test_subject_that_an_analysis_lacks_is_absent_there(trials: pd.DataFrame) -> None:
    table = trials.assign(text_correct=trials["text_correct"] & (trials["model"] == "a"))
    found = estimate_sensitivity(table)
    missing = found.sel(subject="b", analysis="main")
    assert missing["status"] == "absent"
    assert missing["n_trials"] == 0
    assert np.isnan([float(missing[name]) for name in ("mean", "lower", "upper", "tfr")]).all()
    assert found["status"].sel(subject="b", analysis="all items") == "ok"


def test_one_sided_choices_are_said(trials: pd.DataFrame) -> None:
    table = trials.assign(choice=trials["choice"].where(trials["model"] == "a", "text"))
    status = estimate_sensitivity(table)["status"]
    assert (status.sel(subject="b") == "one-sided").all()
    assert (status.sel(subject="a") != "one-sided").all()


def test_same_seed_gives_the_same_table(trials: pd.DataFrame) -> None:
    bare = trials[BARE]
    first, again, other = (estimate_sensitivity(bare, seed=seed)["lower"].to_numpy() for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_bad_options_are_refused(trials: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="ci_prob between 0 and 1"):
        estimate_sensitivity(trials, ci_prob=95)
    with pytest.raises(InputError, match="'nll' needs the columns"):
        estimate_sensitivity(trials, index="nll")
    with pytest.raises(InputError, match="Every choice is 'other'"):
        estimate_sensitivity(trials.assign(choice="other"))
