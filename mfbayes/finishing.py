"""Finished estimates: everything that trials and their fit give, planted under `/estimates`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes.design import MAX_SUBJECTS, Design
from mfbayes.errors import ConvergenceError, InputError
from mfbayes.estimates.balance import density_of_balance_points, describe_balance_points
from mfbayes.estimates.comparisons import compare_pairs, judge_equivalence, rank_models
from mfbayes.estimates.conditions import shift_of_conditions
from mfbayes.estimates.decomposition import decompose_tfr
from mfbayes.estimates.difficulty import entropy_by_tier
from mfbayes.estimates.draws import labelled_posterior
from mfbayes.estimates.halves import split_by_total_entropy
from mfbayes.estimates.responses import bin_responses, count_uncertainty, draw_curves
from mfbayes.estimates.sensitivity import estimate_sensitivity
from mfbayes.laws import catalogue as laws
from mfbayes.laws.comparison import compare_laws
from mfbayes.laws.curves import law_curves
from mfbayes.laws.monotonicity import judge_monotonicity
from mfbayes.laws.parameters import law_parameters
from mfbayes.laws.plane import map_plane
from mfbayes.outcomes import NO_SIGN, NOT_IGNORABLE, UNCLEAR, fit_three_outcomes, has_enough_others
from mfbayes.priors import Priors
from mfbayes.selection import Selection

_OTHERS = {
    NO_SIGN: "they move no balance point by as much as the zone: nothing speaks against leaving them out",
    NOT_IGNORABLE: "they go with what makes groups follow one side: leaving them out is not harmless",
    UNCLEAR: "it is unclear whether they can be left out",
}
"""What a fit of three outcomes says of answers of neither side."""


def add_estimates(
    tree: xr.DataTree, trials: pd.DataFrame, selection: Selection, *, zone: float, baseline: str | None
) -> None:
    """Add what a fit says by itself: balance points, curves, comparisons.

    Parameters
    ----------
    tree : DataTree
        A fit with its attributes.
    trials : DataFrame
        All trials, checked.
    selection : Selection
        Those that were fitted.
    zone, baseline
        As `mfbayes.fit` takes them.
    """
    chosen, ci_prob = selection.trials, float(tree.attrs["ci_prob"])
    passed = tree.attrs["status"] == "ok"
    posterior = labelled_posterior(tree)
    rng = np.random.default_rng(int(tree.attrs["seed"]))
    plant(
        tree,
        {
            "balance_points": describe_balance_points(posterior, chosen, ci_prob=ci_prob, passed=passed, rng=rng),
            "balance_density": density_of_balance_points(posterior),
            "curves": draw_curves(posterior, ci_prob=ci_prob),
            "binned": bin_responses(posterior, chosen, ci_prob=ci_prob, rng=rng),
            "dH_histogram": count_uncertainty(posterior, chosen),
            "entropy_by_tier": entropy_by_tier(trials, ci_prob=ci_prob, rng=rng),
        },
    )
    plant(
        tree,
        {
            "pairwise": compare_pairs(tree),
            "ranking": rank_models(tree),
            "equivalence": judge_equivalence(tree, zone=zone),
            "decomposition": decompose_tfr(tree, seed=int(tree.attrs["seed"])),
            "condition_shifts": shift_of_conditions(tree, baseline=baseline),
        },
    )


def add_checks(
    tree: xr.DataTree,
    design: Design,
    trials: pd.DataFrame,
    selection: Selection,
    *,
    priors: Priors | None,
    faults: dict[str, Exception],
) -> list[str]:
    """Add what holds the fit against other laws, halves of the data and other choices; notes where it cannot.

    What fails otherwise goes into `faults`, by what it was to tell.
    """
    ci_prob, seed = float(tree.attrs["ci_prob"]), int(tree.attrs["seed"])
    chosen, index = selection.trials, selection.index
    notes: list[str] = []

    def attempt(label: str, estimate: Callable[[], xr.Dataset | None], name: str) -> None:
        plant(tree, {name: _attempt(label, estimate, notes=notes, faults=faults)})

    of_law: dict[str, Any] = {"seed": seed, "index": index, "priors": priors}
    if design.n_trials <= laws.MAX_TRIALS and design.n_subjects <= laws.MAX_SUBJECTS and len(design.groups) > 1:
        attempt("Which law is best", lambda: compare_laws(chosen, **of_law), "laws")
        attempt(
            "Parameters of the laws",
            lambda: law_parameters(chosen, ci_prob=ci_prob, index=index, priors=priors),
            "law_parameters",
        )
        attempt("Curves of other laws", lambda: law_curves(chosen, ci_prob=ci_prob, **of_law), "law_curves")
        attempt("Whether P(text) falls all along", lambda: judge_monotonicity(chosen, **of_law), "monotone")
        attempt("P(text) over both uncertainties", lambda: map_plane(chosen, ci_prob=ci_prob, **of_law), "plane")
    else:
        notes.append(
            f"The law in dH was not compared with others: that takes two groups or more, and at most "
            f"{laws.MAX_TRIALS:,} trials and {laws.MAX_SUBJECTS} models (times tasks and conditions)."
        )
    # Halves double the subjects.
    if design.n_trials <= laws.MAX_TRIALS and 2 * design.n_subjects <= MAX_SUBJECTS:
        attempt("Halves by total entropy", lambda: split_by_total_entropy(tree, seed=seed, priors=priors), "halves")
        attempt(
            "Other choices",
            lambda: estimate_sensitivity(
                trials, subset=selection.subset, index=index, ci_prob=ci_prob, seed=seed, priors=priors
            ),
            "sensitivity",
        )
    else:
        notes.append(
            f"Halves by total entropy and other choices were not compared: that is for at most "
            f"{laws.MAX_TRIALS:,} trials and {MAX_SUBJECTS // 2} models (times tasks and conditions)."
        )
    return notes


def add_outcomes(
    tree: xr.DataTree,
    selection: Selection,
    *,
    wanted: bool,
    zone: float,
    priors: Priors | None,
    progress: bool,
    faults: dict[str, Exception],
) -> list[str]:
    """Add what answers of neither side do to the balance points, if that is wanted; notes on what was not.

    A fit of them that fails otherwise goes into `faults`.
    """
    trials = selection.trials
    if not has_enough_others(trials):
        return ["Too few choices are neither answer, so three outcomes were not fitted."] * wanted
    if not wanted:
        return ["Whether leaving those out moves a balance point was not asked: --outcomes (outcomes=True) tells."]
    notes: list[str] = []
    found = _attempt(
        "What leaving answers of neither side out does",
        lambda: fit_three_outcomes(
            trials,
            index=selection.index,
            priors=priors,
            seed=int(tree.attrs["seed"]),
            ci_prob=float(tree.attrs["ci_prob"]),
            zone=zone,
            progress=progress,
        ),
        notes=notes,
        faults=faults,
    )
    if found is None:
        return notes
    plant(tree, {"outcomes": found.drop_dims("level"), "outcome_correlations": found.drop_dims(names.SUBJECT)})
    return [f"As a third outcome beside text and image, {_OTHERS[str(found.attrs['ignorable'])]}."]


def tell_faults(faults: Mapping[str, Exception]) -> list[str]:
    """Say which checks failed, and of what."""
    return [f"{label} could not be told ({type(error).__name__}: {error})." for label, error in faults.items()]


def _attempt(
    label: str, estimate: Callable[[], xr.Dataset | None], *, notes: list[str], faults: dict[str, Exception]
) -> xr.Dataset | None:
    """What a check gives; where it has no answer for these trials a note, where it fails otherwise a fault.

    The fit stands without its checks: none may take it along. Memory and disks that are full are no faults.
    """
    try:
        return estimate()
    except (InputError, ConvergenceError) as error:
        notes.append(f"{label} could not be told: {error}")
    except (MemoryError, OSError):
        raise
    except Exception as error:
        faults[label] = error
    return None


def plant(tree: xr.DataTree, estimates: Mapping[str, xr.Dataset | None]) -> None:
    """Put estimates under `/estimates` by their names; what the data could not give is not there."""
    for name, dataset in estimates.items():
        if dataset is not None:
            tree[f"estimates/{name}"] = xr.DataTree(dataset=dataset)
