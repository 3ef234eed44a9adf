"""The laws that trials are held against, from the law in dH alone to a surface over the plane of uncertainties."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import block_diag

from mfbayes import names
from mfbayes.design import Design, lay_out
from mfbayes.errors import InputError
from mfbayes.indices import COLUMNS, check_index
from mfbayes.laws.bases import (
    N_LEVELS,
    N_STEPS,
    falling_steps_prior,
    free_steps_precision,
    jumps,
    rising_splines,
    span_plane,
    stack,
    standardise,
)
from mfbayes.laws.law import PRIOR_SD, ArbiterLaw, Law, LinearLaw
from mfbayes.selection import check_selected
from mfbayes.values import count

type Floats = NDArray[np.float64]

INTERCEPT_ONLY = "intercept only"
DH = "dH"
LOG_RATIO = "log ratio"
TWO_ENTROPIES = "two entropies"
MONOTONE_SPLINE = "monotone spline"
FREE_SPLINE = "free spline"
SURFACE = "surface"
IDEAL_ARBITER = "ideal arbiter"
LAWS = (INTERCEPT_ONLY, DH, LOG_RATIO, TWO_ENTROPIES, MONOTONE_SPLINE, FREE_SPLINE, SURFACE, IDEAL_ARBITER)

MAX_TRIALS = 200_000
MAX_SUBJECTS = 40

# Of log(H_text / H_image) where one of them is zero, beyond any ratio that double precision entropies have.
_LARGEST_LOG_RATIO = 100.0


def prepare(trials: pd.DataFrame, *, index: str = names.ENTROPY) -> Design:
    """Lay trials out for laws to be fitted to, or say why that cannot be.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that their dH is made of.

    Raises
    ------
    InputError
        Where it is no table of selected trials, or there are more than 200,000 trials or 40 subjects, fewer than two
        groups, or a constant dH.
    """
    check_selected(trials)
    check_index(trials, index)
    if len(trials) > MAX_TRIALS:
        raise InputError(
            f"Expected at most {MAX_TRIALS} trials to compare laws on, got {len(trials)}. "
            "Choose some of the groups yourself and say which."
        )
    design = lay_out(trials)
    if design.n_subjects > MAX_SUBJECTS:
        raise InputError(
            f"Expected at most {MAX_SUBJECTS} models (times tasks and conditions) to compare laws on, "
            f"got {design.n_subjects}. Compare them in parts."
        )
    if len(design.groups) < 2:
        raise InputError(
            f"Expected at least two groups with a choice of text or image, got {count(len(design.groups), 'group')}: "
            "laws are judged by groups that they have not seen."
        )
    if np.ptp(design.uncertainty) == 0:
        raise InputError(
            f"Expected dH to vary, but it is {design.uncertainty[0]:g} in every trial: no law in it shows."
        )
    return design


def build_law(label: str, trials: pd.DataFrame, design: Design, *, index: str = names.ENTROPY) -> Law:
    """A law for these trials, by its label.

    Parameters
    ----------
    label : str
        One of `LAWS`.
    trials, design : DataFrame, Design
        Trials, and the same laid out.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty.
    """
    subject, dH = design.trial_subject, design.uncertainty
    H_text, H_image = (trials[column].to_numpy(np.float64)[design.row] for column in COLUMNS[index])
    if label == IDEAL_ARBITER:
        p = trials[list(names.UNIMODAL_PROBABILITIES)].to_numpy(np.float64)[design.row].T
        return ArbiterLaw(text_answer=p[:2], image_answer=p[2:], trial_subject=subject)
    if label == SURFACE:
        plane = span_plane(H_text, H_image)
        sds = np.array([PRIOR_SD] * 3 + [1.0] * (plane.n_features - 2))
        return _linear(label, design, stack([plane.features(H_text, H_image)]), np.diag(sds**-2))
    if label in (FREE_SPLINE, MONOTONE_SPLINE):
        return spline_law(design, falling=label == MONOTONE_SPLINE)
    columns = [standardise(values) for values in raw_columns(label, trials, design, index=index)]
    features = stack(columns or [np.empty((0, dH.size))])
    return _linear(label, design, features, np.eye(len(features)) / PRIOR_SD**2)


def raw_columns(label: str, trials: pd.DataFrame, design: Design, *, index: str = names.ENTROPY) -> list[Floats]:
    """What a law with a level and slopes is linear in, before it is standardised; each of shape (n_trials,)."""
    H_text, H_image = (trials[column].to_numpy(np.float64)[design.row] for column in COLUMNS[index])
    columns: Mapping[str, list[Floats]] = {
        INTERCEPT_ONLY: [],
        DH: [design.uncertainty],
        LOG_RATIO: [_log_ratio(H_text, H_image)],
        TWO_ENTROPIES: [H_text, H_image],
    }
    return columns[label]


def spline_law(design: Design, *, falling: bool) -> LinearLaw:
    """A cubic spline in dH with knots every .5: one that falls everywhere, or one free to do as it likes."""
    free = np.zeros(N_STEPS), free_steps_precision(N_STEPS, sd=1.5, bend_sd=1.0)
    mean, steps = falling_steps_prior() if falling else free
    return LinearLaw(
        label=MONOTONE_SPLINE if falling else FREE_SPLINE,
        features=np.ascontiguousarray(stack([rising_splines(design.uncertainty)])),
        falling=np.array([False] + [falling] * N_STEPS),
        prior_mean=np.concatenate([[0.0], mean]),
        prior_precision=block_diag(PRIOR_SD**-2, steps),
        trial_subject=design.trial_subject,
    )


def level_law(design: Design) -> LinearLaw:
    """Sixteen levels over stretches of dH of equal width, free to rise from one to the next."""
    # About the same drift over all of dH as the free spline.
    steps = free_steps_precision(N_LEVELS - 1, sd=1.25, bend_sd=0.83)
    return _linear("levels", design, stack([jumps(design.uncertainty)]), block_diag(PRIOR_SD**-2, steps))


def list_laws(trials: pd.DataFrame) -> tuple[str, ...]:
    """Labels of the laws that can be fitted to these trials: the arbiter needs the answers' probabilities."""
    has_probabilities = all(
        column in trials and trials[column].notna().all() for column in names.UNIMODAL_PROBABILITIES
    )
    return LAWS if has_probabilities else LAWS[:-1]


def _linear(label: str, design: Design, features: Floats, precision: Floats) -> LinearLaw:
    return LinearLaw(
        label=label,
        features=np.ascontiguousarray(features),
        falling=np.zeros(len(features), dtype=bool),
        prior_mean=np.zeros(len(features)),
        prior_precision=precision,
        trial_subject=design.trial_subject,
    )


def _log_ratio(H_text: Floats, H_image: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        ratio: Floats = np.log(H_text) - np.log(H_image)
    return np.clip(ratio, -_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
