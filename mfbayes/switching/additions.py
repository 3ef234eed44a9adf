"""The hazard model's estimates and checks, added to a fit."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.estimates.draws import stack_draws
from mfbayes.estimates.notes import append_notes
from mfbayes.switching.comparison import VERSIONS, compare_switching, note_unknown
from mfbayes.switching.crossings import check_crossings
from mfbayes.switching.estimates import describe_switching, tell_calibration
from mfbayes.switching.fit import SwitchingFit, fit_switching
from mfbayes.switching.points import carry_points
from mfbayes.switching.replication import check_replicates
from mfbayes.switching.terms import APART
from mfbayes.trajectories import Trajectories, join_traces

MAX_STEPS = 300_000
"""Traces times layers up to which groups have effects unasked; above, that would take longer than all the rest."""

MAX_COMPARED = 600_000_000
"""Steps between layers times groups times parameters and versions up to which versions are compared unasked."""


def add_switching_estimates(
    tree: xr.DataTree,
    trials: pd.DataFrame,
    traces: Mapping[str, xr.Dataset],
    *,
    groups: bool | None = None,
    compare: bool | None = None,
    progress: bool = False,
) -> None:
    """Add what the hazard model says of switching between layers to a fit, in place, and to its notes what it cannot.

    `/estimates/hazard_by_depth`, `hazard_by_distance`, `switching_effects`, `switching_convergence`,
    `predictive_checks`, `missing_at_random`, `switching_comparison` and `switching_calibration`.

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
    compare : bool, optional
        Whether versions of the model are compared on groups left out, which needs effects of groups; by default where
        that takes some twenty seconds at most on two processors. The time grows with groups, traces, layers and
        parameters.
    progress : bool
        Show a progress bar on stderr, where that is a terminal.

    Notes
    -----
    Hazards and effects carry the uncertainty of the balance points, as far as `mfbayes.switching.points` says; checks
    and comparisons take these at their medians. Subjects whose choices are all of one side have no balance point and
    take no part, nor do those of whose traces none has two committed layers. Those whose balance point lies outside
    the dH of their traces are named in a note, and in the attribute `outside` of hazards and effects. Estimates of a
    fit that did not pass the gate of convergence are there with `status` "not-converged", to be looked into and not
    to be used.
    """
    ci_prob, seed = float(tree.attrs["ci_prob"]), int(tree.attrs["seed"])
    points = tree["estimates/balance_points"].to_dataset()
    # Of a fit that did not converge, too: its status says only that.
    both_sides = (points["n_text"].to_numpy() > 0) & (points["n_image"].to_numpy() > 0)
    medians = dict(
        zip(
            points[names.SUBJECT].to_numpy()[both_sides].tolist(),
            points["median"].to_numpy()[both_sides].tolist(),
            strict=True,
        )
    )
    notes = []
    try:
        joined, _ = join_traces(trials, traces, subset=str(tree.attrs["subset"]), index=str(tree.attrs["index"]))
    except InputError:
        # What is wrong with them is said where they are described.
        append_notes(tree, ["Hazards of switching were not estimated, for no layer trace can be used."])
        return
    try:
        trajectories = joined.only(medians)
        with_groups = _is_small(trajectories) if groups is None else groups
        fit = fit_switching(trajectories, medians, groups=with_groups, seed=seed, progress=progress)
    except InputError as error:
        append_notes(tree, [f"Hazards of switching were not estimated. {error}"])
        return
    status = "ok" if fit.sample.passed else "not-converged"
    if not with_groups:
        notes.append(
            "Hazards of switching have no effects of groups"
            + (f": there are more than {MAX_STEPS:,} steps between layers. " if groups is None else ". ")
            + "Their intervals are too narrow, and they are not checked against replicates."
        )
    if not fit.sample.passed:
        notes.append("The model of switching did not converge; its estimates cannot be used.")
    if silent := [subject for subject in trajectories.subjects if subject not in fit.layout.subjects]:
        notes.append(
            f"Hazards of switching: no trace of {', '.join(silent)} has two layers that read the text or the image "
            "answer, so nothing is said of its switching."
        )
    outside = _find_outside(fit)
    if outside:
        notes.append(
            f"Hazards of switching: the balance point of {', '.join(outside)} lies outside the dH of the traces, so "
            "hazards at it and effects of distance are extrapolated."
        )
    rng = np.random.default_rng(seed)
    draws = stack_draws(tree["posterior"].to_dataset(), "balance_point")
    by_subject = dict(zip(points[names.SUBJECT].to_numpy().tolist(), draws, strict=True))
    described = describe_switching(carry_points(fit, by_subject, rng=rng), ci_prob=ci_prob)
    estimates = {name: each.assign_attrs(outside=", ".join(outside)) for name, each in described.items()}
    if with_groups:
        estimates["predictive_checks"] = check_replicates(fit, rng=rng, ci_prob=ci_prob)
    estimates["missing_at_random"] = check_crossings(fit, rng=rng, ci_prob=ci_prob)
    wanted = _is_quick(fit) if compare is None else compare
    # Of neither does the sampler's gate say anything.
    apart = {"switching_calibration": tell_calibration()} if with_groups else {}
    if with_groups and wanted:
        known = np.isfinite(trajectories.conflicts.h_text + trajectories.conflicts.h_image).all()
        versions = {label: terms for label, terms in VERSIONS.items() if known or tuple(terms) != APART}
        if not known:
            notes.append("Hazards by both entropies apart were not compared, for some traces have no entropies.")
        apart["switching_comparison"] = compare_switching(trajectories, medians, versions=versions, progress=progress)
        notes += note_unknown(apart["switching_comparison"])
    elif with_groups and compare is None:
        notes.append(
            "Versions of the hazard model were not compared on groups left out, for with so many traces and groups "
            "that takes long: --compare-switching (compare=True) does it."
        )
    elif compare:
        notes.append(
            "Versions of the hazard model were not compared: that is done on groups left out, and this one has no "
            "effects of groups."
        )
    for name, estimate in estimates.items():
        tree[f"estimates/{name}"] = xr.DataTree(dataset=estimate.assign_attrs(status=status))
    for name, estimate in apart.items():
        tree[f"estimates/{name}"] = xr.DataTree(dataset=estimate)
    append_notes(tree, notes)


def _find_outside(fit: SwitchingFit) -> tuple[str, ...]:
    """Subjects whose balance point lies outside the dH of their traces."""
    found = []
    for code, subject in enumerate(fit.layout.subjects):
        own = fit.x[fit.pairs.trajectories.subject == code]
        if not own.min(initial=np.inf) <= 0 <= own.max(initial=-np.inf):
            found.append(subject)
    return tuple(found)


def _is_quick(fit: SwitchingFit) -> bool:
    """Whether versions of a model like this are compared in some twenty seconds."""
    n_steps = int(fit.layout.n_steps[fit.layout.unit_subject[fit.layout.unit_of_trace]].sum())
    n_parts = fit.structure.n_parts
    # From coordinates to hazards and back takes as long as a twentieth as many steps as there are entries in its maps.
    n_entries = n_parts * (n_parts + len(fit.structure.parameters))
    return (n_steps + n_entries // 20) * len(fit.layout.groups) * n_parts * len(VERSIONS) <= MAX_COMPARED


def _is_small(trajectories: Trajectories) -> bool:
    steps = trajectories.n_layers[trajectories.subject[~trajectories.is_control]] - 1
    return int(steps.sum()) <= MAX_STEPS
