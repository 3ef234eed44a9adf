"""Indices of uncertainty: closed forms, digits near certainty, and how far noise can move them."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mfbayes.errors import InputError
from mfbayes.indices import answer_nll, check_index, flag_near_ties, has_index, least_confidence, margin_uncertainty
from mfbayes.names import INDICES
from mfbayes.selection import select_trials
from mfbayes.trials import check_trials
from mfbayes.uncertainty import entropy

SIZE = 12
MEASURES = {
    "entropy": entropy,
    "margin": margin_uncertainty,
    "max-probability": least_confidence,
    "nll": lambda logits: answer_nll(logits, [0, 1]),
}
logits = arrays(np.float64, SIZE, elements=st.floats(-60, 60))
directions = arrays(np.float64, SIZE, elements=st.floats(-1, 1))


def table(**columns: object) -> pd.DataFrame:
    return check_trials(pd.DataFrame({"model": "m", "group": "g", "choice": "text", **columns}))


def test_closed_forms() -> None:
    p = np.array([0.1, 0.7, 0.2])
    assert least_confidence(np.log(p)) == pytest.approx(0.3)
    assert margin_uncertainty(np.log(p)) == pytest.approx(0.5)
    assert answer_nll(np.log(p), [0, 2]) == pytest.approx(-math.log(0.3))
    assert margin_uncertainty(np.zeros(4)) == 1
    assert least_confidence(np.zeros(4)) == 0.75
    assert answer_nll(np.zeros((2, 4)), [1]).shape == (2,)


@pytest.mark.parametrize("gap", [40.0, 100.0, 600.0])
def test_digits_near_certainty_are_kept(gap: float) -> None:
    """Of (1, e^-gap): 1 - p is e^-gap, the margin falls short of 1 by twice that; 1 - p itself rounds to zero."""
    rest = math.exp(-gap)
    assert least_confidence([gap, 0.0]) == pytest.approx(rest, rel=1e-10, abs=0)
    assert margin_uncertainty([gap, 0.0]) == pytest.approx(2 * rest, rel=1e-10, abs=0)
    assert answer_nll([gap, 0.0], [0]) == pytest.approx(rest, rel=1e-10, abs=0)
    assert answer_nll([gap, 0.0], [1]) == pytest.approx(gap)


@pytest.mark.parametrize("index", INDICES)
@settings(deadline=None)
@given(values=logits, direction=directions, noise=st.sampled_from([1e-3, 0.05, 0.5, 3.0]))
def test_noise_moves_no_index_by_more_than_its_bound(
    index: str, values: np.ndarray, direction: np.ndarray, noise: float
) -> None:
    measure = MEASURES[index]
    before, after = float(measure(values)), float(measure(values + noise * direction))
    assert abs(math.log(after / before)) <= 2 * noise + 1e-9


def test_bound_is_reached_by_noise_against_the_likeliest() -> None:
    """A bound that nothing comes near would flag trials without need."""
    values, noise = np.array([30.0, 0.0]), 0.1
    worst = values + noise * np.array([-1.0, 1.0])
    assert math.log(least_confidence(worst) / least_confidence(values)) == pytest.approx(2 * noise, rel=1e-6)


def test_near_ties_are_those_whose_order_is_open() -> None:
    e = 0.02
    ratios = np.exp([0.0, 3.9 * e, -3.9 * e, 4.1 * e, -4.1 * e])
    trials = table(H_text=0.3 * ratios, H_image=0.3, logit_noise=e)
    assert flag_near_ties(trials).tolist() == [True, True, True, False, False]
    both_vanish = table(H_text=[1e-8, 1e-8, 0.0], H_image=[1e-12, 1e-5, 0.0], logit_noise=0.0)
    assert flag_near_ties(both_vanish).tolist() == [True, False, True]


def test_without_known_noise_only_what_vanishes_is_a_near_tie() -> None:
    trials = table(H_text=[1.0, 1e-8, 1e-8, 0.0], H_image=[1.0, 1e-12, 1e-5, 1e-9])
    assert flag_near_ties(trials).tolist() == [False, True, False, True]
    assert flag_near_ties(trials.assign(logit_noise=np.nan)).tolist() == [False, True, False, True]
    nll = table(nll_text=[1.0, 1e-8], nll_image=[1.0, 0.0])
    selection = select_trials(nll, index="nll")
    assert selection.trials["near_tie"].tolist() == [False, True]
    (note,) = [note for note in selection.notes if "near tie" in note]
    assert note.startswith("1 row is a near tie: the two answer negative log-likelihoods are both below 1.2e-07")


def test_copies_are_told_by_the_index_in_use() -> None:
    """Entropies that are not there are the same in every row, and say nothing of copies."""
    nll = table(nll_text=[0.5, 0.5, 0.1234567891], nll_image=[0.25, 0.25, 0.3])
    assert not any("repeats" in note for note in select_trials(nll, index="nll").notes)
    copied = pd.concat([nll, nll.tail(1)], ignore_index=True)
    (note,) = [note for note in select_trials(copied, index="nll").notes if "repeats" in note]
    assert "1 row repeats" in note
    assert "last digit of the answer negative log-likelihoods" in note


def test_near_ties_follow_the_chosen_index() -> None:
    trials = table(
        H_text=[1.0, 1.0],
        H_image=[1.0, 2.0],
        margin_uncertainty_text=[0.2, 0.5],
        margin_uncertainty_image=[0.4, 0.5],
        logit_noise=0.001,
    )
    assert select_trials(trials).trials["near_tie"].tolist() == [True, False]
    selection = select_trials(trials, index="margin")
    assert selection.index == "margin"
    assert selection.trials["near_tie"].tolist() == [False, True]
    assert selection.trials["dH"].tolist() == pytest.approx([-2 / 3, 0.0])
    assert any(note.startswith("1 row is a near tie: the two margin uncertainties") for note in selection.notes)
    assert not select_trials(trials.drop(columns="logit_noise")).trials["near_tie"].any()


def test_index_that_is_not_there_is_refused() -> None:
    trials = table(H_text=[1.0, 1.0], H_image=2.0, nll_text=[0.1, np.nan], nll_image=0.2, model=["new", "old"])
    assert not has_index(trials, "margin")
    with pytest.raises(InputError, match=r"'margin' needs .*which the trials do not have\. Ask for --index"):
        select_trials(trials, index="margin")
    with pytest.raises(InputError, match="which old does not have"):
        check_index(trials, "nll")
    assert has_index(trials.assign(kind=["conflict", "control"]), "nll")
    with pytest.raises(InputError, match=r"Expected index entropy, margin, max-probability or nll, got 'gini'"):
        select_trials(trials, index="gini")


@pytest.mark.parametrize(
    ("column", "value", "part"),
    [("margin_uncertainty_text", 1.5, "from 0 to 1"), ("nll_image", -1.0, "nats"), ("logit_noise", np.inf, "nats")],
)
def test_values_outside_their_range_are_refused(column: str, value: float, part: str) -> None:
    with pytest.raises(InputError, match=rf"^Row 2, column '{column}': expected .*{part}"):
        table(H_text=[1.0, 1.0], H_image=1.0, **{column: [0.5, value]})


def test_both_sides_certain_have_no_relative_index() -> None:
    trials = table(H_text=[1.0, 1.0], H_image=1.0, nll_text=[0.0, 0.3], nll_image=[0.0, 0.1])
    selection = select_trials(trials, index="nll")
    assert selection.trials["dH"].tolist() == pytest.approx([1.0])
    assert any("both answer negative log-likelihoods are zero" in note for note in selection.notes)
