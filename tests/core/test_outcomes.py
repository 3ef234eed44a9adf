"""Three outcomes: the marginal likelihood of pairs, who is refused, and whether what is known is found again."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import expit, log_expit

import mfbayes
from mfbayes import finishing
from mfbayes.design import lay_out
from mfbayes.errors import CheckError, InputError
from mfbayes.indices import COLUMNS
from mfbayes.marginal.likelihood import marginal_likelihood
from mfbayes.marginal.pair_operator import PairedData, evaluate_pairs
from mfbayes.outcome_model import pair_up, share_of_other
from mfbayes.outcomes import NO_SIGN, NOT_IGNORABLE, UNCLEAR, _judge, fit_three_outcomes, has_enough_others
from mfbayes.selection import select_trials
from mfbayes.simulation import Scenario
from mfbayes.trials import check_trials

COVARIANCES = np.array([0.6, 0.3, 0.5, 0.25, 0.1, 0.3, 0.2])


@pytest.fixture(scope="module")
def trials(simulate) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    table = simulate(seed=2, balance_points={"a": -0.3, "b": 0.3}, n_groups=8, n_images=3, other_share=0.3)
    table.loc[table["group"] == "g0003", "choice"] = "other"
    return select_trials(check_trials(table), subset="all").trials


@pytest.fixture(scope="module")
def data(trials: pd.DataFrame) -> PairedData:
    return pair_up(trials)


@pytest.fixture(scope="module")
def coefficients() -> np.ndarray:
    return np.array([[0.2, 2.0, -1.5, 0.3, 0.1, 0.1], [-0.4, 1.5, -1.2, 0.1, -0.2, 0.3]])


def test_gradient_is_that_of_the_value(data: PairedData, coefficients: np.ndarray) -> None:
    _, gradient, by_covariance, _ = evaluate_pairs(data, coefficients, COVARIANCES)
    step = 1e-5
    for i in range(COVARIANCES.size):
        ends = [evaluate_pairs(data, coefficients, COVARIANCES + s * np.eye(7)[i])[0] for s in (step, -step)]
        assert by_covariance[i] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-6)
    for place in np.ndindex(coefficients.shape):
        ends = []
        for s in (step, -step):
            moved = coefficients.copy()
            moved[place] += s
            ends.append(evaluate_pairs(data, moved, COVARIANCES)[0])
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-5)


def test_without_covariance_the_likelihood_falls_into_two(
    trials: pd.DataFrame, data: PairedData, coefficients: np.ndarray
) -> None:
    """Those of text against image and of `other`, each known from the kernel of single effects."""
    following = marginal_likelihood(lay_out(trials)).evaluate(coefficients[:, :2], [0.8, 0.5, 0.0])
    is_other = np.where(trials["choice"] == "other", "text", "image")
    other = marginal_likelihood(lay_out(trials.assign(choice=is_other)), data.features[2:]).evaluate(
        coefficients[:, 2:], [0.7, 0.4, 0.0]
    )
    apart = np.array([0.8, 0, 0.7, 0.5, 0, 0.4, 0]) ** 2
    assert evaluate_pairs(data, coefficients, apart)[0] == pytest.approx(following.value + other.value, abs=1e-6)


def test_laplace_is_near_the_integral(data: PairedData, coefficients: np.ndarray) -> None:
    """A level of groups alone, correlated at .9, against importance sampling from the prior of (u, h)."""
    covariances = np.array([0.6, 0.9 * np.sqrt(0.6 * 0.5), 0.5, 0, 0, 0, 0])
    rng = np.random.default_rng(5)
    factor = np.linalg.cholesky([[covariances[0], covariances[1]], [covariances[1], covariances[2]]])
    u, h = factor @ rng.standard_normal((2, 40_000))
    design, subject = data.design, data.design.trial_subject
    eta = (coefficients[subject, :2].T * data.features[:2]).sum(axis=0)
    other = (coefficients[subject, 2:].T * data.features[2:]).sum(axis=0)
    value = 0.0
    for group in range(8):
        total = np.zeros(u.size)
        for i in np.flatnonzero(design.trial_group == group):
            is_other = data.outcome[i] == 2
            total += log_expit(np.where(is_other, 1, -1) * (other[i] + h))
            if not is_other:
                total += log_expit((2 * data.outcome[i] - 1) * (eta[i] + u))
        value += np.log(np.mean(np.exp(total - total.max()))) + total.max()
    # Laplace is off by some hundredths a group of 18 trials; a wrong determinant would be off by tenths.
    assert evaluate_pairs(data, coefficients, covariances)[0] == pytest.approx(value, abs=0.35)


def test_a_start_changes_no_value(data: PairedData, coefficients: np.ndarray) -> None:
    value, _, _, scores = evaluate_pairs(data, coefficients, COVARIANCES)
    assert evaluate_pairs(data._replace(start=0.8 * scores), coefficients, COVARIANCES)[0] == pytest.approx(value)


def test_share_of_other_averages_over_trials_and_groups(data: PairedData, coefficients: np.ndarray) -> None:
    own = coefficients[:, 2:].T[None]
    draws = 1.3 * np.random.default_rng(1).standard_normal(200_000)
    level = own[0, :, 0] @ data.features[2:, data.design.trial_subject == 0]
    expected = np.mean([expit(x + draws).mean() for x in level])
    assert share_of_other(data, own, np.array([1.3]))[0, 0] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("index", ["entropy", "margin"])
def test_total_uncertainty_is_of_the_index_in_use(trials: pd.DataFrame, index: str) -> None:
    rng = np.random.default_rng(6)
    both = trials.assign(**dict(zip(COLUMNS["margin"], rng.uniform(0, 1, (2, len(trials))), strict=True)))
    found = pair_up(both, index=index)
    total = both[list(COLUMNS[index])].sum(axis=1).to_numpy()[found.design.row]
    assert found.features[5] == pytest.approx((total - total.mean()) / total.std())


def test_an_index_that_is_not_there_is_refused(trials: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"'nll' needs the columns nll_text and nll_image"):
        fit_three_outcomes(trials, index="nll")
    without = trials.drop(columns=list(COLUMNS["entropy"])).assign(H_text=np.nan, H_image=np.nan)
    with pytest.raises(InputError, match="'entropy' needs"):
        fit_three_outcomes(without)


@pytest.mark.parametrize(
    ("choice", "message"), [("text", "every answer is text or image"), ("other", "every choice is 'other'")]
)
def test_one_kind_of_choice_is_refused(trials: pd.DataFrame, choice: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_three_outcomes(trials.assign(choice=choice))


def test_few_others_are_refused(trials: pd.DataFrame) -> None:
    few = trials.assign(choice=np.where(np.arange(len(trials)) < 4, "other", "text"))
    assert not has_enough_others(few)
    assert has_enough_others(trials)
    with pytest.raises(InputError, match="got 4 in 1"):
        fit_three_outcomes(few)


@pytest.mark.parametrize(
    ("above", "reach", "passed", "verdict"),
    [
        (0.5, 0.05, True, NO_SIGN),
        (0.03, 0.05, True, NO_SIGN),
        (0.02, 0.05, True, NO_SIGN),
        (0.01, 0.05, True, NOT_IGNORABLE),
        (0.995, 0.05, True, NOT_IGNORABLE),
        (0.5, 0.15, True, UNCLEAR),
        (0.01, 0.05, False, UNCLEAR),
    ],
)
def test_verdict_follows_its_rule(above: float, reach: float, passed: bool, verdict: str) -> None:
    table = xr.Dataset(
        {
            "p_positive": ("level", [above, 0.5]),
            "shift_lower": ("subject", [-reach]),
            "shift_upper": ("subject", [reach]),
        }
    )
    assert _judge(table, ci_prob=0.95, zone=0.1, passed=passed) == verdict
    wide = UNCLEAR if not passed else NO_SIGN if verdict == UNCLEAR else verdict
    assert _judge(table, ci_prob=0.95, zone=0.2, passed=passed) == wide


def simulate_others(loading: float, *, seed: int, n_groups: int) -> pd.DataFrame:
    """Trials whose `other` leans on the effects of groups by `loading`."""
    scenario = Scenario(
        models={"a": -0.3, "b": 0.3},
        n_groups=n_groups,
        image_tiers=4,
        other_share=0.2,
        other_by_effect=loading,
        group_sd=1.0,
    )
    table, _ = mfbayes.simulate_trials(scenario, rng=np.random.default_rng(seed))
    return table


def test_a_fit_says_what_leaving_other_out_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for, it is under `/estimates`; not asked for, a note tells of it; too few others, another."""
    table = simulate_others(1.5, seed=3, n_groups=40)
    options = {"method": "fast", "checks": False, "subset": "all"}
    fit = mfbayes.fit(table, outcomes=True, **options)  # type: ignore[arg-type]
    found = fit["estimates/outcomes"].to_dataset()
    assert found.attrs["ignorable"] == NOT_IGNORABLE
    assert found.attrs["status"] == "ok"
    assert (found["balance_point_if_text"] > found["balance_point"]).all()
    assert (found["balance_point_if_image"] < found["balance_point"]).all()
    # Groups that lean to the text are left out more often, so that what is left leans to the image.
    assert (found["shift"] > 0).all()
    correlations = fit["estimates/outcome_correlations"].to_dataset()
    assert (correlations["correlation"].sel(level="group") > 0.3).all()
    monkeypatch.setattr(finishing, "fit_three_outcomes", None)
    asked = json.loads(mfbayes.fit(table, **options).attrs["notes"])  # type: ignore[arg-type]
    assert any("--outcomes" in note for note in asked)
    few = table.assign(choice=table["choice"].replace("other", "text"))
    told = json.loads(mfbayes.fit(few, outcomes=True, **options).attrs["notes"])  # type: ignore[arg-type]
    assert any("Too few" in note for note in told)


