"""Numbers as the page prints them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfbayes.reports import numerals


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (-0.0, "0.00"),
        (-0.004, "0.00"),
        (-0.006, "−0.01"),
        (1.005, "1.00"),
        (math.nan, "–"),
        (-math.inf, "−∞"),
    ],
)
def test_decimal(value: float, text: str) -> None:
    assert numerals.decimal(value) == text


@given(st.floats(-1e6, 1e6))
def test_decimal_keeps_the_number_and_never_a_hyphen(value: float) -> None:
    text = numerals.decimal(value, digits=3)
    assert "-" not in text
    assert float(text.replace(numerals.MINUS, "-")) == pytest.approx(value, abs=5.1e-4)
    assert text != "−0.000"


@given(st.floats(0, 1))
def test_only_bounds_read_as_certain(value: float) -> None:
    text = numerals.probability(value)
    assert text not in ("1.00", "0.00")
    if text.startswith(">"):
        assert value > 0.99
    elif text.startswith("<"):
        assert value < 0.01
    else:
        assert float(text) == pytest.approx(value, abs=0.0051)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 %"), (0.004, "< 1 %"), (0.996, "> 99 %"), (1.0, "100 %"), (0.314, "31 %"), (math.nan, "–")],
)
def test_percent(value: float, text: str) -> None:
    assert numerals.percent(value).replace("\N{NO-BREAK SPACE}", " ") == text


def test_words() -> None:
    assert numerals.interval(-0.66, 0.1) == "[−0.66, 0.10]"
    assert numerals.listing(["a"]) == "a"
    assert numerals.listing(["a", "b"]) == "a and b"
    assert [numerals.numeral(n) for n in (0, 12, 13, 1200)] == ["no", "twelve", "13", "1,200"]
    assert numerals.count(math.nan) == "–"
