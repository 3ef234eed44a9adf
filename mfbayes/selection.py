"""Selection: the trials that an analysis uses, with their relative uncertainty, subjects and groups."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.indices import COLUMNS, PLURALS, VANISHING, check_index, flag_near_ties, relative_index
from mfbayes.trials import CORRECT, check_table
from mfbayes.values import count, list_choices

SUBJECT_PARTS = (names.MODEL, names.TASK, names.CONDITION)
# Rounded further than this, two entropies can well agree by chance.
_COPY_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Trials that an analysis uses, and in `notes` what was left out and why.

    `trials` has conflict rows only, with `dH` (relative uncertainty by `index`, in [-2, 2]), `subject`
    (see `label_subjects`) and `near_tie` (see `mfbayes.indices.flag_near_ties`). Rows whose choice is
    `other` are kept: they are counted, not fitted.
    """

    trials: pd.DataFrame
    subset: str
    index: str
    notes: tuple[str, ...]


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
    _note_copies(chosen, index, notes)
    chosen[names.DH] = relative[kept]
    chosen[names.SUBJECT] = label_subjects(chosen)
    chosen[names.NEAR_TIE] = flag_near_ties(chosen, index=index)
    _note_near_ties(chosen, index, notes)
    present = set(chosen[names.MODEL].unique())
    left_out = [str(model) for model in trials[names.MODEL].unique() if model not in present]
    if left_out:
        notes.append(f"No trial is left of {', '.join(left_out)}, so there is no estimate for it.")
    return Selection(trials=chosen, subset=subset, index=index, notes=tuple(notes))


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


def _note_copies(trials: pd.DataFrame, index: str, notes: list[str]) -> None:
    """Say how many rows repeat another in every column, where items have no names to tell copies by."""
    if names.ITEM in trials:
        return
    values = trials[list(COLUMNS[index])]
    # Unimodal uncertainties are shared within a group, so only rows that share both can be copies.
    candidates = np.flatnonzero(values.duplicated(keep=False))
    rest = trials.iloc[candidates]
    # Columns that are only kept may hold lists, which cannot be compared as they are.
    copied = (
        rest.assign(**{str(c): rest[c].map(repr) for c in rest if rest[c].dtype == object}).duplicated().to_numpy(bool)
    )
    rows = candidates[copied]
    n_copies = int((~_is_round(values.to_numpy(np.float64)[rows])).any(axis=1).sum())
    if n_copies:
        notes.append(
            f"{count(n_copies, 'row')} {'repeats' if n_copies == 1 else 'repeat'} an earlier row in every column, to "
            f"the last digit of the {PLURALS[index]}. Copies make intervals too narrow: remove them, or add the column "
            "'item' if they are different items. All are kept."
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
        vanish = f"both below {VANISHING:.1e}, where dH has no digit in single precision"
        why = f"equal within the noise of the logits, or {vanish}" if names.LOGIT_NOISE in trials else vanish
        notes.append(
            f"{count(n_ties, 'row')} {'is a near tie' if n_ties == 1 else 'are near ties'}: the two {PLURALS[index]} "
            f"are {why}. They are kept; the sensitivity analysis fits without them."
        )
