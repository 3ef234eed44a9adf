"""Trials: one row for each conflict item and model, checked at the border and trusted inside."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.tables import Place, place_by_number, read_table
from mfbayes.uncertainty import relative_uncertainty

REQUIRED = (names.MODEL, names.GROUP, names.H_TEXT, names.H_IMAGE, names.CHOICE)
CORRECT = (names.TEXT_CORRECT, names.IMAGE_CORRECT)
IDS = (names.MODEL, names.TASK, names.GROUP, names.ITEM)
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
_AS_TEXT = frozenset({*REQUIRED, *IDS, *CORRECT, names.KIND, names.D_TEXT, names.D_IMAGE})


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Trials that an analysis uses, and in `notes` what was left out and why.

    `trials` has conflict rows only, with `dH` (relative uncertainty, in [-2, 2]) and `subject` (the
    model, or "model / task" where there are several tasks). Rows whose choice is `other` are kept:
    they are counted, not fitted.
    """

    trials: pd.DataFrame
    subset: str
    notes: tuple[str, ...]


def read_trials(path: str | Path) -> pd.DataFrame:
    """Read trials from a CSV or parquet file and check every value that the fit depends on.

    Parameters
    ----------
    path : str or Path
        Columns `model, group, H_text, H_image, choice`; optionally `task, kind, item, d_text,
        d_image, text_correct, image_correct, condition`; any others are kept as they are.

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
    return check_trials(frame, place=place)


def check_trials(frame: pd.DataFrame, *, place: Place = place_by_number) -> pd.DataFrame:
    """Check a table of trials and return it with one spelling for everything.

    Ids become text, entropies float64 (nats), choices lower case, `_correct` columns bool; `task`
    and `kind` are added where they are absent.

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
            trials[column] = _ids(trials[column], place)
    trials[names.CHOICE] = _words(trials[names.CHOICE], names.CHOICES, place)
    trials[names.KIND] = _words(trials[names.KIND], names.KINDS, place)
    for column in (names.H_TEXT, names.H_IMAGE):
        trials[column] = _entropies(trials[column], place)
    for column in (names.D_TEXT, names.D_IMAGE):
        if column in trials:
            trials[column] = _tiers(trials[column], place)
    _check_repeats(trials, place)
    is_control = trials[names.KIND] == names.CONTROL
    for column in CORRECT:
        if column in trials:
            trials[column] = _truths(trials[column], place, may_miss=is_control)
    return trials


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


def select_trials(trials: pd.DataFrame, *, subset: str = names.BOTH_CORRECT) -> Selection:
    """Choose the trials that an analysis uses: conflicts with a known dH, of the asked subset.

    Parameters
    ----------
    trials : DataFrame
        Checked trials.
    subset : {"both-correct", "all"}
        Only items that the model answers correctly from each modality alone, or every item.
        Without the columns `text_correct` and `image_correct` every item is used, and a note says so.

    Raises
    ------
    InputError
        Where nothing is left to analyse, or the subset is unknown.
    """
    if subset not in names.SUBSETS:
        raise InputError(f"Expected subset {_choice_of(names.SUBSETS)}, got {subset!r}.")
    notes: list[str] = []
    chosen = trials[trials[names.KIND] == names.CONFLICT]
    if chosen.empty:
        raise InputError("Expected conflict trials, but every row is a control. Controls are never fitted.")
    unusable = (chosen[names.H_TEXT] == 0) & (chosen[names.H_IMAGE] == 0)
    if unusable.any():
        notes.append(
            f"{_count(int(unusable.sum()), 'row')} left out: both entropies are zero, "
            "so the relative uncertainty dH does not exist."
        )
        chosen = chosen[~unusable]
        if chosen.empty:
            raise InputError("In every conflict trial both entropies are zero, so dH does not exist. Check them.")
    if subset == names.BOTH_CORRECT:
        chosen, subset = _keep_both_correct(chosen, notes)
    chosen = chosen.reset_index(drop=True)
    chosen[names.DH] = relative_uncertainty(chosen[names.H_TEXT], chosen[names.H_IMAGE])
    chosen[names.SUBJECT] = label_subjects(chosen)
    if names.CONDITION in chosen and chosen[names.CONDITION].nunique() > 1:
        notes.append(
            f"{chosen[names.CONDITION].nunique()} conditions are pooled: one balance point stands for all of them. "
            "Fit them apart to compare them."
        )
    left_out = [str(model) for model in trials[names.MODEL].unique() if model not in set(chosen[names.MODEL])]
    if left_out:
        notes.append(f"No trial is left of {', '.join(left_out)}, so there is no estimate for it.")
    return Selection(trials=chosen, subset=subset, notes=tuple(notes))


def label_subjects(trials: pd.DataFrame) -> pd.Series:
    """Name the subject of each trial: the model, or "model / task" where there are several tasks."""
    return _nest(trials, names.MODEL, names.TASK).rename(names.SUBJECT)


def label_groups(trials: pd.DataFrame) -> pd.Series:
    """Name the item group of each trial: a group belongs to its task, so "task / group" where there are several."""
    return _nest(trials, names.TASK, names.GROUP, alone=names.GROUP).rename(names.GROUP)


