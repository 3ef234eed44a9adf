"""Trials: one row for each conflict item and model, checked at the border and trusted inside."""

from pathlib import Path

import numpy as np
import pandas as pd

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.indices import COLUMNS
from mfbayes.tables import Place, place_by_number, read_table
from mfbayes.values import (
    find_nearest,
    read_ids,
    read_numbers,
    read_tiers,
    read_truths,
    read_words,
)

REQUIRED = (names.MODEL, names.GROUP, names.H_TEXT, names.H_IMAGE, names.CHOICE)
CORRECT = (names.TEXT_CORRECT, names.IMAGE_CORRECT)
IDS = (names.MODEL, names.FAMILY, names.TASK, names.CONDITION, names.GROUP, names.ITEM)
_OPTIONAL = (names.KIND, names.D_TEXT, names.D_IMAGE, *CORRECT, names.LOGIT_NOISE)
EXPECTED = {
    names.ENTROPY: ("an entropy in nats, a finite number >= 0", np.inf),
    names.MARGIN: ("1 - (p_top1 - p_top2), a number from 0 to 1", 1.0),
    names.MAX_PROBABILITY: ("1 - p_top1, a number from 0 to 1", 1.0),
    names.NLL: ("a negative log-likelihood in nats, a finite number >= 0", np.inf),
}
"""What the values of each index must be, in words, and their upper end."""
_INDEX_COLUMNS = frozenset(column for columns in COLUMNS.values() for column in columns)
_AS_TEXT = _INDEX_COLUMNS | {*REQUIRED, *IDS, *_OPTIONAL, *names.UNIMODAL_PROBABILITIES}
# Probabilities of several spellings are summed in single precision.
_MOST_PROBABILITY = 1 + 1e-5


def read_trials(path: str | Path) -> pd.DataFrame:
    """Read trials from a CSV or parquet file and check every value that the fit depends on.

    Parameters
    ----------
    path : str or Path
        Columns `model, group, H_text, H_image, choice` (the entropies may be absent where another index of
        uncertainty is there); optionally `task, condition, family, kind,
        item, d_text, d_image, text_correct, image_correct, logit_noise`, the columns of other
        indices of uncertainty (`mfbayes.indices`) and `mfbayes.names.UNIMODAL_PROBABILITIES`; any others are kept
        as they are.

    Returns
    -------
    DataFrame
        As `check_trials` returns it.

    Raises
    ------
    InputError
        Where the file is no table or a value cannot be used; names the line or row and the column.
    """
    frame, place = read_table(Path(path), as_text=_AS_TEXT)
    try:
        return check_trials(frame, place=place)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def check_trials(frame: pd.DataFrame, *, place: Place = place_by_number) -> pd.DataFrame:
    """Check a table of trials and return it with one spelling for everything.

    Ids become text, entropies float64 (nats), choices lower case, `_correct` columns bool; `task`
    and `kind` are added where they are absent. Entropies may be absent where another index of uncertainty
    is there, and are NaN then.

    Parameters
    ----------
    frame : DataFrame
        A row a trial; see `read_trials` for the columns.
    place : callable, optional
        Says where row number i (from 0) is, for the messages.

    Raises
    ------
    InputError
        At the first value that cannot be used, naming its row and column.

    Examples
    --------
    >>> frame = pd.DataFrame({"model": "m", "group": [1], "H_text": 0.5, "H_image": 1.0, "choice": "Text"})
    >>> check_trials(frame)[["group", "choice", "kind"]].iloc[0].tolist()
    ['1', 'text', 'conflict']
    """
    check_table(frame)
    trials = frame.reset_index(drop=True)
    trials.columns = pd.Index([str(name).strip() for name in trials.columns])
    _check_columns(trials)
    if trials.empty:
        raise InputError("Expected a row for each trial, but there is no row below the header.")
    if names.TASK not in trials:
        trials[names.TASK] = names.DEFAULT_TASK
    if names.KIND not in trials:
        trials[names.KIND] = names.CONFLICT
    for column in IDS:
        if column in trials:
            trials[column] = read_ids(trials[column], place)
    _check_models(trials, place)
    trials[names.CHOICE] = read_words(trials[names.CHOICE], names.CHOICES, place)
    trials[names.KIND] = read_words(trials[names.KIND], names.KINDS, place)
    may_miss = _has_other_index(list(trials.columns))
    expected, _ = EXPECTED[names.ENTROPY]
    for column in COLUMNS[names.ENTROPY]:
        if column in trials:
            trials[column] = read_numbers(trials[column], place, expected=expected, may_miss=may_miss)
        else:
            trials[column] = np.nan
    _check_indices(trials, place)
    for column in (names.D_TEXT, names.D_IMAGE):
        if column in trials:
            trials[column] = read_tiers(trials[column], place)
    _check_repeats(trials, place)
    _check_families(trials, place)
    is_control = trials[names.KIND] == names.CONTROL
    for column in CORRECT:
        if column in trials:
            trials[column] = read_truths(trials[column], place, may_miss=is_control)
    return trials


