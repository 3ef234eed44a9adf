"""Names in drawings: shortened so that they still fit and still differ."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mfbayes.reports.axes import spread
from mfbayes.reports.lettering import shorten, width, without_shared, wrap

NAMES = st.text(alphabet="abcXYZ019-_/. mw", min_size=1, max_size=60)


@given(NAMES, st.floats(30, 300))
def test_shortened_names_fit(name: str, limit: float) -> None:
    short = shorten(name, limit)
    assert width(short) <= limit or len(short) <= 2
    assert short == name or (short[0] == name[0] and "…" in short)


@given(NAMES, st.floats(60, 300))
def test_wrapped_names_keep_to_their_lines(name: str, limit: float) -> None:
    rows = wrap(name, limit)
    assert 1 <= len(rows) <= 2
    assert all(width(row) <= limit for row in rows)


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True))
def test_short_names_stay_unique(names: list[str]) -> None:
    short = without_shared(names)
    assert list(short) == names
    assert len(set(short.values())) == len(names)
    assert all(part in name for name, part in short.items())


def test_shared_parts_are_cut_at_separators_only() -> None:
    names = ["qwen/Qwen2.5-VL-3B-Instruct-hf", "qwen/Qwen2.5-VL-32B-Instruct-hf"]
    assert list(without_shared(names).values()) == ["3B", "32B"]


@given(st.lists(st.floats(0, 200), min_size=1, max_size=12), st.floats(1, 15))
def test_spread_labels_keep_their_gap_and_order(wanted: list[float], gap: float) -> None:
    placed = spread(wanted, gap=gap, low=0, high=200)
    ranked = sorted(zip(wanted, placed, strict=True), key=lambda pair: pair[0])
    steps = [b[1] - a[1] for a, b in pairwise(ranked) if b[0] > a[0]]
    assert all(step >= gap - 1e-6 for step in steps)
    assert min(placed) >= -1e-6
