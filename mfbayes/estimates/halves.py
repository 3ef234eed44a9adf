"""Halves: whether the law and the balance point are the same where models are unsure of both inputs."""

from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.design import Design
from mfbayes.estimates.draws import labelled_posterior, read_design, stack_draws, subject_coordinates, tails
from mfbayes.marginal.fast import approximate
from mfbayes.priors import Priors

HALVES = ("low", "high")
_HALF = "half"
_DRAWS = 500  # in each of four chains


def split_by_total_entropy(tree: xr.DataTree, *, seed: int, priors: Priors | None = None) -> xr.Dataset | None:
    """Balance points where the total entropy H_text + H_image is below and above its median of each subject.

    Both halves are fitted together by the fast tier, as if they were two conditions of each model: they
    share groups, so that the interval of the shift from low to high has their correlation.

    Parameters
    ----------
    tree : DataTree
        A fit.
    seed : int
        Seed of the draws.
    priors : Priors, optional
        Scales of the priors.

    Returns
    -------
    Dataset or None
        None where the trials have no entropies. `mean`, `lower`, `upper`, `n_trials`, `tfr`, `status` over
        (subject, half); over subject `total_entropy_median` (nats), `shift` (b in the high half minus b in the low)
        and `towards_zero` (abs(b_low) - abs(b_high)), each with `_lower` and `_upper`, and `p_towards_zero`. In the
        study balance points move towards zero in the high half. NaN where a half follows one side only; the contrasts
        wherever a half is not "ok", also where its balance point lies beyond its dH ("outside").
    """
    posterior, ci_prob = labelled_posterior(tree), float(tree.attrs["ci_prob"])
    design, constant = read_design(tree), tree["constant_data"].to_dataset()
    total = (constant[names.H_TEXT] + constant[names.H_IMAGE]).to_numpy()
    if np.isnan(total).any():
        return None
    n = design.n_subjects
    medians = np.array(
        [np.median(own) if own.size else np.nan for own in (total[design.trial_subject == s] for s in range(n))]
    )
    halved = _halve(design, total > medians[design.trial_subject])
    drawn = approximate(halved, priors=priors, seed=seed, draws=_DRAWS)
    draws = stack_draws(drawn.posterior, "balance_point").reshape(n, 2, -1)
    trials = np.bincount(halved.trial_subject, minlength=2 * n).reshape(n, 2)
    hits = np.bincount(halved.trial_subject, halved.is_text, 2 * n).reshape(n, 2)
    known = (hits > 0) & (hits < trials)
    status = np.where(known, "ok" if drawn.passed else "not-converged", "one-sided").astype(object)
    least, most = np.full(2 * n, np.inf), np.full(2 * n, -np.inf)
    np.minimum.at(least, halved.trial_subject, halved.uncertainty)
    np.maximum.at(most, halved.trial_subject, halved.uncertainty)
    middle = np.median(draws, axis=-1)
    status[(status == "ok") & ((middle < least.reshape(n, 2)) | (middle > most.reshape(n, 2)))] = "outside"
    lower, upper = np.quantile(draws, tails(ci_prob), axis=-1)
    found = {"mean": draws.mean(axis=-1), "lower": lower, "upper": upper}
    both = (status == "ok").all(axis=1)
    contrasts = {
        "shift": draws[:, 1] - draws[:, 0],
        "towards_zero": np.abs(draws[:, 0]) - np.abs(draws[:, 1]),
    }
    over_subject = {"total_entropy_median": medians}
    for name, values in contrasts.items():
        lowest, highest = np.quantile(values, tails(ci_prob), axis=-1)
        for label, column in ((name, values.mean(axis=-1)), (f"{name}_lower", lowest), (f"{name}_upper", highest)):
            over_subject[label] = np.where(both, column, np.nan)
    over_subject["p_towards_zero"] = np.where(both, (contrasts["towards_zero"] > 0).mean(axis=-1), np.nan)
    with np.errstate(invalid="ignore"):
        tfr = hits / trials
    dims = (names.SUBJECT, _HALF)
    return xr.Dataset(
        {name: (dims, np.where(known, values, np.nan)) for name, values in found.items()}
        | {"n_trials": (dims, trials), "tfr": (dims, tfr), "status": (dims, status)}
        | {name: (names.SUBJECT, values) for name, values in over_subject.items()},
        coords=subject_coordinates(posterior) | {_HALF: np.array(HALVES, dtype=object)},
        attrs={"ci_prob": ci_prob},
    )


def _halve(design: Design, high: NDArray[np.bool_]) -> Design:
    """Each subject as two, its low and its high half."""

    def twice(labels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(label for label in labels for _ in HALVES)

    subject = 2 * design.trial_subject + high
    order = np.lexsort((subject, design.model_index[design.trial_subject], design.trial_group))
    return replace(
        design,
        subjects=tuple(f"{label} / {half}" for label in design.subjects for half in HALVES),
        subject_model=twice(design.subject_model),
        subject_task=twice(design.subject_task),
        subject_condition=tuple(f"{label} {half}".strip() for label in design.subject_condition for half in HALVES),
        subject_family=twice(design.subject_family),
        uncertainty=design.uncertainty[order],
        is_text=design.is_text[order],
        trial_subject=subject[order],
        trial_group=design.trial_group[order],
        row=design.row[order],
    )
