"""Design: trials laid out as arrays, group by group, for every tier of inference."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.selection import label_groups

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

LEVELS = (names.FAMILY, names.MODEL, names.TASK, names.CONDITION, "model_task")


@dataclass(frozen=True, kw_only=True)
class Design:
    """Trials as arrays, sorted by group, then model, then subject.

    A subject is a model on one task under one condition. A branch is a group and a model that has
    trials of it, a cell a group and a subject; branches divide groups, cells divide branches.

    Attributes
    ----------
    subjects, subject_model, subject_task, subject_condition, subject_family : tuple of str
        Labels of the subjects and what each is made of.
    groups : tuple of str
        Labels of the item groups; a group belongs to one task.
    uncertainty, is_text : ndarray, shape (n_trials,)
        dH, in [-2, 2], and 1 where the text was followed.
    trial_subject, trial_group : ndarray of int, shape (n_trials,)
        Subject and group of each trial.
    row : ndarray of int, shape (n_trials,)
        Row of the table of trials that each trial came from.
    """

    subjects: tuple[str, ...]
    subject_model: tuple[str, ...]
    subject_task: tuple[str, ...]
    subject_condition: tuple[str, ...]
    subject_family: tuple[str, ...]
    groups: tuple[str, ...]
    uncertainty: Floats
    is_text: Floats
    trial_subject: Indices
    trial_group: Indices
    row: Indices

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self.subjects)

    @property
    def n_trials(self) -> int:
        """Number of trials with a choice of text or image."""
        return int(self.uncertainty.size)

    @cached_property
    def cell_start(self) -> Indices:
        """First trial of each cell, and behind the last cell the number of trials; shape (n_cells + 1,)."""
        return _starts(self.trial_group * max(self.n_subjects, 1) + self.trial_subject)

    @cached_property
    def branch_start(self) -> Indices:
        """First cell of each branch, and the number of cells; shape (n_branches + 1,)."""
        return _starts(self.cell_group * max(self.n_subjects, 1) + self.model_index[self.cell_subject])

    @cached_property
    def group_start(self) -> Indices:
        """First branch of each group that has trials, and the number of branches; shape (n_groups + 1,)."""
        return _starts(self.cell_group[self.branch_start[:-1]])

    @cached_property
    def cell_subject(self) -> Indices:
        """Subject of each cell, shape (n_cells,)."""
        return self.trial_subject[self.cell_start[:-1]]

    @cached_property
    def cell_group(self) -> Indices:
        """Group of each cell, shape (n_cells,)."""
        return self.trial_group[self.cell_start[:-1]]

    @cached_property
    def cell_branch(self) -> Indices:
        """Branch of each cell, shape (n_cells,)."""
        return np.repeat(np.arange(self.branch_start.size - 1), np.diff(self.branch_start))

    @cached_property
    def branch_group(self) -> Indices:
        """Group of each branch, shape (n_branches,)."""
        return self.cell_group[self.branch_start[:-1]]

    @cached_property
    def branch_model(self) -> Indices:
        """Model of each branch, an index into `models`; shape (n_branches,)."""
        return self.model_index[self.cell_subject[self.branch_start[:-1]]]

    @cached_property
    def trial_cell(self) -> Indices:
        """Cell of each trial, shape (n_trials,)."""
        return np.repeat(np.arange(self.cell_start.size - 1), np.diff(self.cell_start))

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Labels of the models, in order."""
        return tuple(sorted(set(self.subject_model)))

    @cached_property
    def model_index(self) -> Indices:
        """Model of each subject, an index into `models`."""
        return np.searchsorted(self.models, self.subject_model).astype(np.int64)

    @cached_property
    def has_model_effect(self) -> bool:
        """Whether some branch has two trials; without, v (group and model) cannot be told from chance."""
        return self.branch_start.size - 1 < self.n_trials

    @cached_property
    def has_condition_effect(self) -> bool:
        """Whether branches divide into cells with repeats, so that w (group, model and condition) can be told."""
        return self.branch_start.size < self.cell_start.size < self.n_trials + 1

    @cached_property
    def group_scales(self) -> tuple[str, ...]:
        """Names of the standard deviations of the group effects that this design can tell apart."""
        present = (True, self.has_model_effect, self.has_condition_effect)
        return tuple(name for name, there in zip(GROUP_SCALES, present, strict=True) if there)

    @cached_property
    def levels(self) -> dict[str, tuple[tuple[str, ...], Indices]]:
        """Levels above the subjects: name -> (labels, index of each subject), where a level tells anything.

        A level is there if it has several labels, some label has several subjects, and no earlier
        level divides the subjects in the same way.
        """
        several = len(set(self.subject_task)) > 1 and len(set(self.subject_condition)) > 1
        columns = {
            names.FAMILY: self.subject_family,
            names.MODEL: self.subject_model,
            names.TASK: self.subject_task,
            names.CONDITION: self.subject_condition,
            "model_task": tuple(map(" / ".join, zip(self.subject_model, self.subject_task, strict=True)))
            if several
            else ("",) * self.n_subjects,
        }
        found: dict[str, tuple[tuple[str, ...], Indices]] = {}
        seen: set[tuple[int, ...]] = set()
        for name in LEVELS:
            labels, index = np.unique(np.array(columns[name], dtype=str), return_inverse=True)
            division = tuple(pd.factorize(index)[0].tolist())
            if 1 < labels.size < self.n_subjects and division not in seen:
                found[name] = tuple(labels.tolist()), index.astype(np.int64)
                seen.add(division)
        return found

    def keep(self, kept: NDArray[np.bool_]) -> "Design":
        """The same subjects and groups with some of the trials only; groups without trials are left out."""
        left, group = np.unique(self.trial_group[kept], return_inverse=True)
        return replace(
            self,
            groups=tuple(self.groups[i] for i in left),
            uncertainty=self.uncertainty[kept],
            is_text=self.is_text[kept],
            trial_subject=self.trial_subject[kept],
            trial_group=group.astype(np.int64),
            row=self.row[kept],
        )


