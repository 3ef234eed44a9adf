"""Predictions and halves against closed forms."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from mfbayes.calibration.studies import Study, simulate_study
from mfbayes.errors import InputError
from mfbayes.estimates.halves import split_by_total_entropy
from mfbayes.estimates.predictions import predict
from tests.core.trees import plant_tree


def test_prediction_is_the_curve_where_groups_do_not_differ() -> None:
    tree = plant_tree(balance_point=[[0.2] * 20, [-0.5] * 20])
    found = predict(tree, H_text=[1.0, 0.0], H_image=[1.0, 0.5])
    np.testing.assert_allclose(found["dH"], [0.0, -2.0])
    np.testing.assert_allclose(found["mean"], expit(2 * (np.array([[0.2], [-0.5]]) - [0.0, -2.0])))
    np.testing.assert_allclose(found["new_group_lower"], found["mean"])
    one = predict(tree, H_text=1.0, H_image=1.0, subject="m1 / task")
    assert one.sizes == {"subject": 1, "prediction": 1}


def test_groups_pull_the_average_to_a_half_and_widen_a_new_one() -> None:
    tree = plant_tree(balance_point=[[0.6] * 2000], group_sd=1.5)
    found = predict(tree, H_text=1.0, H_image=1.0).isel(subject=0, prediction=0)
    effects = np.random.default_rng(1).normal(1.2, 1.5, 400_000)
    assert float(found["mean"]) == pytest.approx(
        expit(effects).mean(), abs=4 * expit(effects).std() / effects.size**0.5
    )
    assert float(found["upper"]) == pytest.approx(float(found["lower"]))
    # Quantiles of 2,000 draws: the share of the distribution below each is known, with its Monte Carlo error.
    for name, share in (("lower", 0.025), ("median", 0.5), ("upper", 0.975)):
        below = norm.cdf((logit(float(found[f"new_group_{name}"])) - 1.2) / 1.5)
        assert below == pytest.approx(share, abs=4 * (share * (1 - share) / 2000) ** 0.5)


def test_impossible_entropies_and_strangers_are_refused() -> None:
    tree = plant_tree(balance_point=[[0.2] * 20])
    for text, image in ((-1.0, 1.0), (0.0, 0.0), (np.nan, 1.0)):
        with pytest.raises(InputError, match="entropies"):
            predict(tree, H_text=text, H_image=image)
    with pytest.raises(InputError, match=r"\(3,\) and \(2,\)"):
        predict(tree, H_text=[1.0, 2.0, 3.0], H_image=[1.0, 2.0])
    with pytest.raises(InputError, match="m0"):
        predict(tree, H_text=1.0, H_image=1.0, subject="nobody")


def test_halves_find_a_shift_that_is_there_and_none_that_is_not() -> None:
    rng = np.random.default_rng(8)
    study = Study(n_groups=80, n_models=2, group_sd=0.5, group_model_sd=0.5, tilt=0.0)
    design, truth = simulate_study(study, rng=rng)
    # Total entropy is made apart from dH here; the second model's balance point moves to 0 in its high half.
    total = rng.uniform(1, 3, design.n_trials)
    points = np.tile([[0.6], [0.8]], 2)
    points[1, 1] = 0.0
    high = total > 2
    eta = 2.5 * (points[design.trial_subject, high.astype(int)] - design.uncertainty)
    eta += 0.5 * rng.standard_normal(len(design.groups))[design.trial_group]
    hits = rng.random(design.n_trials) < expit(eta)
    tree = plant_tree(balance_point=[[0.6] * 20, [0.4] * 20], ci_prob=0.999)
    constant = tree["constant_data"].to_dataset().drop_dims(("trial", "group"))
    constant["dH"] = ("trial", design.uncertainty)
    constant["H_text"], constant["H_image"] = ("trial", total / 2), ("trial", total / 2)
    constant["subject_index"], constant["group_index"] = (
        ("trial", design.trial_subject),
        ("trial", design.trial_group),
    )
    constant = constant.assign_coords(group=list(design.groups))
    tree["constant_data"] = type(tree)(dataset=constant)
    tree["observed_data"] = type(tree)(dataset=constant[["dH"]].rename(dH="is_text").copy(data={"is_text": hits}))
    found = split_by_total_entropy(tree, seed=1)
    assert found is not None
    assert found["n_trials"].to_numpy().sum() == design.n_trials
    np.testing.assert_allclose(found["total_entropy_median"], 2, atol=0.1)
    # Intervals of .999: six of them miss once in 170 such data sets.
    inside = (found["lower"] < points) & (points < found["upper"])
    assert bool(inside.all())
    assert float(found["shift_lower"][0]) < 0 < float(found["shift_upper"][0])
    assert float(found["shift_lower"][1]) < -0.8 < float(found["shift_upper"][1]) < 0
    assert float(found["p_towards_zero"][1]) > 0.99
    assert truth["balance_point"].shape == (2,)
