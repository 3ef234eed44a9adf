"""Fits put together from known draws, so that every estimate has a known answer."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike


def plant_tree(
    *,
    balance_point: ArrayLike,
    slope: float = 2.0,
    group_sd: float = 0.0,
    dH: Sequence[Sequence[float]] | None = None,
    is_text: Sequence[Sequence[int]] | None = None,
    model: Sequence[str] | None = None,
    task: Sequence[str] | None = None,
    condition: Sequence[str] | None = None,
    ci_prob: float = 0.95,
) -> xr.DataTree:
    """A fit whose draws are `balance_point` (a list a subject) and whose trials have the given dH, each a group."""
    draws = np.asarray(balance_point, dtype=np.float64)
    n, n_draws = draws.shape
    labels = list(model or [f"m{i}" for i in range(n)])
    tasks, conditions = list(task or ["task"] * n), list(condition or [""] * n)
    subjects = [" / ".join(filter(None, parts)) for parts in zip(labels, tasks, conditions, strict=True)]
    points = dH or [[-1.0, 1.0]] * n
    hits = is_text or [[1, 0]] * n
    subject_index = np.repeat(np.arange(n), [len(own) for own in points])
    group_index = np.concatenate([np.arange(len(own)) for own in points])
    order = np.lexsort((subject_index, group_index))
    flat = np.concatenate([np.asarray(own, dtype=np.float64) for own in points])[order]
    chosen = np.concatenate([np.asarray(own) for own in hits])[order]
    whole = np.ones((1, n_draws))
    posterior = xr.Dataset(
        {
            "balance_point": (("chain", "draw", "subject"), draws.T[None]),
            "slope": (("chain", "draw", "subject"), np.full((1, n_draws, n), slope)),
            "group_sd": (("chain", "draw"), group_sd * whole),
        },
        coords={"subject": np.array(subjects, dtype=object)},
    )
    posterior["intercept"] = posterior["slope"] * posterior["balance_point"]
    parts = {"model": labels, "task": tasks, "condition": conditions, "family": [""] * n}
    constant = xr.Dataset(
        {
            "dH": ("trial", flat),
            "H_text": ("trial", 1 + flat / 2),
            "H_image": ("trial", 1 - flat / 2),
            "subject_index": ("trial", subject_index[order]),
            "group_index": ("trial", group_index[order]),
        }
        | {f"subject_{part}": ("subject", np.array(values, dtype=object)) for part, values in parts.items()},
        coords={
            "subject": np.array(subjects, dtype=object),
            "group": np.array([f"g{i}" for i in range(int(group_index.max()) + 1)], dtype=object),
        },
    )
    observed = xr.Dataset({"is_text": ("trial", chosen.astype(np.int8))})
    tree = xr.DataTree.from_dict(
        {"/posterior": posterior, "/constant_data": constant, "/observed_data": observed, "/estimates": xr.Dataset()}
    )
    tree.attrs = {"ci_prob": ci_prob, "seed": 0, "subset": "all", "index": "entropy", "status": "ok"}
    return tree
