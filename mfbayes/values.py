"""Values of a column: brought to one spelling, or refused with their place and what was expected."""

from collections.abc import Callable
from difflib import get_close_matches

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes.errors import InputError
from mfbayes.tables import Place

_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def read_ids(values: pd.Series, place: Place) -> pd.Series:
    """Names as text without outer spaces, none of them empty."""
    text = _read_text(values)
    _refuse(values, (text == "").to_numpy(bool), place, expected="a name")
    return text


def read_words(values: pd.Series, allowed: tuple[str, ...], place: Place) -> pd.Series:
    """Words of a short list, in any case, in lower case."""
    known = {word: word for word in allowed}
    words = _look_up(_read_text(values), lambda text: known.get(text.casefold()))
    _refuse(values, words.isna().to_numpy(bool), place, expected=list_choices(allowed), nearest=allowed)
    return words.astype("str")


def read_numbers(
    values: pd.Series, place: Place, *, expected: str, upper: float = np.inf, may_miss: bool = False
) -> pd.Series:
    """Finite numbers from zero to `upper`, as float64; `may_miss` lets empty ones be NaN."""
    if pd.api.types.is_bool_dtype(values):
        _refuse(values, np.ones(len(values), dtype=bool), place, expected=expected)
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    found = numbers.to_numpy(np.float64)
    bad = ~(np.isfinite(found) & (found >= 0) & (found <= upper))
    if may_miss:
        bad &= ~_is_missing(values)
    _refuse(values, bad, place, expected=expected)
    return numbers.abs()


def read_tiers(values: pd.Series, place: Place) -> pd.Series:
    """Whole numbers, as int64, or Int64 where some are missing."""
    missing = _is_missing(values)
    numbers = pd.to_numeric(values.where(~missing) if missing.any() else values, errors="coerce").astype("float64")
    bad = ~missing & ~((numbers % 1).eq(0) & numbers.abs().lt(2**53)).to_numpy(bool)
    _refuse(values, bad, place, expected="a difficulty tier, a whole number")
    return numbers.astype("Int64") if missing.any() else numbers.astype("int64")


def read_truths(values: pd.Series, place: Place, *, may_miss: pd.Series) -> pd.Series:
    """True or false, however it is written; false where it is missing and may be."""
    if values.dtype == bool:
        return values
    truths = _look_up(_read_text(values), lambda text: _TRUTH.get(text.casefold()))
    bad = truths.isna().to_numpy(bool) & ~(_is_missing(values) & may_miss.to_numpy(bool))
    _refuse(values, bad, place, expected="true or false (or 1 or 0)")
    return truths.eq(True).astype(bool)


def find_nearest(word: str, candidates: list[str], *, cutoff: float = 0.6) -> str | None:
    """The candidate that a word is likeliest a misspelling of, if any."""
    by_folded = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    found = get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def list_choices(words: tuple[str, ...]) -> str:
    """Write "a, b or c"."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


def count(number: int, noun: str) -> str:
    """Write a number of things.

    Examples
    --------
    >>> count(1, "row"), count(2, "row")
    ('1 row', '2 rows')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _read_text(values: pd.Series) -> pd.Series:
    """Values as text without outer spaces, "" where missing."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind in ("string", "empty"):
        return values.astype("str").str.strip().fillna("")
    if values.dtype == object:
        # 1, 1.0 and True are equal and so would share a label, but are written differently.
        text = [("" if pd.isna(value) else str(value).strip()) for value in values]
        return pd.Series(text, index=values.index, name=values.name, dtype="str")
    return _look_up(values, lambda value: str(value).strip()).fillna("").astype("str")


def _look_up(values: pd.Series, read: Callable[..., object]) -> pd.Series:
    """Each different value read once; missing values stay missing."""
    codes, unique = pd.factorize(values)
    readings = np.empty(len(unique) + 1, dtype=object)
    readings[:-1] = [read(value) for value in unique]
    readings[-1] = None
    return pd.Series(readings[codes], index=values.index, name=values.name, dtype=object)


def _is_missing(values: pd.Series) -> NDArray[np.bool_]:
    missing = values.isna().to_numpy(bool)
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return missing
    return missing | (_read_text(values) == "").to_numpy(bool)


def _refuse(
    values: pd.Series, bad: NDArray[np.bool_], place: Place, *, expected: str, nearest: tuple[str, ...] = ()
) -> None:
    """Raise at the first bad value, saying where it is, what it is and how many more there are."""
    if not bad.any():
        return
    position = int(np.flatnonzero(bad)[0])
    value = values.iloc[position]
    missing = bool(pd.isna(value)) or str(value).strip() == ""
    shown = "nothing" if missing else repr(value.item() if isinstance(value, np.generic) else value)
    near = None if missing else find_nearest(str(value), list(nearest))
    hint = f" Is {near!r} meant?" if near else ""
    others = int(bad.sum()) - 1
    more = f" The same goes for {count(others, 'more row')}." if others else ""
    where = place(position)
    raise InputError(
        f"{where[0].upper()}{where[1:]}, column {str(values.name)!r}: expected {expected}, got {shown}.{hint}{more}"
    )
