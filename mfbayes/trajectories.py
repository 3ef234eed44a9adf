"""Trajectories: layer traces joined with their trials, as arrays that estimates and models share."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.indices import relative_index
from mfbayes.selection import label_groups, label_subjects, select_trials
from mfbayes.traces import never_committed
from mfbayes.trials import check_trials

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_OTHER = names.STATE_CODES[names.OTHER]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trajectories:
    """Layer traces with what their trials say of them, a row a trace.

    Attributes
    ----------
    subjects, subject_model : tuple of str
        Labels of the subjects with traces, and their models.
    groups : tuple of str
        Labels of the groups, nested in tasks.
    items : ndarray of str, shape (n,)
        Item ids.
    subject, group : ndarray of int, shape (n,)
        Codes.
    n_layers : ndarray of int, shape (n_subjects,)
        Depth of each subject's model; layers beyond it are padding.
    uncertainty : ndarray, shape (n,)
        dH of the index in use.
    h_text, h_image : ndarray, shape (n,)
        Unimodal entropies, in nats.
    is_control : ndarray of bool, shape (n,)
        Whether the text is about something that is not asked for.
    state : ndarray of int8, shape (n, deepest)
        1 text, 0 image, -1 neither or padding.
    logit_difference : ndarray of float, shape (n, deepest)
        Logit of the text answer minus that of the image answer; NaN in padding.
    """

    subjects: tuple[str, ...]
    subject_model: tuple[str, ...]
    groups: tuple[str, ...]
    items: NDArray[np.object_]
    subject: Indices
    group: Indices
    n_layers: Indices
    uncertainty: Floats
    h_text: Floats
    h_image: Floats
    is_control: NDArray[np.bool_]
    state: NDArray[np.int8]
    logit_difference: Floats

    def __len__(self) -> int:
        return len(self.items)

    def keep(self, rows: NDArray[np.bool_]) -> "Trajectories":
        """The same subjects and groups with only some of the traces."""
        by_row = ("items", "subject", "group", "uncertainty", "h_text", "h_image", "is_control")
        arrays = {name: getattr(self, name)[rows] for name in (*by_row, "state", "logit_difference")}
        return replace(self, **arrays)

    def only(self, subjects: Collection[str]) -> "Trajectories":
        """The traces of some subjects, and only these subjects.

        Raises
        ------
        InputError
            Where no trace is left.
        """
        kept = np.array([subject in subjects for subject in self.subjects], dtype=bool)
        found = self.keep(kept[self.subject])
        if not len(found):
            raise InputError(
                f"Expected traces of {', '.join(map(str, subjects)) or 'some subject'}, but there are none."
            )
        code = np.cumsum(kept) - 1
        chosen = [
            tuple(label for label, own in zip(labels, kept, strict=True) if own)
            for labels in (self.subjects, self.subject_model)
        ]
        return replace(
            found,
            subjects=chosen[0],
            subject_model=chosen[1],
            subject=code[found.subject],
            n_layers=self.n_layers[kept],
        )

    @property
    def conflicts(self) -> "Trajectories":
        """Those of conflict items."""
        return self.keep(~self.is_control)


def join_traces(
    trials: pd.DataFrame, traces: Mapping[str, xr.Dataset], *, subset: str, index: str
) -> tuple[Trajectories, list[str]]:
    """Join layer traces with the trials that a fit uses, and with the controls.

    Parameters
    ----------
    trials : DataFrame
        Trials with `item`; controls may be among them. A trace names its item alone, so trials of a model that share
        an item (under several conditions, or in several tasks) have none: it is not known which of them it is of.
    traces : mapping of str to Dataset
        Layer traces by model, as `mfbayes.traces.read_traces` returns them.
    subset, index : str
        As `mfbayes.fit` takes them.

    Returns
    -------
    trajectories : Trajectories
        Traces with their trials.
    notes : list of str
        What could not be joined or used: trials without a trace, traces without a trial, NaN
        logits, models of one layer, items that several trials share.

    Raises
    ------
    InputError
        Where trials have no `item`, or not a single trace can be used.
    """
    checked = check_trials(trials)
    if names.ITEM not in checked:
        raise InputError("Expected the column 'item' in the trials, to join them with the layer traces.")
    wanted, notes = _select(checked, subset=subset, index=index), []
    parts, states, differences = [], [], []
    matched = shared_all = False
    for model, own in wanted.groupby(names.MODEL, sort=False):
        if model not in traces:
            notes.append(f"{model}: no layer traces, so nothing is said of its layers.")
            continue
        found = traces[str(model)]
        own, shared = _leave_out_shared(own, checked[checked[names.MODEL] == model])
        notes.extend(f"{model}: {said}" for said in shared)
        shared_all |= bool(shared) and own.empty
        if own.empty:
            continue
        position = found.indexes[names.ITEM].get_indexer(pd.Index(own[names.ITEM]))
        unknown = int((~found.indexes[names.ITEM].isin(checked.loc[checked[names.MODEL] == model, names.ITEM])).sum())
        missing = position < 0
        matched |= not missing.all()
        state = found[names.STATE].to_numpy()[position[~missing]]
        difference = found[names.LOGIT_DIFFERENCE].to_numpy()[position[~missing]].astype(np.float64)
        broken = ~np.isfinite(difference).all(axis=1)
        notes.extend(_describe(str(model), missing=missing, unknown=unknown, broken=broken, state=state))
        if state.shape[1] < 2 or broken.all():
            continue
        parts.append(own[~missing][~broken])
        states.append(state[~broken])
        differences.append(difference[~broken])
    notes.extend(_describe_unused(traces, wanted=wanted[names.MODEL], known=checked[names.MODEL]))
    if not sum(map(len, parts)):
        advice = "" if matched or shared_all else " Check that items in the trials and in the traces are the same."
        raise InputError(f"No layer trace can be used. {' '.join(notes)}{advice}")
    return _stack(pd.concat(parts, ignore_index=True), states, differences), notes


def _select(trials: pd.DataFrame, *, subset: str, index: str) -> pd.DataFrame:
    """The conflicts that were analysed, and the controls."""
    selected = select_trials(trials, subset=subset, index=index).trials
    controls = trials[trials[names.KIND] == names.CONTROL]
    if subset == names.BOTH_CORRECT and not controls.empty:
        # A control's text is about something else: only its image can be answered rightly.
        controls = controls[controls[names.IMAGE_CORRECT]]
    pooled = pd.concat([selected, controls], ignore_index=True)
    pooled[names.DH] = relative_index(pooled, index)
    pooled[names.SUBJECT] = label_subjects(pooled, like=selected)
    # Controls of a model of which no conflict is left say nothing of a balance point.
    return pooled[pooled[names.SUBJECT].isin(selected[names.SUBJECT])]


def _leave_out_shared(own: pd.DataFrame, trials: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The trials of a model whose item no other trial of it has, and what is said of the others."""
    repeated = trials[names.ITEM][trials[names.ITEM].duplicated()]
    is_shared = own[names.ITEM].isin(repeated)
    if not is_shared.any():
        return own, []
    several = [part for part in (names.TASK, names.CONDITION) if part in trials and trials[part].nunique() > 1]
    where = " and ".join(f"{part}s" for part in several) or "rows"
    said = (
        f"{int(is_shared.sum())} of {is_shared.size} trials share their item with trials of other {where}. A layer "
        "trace names its item alone, so it is not known which of them it is of, and these trials are left out. Give "
        "each its own item in the trials and in the traces, such as CONDITION/ITEM, or analyse one condition or task "
        "at a time."
    )
    return own[~is_shared], [said]


