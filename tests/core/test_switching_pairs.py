"""Pairs of layers, their likelihood and its gradient against known answers."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from mfbayes.errors import InputError
from mfbayes.switching import kernel
from mfbayes.switching.layout import lay_out_pairs
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.pairs import pair_layers
from mfbayes.switching.simulation import Hazards, simulate_switching
from mfbayes.switching.terms import APART, DEFAULT_TERMS, find_x, measure_closeness, measure_terms
from mfbayes.trajectories import Trajectories


@pytest.fixture(scope="module")
def traces() -> tuple[Trajectories, dict[str, float]]:
    hazards = Hazards(other_share=0.15)
    found, points, _ = simulate_switching(
        n_layers=(8, 6), n_groups=6, n_items=15, rng=np.random.default_rng(3), hazards=hazards
    )
    return found, points


def _likelihood(
    traces: tuple[Trajectories, dict[str, float]], *, groups: bool, n_bins: int | None = None
) -> SwitchingLikelihood:
    pairs = pair_layers(traces[0])
    layout = lay_out_pairs(
        pairs, find_x(pairs.trajectories, traces[1]), terms=DEFAULT_TERMS, groups=groups, n_bins=n_bins
    )
    n_cells = layout.cell_subject.size
    rng = np.random.default_rng(8)
    effects = 0.3 * rng.standard_normal((2, n_cells)) if groups else np.zeros((2, n_cells))
    return SwitchingLikelihood(layout, effects=effects, scores=np.zeros((2, n_cells)))


def _parameters(n_steps: int = 7) -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(4)
    table = rng.normal(-1.5, 0.5, (2, 2, n_steps * 3))
    return [table, rng.normal(0, 0.5, (2, 2, 2)), np.array([[0.5, 0.3], [0.2, 0.6]])]


def test_pairs_of_a_trace_known_by_hand(traces: tuple[Trajectories, dict[str, float]]) -> None:
    state = np.array([[-1, 1, 1, 0, -1, 0, 0, 1]], dtype=np.int8)
    one = replace(traces[0].keep(np.arange(len(traces[0])) == 0), state=state)
    pairs = pair_layers(one)
    assert pairs.layer.tolist() == [1, 2, 3, 5, 6]
    assert pairs.gap.tolist() == [1, 1, 2, 1, 1]
    assert pairs.start.tolist() == [0, 0, 1, 1, 1]
    assert pairs.end.tolist() == [0, 1, 1, 1, 0]
    assert pairs.age.tolist() == [2, 2, 0, 2, 2]
    assert pairs.is_switch.tolist() == [False, True, False, False, True]


def test_a_gap_that_ends_on_the_other_side_counts_as_just_switched(
    traces: tuple[Trajectories, dict[str, float]],
) -> None:
    state = np.array([[1, -1, 0, 0, 0, 0, 0, -1]], dtype=np.int8)
    pairs = pair_layers(replace(traces[0].keep(np.arange(len(traces[0])) == 0), state=state))
    assert pairs.age.tolist() == [2, 0, 1, 2, 2]


def test_likelihood_is_the_sum_over_pairs(traces: tuple[Trajectories, dict[str, float]]) -> None:
    table, slopes, scales = _parameters()
    pairs = pair_layers(traces[0])
    of, x = pairs.trajectories, find_x(pairs.trajectories, traces[1])
    total = 0.0
    for i in range(len(pairs)):
        own = of.subject[pairs.trace[i]]
        at = x[pairs.trace[i]]
        shift = slopes[:, own, 0] * at + slopes[:, own, 1] * (0.5 - np.sqrt(at**2 + 0.01))
        total += np.log(_cross_by_hand(table[:, own], shift, pairs.layer[i], pairs.gap[i], *_ends(pairs, i)))
    assert _likelihood(traces, groups=False).evaluate(table, slopes, scales).value == pytest.approx(total, rel=1e-12)


def _ends(pairs: object, i: int) -> tuple[int, int, int]:
    return pairs.start[i], pairs.age[i], pairs.end[i]  # type: ignore[attr-defined]


def _cross_by_hand(
    table: NDArray[np.float64], shift: NDArray[np.float64], layer: int, length: int, side: int, age: int, end: int
) -> float:
    """Every hidden path between both ends, one by one."""
    total = 0.0
    for path in itertools.product([False, True], repeat=length):
        p, here, old = 1.0, side, age
        for step, switches in enumerate(path):
            h = float(expit(table[here, (layer + step) * 3 + old] + shift[here]))
            p *= h if switches else 1 - h
            here, old = (1 - here, 0) if switches else (here, min(old + 1, 2))
        total += p * (here == end)
    return total


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_gaps_are_summed_out_exactly(length: int) -> None:
    rng = np.random.default_rng(length)
    table, levels = rng.normal(-1, 1, (2, 18)), rng.normal(0, 0.5, 2)
    hazard, forward, backward, slope = np.empty((4, length + 1, 2, 3))
    ends = {}
    for side, age, end in itertools.product(range(2), range(3), range(2)):
        work = (hazard, forward, backward, slope)
        log_p = kernel.cross_gap(table, levels, 1, length, side, age, end, *work)
        ends[side, age, end] = np.exp(log_p)
        assert ends[side, age, end] == pytest.approx(_cross_by_hand(table, levels, 1, length, side, age, end))
    for side, age in itertools.product(range(2), range(3)):
        assert ends[side, age, 0] + ends[side, age, 1] == pytest.approx(1.0)


def test_one_silent_layer_is_crossed_as_any_gap_is() -> None:
    rng = np.random.default_rng(2)
    eta = np.concatenate([rng.normal(-1, 2, (3, 40)), 8 * rng.choice([-1.0, 1.0], (3, 40))], axis=1)
    comes_back, count = rng.integers(0, 2, 80).astype(float), rng.integers(1, 5, 80).astype(float)
    p, slope = np.empty(80), np.empty((3, 80))
    total = kernel.cross_layers(eta, comes_back, count, p, slope)
    assert total == pytest.approx((count * np.log(p)).sum())
    work = np.empty((4, 3, 2, 3))
    for i in range(80):
        # From text at an old age: there, at once back from image, or still old a layer later.
        table = np.zeros((2, 9))
        table[0, 2], table[1, 3], table[0, 5] = eta[:, i]
        log_p = kernel.cross_gap(table, np.zeros(2), 0, 2, 0, 2, 0 if comes_back[i] else 1, *work)
        assert np.log(p[i]) == pytest.approx(log_p, rel=1e-9)
        of_chain = work[3, 0, 0, 2], work[3, 1, 1, 0], work[3, 1, 0, 2]
        np.testing.assert_allclose(slope[:, i], count[i] * np.array(of_chain), rtol=1e-9, atol=1e-9)


def test_counted_switches_are_binomial() -> None:
    """Against scipy, out to logits where probabilities vanish."""
    rng = np.random.default_rng(3)
    eta = np.concatenate([rng.normal(0, 4, 999), [0.0, -40.0, 40.0, -700.0, 700.0]])
    count = rng.integers(1, 50, eta.size).astype(float)
    switches = rng.binomial(count.astype(int), 0.3).astype(float)
    slope = np.empty(eta.size)
    total = kernel.add_binomial(eta, count, switches, slope)
    np.testing.assert_allclose(slope, switches - count * expit(eta), rtol=1e-12, atol=1e-12)
    assert total == pytest.approx((switches * log_expit(eta) + (count - switches) * log_expit(-eta)).sum(), rel=1e-13)


@pytest.mark.parametrize("groups", [False, True])
def test_gradients_are_those_of_finite_differences(traces: tuple[Trajectories, dict[str, float]], groups: bool) -> None:
    likelihood, inputs = _likelihood(traces, groups=groups), _parameters()
    found = likelihood.evaluate(*inputs)
    assert found.value == pytest.approx(found.by_group.sum())
    rng = np.random.default_rng(9)
    for number, gradient in enumerate((found.table, found.slopes, found.scales)):
        for _ in range(6):
            at = tuple(rng.integers(0, n) for n in gradient.shape)
            ends = []
            for step in (1e-5, -1e-5):
                moved = [each.copy() for each in inputs]
                moved[number][at] += step
                ends.append(likelihood.evaluate(*moved).value)
            assert gradient[at] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-4)


def test_without_spread_groups_change_nothing(traces: tuple[Trajectories, dict[str, float]]) -> None:
    table, slopes, _ = _parameters()
    pairs = pair_layers(traces[0])
    x = find_x(pairs.trajectories, traces[1])
    values = []
    for groups in (False, True):
        layout = lay_out_pairs(pairs, x, terms=DEFAULT_TERMS, groups=groups, n_bins=None)
        nothing = np.zeros((2, layout.cell_subject.size))
        likelihood = SwitchingLikelihood(layout, effects=nothing, scores=nothing)
        values.append(likelihood.evaluate(table, slopes, np.zeros((2, 2))).value)
    assert values[0] == pytest.approx(values[1], rel=1e-10)


def test_bins_change_the_log_likelihood_by_less_than_it_tells() -> None:
    hazards = Hazards(group_sd=0.0, group_model_sd=0.0)
    found, points, _ = simulate_switching(
        n_layers=(16, 12), n_groups=40, n_items=50, rng=np.random.default_rng(5), hazards=hazards
    )
    table, slopes, scales = _parameters(15)
    alternative = [table, slopes + 0.1, scales]
    told = []
    for n_bins in (None, 64):
        likelihood = _likelihood((found, points), groups=False, n_bins=n_bins)
        told.append(
            likelihood.evaluate(table, slopes, scales).value - likelihood.evaluate(*alternative).value,
        )
    # What decides between parameters is the difference, here of dozens of nats.
    assert abs(told[0]) > 20
    assert told[1] == pytest.approx(told[0], abs=0.02 * abs(told[0]))


def test_terms_by_hand(traces: tuple[Trajectories, dict[str, float]]) -> None:
    x = find_x(*traces)
    values = measure_terms(traces[0], x, terms=APART)
    assert values[:, 0] == pytest.approx(traces[0].h_text - traces[0].h_text.mean())
    assert values[:, 2] == pytest.approx(measure_closeness(x))
    assert measure_closeness(np.zeros(1)) == pytest.approx(0.4)
    with pytest.raises(InputError, match="each once"):
        measure_terms(traces[0], x, terms=("x", "x"))
    with pytest.raises(InputError, match="finite balance point"):
        find_x(traces[0], {"m00": 0.1})


def test_traces_without_committed_layers_are_refused(traces: tuple[Trajectories, dict[str, float]]) -> None:
    silent = replace(traces[0], state=np.full_like(traces[0].state, -1))
    with pytest.raises(InputError, match="two layers or more"):
        pair_layers(silent)
    one_layer = replace(traces[0], state=traces[0].state[:, :1], n_layers=np.ones(2, dtype=np.int64))
    with pytest.raises(InputError, match="two layers or more"):
        pair_layers(one_layer)
