"""Draws of a fit in the shapes that estimates are made from."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.design import GROUP_SCALES, Design

type Floats = NDArray[np.float64]

PARTS = (names.MODEL, names.TASK, names.CONDITION, names.FAMILY)
MODEL_LABEL = "model_label"
"""Dim of what a model has whatever the task and condition; `model` labels the subjects."""


def labelled_posterior(tree: xr.DataTree) -> xr.Dataset:
    """Draws of a fit, with model, task, condition and family of every subject as coordinates."""
    constant = tree["constant_data"].to_dataset()
    labels = {part: (names.SUBJECT, constant[f"{names.SUBJECT}_{part}"].to_numpy()) for part in PARTS}
    return tree["posterior"].to_dataset().assign_coords(labels)


def stack_draws(posterior: xr.Dataset, name: str) -> Floats:
    """Draws of a variable, shape (n_draws,) or (n_subjects, n_draws)."""
    values: Floats = posterior[name].transpose(..., "chain", "draw").to_numpy()
    return values.reshape(*values.shape[:-2], -1)


def total_spread(posterior: xr.Dataset) -> Floats:
    """Standard deviation of u + v + w in every draw, shape (n_draws,)."""
    present = [stack_draws(posterior, name) for name in GROUP_SCALES if name in posterior]
    total: Floats = np.sqrt(np.sum(np.square(present), axis=0))
    return total


def stack_lapses(posterior: xr.Dataset) -> Floats:
    """Probability of either side by chance, shape (n_subjects, n_draws); zero where lapses are not modelled."""
    if "lapse" not in posterior:
        n_draws = posterior.sizes["chain"] * posterior.sizes["draw"]
        return np.zeros((posterior.sizes[names.SUBJECT], n_draws))
    of_subject = posterior["lapse"].sel({MODEL_LABEL: posterior[names.MODEL].to_numpy()})
    values: Floats = of_subject.transpose(MODEL_LABEL, "chain", "draw").to_numpy()
    return values.reshape(len(values), -1)


def thin(posterior: xr.Dataset, n_draws: int) -> xr.Dataset:
    """At most about `n_draws` draws in all, evenly spaced."""
    every = max(1, -(-posterior.sizes["chain"] * posterior.sizes["draw"] // n_draws))
    return posterior.isel(draw=slice(None, None, every))


def comparable(posterior: xr.Dataset) -> NDArray[np.bool_]:
    """Which pairs of subjects have balance points on one scale: those of one task, shape (n_subjects, n_subjects).

    Either both are asked under one condition, or they are one model under two.
    """
    task, model, condition = (posterior[part].to_numpy() for part in (names.TASK, names.MODEL, names.CONDITION))

    def same(labels: NDArray[np.object_]) -> NDArray[np.bool_]:
        equal: NDArray[np.bool_] = labels[:, None] == labels[None, :]
        return equal

    return same(task) & (same(condition) | same(model)) & ~np.eye(task.size, dtype=bool)


def read_design(tree: xr.DataTree) -> Design:
    """The design that was fitted, as the tree keeps it."""
    constant = tree["constant_data"].to_dataset()
    model, task, condition, family = (tuple(map(str, constant[f"{names.SUBJECT}_{part}"].to_numpy())) for part in PARTS)
    return Design(
        subjects=tuple(map(str, constant[names.SUBJECT].to_numpy())),
        subject_model=model,
        subject_task=task,
        subject_condition=condition,
        subject_family=family,
        groups=tuple(map(str, constant[names.GROUP].to_numpy())),
        uncertainty=constant[names.DH].to_numpy().astype(np.float64),
        is_text=tree["observed_data"]["is_text"].to_numpy().astype(np.float64),
        trial_subject=constant["subject_index"].to_numpy().astype(np.int64),
        trial_group=constant["group_index"].to_numpy().astype(np.int64),
        row=np.arange(constant.sizes["trial"]),
    )


def subject_coordinates(posterior: xr.Dataset) -> dict[str, xr.DataArray]:
    """Coordinates over `subject` for an estimate."""
    return {name: posterior[name] for name in (names.SUBJECT, *PARTS) if name in posterior.coords}


def name_subjects(points: xr.Dataset, subjects: NDArray[np.object_]) -> dict[str, tuple[str, NDArray[np.object_]]]:
    """Model, task, condition and family of subjects as coordinates over `subject`.

    Parameters
    ----------
    points : Dataset
        What has all subjects of a fit, with these coordinates.
    subjects : ndarray of str, shape (n_subjects,)
        Some of them; what else is there has empty names. "all", which stands for all together, is its own model.
    """
    parts = [part for part in PARTS if part in points.coords]
    known = {names.POOLED: dict.fromkeys(parts, "") | {names.MODEL: names.POOLED}}
    for row, subject in enumerate(points[names.SUBJECT].to_numpy()):
        known[str(subject)] = {part: str(points[part].to_numpy()[row]) for part in parts}
    return {
        part: (names.SUBJECT, np.array([known.get(str(name), {}).get(part, "") for name in subjects], dtype=object))
        for part in parts
    }


def tails(ci_prob: float) -> list[float]:
    """Quantiles of an equal-tailed interval."""
    return [(1 - ci_prob) / 2, (1 + ci_prob) / 2]
