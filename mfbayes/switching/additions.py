"""The hazard model's estimates and checks, added to a fit."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.estimates.notes import append_notes
from mfbayes.switching.comparison import compare_switching
from mfbayes.switching.crossings import check_crossings
from mfbayes.switching.estimates import describe_switching
from mfbayes.switching.fit import fit_switching
from mfbayes.switching.replication import check_replicates
from mfbayes.trajectories import Trajectories, join_traces

MAX_STEPS = 300_000
"""Traces times layers up to which groups have effects unasked; above, that would take longer than all the rest."""


def add_switching_estimates(
    tree: xr.DataTree,
    trials: pd.DataFrame,
    traces: Mapping[str, xr.Dataset],
    *,
    groups: bool | None = None,
    compare: bool = False,
    progress: bool = False,
) -> None:
    """Add what the hazard model says of switching between layers to a fit, in place, and to its notes what it cannot.

    `/estimates/hazard_by_depth`, `hazard_by_distance`, `switching_effects`, `switching_convergence`,
    `predictive_checks`, `missing_at_random` and, on demand, `switching_comparison`.

    Parameters
    ----------
    tree : DataTree
        A fit of the same trials.
    trials : DataFrame
        The trials, with `item`.
    traces : mapping of str to Dataset
        Layer traces by model, as `mfbayes.traces.read_traces` returns them.
    groups : bool, optional
        Whether groups have effects; by default where traces times layers are at most 300,000.
    compare : bool
        Also compare versions of the model on groups left out, which takes three more fits.
    progress : bool
        Show a progress bar on stderr, where that is a terminal.

    Notes
    -----
    Subjects without a balance point take no part. Estimates of a fit that did not pass the gate of
    convergence are there with `status` "not-converged", to be looked into and not to be used.
    """
    ci_prob, seed = float(tree.attrs["ci_prob"]), int(tree.attrs["seed"])
    points = tree["estimates/balance_points"].to_dataset()
    known = points["status"].to_numpy() != "one-sided"
    medians = dict(
        zip(points[names.SUBJECT].to_numpy()[known].tolist(), points["median"].to_numpy()[known].tolist(), strict=True)
    )
    notes = []
    try:
        joined, _ = join_traces(trials, traces, subset=str(tree.attrs["subset"]), index=str(tree.attrs["index"]))
        trajectories = joined.only(medians)
        with_groups = _is_small(trajectories) if groups is None else groups
        fit = fit_switching(trajectories, medians, groups=with_groups, seed=seed, progress=progress)
    except InputError as error:
        append_notes(tree, [f"Hazards of switching were not estimated. {error}"])
        return
    status = "ok" if fit.sample.passed else "not-converged"
    if not with_groups:
        notes.append(
            f"Hazards of switching have no effects of groups: there are more than {MAX_STEPS:,} steps between layers. "
            "Their intervals are too narrow."
        )
    if not fit.sample.passed:
        notes.append("The model of switching did not converge; its estimates cannot be used.")
    rng = np.random.default_rng(seed)
    estimates = describe_switching(fit, ci_prob=ci_prob)
    if with_groups:
        estimates["predictive_checks"] = check_replicates(fit, rng=rng, ci_prob=ci_prob)
    estimates["missing_at_random"] = check_crossings(fit, rng=rng, ci_prob=ci_prob)
    if compare:
        estimates["switching_comparison"] = compare_switching(trajectories, medians, fitted=fit, seed=seed)
    for name, estimate in estimates.items():
        tree[f"estimates/{name}"] = xr.DataTree(dataset=estimate.assign_attrs(status=status))
    append_notes(tree, notes)


def _is_small(trajectories: Trajectories) -> bool:
    steps = trajectories.n_layers[trajectories.subject[~trajectories.is_control]] - 1
    return int(steps.sum()) <= MAX_STEPS
