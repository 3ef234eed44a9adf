"""Trials: one row for each conflict item and model, checked at the border and trusted inside."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.indices import COLUMNS, PLURALS, check_index, flag_near_ties, relative_index
from mfbayes.tables import Place, place_by_number, read_table
from mfbayes.values import (
    count,
    find_nearest,
    list_choices,
    read_ids,
    read_numbers,
    read_tiers,
    read_truths,
    read_words,
)

REQUIRED = (names.MODEL, names.GROUP, names.H_TEXT, names.H_IMAGE, names.CHOICE)
CORRECT = (names.TEXT_CORRECT, names.IMAGE_CORRECT)
IDS = (names.MODEL, names.FAMILY, names.TASK, names.CONDITION, names.GROUP, names.ITEM)
SUBJECT_PARTS = (names.MODEL, names.TASK, names.CONDITION)
_OPTIONAL = (names.KIND, names.D_TEXT, names.D_IMAGE, *CORRECT, names.LOGIT_NOISE)
_ENTROPY = "an entropy in nats, a finite number >= 0"
_EXPECTED = {
    names.MARGIN: ("1 - (p_top1 - p_top2), a number from 0 to 1", 1.0),
    names.MAX_PROBABILITY: ("1 - p_top1, a number from 0 to 1", 1.0),
    names.NLL: ("a negative log-likelihood in nats, a finite number >= 0", np.inf),
}
_INDEX_COLUMNS = frozenset(column for columns in COLUMNS.values() for column in columns)
_AS_TEXT = _INDEX_COLUMNS | {*REQUIRED, *IDS, *_OPTIONAL}
# Rounded further than this, two entropies can well agree by chance.
_COPY_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Trials that an analysis uses, and in `notes` what was left out and why.

    `trials` has conflict rows only, with `dH` (relative uncertainty by `index`, in [-2, 2]), `subject`
    (see `label_subjects`) and, where the logits' noise is known, `near_tie`. Rows whose choice is
    `other` are kept: they are counted, not fitted.
    """

    trials: pd.DataFrame
    subset: str
    index: str
    notes: tuple[str, ...]


