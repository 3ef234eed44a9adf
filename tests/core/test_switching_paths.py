"""Traces drawn from the hazards have the probabilities that the likelihood gives them, across gaps too."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from mfbayes import names
from mfbayes.switching.layout import lay_out_pairs
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.pairs import SIDES, pair_layers
from mfbayes.switching.paths import draw_paths
from mfbayes.switching.simulation import Hazards, simulate_switching
from mfbayes.switching.terms import measure_closeness
from mfbayes.trajectories import Trajectories

type Floats = NDArray[np.float64]

PATTERNS = ([1, 0, 1, 1, 0, 0, 1, 1], [0, 1, 1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 0, 0, 1, 1])
CODES = np.array([names.STATE_CODES[side] for side in SIDES])
# Switches soon after a switch are frequent, so whoever counts ages otherwise gives other probabilities.
BY_AGE = np.array([[2.0, 1.0, 0.0], [-1.5, 1.2, 0.0]])
LEVEL = np.random.default_rng(5).normal(-0.8, 0.5, (2, 1, 7))
X, SLOPES = 0.3, np.array([[0.4, -0.5], [-0.7, 0.6]])
BASE = SLOPES @ np.array([X, float(measure_closeness(np.array([X]))[0])])


@pytest.fixture(scope="module")
def trace() -> Trajectories:
    found, _, _ = simulate_switching(n_layers=(8,), n_groups=1, n_items=1, rng=np.random.default_rng(1))
    return found


def _outcomes(committed: NDArray[np.bool_], start: int) -> list[tuple[int, ...]]:
    """All that the sides of the committed layers can be."""
    return [(start, *rest) for rest in itertools.product(range(2), repeat=int(committed.sum()) - 1)]


def _likelihood(trace: Trajectories, committed: NDArray[np.bool_], sides: tuple[int, ...]) -> float:
    state = np.full((1, committed.size), names.STATE_CODES[names.OTHER], dtype=np.int8)
    state[0, committed] = CODES[list(sides)]
    pairs = pair_layers(replace(trace, state=state))
    layout = lay_out_pairs(pairs, np.array([X]), terms=("x", "distance"), groups=False, n_bins=None)
    nothing = np.zeros((2, layout.cell_subject.size))
    table = (LEVEL[:, :, :, None] + BY_AGE[:, None, None, :]).reshape(2, 1, -1)
    return (
        SwitchingLikelihood(layout, effects=nothing, scores=nothing)
        .evaluate(table, SLOPES[:, None, :], np.zeros((2, 2)))
        .value
    )


def _enumerate(committed: NDArray[np.bool_], start: int) -> dict[tuple[int, ...], float]:
    """Probabilities of the outcomes: every path, layer by layer, with the ages that the model's words say."""
    first = int(committed.argmax())
    found = dict.fromkeys(_outcomes(committed, start), 0.0)
    for switches in itertools.product([False, True], repeat=committed.size - 1 - first):
        p, side, age, seen, last_switch = 1.0, start, 2, [(first, start)], None
        for layer, switch in enumerate(switches, start=first):
            hazard = float(expit(BASE[side] + LEVEL[side, 0, layer] + BY_AGE[side, age]))
            p *= hazard if switch else 1 - hazard
            side, age = (1 - side, 0) if switch else (side, min(age + 1, 2))
            if committed[layer + 1]:
                if side != seen[-1][1]:
                    last_switch = layer + 1
                seen.append((layer + 1, side))
                age = 2 if last_switch is None else min(layer + 1 - last_switch, 2)
        found[tuple(each for _, each in seen)] += p
    return found


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("start", [0, 1])
def test_the_likelihood_is_the_probability_of_what_is_seen(trace: Trajectories, pattern: list[int], start: int) -> None:
    committed = np.array(pattern, dtype=bool)
    expected = _enumerate(committed, start)
    found = [np.exp(_likelihood(trace, committed, sides)) for sides in expected]
    assert sum(found) == pytest.approx(1.0)
    assert found == pytest.approx(list(expected.values()))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_drawn_traces_have_the_likelihood_s_frequencies(trace: Trajectories, pattern: list[int]) -> None:
    n, committed = 200_000, np.array(pattern, dtype=bool)
    rng = np.random.default_rng([7, *pattern])
    drawn = draw_paths(
        np.tile(committed, (n, 1)),
        np.ones(n, dtype=np.int64),
        subject=np.zeros(n, dtype=np.int64),
        base=np.tile(BASE[:, None], (1, n)),
        level=LEVEL,
        by_age=BY_AGE[:, None],
        rng=rng,
    )
    assert (drawn[:, ~committed] == -1).all()
    outcomes = _outcomes(committed, 1)
    expected = np.exp([_likelihood(trace, committed, sides) for sides in outcomes])
    weights = 2 ** np.arange(int(committed.sum()) - 1)[::-1]
    counts = np.bincount(drawn[:, committed][:, 1:] @ weights, minlength=len(outcomes))
    assert stats.chisquare(counts, n * expected).pvalue > 1e-4


def test_simulated_traces_switch_as_often_as_their_hazards_say() -> None:
    hazards = Hazards(level=(-1.5, -1.5), by_age=(2.5, -1.0), other_share=0.4, group_sd=0.0, group_model_sd=0.0)
    found, points, truth = simulate_switching(
        n_layers=(12,), n_groups=1, n_items=20_000, rng=np.random.default_rng(9), hazards=hazards
    )
    pairs = pair_layers(found)
    x = found.uncertainty - points["m00"]
    base = truth["x"].to_numpy() * x + truth["distance"].to_numpy() * measure_closeness(x)
    ages = np.array([*hazards.by_age, 0.0])
    level = truth["level"].to_numpy()[:, 0]
    p = expit(base[pairs.start, pairs.trace] + level[pairs.start, pairs.layer] + ages[pairs.age])
    for age in range(ages.size):
        chosen = pairs.is_adjacent & (pairs.age == age)
        off = (pairs.is_switch[chosen] - p[chosen]).sum() / np.sqrt((p * (1 - p))[chosen].sum())
        assert abs(off) < 4