def test_outcomes_of_trials_without_entropies() -> None:
    """The same numbers, called likelihoods instead of entropies, give the same tables."""
    table = simulate_others(0.0, seed=4, n_groups=30)
    renamed = table.rename(columns=dict(zip(COLUMNS["entropy"], COLUMNS["nll"], strict=True)))
    found = [
        mfbayes.fit(trials, outcomes=True, index=index, method="fast", checks=False, subset="all")
        for trials, index in ((table, "entropy"), (renamed, "nll"))
    ]
    for name in ("outcomes", "outcome_correlations"):
        by_entropy, by_nll = (fit[f"estimates/{name}"].to_dataset() for fit in found)
        assert by_nll.attrs["index"] == "nll"
        xr.testing.assert_equal(by_entropy, by_nll)
    assert found[1]["estimates/outcomes"].attrs["status"] == "ok"


def test_a_fault_in_a_check_names_it_and_keeps_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("all points failed")

    monkeypatch.setattr(finishing, "fit_three_outcomes", fail)
    table = simulate_others(0.0, seed=4, n_groups=12)
    with pytest.raises(CheckError, match=r"answers of neither side .* \(RuntimeError: all points failed\)") as caught:
        mfbayes.fit(table, outcomes=True, method="fast", checks=False, subset="all")
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert caught.value.exit_code == 1
    fit = caught.value.fit
    assert fit.attrs["status"] == "ok"
    assert "balance_points" in fit["estimates"].children
    assert "outcomes" not in fit["estimates"].children
    assert "all points failed" in fit.attrs["notes"]


@pytest.mark.slow
@pytest.mark.parametrize("loading", [0.0, 1.5, -1.5])
def test_ignorable_and_not_are_told_apart(loading: float) -> None:
    verdicts, shifts = [], []
    for seed in range(4):
        table = simulate_others(loading, seed=100 + seed, n_groups=60)
        found = fit_three_outcomes(select_trials(check_trials(table), subset="all").trials, seed=seed)
        verdicts.append(found.attrs["ignorable"])
        shifts.append(float(found["shift"].mean()))
    if loading:
        assert verdicts == [NOT_IGNORABLE] * 4
        assert (np.sign(shifts) == np.sign(loading)).all()
    else:
        # Two correlations at 95 % each: one in ten tables is accused by chance.
        assert verdicts.count(NOT_IGNORABLE) <= 2
        assert np.abs(shifts).max() < 0.05
