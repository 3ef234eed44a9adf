"""Sensitivity: balance points again with other trials left out, and under other indices of uncertainty."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from mfbayes import names
from mfbayes.design import lay_out
from mfbayes.errors import InputError
from mfbayes.indices import has_index
from mfbayes.marginal.fast import approximate
from mfbayes.priors import Priors
from mfbayes.selection import SUBJECT_PARTS, Selection, label_subjects, select_trials

MAIN = "main"
_DRAWS = 500  # in each of four chains; ends of intervals err by .06 posterior standard deviations
ALL_ITEMS = "all items"
BOTH_CORRECT = "both correct"
WITHOUT_NEAR_TIES = "without near ties"
# What stands where a subject has no trial in an analysis.
_ABSENT = {"mean": np.nan, "lower": np.nan, "upper": np.nan, "n_trials": 0, "tfr": np.nan, "status": "absent"}


class _Analysis(NamedTuple):
    """An analysis by the name that a reader sees, and its trials."""

    label: str
    trials: pd.DataFrame


def estimate_sensitivity(
    trials: pd.DataFrame,
    *,
    subset: str = names.BOTH_CORRECT,
    index: str = names.ENTROPY,
    ci_prob: float = 0.95,
    seed: int = 0,
    priors: Priors | None = None,
) -> xr.Dataset:
    """Balance points under each choice that an analyst could have made otherwise, one at a time.

    Every analysis is a fit by the fast tier, the one as asked too, so that they differ by their trials
    alone. "main" is as asked; then the other subset ("all items" or "both correct"), the trials
    "without near ties" (`mfbayes.indices.flag_near_ties`), and each other index of uncertainty that the
    trials have ("index: margin" and so on). An analysis that the trials do not allow is not there.

    Parameters
    ----------
    trials : DataFrame
        Checked trials.
    subset : {"both-correct", "all"}
        Subset of the main analysis.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty of the main analysis.
    ci_prob : float
        Probability of the equal-tailed intervals, in (0, 1).
    seed : int
        The same seed gives the same table.
    priors : Priors, optional
        Scales of the priors.

    Returns
    -------
    Dataset
        Over (subject, analysis): `mean`, `lower` and `upper` of the balance point (in units of the relative
        uncertainty of that index), `n_trials` (with choices of neither answer), `tfr` and `status` ("ok",
        "one-sided", "outside", "not-converged"; "absent" where the subject has no trial, with NaN and 0).

    Raises
    ------
    InputError
        Where an option is unknown or the main analysis has no trials.
    """
    if not 0 < ci_prob < 1:
        raise InputError(f"Expected ci_prob between 0 and 1, got {ci_prob}.")
    main = select_trials(trials, subset=subset, index=index)
    if not _is_fitted(main.trials):
        raise InputError("Every choice is 'other', so no trial follows the text or the image. Check the answers.")
    conflicts = trials[trials[names.KIND] == names.CONFLICT]
    rows = []
    for analysis in _list_analyses(trials, main, subset=subset):
        # Labels must agree between analyses, also where one of them has a single task left.
        chosen = analysis.trials.assign(**{names.SUBJECT: label_subjects(analysis.trials, like=conflicts)})
        rows.append(_estimate(chosen, ci_prob=ci_prob, seed=seed, priors=priors).assign(analysis=analysis.label))
    table = pd.concat(rows, ignore_index=True)
    labels = [name for name in (*SUBJECT_PARTS, names.FAMILY) if name in conflicts]
    subjects = conflicts.assign(**{names.SUBJECT: label_subjects(conflicts)})[[names.SUBJECT, *labels]]
    subjects = subjects.drop_duplicates(names.SUBJECT).sort_values([names.TASK, *labels])
    subjects = subjects[subjects[names.SUBJECT].isin(table[names.SUBJECT])].astype(object)
    analyses = pd.Index(table[names.ANALYSIS].unique())
    at = (
        pd.Index(subjects[names.SUBJECT]).get_indexer(table[names.SUBJECT]),
        analyses.get_indexer(table[names.ANALYSIS]),
    )
    values = {}
    for column, absent in _ABSENT.items():
        values[column] = np.full(
            (len(subjects), len(analyses)), absent, dtype=object if isinstance(absent, str) else type(absent)
        )
        values[column][at] = table[column]
    return xr.Dataset(
        {column: ((names.SUBJECT, names.ANALYSIS), found) for column, found in values.items()},
        coords={names.SUBJECT: subjects[names.SUBJECT].to_numpy(), names.ANALYSIS: analyses.to_numpy(object)}
        | {name: (names.SUBJECT, subjects[name].to_numpy()) for name in labels},
        attrs={"ci_prob": ci_prob, "subset": main.subset, "index": index, "seed": seed},
    )


def _list_analyses(trials: pd.DataFrame, main: Selection, *, subset: str) -> Iterator[_Analysis]:
    """The analyses that have trials to fit, the main one first."""
    yield _Analysis(MAIN, main.trials)
    # Without the columns of correctness both subsets are the same.
    other = names.ALL if main.subset == names.BOTH_CORRECT else names.BOTH_CORRECT
    found = _try_to_select(trials, subset=other, index=main.index)
    if found is not None and found.subset == other:
        yield _Analysis(ALL_ITEMS if other == names.ALL else BOTH_CORRECT, found.trials)
    if main.trials[names.NEAR_TIE].any():
        kept = main.trials[~main.trials[names.NEAR_TIE]]
        if _is_fitted(kept):
            yield _Analysis(WITHOUT_NEAR_TIES, kept.reset_index(drop=True))
    for another in names.INDICES:
        if another != main.index and has_index(trials, another):
            found = _try_to_select(trials, subset=subset, index=another)
            if found is not None and np.ptp(found.trials[names.DH]) > 0:
                yield _Analysis(f"index: {another}", found.trials)


def _try_to_select(trials: pd.DataFrame, *, subset: str, index: str) -> Selection | None:
    try:
        selection = select_trials(trials, subset=subset, index=index)
    except InputError:
        return None
    return selection if _is_fitted(selection.trials) else None


def _is_fitted(trials: pd.DataFrame) -> bool:
    return bool((trials[names.CHOICE] != names.OTHER).any())


def _estimate(trials: pd.DataFrame, *, ci_prob: float, seed: int, priors: Priors | None) -> pd.DataFrame:
    """A row a subject."""
    design = lay_out(trials)
    drawn = approximate(design, priors=priors, seed=seed, draws=_DRAWS)
    draws = drawn.posterior["balance_point"].transpose(names.SUBJECT, "chain", "draw").to_numpy()
    draws = draws.reshape(design.n_subjects, -1)
    lower, median, upper = np.quantile(draws, [(1 - ci_prob) / 2, 0.5, (1 + ci_prob) / 2], axis=1)
    n_text = np.bincount(design.trial_subject, weights=design.is_text, minlength=design.n_subjects)
    n_fitted = np.bincount(design.trial_subject, minlength=design.n_subjects)
    n_trials = trials[names.SUBJECT].value_counts()
    rows = []
    for number, subject in enumerate(design.subjects):
        dH = design.uncertainty[design.trial_subject == number]
        one_sided = n_text[number] in (0, n_fitted[number])
        inside = not one_sided and dH.min() <= median[number] <= dH.max()
        known = ("ok" if inside else "outside") if drawn.passed else "not-converged"
        rows.append(
            {
                names.SUBJECT: subject,
                "mean": draws[number].mean(),
                "lower": lower[number],
                "upper": upper[number],
                "n_trials": n_trials[subject],
                "tfr": n_text[number] / n_fitted[number] if n_fitted[number] else np.nan,
                "status": "one-sided" if one_sided else known,
            }
        )
    return pd.DataFrame(rows)
