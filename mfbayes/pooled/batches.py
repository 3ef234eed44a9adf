"""Batches: some of the trials as arrays, with the labels that make them mean the same in every batch."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes import names

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]


class Subject(NamedTuple):
    """A model on one task under one condition, which is "" where there are no conditions."""

    model: str
    task: str
    condition: str


class Group(NamedTuple):
    """An item group; groups belong to their task, so equal names in two tasks are two groups."""

    task: str
    group: str


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Trials with a choice of text or image, and how many there were of others.

    Attributes
    ----------
    subjects, groups : tuple
        Labels, each once.
    subject, group : ndarray of int, shape (n_trials,)
        Position of each trial's label in `subjects` and `groups`.
    uncertainty : ndarray, shape (n_trials,)
        dH, in [-2, 2].
    is_text : ndarray of bool, shape (n_trials,)
        Whether the text was followed, else the image.
    n_other : ndarray of int, shape (n_subjects,)
        Trials that chose neither answer; they are counted, not fitted.
    n_undefined : int
        Trials left out because the uncertainty of both sides is zero, so that dH does not exist.
    """

    subjects: tuple[Subject, ...]
    groups: tuple[Group, ...]
    subject: Indices
    group: Indices
    uncertainty: Floats
    is_text: NDArray[np.bool_]
    n_other: Indices
    n_undefined: int = 0


def take_batch(trials: pd.DataFrame) -> Batch:
    """One batch of trials that are in memory.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    """
    labelled = trials if names.CONDITION in trials else trials.assign(**{names.CONDITION: ""})
    subject, subjects = _number(labelled, list(Subject._fields))
    group, groups = _number(labelled, list(Group._fields))
    choice = trials[names.CHOICE].to_numpy()
    fitted = choice != names.OTHER
    return Batch(
        subjects=tuple(map(Subject._make, subjects)),
        groups=tuple(map(Group._make, groups)),
        subject=subject[fitted],
        group=group[fitted],
        uncertainty=trials[names.DH].to_numpy(np.float64)[fitted],
        is_text=choice[fitted] == names.TEXT,
        n_other=np.bincount(subject[~fitted], minlength=len(subjects)).astype(np.int64),
    )


def _number(trials: pd.DataFrame, parts: list[str]) -> tuple[Indices, list[tuple[str, ...]]]:
    """Number each combination of labels, and list them."""
    table = trials[parts].astype(str)
    numbers = table.groupby(parts, sort=True).ngroup().to_numpy().astype(np.int64)
    labels = table.drop_duplicates().sort_values(parts)
    return numbers, list(labels.itertuples(index=False, name=None))
