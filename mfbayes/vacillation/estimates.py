"""Everything that layer traces say without a model, added to a fit."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.clusters import FEW_GROUPS
from mfbayes.errors import InputError
from mfbayes.estimates.draws import labelled_posterior, stack_draws
from mfbayes.estimates.notes import append_notes
from mfbayes.trajectories import Trajectories, join_traces
from mfbayes.vacillation.contrasts import contrast_regions
from mfbayes.vacillation.flips import flip_scores
from mfbayes.vacillation.layer_maps import map_layers
from mfbayes.vacillation.means import describe_means, select_oscillations
from mfbayes.vacillation.measures import measure_traces
from mfbayes.vacillation.occupancy import describe_occupancy
from mfbayes.vacillation.placebos import move_centre
from mfbayes.vacillation.regions import redraw, tally_regions
from mfbayes.vacillation.summaries import align
from mfbayes.vacillation.total_entropy import FAILS, adjust_for_total_entropy
from mfbayes.vacillation.verdicts import UNTOLD, judge_claim


def add_trace_estimates(tree: xr.DataTree, trials: pd.DataFrame, traces: Mapping[str, xr.Dataset]) -> None:
    """Add what layer traces say to a fit, in place, and to its notes what they cannot say.

    `/estimates/traces`, `oscillations` (its part that the study names), `occupancy`, `layer_map`, `contrasts`,
    `placebos`, `total_entropy` and `vacillation` (the verdicts and where the contrast peaks).

    Parameters
    ----------
    tree : DataTree
        A fit of the same trials.
    trials : DataFrame
        The trials, with `item`; controls may be among them.
    traces : mapping of str to Dataset
        Layer traces by model, as `mfbayes.traces.read_traces` returns them; models without are NaN.

    Raises
    ------
    InputError
        Where trials have no `item`. Traces that cannot be joined with trials are a note.
    """
    if not traces:
        return
    if names.ITEM not in trials:
        raise InputError("Expected the column 'item' in the trials, to join them with the layer traces.")
    try:
        joined, notes = join_traces(trials, traces, subset=str(tree.attrs["subset"]), index=str(tree.attrs["index"]))
    except InputError as error:
        append_notes(tree, [f"Nothing is said of layers. {error}"])
        return
    points = tree["estimates/balance_points"].to_dataset()
    place = [int(np.flatnonzero(points[names.SUBJECT].to_numpy() == subject)[0]) for subject in joined.subjects]
    # By the choices themselves: the status of a fit that did not converge says only that.
    known = ((points["n_text"] > 0) & (points["n_image"] > 0)).to_numpy()[place]
    draws = np.where(known[:, None], stack_draws(labelled_posterior(tree), "balance_point")[place], np.nan)
    estimates, more = describe_traces(
        joined,
        draws,
        median=np.where(known, points["median"].to_numpy()[place], np.nan),
        ci_prob=float(tree.attrs["ci_prob"]),
        rng=np.random.default_rng(int(tree.attrs["seed"])),
    )
    for name, estimate in estimates.items():
        tree[f"estimates/{name}"] = xr.DataTree(dataset=align(estimate, points))
    append_notes(tree, [*notes, *more])


def describe_traces(
    trajectories: Trajectories,
    balance_points: NDArray[np.float64],
    *,
    ci_prob: float,
    rng: np.random.Generator,
    median: NDArray[np.float64] | None = None,
) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Estimates from traces and draws of the balance points, and notes on what is missing.

    Parameters
    ----------
    trajectories : Trajectories
        Traces with their trials.
    balance_points : ndarray, shape (n_subjects, n_draws)
        Joint draws in the order of `trajectories.subjects`; NaN where a subject is one-sided.
    ci_prob : float
        Probability of the intervals.
    rng : numpy.random.Generator
        Randomness.
    median : ndarray, optional
        Where estimates themselves are taken; by default the median of the draws.
    """
    subjects = trajectories.subjects
    columns = measure_traces(trajectories)
    redraws = redraw(balance_points, n_groups=len(trajectories.groups), rng=rng, median=median)
    tally = tally_regions(trajectories, columns, redraws)
    centre = redraws.centre[:, 0]
    means = describe_means(tally, subjects, ci_prob=ci_prob)
    contrasts = contrast_regions(tally, subjects, ci_prob=ci_prob)
    flipped = flip_scores(trajectories, columns, centre, rng=rng)
    placebos, peaks = move_centre(trajectories, columns, redraws, ci_prob=ci_prob, rng=rng)
    adjusted = adjust_for_total_entropy(tally, subjects, ci_prob=ci_prob)
    verdicts = judge_claim(contrasts, adjusted)
    estimates = {
        "oscillations": select_oscillations(means),
        "traces": means,
        "occupancy": describe_occupancy(trajectories, centre),
        "layer_map": map_layers(trajectories, redraws, ci_prob=ci_prob),
        "contrasts": contrasts.merge(flipped.reindex(contrast=contrasts["contrast"])).assign_attrs(
            contrasts.attrs | flipped.attrs
        ),
        "placebos": placebos,
        "total_entropy": adjusted,
        "vacillation": verdicts.merge(peaks).assign_attrs(verdicts.attrs | {"ci_prob": ci_prob}),
    }
    notes = _note(trajectories, centre, contrasts, adjusted, verdicts)
    if unknown := [subject for subject, has in zip(subjects, tally.has_entropies, strict=True) if not has]:
        notes.append(
            "Some conflicts have no entropies, so that total entropy can be neither compared nor ruled out: "
            f"{', '.join(unknown)}."
        )
    return estimates, notes


def _note(
    trajectories: Trajectories,
    centre: NDArray[np.float64],
    contrasts: xr.Dataset,
    adjusted: xr.Dataset,
    verdicts: xr.Dataset,
) -> list[str]:
    notes = []
    for i, subject in enumerate(trajectories.subjects):
        own = (trajectories.subject == i) & ~trajectories.is_control
        groups = np.unique(trajectories.group[own]).size
        counts = {name: int(contrasts[f"n_{name}"][i].max()) for name in ("text", "ambiguous", "image")}
        if np.isnan(centre[i]):
            notes.append(f"{subject}: its choices are all of one side, so it has no balance point and no regions.")
        elif groups < FEW_GROUPS:
            notes.append(
                f"{subject}: its traces are of {groups} group{'s' * (groups != 1)}; intervals take {FEW_GROUPS}."
            )
        elif (verdicts["verdict"].to_numpy()[i] == UNTOLD).any():
            told = ", ".join(f"{n} {name}" for name, n in counts.items())
            notes.append(f"{subject}: too few traces or groups in a region to compare all of them ({told}).")
    failing = [
        str(subject)
        for i, subject in enumerate(trajectories.subjects)
        if adjusted["positivity"].to_numpy()[i, 0] == FAILS
    ]
    if failing:
        notes.append(
            "Ambiguous and clear traces hardly share the same total entropy, so the one cannot be told from the "
            f"other: {', '.join(failing)}."
        )
    return notes
