"""The forward pass against enumeration of every path, and its gradient against finite differences."""

from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes.switching.forward import BLOCK, Chains, arrange_chains, evaluate, smooth

type Tables = dict[str, NDArray[np.float64]]


class Case(NamedTuple):
    chains: Chains
    tables: Tables
    symbol: NDArray[np.int64]
    subject: NDArray[np.int64]
    place: NDArray[np.int64]
    n_layers: NDArray[np.int64]


def make_case(
    seed: int, *, n_layers: list[int], n: int, n_symbols: int = 7, n_bins: int = 3, spread: float = 1.0
) -> Case:
    rng = np.random.default_rng(seed)
    depths = np.array(n_layers)
    size, deepest = depths.size, depths.max()
    subject, place = np.arange(n) % size, rng.integers(0, n_bins, n)
    symbol = rng.integers(0, n_symbols, (n, deepest))
    tables = {
        "emission": spread * rng.standard_normal((size, deepest, n_symbols, 2)),
        "hazard": -1 + rng.standard_normal((2, size, deepest - 1, n_bins)),
        "start": rng.standard_normal((size, n_bins)),
    }
    chains = arrange_chains(symbol, subject=subject, place=place, n_layers=depths, n_symbols=n_symbols, n_bins=n_bins)
    return Case(chains, tables, symbol, subject, place, depths)


def enumerate_paths(case: Case, row: int) -> list[tuple[tuple[int, ...], float]]:
    """Every path of sides, 0 text and 1 image, with its joint probability."""
    s, x = case.subject[row], case.place[row]
    found = []
    for path in product((0, 1), repeat=int(case.n_layers[s])):
        p = expit(case.tables["start"][s, x])
        p = p if path[0] == 0 else 1 - p
        for layer, side in enumerate(path):
            p *= np.exp(case.tables["emission"][s, layer, case.symbol[row, layer], side])
            if layer:
                h = expit(case.tables["hazard"][path[layer - 1], s, layer - 1, x])
                p *= h if side != path[layer - 1] else 1 - h
        found.append((path, float(p)))
    return found


@pytest.mark.parametrize("n_layers", [[2], [5], [9], [6, 3, 2]])
def test_likelihood_is_the_sum_over_all_paths(n_layers: list[int]) -> None:
    case = make_case(1, n_layers=n_layers, n=30)
    expected = sum(np.log(sum(p for _, p in enumerate_paths(case, row))) for row in range(30))
    np.testing.assert_allclose(evaluate(case.chains, **case.tables).value, expected, rtol=1e-12)


def test_smoothing_is_the_average_over_all_paths() -> None:
    case = make_case(2, n_layers=[6, 4], n=24)
    p_text, switches = smooth(case.chains, **case.tables)
    for row in range(24):
        paths = enumerate_paths(case, row)
        total = sum(p for _, p in paths)
        depth = case.n_layers[case.subject[row]]
        for layer in range(depth):
            expected = sum(p for path, p in paths if path[layer] == 0) / total
            np.testing.assert_allclose(p_text[row, layer], expected, rtol=1e-10)
        expected = sum(p * sum(a != b for a, b in pairwise(path)) for path, p in paths) / total
        np.testing.assert_allclose(switches[row], expected, rtol=1e-10)
        assert np.isnan(p_text[row, depth:]).all()


@pytest.mark.parametrize("name", ["emission", "hazard", "start"])
def test_gradient_is_the_derivative(name: str) -> None:
    case = make_case(3, n_layers=[5, 3], n=40)
    exact = getattr(evaluate(case.chains, **case.tables), name)
    for index in np.ndindex(exact.shape):
        values = []
        for step in (1e-5, -1e-5):
            moved = {key: table.copy() for key, table in case.tables.items()}
            moved[name][index] += step
            values.append(evaluate(case.chains, **moved).value)
        np.testing.assert_allclose(exact[index], (values[0] - values[1]) / 2e-5, atol=1e-7)


def test_long_chains_neither_overflow_nor_underflow() -> None:
    """With ratios of exp(+-100) a layer, the plain product of 200 layers would be infinite."""
    case = make_case(4, n_layers=[200], n=2 * BLOCK + 5, spread=40.0)
    found = evaluate(case.chains, **case.tables)
    assert np.isfinite(found.value)
    assert all(np.isfinite(table).all() for table in (found.emission, found.hazard, found.start))
    # An independent forward pass in logarithms.
    total = 0.0
    emission, hazard, start = (case.tables[key][..., :] for key in ("emission", "hazard", "start"))
    for row in range(len(case.symbol)):
        x = case.place[row]
        log_p = -np.logaddexp(0, np.array([-start[0, x], start[0, x]])) + emission[0, 0, case.symbol[row, 0]]
        for layer in range(1, 200):
            leave, stay = (-np.logaddexp(0, sign * hazard[:, 0, layer - 1, x]) for sign in (-1, 1))
            log_p = np.logaddexp(log_p + stay, log_p[::-1] + leave[::-1]) + emission[0, layer, case.symbol[row, layer]]
        total += np.logaddexp(*log_p)
    np.testing.assert_allclose(found.value, total, rtol=1e-11)


def test_what_is_not_finite_is_not_hidden() -> None:
    case = make_case(5, n_layers=[9], n=20)
    for broken in (np.nan, np.inf):
        for layer in (0, 4, 8):
            tables = {key: table.copy() for key, table in case.tables.items()}
            tables["emission"][0, layer, :, 0] = broken
            assert np.isnan(evaluate(case.chains, **tables).value)


def test_the_order_of_chains_does_not_matter() -> None:
    case = make_case(6, n_layers=[7, 4], n=3 * BLOCK)
    shuffled = np.random.default_rng(6).permutation(3 * BLOCK)
    again = arrange_chains(
        case.symbol[shuffled],
        subject=case.subject[shuffled],
        place=case.place[shuffled],
        n_layers=case.n_layers,
        n_symbols=7,
        n_bins=3,
    )
    first, second = (evaluate(chains, **case.tables) for chains in (case.chains, again))
    np.testing.assert_allclose(second.value, first.value, rtol=1e-12)
    np.testing.assert_allclose(second.emission, first.emission, atol=1e-9)
    p_text = smooth(case.chains, **case.tables)[0][shuffled]
    np.testing.assert_allclose(smooth(again, **case.tables)[0], p_text, rtol=1e-12)
