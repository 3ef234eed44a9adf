"""Entropy and relative uncertainty: closed forms and properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mfbayes.uncertainty import entropy, relative_uncertainty

logits = arrays(np.float64, st.integers(2, 30), elements=st.floats(-80, 80))
entropies = st.floats(0, 12, allow_subnormal=False)


def test_closed_forms() -> None:
    assert entropy(np.zeros(7)) == pytest.approx(math.log(7))
    p = np.array([0.7, 0.2, 0.1])
    assert entropy(np.log(p)) == pytest.approx(-(p * np.log(p)).sum())
    assert entropy([3.0, -np.inf, -np.inf]) == 0


@pytest.mark.parametrize("gap", [40.0, 100.0, 600.0])
def test_tiny_entropies_keep_their_digits(gap: float) -> None:
    """H of (1, e^-gap) is e^-gap (1 + gap) to first order; the textbook formula gives zero there."""
    assert entropy([gap, 0.0]) == pytest.approx(math.exp(-gap) * (1 + gap), rel=1e-10, abs=0)


@given(logits)
def test_entropy_is_bounded_and_shift_free(values: np.ndarray) -> None:
    H = float(entropy(values))
    assert 0 <= H <= math.log(len(values)) + 1e-9
    assert float(entropy(values + 3.5)) == pytest.approx(H, rel=1e-6, abs=1e-12)


@given(entropies, entropies)
def test_dH_is_antisymmetric_and_bounded(text: float, image: float) -> None:
    value = relative_uncertainty(text, image)
    if text == image == 0:
        assert np.isnan(value)
        return
    assert -2 <= value <= 2
    assert relative_uncertainty(image, text) == pytest.approx(-value, abs=1e-12)


@given(st.floats(1e-300, 1e300), st.floats(-3, 3))
def test_dH_depends_on_the_ratio_alone(H_image: float, log_ratio: float) -> None:
    value = relative_uncertainty(H_image * math.exp(log_ratio), H_image)
    assert value == pytest.approx(2 * math.tanh(log_ratio / 2), abs=1e-9)
