r"""The model of three outcomes, text, image and other, as a PyMC graph.

Effects of groups are pairs, on text against image and on `other`. The second is lambda times the first plus
a rest of its own: a loading is smooth where a correlation is not, through scales of zero and near
correlations of one. The pairs are integrated out by Laplace's method (`mfbayes.marginal.pairs`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable
from scipy.special import expit

from mfbayes import names
from mfbayes.coordinates import informed_normal, signed_scale
from mfbayes.design import lay_out
from mfbayes.following import add_subjects, coordinates
from mfbayes.indices import COLUMNS
from mfbayes.marginal.pair_operator import PairedData, evaluate_pairs, integrated_pairs
from mfbayes.pilot import estimate_pilot
from mfbayes.priors import Priors, check_scales

type Floats = NDArray[np.float64]
type Tensor = TensorVariable[Any, Any]

FEATURES = (names.DH, "dH_squared", "total_uncertainty")
_CODES = {names.IMAGE: 0.0, names.TEXT: 1.0, names.OTHER: 2.0}
_NODES, _WEIGHTS = hermegauss(9)
_NEWTON_STEPS = 15
_GUESS = np.array([0.36, 0.0, 0.36, 0.36, 0.0, 0.36, 0.0])


@dataclass(frozen=True, kw_only=True)
class OutcomePriors:
    """Priors of the part that says when an answer is of neither side, in log-odds.

    The mean intercept is N(-2, 1.5), an `other` in every eighth trial, give or take a factor of 4 in the odds;
    mean effects of standardised features are N(0, 1), the standard deviations half-normal, the loadings
    of effects on `other` on those on text against image N(0, 1): 0 is ignorable, 1 as strong in log-odds.

    Raises
    ------
    InputError
        Where a scale is not a finite number above zero, or the mean no finite number.
    """

    intercept_mean: float = -2.0
    intercept_mean_sd: float = 1.5
    intercept_sd: float = 1.0
    slope_mean_sd: float = 1.0
    slope_sd: float = 0.5
    group_sd: float = 1.0
    group_model_sd: float = 1.0

    def __post_init__(self) -> None:
        check_scales(self)


def three_outcome_model(
    trials: pd.DataFrame,
    *,
    index: str = names.ENTROPY,
    priors: Priors | None = None,
    outcome_priors: OutcomePriors | None = None,
) -> pm.Model:
    """Build the model of text, image and other with the effects of groups integrated out.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`, some of them `other` and some not.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that their dH is made of.
    priors : Priors, optional
        Scales of the priors of the following model.
    outcome_priors : OutcomePriors, optional
        Priors of the part for `other`.

    Returns
    -------
    pymc.Model
        The variables of `marginal_model`, and `other_effect` over (feature, subject), `other_group_sd`,
        `correlation_group`, where models have repeats `other_group_model_sd` and `correlation_group_model`,
        and `other_spread`, the standard deviation of all effects of groups on `other`.
    """
    following = lay_out(trials)
    scales, own = priors or Priors(), outcome_priors or OutcomePriors()
    data = pair_up(trials, index=index)
    every = data.design
    pilot, precision = _estimate_other(data)
    rough = estimate_pilot(following)
    slope = np.exp(rough.log_slope)
    start = evaluate_pairs(data, np.column_stack([slope * rough.balance_point, slope, pilot]), _GUESS)[3]
    data = data._replace(start=np.where(np.isfinite(start), start, 0.0))
    with pm.Model(coords=coordinates(following) | {"feature": ["intercept", *FEATURES]}, check_bounds=False) as model:
        lines = add_subjects(following, scales, rough)
        effects = _subject_effects(own, pilot, precision)
        levels = following.group_scales
        sds = {name: signed_scale(name, getattr(scales, name)) for name in levels}
        of_group = _covariance("group", sds.get("group_sd"), own.group_sd)
        nothing = pt.zeros(())
        of_branch = (nothing, nothing, nothing)
        if every.has_model_effect:
            of_branch = _covariance("group_model", sds.get("group_model_sd"), own.group_model_sd)
        of_cell = sds.get("group_condition_sd", nothing) ** 2
        covariances = pt.stack([*of_group, *of_branch, of_cell])
        coefficients = pt.stack([lines.intercept, lines.slope, *(effects[i] for i in range(1 + len(FEATURES)))], axis=1)
        pm.Potential("marginal_likelihood", integrated_pairs(data, coefficients, covariances))
        pm.Deterministic("other_spread", pt.sqrt(of_group[2] + of_branch[2]))
    return model


def pair_up(trials: pd.DataFrame, *, index: str = names.ENTROPY) -> PairedData:
    """Outcomes and features of all trials: 1 and -dH for text against image; 1 and `FEATURES` for `other`.

    The total uncertainty is the sum of both sides' by the index that dH is made of, less its mean over all trials
    and divided by their standard deviation, so that its prior is the same whatever the index's unit.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that their dH is made of.
    """
    # As if each had followed a side: trials and groups of `other` are laid out too.
    every = lay_out(trials.assign(**{names.CHOICE: names.TEXT}))
    outcome: Floats = trials[names.CHOICE].map(_CODES).to_numpy(np.float64)[every.row].astype(np.float64)
    total = trials[list(COLUMNS[index])].to_numpy(np.float64).sum(axis=1)[every.row]
    spread = total.std()
    standardised = (total - total.mean()) / (spread if spread > 0 else 1.0)
    one, dH = np.ones_like(total), every.uncertainty
    features = np.stack([one, -dH, one, dH, dH**2, standardised])
    return PairedData(every, outcome, features, np.zeros((2, every.cell_subject.size)))


def share_of_other(data: PairedData, effects: Floats, spread: Floats) -> Floats:
    """P(other) averaged over a subject's own trials and over groups, shape (n_draws, n_subjects).

    Parameters
    ----------
    data : PairedData
        The data.
    effects : ndarray, shape (n_draws, n_features, n_subjects)
        Effects of the features on `other`.
    spread : ndarray, shape (n_draws,)
        Standard deviation of the effects of groups on `other`.
    """
    subject = data.design.trial_subject
    shares = np.empty((effects.shape[0], effects.shape[2]))
    n_trials = np.bincount(subject, minlength=effects.shape[2])
    for draw, (own, sd) in enumerate(zip(effects, spread, strict=True)):
        level = np.einsum("ft,ft->t", own[:, subject], data.features[2:])
        p = expit(level + sd * _NODES[:, None]).T @ (_WEIGHTS / _WEIGHTS.sum())
        shares[draw] = np.bincount(subject, weights=p, minlength=n_trials.size) / n_trials
    return shares


def _estimate_other(data: PairedData) -> tuple[Floats, Floats]:
    """Rough effects of each subject on `other` and their precisions, which only place the sampler's coordinates."""
    features, is_other = data.features[2:].T, (data.outcome == _CODES[names.OTHER]).astype(np.float64)
    n_subjects, n_features = data.design.n_subjects, features.shape[1]
    estimate, precision = np.zeros((n_subjects, n_features)), np.zeros((n_subjects, n_features))
    for subject in range(n_subjects):
        own = data.design.trial_subject == subject
        x, y, beta = features[own], is_other[own], np.zeros(n_features)
        for _ in range(_NEWTON_STEPS):
            p = expit(x @ beta)
            information = x.T @ (x * (p * (1 - p))[:, None]) + np.eye(n_features) / 4
            beta = beta + np.clip(np.linalg.solve(information, x.T @ (y - p) - beta / 4), -1.0, 1.0)
        estimate[subject], precision[subject] = beta, 1 / np.diag(np.linalg.inv(information))
    return estimate, precision


def _subject_effects(own: OutcomePriors, estimate: Floats, precision: Floats) -> Tensor:
    """Normal effects of each feature (rows) on each subject (columns), around means of their own."""
    others = len(FEATURES)
    centre = pm.Normal(
        "other_effect_mean",
        np.array([own.intercept_mean] + [0.0] * others),
        np.array([own.intercept_mean_sd] + [own.slope_mean_sd] * others),
        dims="feature",
    )
    scales = np.array([own.intercept_sd] + [own.slope_sd] * others)
    sd = signed_scale("other_effect_relative_sd", 1.0, dims="feature") * scales
    return informed_normal(
        "other_effect",
        mean=centre[:, None],
        sd=sd[:, None],
        weighted_estimate=(precision * estimate).T,
        precision=precision.T,
        dims=("feature", names.SUBJECT),
    )


def _covariance(level: str, signed: Tensor | None, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Covariance of a level's pairs by its elements; with no effect on text against image, of the rest alone."""
    rest = signed_scale(f"other_{level}_sd", scale)
    if signed is None:
        return pt.zeros(()), pt.zeros(()), rest**2
    loading = pm.Normal(f"loading_{level}")
    variance = rest**2 + (loading * signed) ** 2
    pm.Deterministic(f"correlation_{level}", loading * pt.abs(signed) / pt.sqrt(variance))
    return signed**2, loading * signed**2, variance