MAX_SUBJECTS = 200
"""More are not compared in one fit: the time for all pairs, and for sampling, would be hours."""

GROUP_SCALES = ("group_sd", "group_model_sd", "group_condition_sd")


def lay_out(trials: pd.DataFrame) -> Design:
    """Lay selected trials out as arrays; choices of neither answer are left out.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`. A subject stays even if all its choices are `other`.

    Raises
    ------
    InputError
        With more than 200 subjects.
    """
    columns = [names.TASK, names.MODEL, *(c for c in (names.CONDITION, names.FAMILY) if c in trials)]
    subjects = trials[[names.SUBJECT, *columns]].drop_duplicates(names.SUBJECT).sort_values(columns)
    if len(subjects) > MAX_SUBJECTS:
        raise InputError(
            f"Expected at most {MAX_SUBJECTS} models (times tasks and conditions) in one fit, got {len(subjects):,}. "
            "Fit them in parts, such as a task or a family at a time."
        )
    labels = {name: tuple(subjects[name].astype(str)) if name in subjects else ("",) * len(subjects) for name in _PARTS}
    fitted = np.flatnonzero((trials[names.CHOICE] != names.OTHER).to_numpy())
    group_codes, group_labels = pd.factorize(label_groups(trials).iloc[fitted], sort=True)
    subject = pd.Index(subjects[names.SUBJECT]).get_indexer(trials[names.SUBJECT].iloc[fitted]).astype(np.int64)
    model = np.unique(np.array(labels[names.MODEL], dtype=str), return_inverse=True)[1]
    order = np.lexsort((subject, model[subject], group_codes))
    fitted = fitted[order]
    return Design(
        subjects=tuple(subjects[names.SUBJECT]),
        subject_model=labels[names.MODEL],
        subject_task=labels[names.TASK],
        subject_condition=labels[names.CONDITION],
        subject_family=labels[names.FAMILY],
        groups=tuple(group_labels),
        uncertainty=trials[names.DH].to_numpy(np.float64)[fitted],
        is_text=(trials[names.CHOICE].to_numpy()[fitted] == names.TEXT).astype(np.float64),
        trial_subject=subject[order],
        trial_group=group_codes[order].astype(np.int64),
        row=fitted.astype(np.int64),
    )


_PARTS = (names.MODEL, names.TASK, names.CONDITION, names.FAMILY)


def _starts(codes: Indices) -> Indices:
    """Where runs of equal codes begin, and the length."""
    if not codes.size:
        return np.zeros(1, dtype=np.int64)
    return np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1, [codes.size]]).astype(np.int64)