def _describe_unused(traces: Mapping[str, xr.Dataset], *, wanted: pd.Series, known: pd.Series) -> list[str]:
    """Models with traces of which no trial is analysed."""
    notes = []
    for model in sorted(set(traces) - set(wanted.astype(str))):
        why = "none of its trials is analysed" if model in set(known.astype(str)) else "it has no trials"
        notes.append(f"{model}: it has layer traces, but {why}, so they are left out.")
    return notes


def _describe(
    model: str, *, missing: NDArray[np.bool_], unknown: int, broken: NDArray[np.bool_], state: NDArray[np.int8]
) -> list[str]:
    notes = []
    if missing.any():
        notes.append(f"{model}: {int(missing.sum())} of {missing.size} trials have no layer trace and are left out.")
    if unknown:
        notes.append(f"{model}: {unknown} layer traces belong to no trial and are left out.")
    if broken.any():
        notes.append(f"{model}: {int(broken.sum())} layer traces have a logit that is not a number and are left out.")
    if state.shape[1] < 2:
        notes.append(f"{model}: its traces have one layer, in which nothing can switch; they are left out.")
    elif state.size and never_committed(state).all():
        notes.append(f"{model}: no layer of any trace reads the text or the image answer, so nothing can switch.")
    return notes


def _stack(table: pd.DataFrame, states: list[NDArray[np.int8]], differences: list[Floats]) -> Trajectories:
    deepest = max(state.shape[1] for state in states)
    pad = [(state.shape[1], deepest - state.shape[1]) for state in states]
    subject, subjects = pd.factorize(table[names.SUBJECT], sort=True)
    group, groups = pd.factorize(label_groups(table), sort=True)
    depth = np.repeat([own for own, _ in pad], [len(state) for state in states])
    model = pd.Series(table[names.MODEL].to_numpy(), index=subject).groupby(level=0).first()
    return Trajectories(
        subjects=tuple(map(str, subjects)),
        subject_model=tuple(map(str, model)),
        groups=tuple(map(str, groups)),
        items=table[names.ITEM].to_numpy(object),
        subject=subject.astype(np.int64),
        group=group.astype(np.int64),
        n_layers=pd.Series(depth, index=subject).groupby(level=0).first().to_numpy(np.int64),
        uncertainty=table[names.DH].to_numpy(np.float64),
        h_text=table[names.H_TEXT].to_numpy(np.float64),
        h_image=table[names.H_IMAGE].to_numpy(np.float64),
        is_control=(table[names.KIND] == names.CONTROL).to_numpy(bool),
        state=np.concatenate(
            [np.pad(s, ((0, 0), (0, more)), constant_values=_OTHER) for s, (_, more) in zip(states, pad, strict=True)]
        ),
        logit_difference=np.concatenate(
            [
                np.pad(d, ((0, 0), (0, more)), constant_values=np.nan)
                for d, (_, more) in zip(differences, pad, strict=True)
            ]
        ),
    )
