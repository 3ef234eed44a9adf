"""Batches: rows of a large table of trials, checked at the border and coded by number."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.tables import Place, place_by_number
from mfbayes.uncertainty import relative_uncertainty
from mfbayes.values import read_ids, read_numbers, read_truths, read_words

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]
type Key = tuple[str, str, str]
"""Model, task and condition of a subject; the condition is "" where trials have none."""

CORRECT = (names.TEXT_CORRECT, names.IMAGE_CORRECT)
COLUMNS = (
    *(names.MODEL, names.TASK, names.CONDITION, names.GROUP, names.KIND),
    *(names.H_TEXT, names.H_IMAGE, names.CHOICE, *CORRECT),
)
"""Columns that the pooled model reads; a file may have more."""

_ENTROPY = "an entropy in nats, a finite number >= 0"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Conflict trials with a known dH that follow the text or the image.

    Attributes
    ----------
    subjects : tuple of Key
        Subjects of any conflict row, also of those that were left out.
    groups : tuple of str
        Labels of item groups; a group belongs to the task of its trials.
    subject, group : ndarray of int, shape (n_trials,)
        Positions in `subjects` and `groups`.
    dH : ndarray, shape (n_trials,)
        Relative uncertainty, in [-2, 2].
    is_text : ndarray of bool, shape (n_trials,)
        Whether the text was followed.
    n_other, n_undefined : ndarray of int, shape (n_subjects,)
        Choices of neither answer, and rows without a dH because both entropies are zero.
    """

    subjects: tuple[Key, ...]
    groups: tuple[str, ...]
    subject: Indices
    group: Indices
    dH: Floats
    is_text: NDArray[np.bool_]
    n_other: Indices
    n_undefined: Indices


def read_batch(frame: pd.DataFrame, *, both_correct: bool, place: Place = place_by_number) -> Batch:
    """Check rows of trials and code them; the columns are known to be there.

    Parameters
    ----------
    frame : DataFrame
        At least `model, group, H_text, H_image, choice`; labels may be categorical.
    both_correct : bool
        Leave out items that the model cannot answer from each modality alone.
    place : callable
        Says where row number i (from 0) is, for the messages.

    Raises
    ------
    InputError
        At a value that cannot be used.
    """
    text, image = (
        read_numbers(frame[column], place, expected=_ENTROPY).to_numpy(np.float64)
        for column in (names.H_TEXT, names.H_IMAGE)
    )
    choice, choices = _encode(frame, names.CHOICE, place, allowed=names.CHOICES)
    group, groups = _encode(frame, names.GROUP, place)
    subject, subjects = _encode_subjects(frame, place)
    dH = relative_uncertainty(text, image)
    is_conflict = _equals(
        *_encode(frame, names.KIND, place, allowed=names.KINDS, absent=names.CONFLICT), names.CONFLICT
    )
    defined = is_conflict & ~np.isnan(dH)
    kept = defined.copy()
    if both_correct:
        may_miss = pd.Series(~is_conflict, index=frame.index)
        for column in CORRECT:
            kept &= read_truths(frame[column], place, may_miss=may_miss).to_numpy(bool)
    is_other = _equals(choice, choices, names.OTHER)
    fitted = np.flatnonzero(kept & ~is_other)
    n = len(subjects)
    seen = np.flatnonzero(np.bincount(subject[is_conflict], minlength=n))
    renumbered = np.full(n, -1, dtype=np.int64)
    renumbered[seen] = np.arange(seen.size)
    return Batch(
        subjects=tuple(subjects[i] for i in seen),
        groups=groups,
        subject=renumbered[subject[fitted]],
        group=group[fitted],
        dH=dH[fitted],
        is_text=_equals(choice, choices, names.TEXT)[fitted],
        n_other=np.bincount(subject[kept & is_other], minlength=n)[seen],
        n_undefined=np.bincount(subject[is_conflict & ~defined], minlength=n)[seen],
    )


def _encode_subjects(frame: pd.DataFrame, place: Place) -> tuple[Indices, tuple[Key, ...]]:
    model, models = _encode(frame, names.MODEL, place)
    task, tasks = _encode(frame, names.TASK, place, absent=names.DEFAULT_TASK)
    condition, conditions = _encode(frame, names.CONDITION, place, absent="")
    codes = (model * len(tasks) + task) * len(conditions) + condition
    return codes, tuple(product(models, tasks, conditions))


def _encode(
    frame: pd.DataFrame,
    column: str,
    place: Place,
    *,
    allowed: tuple[str, ...] = (),
    absent: str | None = None,
) -> tuple[Indices, tuple[str, ...]]:
    """Codes of a column and its labels, each different value checked once; `absent` stands for a missing column."""
    if absent is not None and column not in frame:
        return np.zeros(len(frame), dtype=np.int64), (absent,)
    values = frame[column]
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, unique = values.cat.codes.to_numpy(np.int64), values.cat.categories
    else:
        # Strings and numbers only: 1 and True are equal, and would share a code, but are written differently.
        plain = values.map(str, na_action="ignore") if values.dtype == object else values
        codes, unique = pd.factorize(plain, use_na_sentinel=True)
    counts = np.bincount(codes + 1, minlength=len(unique) + 1)
    used = np.flatnonzero(counts[1:])
    try:
        if counts[0]:
            raise InputError(f"Column {column!r} has missing values.")
        labels = _read(pd.Series(unique[used], name=column), place, allowed)
    except InputError:
        # The whole column says where the first bad value is and how many there are.
        _read(values.astype(object), place, allowed)
        raise
    own, distinct = pd.factorize(labels)
    renumbered = np.full(len(unique), -1, dtype=np.int64)
    renumbered[used] = own
    return renumbered[codes], tuple(map(str, distinct))


def _read(values: pd.Series, place: Place, allowed: tuple[str, ...]) -> pd.Series:
    return read_words(values, allowed, place) if allowed else read_ids(values, place)


def _equals(codes: Indices, labels: tuple[str, ...], label: str) -> NDArray[np.bool_]:
    return codes == (labels.index(label) if label in labels else -1)