def check_table(trials: object) -> None:
    """Refuse what is no table of trials, and say how to come by one.

    Raises
    ------
    InputError
    """
    if isinstance(trials, pd.DataFrame):
        return
    if isinstance(trials, str | Path):
        path = str(trials)
        raise InputError(f"Expected a table of trials, got the path {path!r}. Read it first: read_trials({path!r}).")
    if hasattr(trials, "trials"):
        kind = type(trials).__name__
        raise InputError(f"Expected a table of trials, got a {kind}. Its table is the attribute 'trials': pass that.")
    raise InputError(f"Expected a table of trials (a pandas DataFrame), got {type(trials).__name__}.")


def _check_indices(trials: pd.DataFrame, place: Place) -> None:
    """Check what is there of other indices and of answers' probabilities; models may lack what is not asked for."""
    for index, (expected, upper) in EXPECTED.items():
        for column in COLUMNS[index] if index != names.ENTROPY else ():
            if column in trials:
                trials[column] = read_numbers(trials[column], place, expected=expected, upper=upper, may_miss=True)
    if names.LOGIT_NOISE in trials:
        expected = "an error of logits in nats, a finite number >= 0"
        trials[names.LOGIT_NOISE] = read_numbers(trials[names.LOGIT_NOISE], place, expected=expected, may_miss=True)
    for column in names.UNIMODAL_PROBABILITIES:
        if column in trials:
            values, expected = trials[column], "a probability, a number from 0 to 1"
            trials[column] = read_numbers(values, place, expected=expected, upper=_MOST_PROBABILITY, may_miss=True)


def _check_repeats(trials: pd.DataFrame, place: Place) -> None:
    """Refuse an item that one model answers twice: copies would pass for independent trials."""
    if names.ITEM not in trials:
        return
    identity = [c for c in (names.MODEL, names.TASK, names.ITEM, names.KIND, names.CONDITION) if c in trials]
    repeated = np.flatnonzero(trials.duplicated(identity))
    if repeated.size:
        row = trials.iloc[repeated[0]]
        raise InputError(
            f"Expected each item once for a model (and condition), but item {row[names.ITEM]!r} of "
            f"{row[names.MODEL]} comes again at {place(int(repeated[0]))}. Remove the copies."
        )


def _check_models(trials: pd.DataFrame, place: Place) -> None:
    """Refuse a model whose name stands for all models together in tables and commands."""
    pooled = np.flatnonzero(trials[names.MODEL] == names.POOLED)
    if pooled.size:
        raise InputError(
            f"Expected the name of a model, but {names.POOLED!r} came at {place(int(pooled[0]))}; in tables and "
            "commands that means all models together. Give the model another name."
        )


def _check_families(trials: pd.DataFrame, place: Place) -> None:
    """Refuse a model of two families."""
    if names.FAMILY not in trials:
        return
    pairs = trials[[names.MODEL, names.FAMILY]].drop_duplicates()
    again = pairs[pairs.duplicated(names.MODEL)]
    if not again.empty:
        model, other = again.iloc[0]
        first = pairs.loc[pairs[names.MODEL] == model, names.FAMILY].iloc[0]
        raise InputError(
            f"Expected one family for each model, but {model} is of the family {first!r} and, at "
            f"{place(int(again.index[0]))}, of {other!r}. Name one of them in all its rows."
        )


def _has_other_index(columns: list[str]) -> bool:
    """Whether an index of uncertainty other than the entropy is there for both modalities."""
    return any(set(pair) <= set(columns) for index, pair in COLUMNS.items() if index != names.ENTROPY)


def _list_required(columns: list[str]) -> list[str]:
    """Columns that must be there: without both entropies another index of uncertainty will do."""
    entropies = COLUMNS[names.ENTROPY]
    spared = not set(entropies) & set(columns) and _has_other_index(columns)
    return [name for name in REQUIRED if not (spared and name in entropies)]


def _check_columns(trials: pd.DataFrame) -> None:
    columns = list(trials.columns)
    twice = trials.columns[trials.columns.duplicated()]
    if len(twice):
        raise InputError(f"Column {twice[0]!r} is there more than once. Keep one of them.")
    optional = (*(column for column in IDS if column not in REQUIRED), *_OPTIONAL)
    spare = [column for column in columns if column not in _AS_TEXT]
    for wanted in _list_required(columns):
        if wanted not in columns:
            near = find_nearest(wanted, spare)
            hint = f" Is {near!r} meant? Rename it to {wanted!r}." if near else ""
            raise InputError(
                f"Column {wanted!r} is missing.{hint} Expected at least {', '.join(REQUIRED)} (or another index of "
                f"uncertainty in place of both entropies); got {', '.join(map(str, columns)) or 'no column'}."
            )
    for column in spare:
        # A near miss of an optional column would silently change the analysis: which task, kind or subset.
        # A misspelt index is refused when it is asked for.
        near = find_nearest(column, [name for name in optional if name not in columns], cutoff=0.85)
        if near:
            raise InputError(f"Column {column!r} is unknown. Is {near!r} meant? Rename it, or drop it.")