def _nest(trials: pd.DataFrame, outer: str, inner: str, *, alone: str | None = None) -> pd.Series:
    pairs = trials[[outer, inner]].drop_duplicates()
    if len(trials[names.TASK].drop_duplicates()) <= 1:
        return trials[alone or outer]
    labels = trials[outer] + " / " + trials[inner]
    if len(labels.drop_duplicates()) != len(pairs):
        raise InputError(f"Two pairs of {outer} and {inner} read the same once joined by ' / '. Rename one of them.")
    return labels


def _keep_both_correct(trials: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, str]:
    absent = [column for column in CORRECT if column not in trials]
    if absent:
        notes.append(
            f"All trials are used, also items that a model cannot answer from one modality alone: "
            f"the column{'s' if len(absent) > 1 else ''} {' and '.join(absent)} "
            f"{'are' if len(absent) > 1 else 'is'} absent."
        )
        return trials, names.ALL
    kept = trials[trials[names.TEXT_CORRECT] & trials[names.IMAGE_CORRECT]]
    if kept.empty:
        raise InputError(
            "No model answers any item correctly from each modality alone, so the subset 'both-correct' is empty. "
            "Check text_correct and image_correct, or use the subset 'all'."
        )
    return kept, names.BOTH_CORRECT


def _check_columns(trials: pd.DataFrame) -> None:
    columns = list(trials.columns)
    twice = trials.columns[trials.columns.duplicated()]
    if len(twice):
        raise InputError(f"Column {twice[0]!r} is there more than once. Keep one of them.")
    optional = (names.TASK, names.KIND, names.ITEM, names.D_TEXT, names.D_IMAGE, *CORRECT, names.CONDITION)
    spare = [column for column in columns if column not in REQUIRED + optional]
    for wanted in REQUIRED:
        if wanted not in columns:
            near = _nearest(wanted, spare)
            hint = f" Is {near!r} meant? Rename it to {wanted!r}." if near else ""
            raise InputError(
                f"Column {wanted!r} is missing.{hint} Expected at least {', '.join(REQUIRED)}; "
                f"got {', '.join(map(str, columns)) or 'no column'}."
            )
    for column in spare:
        # A near miss of an optional column would silently change the analysis: which task, kind or subset.
        near = _nearest(column, [name for name in optional if name not in columns], cutoff=0.85)
        if near:
            raise InputError(f"Column {column!r} is unknown. Is {near!r} meant? Rename it, or drop it.")


def _nearest(word: str, candidates: list[str], *, cutoff: float = 0.6) -> str | None:
    by_folded = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    found = get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None


def _ids(values: pd.Series, place: Place) -> pd.Series:
    text = values.astype("object").map(lambda value: "" if pd.isna(value) else str(value).strip())
    _refuse(values, text == "", place, expected="a name")
    return text.astype("str")


def _words(values: pd.Series, allowed: tuple[str, ...], place: Place) -> pd.Series:
    text = values.astype("object").map(lambda value: "" if pd.isna(value) else str(value).strip().casefold())
    _refuse(values, ~text.isin(allowed), place, expected=_choice_of(allowed), nearest=allowed)
    return text.astype("str")


def _entropies(values: pd.Series, place: Place) -> pd.Series:
    if pd.api.types.is_bool_dtype(values):
        _refuse(values, pd.Series(True, index=values.index), place, expected="an entropy in nats")
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    bad = numbers.isna() | numbers.abs().eq(np.inf) | (numbers < 0)
    _refuse(values, bad, place, expected="an entropy in nats, a finite number >= 0")
    return numbers.abs()


def _tiers(values: pd.Series, place: Place) -> pd.Series:
    missing = values.isna() | (values.astype("object") == "")
    numbers = pd.to_numeric(values.where(~missing), errors="coerce").astype("float64")
    bad = ~missing & ~((numbers % 1).eq(0) & numbers.abs().lt(2**53))
    _refuse(values, bad, place, expected="a difficulty tier, a whole number")
    return numbers.astype("Int64") if missing.any() else numbers.astype("int64")


def _truths(values: pd.Series, place: Place, *, may_miss: pd.Series) -> pd.Series:
    text = values.astype("object").map(lambda value: "" if pd.isna(value) else str(value).strip().casefold())
    truths = text.map(_TRUTH)
    _refuse(values, truths.isna() & ~((text == "") & may_miss), place, expected="true or false (or 1 or 0)")
    return truths.eq(True)


def _refuse(values: pd.Series, bad: pd.Series, place: Place, *, expected: str, nearest: tuple[str, ...] = ()) -> None:
    """Raise at the first bad value, saying where it is, what it is and how many more there are."""
    if not bad.any():
        return
    position = int(np.flatnonzero(bad.to_numpy())[0])
    value = values.iloc[position]
    missing = bool(pd.isna(value)) or str(value).strip() == ""
    shown = "nothing" if missing else repr(value.item() if isinstance(value, np.generic) else value)
    near = None if missing else _nearest(str(value), list(nearest))
    hint = f" Is {near!r} meant?" if near else ""
    others = int(bad.sum()) - 1
    more = f" The same goes for {_count(others, 'more row')}." if others else ""
    where = place(position)
    raise InputError(
        f"{where[0].upper()}{where[1:]}, column {str(values.name)!r}: expected {expected}, got {shown}.{hint}{more}"
    )


def _choice_of(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