def read_trials(path: str | Path) -> pd.DataFrame:
    """Read trials from a CSV or parquet file and check every value that the fit depends on.

    Parameters
    ----------
    path : str or Path
        Columns `model, group, H_text, H_image, choice` (the entropies may be absent where another index of
        uncertainty is there); optionally `task, condition, family, kind,
        item, d_text, d_image, text_correct, image_correct, logit_noise` and the columns of other
        indices of uncertainty (`mfbayes.indices`); any others are kept as they are.

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
    trials[names.CHOICE] = read_words(trials[names.CHOICE], names.CHOICES, place)
    trials[names.KIND] = read_words(trials[names.KIND], names.KINDS, place)
    may_miss = _has_other_index(list(trials.columns))
    for column in COLUMNS[names.ENTROPY]:
        if column in trials:
            trials[column] = read_numbers(trials[column], place, expected=_ENTROPY, may_miss=may_miss)
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
    if isinstance(trials, Selection):
        raise InputError("Expected a table of trials, got a Selection. Its table is the attribute 'trials': pass that.")
    raise InputError(f"Expected a table of trials (a pandas DataFrame), got {type(trials).__name__}.")


def check_selected(trials: object) -> None:
    """Refuse what is not the table of a `Selection`.

    Raises
    ------
    InputError
    """
    check_table(trials)
    absent = [column for column in (names.SUBJECT, names.DH) if column not in trials]  # type: ignore[operator]
    if absent:
        raise InputError(
            f"Expected trials that are selected, but there is no column {' and no '.join(absent)}. "
            "Select them first: select_trials(trials).trials."
        )


def _check_indices(trials: pd.DataFrame, place: Place) -> None:
    """Check what is there of the other indices; models may lack one that is not asked for."""
    for index, (expected, upper) in _EXPECTED.items():
        for column in COLUMNS[index]:
            if column in trials:
                trials[column] = read_numbers(trials[column], place, expected=expected, upper=upper, may_miss=True)
    if names.LOGIT_NOISE in trials:
        expected = "an error of logits in nats, a finite number >= 0"
        trials[names.LOGIT_NOISE] = read_numbers(trials[names.LOGIT_NOISE], place, expected=expected, may_miss=True)


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


def select_trials(trials: pd.DataFrame, *, subset: str = names.BOTH_CORRECT, index: str = names.ENTROPY) -> Selection:
    """Choose the trials that an analysis uses: conflicts with a known dH, of the asked subset.

    Parameters
    ----------
    trials : DataFrame
        Checked trials.
    subset : {"both-correct", "all"}
        Only items that the model answers correctly from each modality alone, or every item.
        Without the columns `text_correct` and `image_correct` every item is used, and a note says so.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that dH is made of; see `mfbayes.indices`.

    Raises
    ------
    InputError
        Where nothing is left to analyse, the subset or index is unknown, or the index is absent.
    """
    if subset not in names.SUBSETS:
        raise InputError(f"Expected subset {list_choices(names.SUBSETS)}, got {subset!r}.")
    notes: list[str] = []
    kept = (trials[names.KIND] == names.CONFLICT).to_numpy(bool)
    if not kept.any():
        raise InputError("Expected conflict trials, but every row is a control. Controls are never fitted.")
    check_index(trials, index)
    relative = relative_index(trials, index)
    unusable = kept & np.isnan(relative)
    if unusable.any():
        notes.append(
            f"{count(int(unusable.sum()), 'row')} left out: both {PLURALS[index]} are zero, "
            "so the relative uncertainty dH does not exist."
        )
        kept = kept & ~unusable
        if not kept.any():
            raise InputError(
                f"In every conflict trial both {PLURALS[index]} are zero, so dH does not exist. Check them."
            )
    if subset == names.BOTH_CORRECT:
        kept, subset = _keep_both_correct(trials, kept, notes)
    chosen = trials[kept].reset_index(drop=True)
    _note_copies(chosen, notes)
    chosen[names.DH] = relative[kept]
    chosen[names.SUBJECT] = label_subjects(chosen)
    if names.LOGIT_NOISE in chosen:
        chosen[names.NEAR_TIE] = flag_near_ties(chosen, index=index)
        _note_near_ties(chosen, index, notes)
    present = set(chosen[names.MODEL].unique())
    left_out = [str(model) for model in trials[names.MODEL].unique() if model not in present]
    if left_out:
        notes.append(f"No trial is left of {', '.join(left_out)}, so there is no estimate for it.")
    return Selection(trials=chosen, subset=subset, index=index, notes=tuple(notes))


def label_subjects(trials: pd.DataFrame, *, like: pd.DataFrame | None = None) -> pd.Series:
    """Name the subject of each trial: "model / task / condition", without a part that is not several.

    Parameters
    ----------
    trials : DataFrame
        Checked trials.
    like : DataFrame, optional
        Trials that decide whether tasks and conditions are several; `trials` themselves by default.

    Raises
    ------
    InputError
        Where two subjects would read the same.
    """
    parts = [
        part for part in SUBJECT_PARTS if part == names.MODEL or _is_several(trials if like is None else like, part)
    ]
    return _join(trials, parts).rename(names.SUBJECT)


def label_groups(trials: pd.DataFrame) -> pd.Series:
    """Name the item group of each trial: a group belongs to its task, so "task / group" where there are several."""
    parts = [names.TASK, names.GROUP] if _is_several(trials, names.TASK) else [names.GROUP]
    return _join(trials, parts).rename(names.GROUP)


def _is_several(trials: pd.DataFrame, column: str) -> bool:
    return column in trials and trials[column].nunique() > 1


def _join(trials: pd.DataFrame, parts: list[str]) -> pd.Series:
    """Join columns by " / ", once for each combination."""
    if len(parts) == 1:
        return trials[parts[0]]
    combined = np.zeros(len(trials), dtype=np.int64)
    for part in parts:
        codes, labels = pd.factorize(trials[part])
        combined = combined * len(labels) + codes
    codes, _ = pd.factorize(combined)
    first = trials[parts].iloc[np.flatnonzero(~pd.Series(combined).duplicated().to_numpy(bool))]
    joined = pd.Index([" / ".join(row) for row in first.itertuples(index=False, name=None)], dtype="str")
    if joined.has_duplicates:
        combination = f"{', '.join(parts[:-1])} and {parts[-1]}"
        raise InputError(f"Two rows of other {combination} read the same once joined by ' / '. Rename one of them.")
    return pd.Series(joined.take(codes), index=trials.index)


def _keep_both_correct(
    trials: pd.DataFrame, kept: NDArray[np.bool_], notes: list[str]
) -> tuple[NDArray[np.bool_], str]:
    absent = [column for column in CORRECT if column not in trials]
    if absent:
        notes.append(
            f"All trials are used, also items that a model cannot answer from one modality alone: "
            f"the column{'s' if len(absent) > 1 else ''} {' and '.join(absent)} "
            f"{'are' if len(absent) > 1 else 'is'} absent."
        )
        return kept, names.ALL
    both = kept & trials[names.TEXT_CORRECT].to_numpy(bool) & trials[names.IMAGE_CORRECT].to_numpy(bool)
    if not both.any():
        raise InputError(
            "No model answers any item correctly from each modality alone, so the subset 'both-correct' is empty. "
            "Check text_correct and image_correct, or use the subset 'all'."
        )
    return both, names.BOTH_CORRECT


def _note_copies(trials: pd.DataFrame, notes: list[str]) -> None:
    """Say how many rows repeat another in every column, where items have no names to tell copies by."""
    if names.ITEM in trials:
        return
    entropies = trials[[names.H_TEXT, names.H_IMAGE]]
    # Unimodal entropies are shared within a group, so only rows that share both can be copies.
    candidates = np.flatnonzero(entropies.duplicated(keep=False))
    rest = trials.iloc[candidates]
    # Columns that are only kept may hold lists, which cannot be compared as they are.
    copied = (
        rest.assign(**{str(c): rest[c].map(repr) for c in rest if rest[c].dtype == object}).duplicated().to_numpy(bool)
    )
    rows = candidates[copied]
    n_copies = int((~_is_round(entropies.to_numpy(np.float64)[rows])).any(axis=1).sum())
    if n_copies:
        notes.append(
            f"{count(n_copies, 'row')} {'repeats' if n_copies == 1 else 'repeat'} an earlier row in every column, to "
            "the last digit of the entropies. Copies make intervals too narrow: remove them, or add the column 'item' "
            "if they are different items. All are kept."
        )


def _is_round(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether numbers are written with few significant digits, so that equal ones may be different ones."""
    size = np.floor(np.log10(np.where(values > 0, values, 1.0)))
    digits = values * 10.0 ** (_COPY_DIGITS - 1 - size)
    round_: NDArray[np.bool_] = np.abs(digits - np.rint(digits)) < 1e-6
    return round_


def _note_near_ties(trials: pd.DataFrame, index: str, notes: list[str]) -> None:
    n_ties = int(trials[names.NEAR_TIE].sum())
    if n_ties:
        notes.append(
            f"{count(n_ties, 'row')} {'is a near tie' if n_ties == 1 else 'are near ties'}: the two {PLURALS[index]} "
            "are equal within the noise of the logits, or both vanish. They are kept; the sensitivity analysis fits "
            "without them."
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
