r"""Choices beyond two: whether leaving answers of neither side out moves the balance points.

With :math:`\eta_i` the linear predictor of the following model,

.. math::
    P(text \mid not\ other) = \operatorname{sigmoid}(\eta_i), \quad
    \operatorname{logit} P(other) = a_s + c_s^\top x_i + h_g + h_{gm}

where x is (dH, dH^2, standardised H_text + H_image), a_s and each c_s are normal over subjects, and the
effects of groups are normal in pairs: (u_g, h_g) with correlation rho_g, (v_gm, h_gm) with rho_gm. Given
the covariates, `other` is ignorable exactly where the correlations are 0: then the likelihood falls
into two parts that share nothing. Otherwise groups that lean to one side are left out more often. The
trials tell of correlations between groups only; if `other` hangs on the very trial's leaning, no
data show it, and the bounds, for which nothing is assumed, say how far that could move a balance point.

References
----------
Little and Rubin, "Statistical Analysis with Missing Data", 3rd ed., Wiley 2019,
doi:10.1002/9781119482260, chapter 15, for models of outcomes that are not missing at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from mfbayes import names
from mfbayes.convergence import Sample
from mfbayes.design import Design, lay_out
from mfbayes.errors import InputError
from mfbayes.following import coordinates, linear_predictor
from mfbayes.marginal.fast import approximate
from mfbayes.priors import Priors
from mfbayes.sampling import ATTEMPTS, Effort, sample

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]
type Tensor = TensorVariable[Any, Any]

FEATURES = (names.DH, "dH_squared", "total_uncertainty")
PRACTICALLY_ZERO = 0.1
"""Shifts of a balance point below this, in units of dH, are taken as none."""

NO_SIGN, NOT_IGNORABLE, UNCLEAR = "no sign against it", "not ignorable", "unclear"
RULE = (
    f"'{NOT_IGNORABLE}' if zero is outside the interval of a correlation; '{NO_SIGN}' if not and every balance "
    f"point's interval of the shift lies within {PRACTICALLY_ZERO} of zero; else, or without convergence, '{UNCLEAR}'"
)
_MIN_OTHER, _MIN_GROUPS = 20, 5
_LEVELS = {"group": ("group_effect", "group_sd"), "group_model": ("group_model_effect", "group_model_sd")}
_NEWTON_STEPS = 15


@dataclass(frozen=True, kw_only=True)
class OutcomePriors:
    """Priors of the part that says when an answer is of neither side, in log-odds.

    The mean intercept is N(-2, 1.5), an `other` in every eighth trial, give or take a factor of 4 in the odds;
    mean effects of standardised features are N(0, 1), the standard deviations half-normal, the loadings
    of effects on `other` on those on text against image N(0, 1): 0 is ignorable, 1 as strong in log-odds.
    """

    intercept_mean: float = -2.0
    intercept_mean_sd: float = 1.5
    intercept_sd: float = 1.0
    slope_mean_sd: float = 1.0
    slope_sd: float = 0.5
    group_sd: float = 1.0
    group_model_sd: float = 1.0


def three_outcome_model(
    trials: pd.DataFrame, *, priors: Priors | None = None, outcome_priors: OutcomePriors | None = None
) -> pm.Model:
    """Build the model of text, image and other as an explicit PyMC graph with named dims.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.trials.Selection`.
    priors : Priors, optional
        Scales of the priors of the following model.
    outcome_priors : OutcomePriors, optional
        Priors of the part for `other`.

    Returns
    -------
    pymc.Model
        The variables of `following_model`, and `other_intercept`, `other_slope_{feature}`, `p_other` (mean
        over a subject's own trials), `other_group_sd`, `correlation_group`, and where models have
        repeats `other_group_model_sd`, `correlation_group_model`. Groups of which every answer is `other`
        take part with h alone, for they have no u to tell.

    Raises
    ------
    InputError
        With fewer than 20 answers of neither side or in fewer than 5 groups, or with no other answer.
    """
    _check(trials)
    following, other = lay_out(trials), _lay_out_other(trials)
    scales, own = priors or Priors(), outcome_priors or OutcomePriors()
    features = _features(trials, other)
    pilot, precision = _estimate(features, other)
    coords = coordinates(following) | {
        "all_group": list(other.groups),
        "all_branch": np.arange(other.branch_group.size),
        "all_trial": np.arange(other.n_trials),
    }
    with pm.Model(coords=coords, check_bounds=False) as model:
        pm.Bernoulli(
            "is_text", logit_p=linear_predictor(following, priors=scales), observed=following.is_text, dims="trial"
        )
        effects = [
            _subject_effect(
                "other_intercept" if i == 0 else f"other_slope_{FEATURES[i - 1]}",
                mean=own.intercept_mean if i == 0 else 0.0,
                mean_sd=own.intercept_mean_sd if i == 0 else own.slope_mean_sd,
                scale=own.intercept_sd if i == 0 else own.slope_sd,
                estimate=pilot[:, i],
                precision=precision[:, i],
            )
            for i in range(1 + len(FEATURES))
        ]
        logit_other = sum(
            effect[other.trial_subject] * feature for effect, feature in zip(effects, features.T, strict=True)
        )
        known = _find(following.groups, other.groups)
        logit_other = logit_other + _paired_effect("group", model, known, own.group_sd)[other.trial_group]
        if other.has_model_effect:
            known_branch = _find(_branches(following), _branches(other)) if following.has_model_effect else None
            of_branch = _paired_effect("group_model", model, known_branch, own.group_model_sd)
            logit_other = logit_other + of_branch[other.cell_branch[other.trial_cell]]
        pm.Bernoulli("is_other", logit_p=logit_other, observed=other.is_text, dims="all_trial")
        shares = np.bincount(other.trial_subject, minlength=other.n_subjects)
        total = pt.zeros(other.n_subjects)[other.trial_subject].inc(pt.sigmoid(logit_other))
        pm.Deterministic("p_other", total / shares, dims=names.SUBJECT)
    return model


def fit_three_outcomes(
    trials: pd.DataFrame,
    *,
    priors: Priors | None = None,
    outcome_priors: OutcomePriors | None = None,
    seed: int = 0,
    ci_prob: float = 0.95,
    attempts: Sequence[Effort] = ATTEMPTS,
    progress: bool = False,
) -> xr.Dataset:
    """Fit text, image and other together, and say what leaving `other` out does to the balance points.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.trials.Selection`.
    priors, outcome_priors : optional
        Priors of the two parts.
    seed : int
        The same seed gives the same numbers on the same machine.
    ci_prob : float
        Probability of all intervals (equal-tailed).
    attempts : sequence of Effort
        What the sampler tries, in order.
    progress : bool
        Show a progress bar on stderr, where that is a terminal.

    Returns
    -------
    Dataset
        Over `subject`, each with `_lower` and `_upper`: `balance_point`, `balance_point_two_outcomes` (fast
        tier), `shift` (first minus second), `p_other`, and the bounds `balance_point_if_text` and
        `balance_point_if_image`, as if every `other` were one of them; `n_trials`, `n_other`. Over `level`
        ("group", "group_model"): `correlation` with bounds, `p_positive`. Attributes: `ignorable`, the `rule`
        it follows, `status`, `ci_prob`, `seed`.

    Raises
    ------
    InputError
        As `three_outcome_model`, or where `ci_prob` is not between 0 and 1.

    Notes
    -----
    Two posteriors of the same data have no joint distribution. The shift of a draw is the difference of both
    means plus what the draw's correlations, in a linear regression over draws, say of its balance point:
    the interval is that of the ignorance about the correlations, not of all that makes b unsure.
    """
    if not 0 < ci_prob < 1:
        raise InputError(f"Expected ci_prob between 0 and 1, got {ci_prob}.")
    model = three_outcome_model(trials, priors=priors, outcome_priors=outcome_priors)
    levels = [level for level in _LEVELS if f"correlation_{level}" in model.named_vars]
    correlations = [f"correlation_{level}" for level in levels]
    gate = ["balance_point", "slope", "other_intercept", "p_other", *correlations]
    drawn = sample(model, keep=gate, gate=gate, seed=seed, progress=progress, attempts=attempts)
    rewritten = {
        "two_outcomes": trials,
        "if_text": _rewrite(trials, names.TEXT),
        "if_image": _rewrite(trials, names.IMAGE),
    }
    others = {name: approximate(lay_out(table), priors=priors, seed=seed) for name, table in rewritten.items()}
    return _describe(drawn, others, trials, levels=levels, ci_prob=ci_prob).assign_attrs(seed=seed)


def _check(trials: pd.DataFrame) -> None:
    is_other = (trials[names.CHOICE] == names.OTHER).to_numpy(bool)
    n_groups = trials.loc[is_other, [names.TASK, names.GROUP]].drop_duplicates().shape[0]
    if not is_other.any():
        raise InputError(
            "Expected some choices of 'other', but every answer is text or image. Nothing is left out of the fit, "
            "so three outcomes have nothing to tell."
        )
    if is_other.all():
        raise InputError("Expected choices of text or image, but every choice is 'other'. Check the answers.")
    if is_other.sum() < _MIN_OTHER or n_groups < _MIN_GROUPS:
        raise InputError(
            f"Expected at least {_MIN_OTHER} choices of 'other' in at least {_MIN_GROUPS} groups, got "
            f"{int(is_other.sum())} in {n_groups}. So few cannot say whether they are ignorable."
        )


def _rewrite(trials: pd.DataFrame, choice: str) -> pd.DataFrame:
    return trials.assign(**{names.CHOICE: trials[names.CHOICE].replace(names.OTHER, choice)})


def _lay_out_other(trials: pd.DataFrame) -> Design:
    """All trials and groups, with `is_text` saying whether the answer is `other`."""
    is_other = trials[names.CHOICE] == names.OTHER
    return lay_out(trials.assign(**{names.CHOICE: np.where(is_other, names.TEXT, names.IMAGE)}))


def _features(trials: pd.DataFrame, other: Design) -> Floats:
    """1 and the features of each trial, shape (n_trials, 4)."""
    total = (trials[names.H_TEXT] + trials[names.H_IMAGE]).to_numpy(np.float64)[other.row]
    spread = total.std()
    standardised = (total - total.mean()) / (spread if spread > 0 else 1.0)
    return np.column_stack([np.ones_like(total), other.uncertainty, other.uncertainty**2, standardised])


def _estimate(features: Floats, other: Design) -> tuple[Floats, Floats]:
    """Rough effects of each subject and their precisions, which only place the sampler's coordinates."""
    n_features = features.shape[1]
    estimate, precision = np.zeros((other.n_subjects, n_features)), np.zeros((other.n_subjects, n_features))
    for subject in range(other.n_subjects):
        own = other.trial_subject == subject
        x, y, beta = features[own], other.is_text[own], np.zeros(n_features)
        for _ in range(_NEWTON_STEPS):
            p = 1 / (1 + np.exp(-(x @ beta)))
            information = x.T @ (x * (p * (1 - p))[:, None]) + np.eye(n_features) / 4
            beta = beta + np.clip(np.linalg.solve(information, x.T @ (y - p) - beta / 4), -1.0, 1.0)
        estimate[subject], precision[subject] = beta, 1 / np.diag(np.linalg.inv(information))
    return estimate, precision


def _subject_effect(
    name: str, *, mean: float, mean_sd: float, scale: float, estimate: Floats, precision: Floats
) -> Tensor:
    """A normal effect of each subject, in coordinates between the centred and the non-centred form.

    If the data said N(estimate, 1 / precision), the coordinates would be standard normal for every
    mean and standard deviation, as in `mfbayes.following`; the change of variables is exact.
    """
    centre = pm.Normal(f"{name}_mean", mean, mean_sd)
    sd = pm.Normal(f"{name}_sd_signed", 0, scale)
    pm.Deterministic(f"{name}_sd", pt.abs(sd))
    coordinate = pm.Normal(f"{name}_coordinate", dims=names.SUBJECT)
    narrowing = 1 + sd**2 * precision
    standardised = sd * precision * (estimate - centre) / narrowing + coordinate / pt.sqrt(narrowing)
    pm.Potential(f"{name}_prior", 0.5 * (coordinate**2 - standardised**2 - pt.log(narrowing)).sum())
    effect: Tensor = pm.Deterministic(name, centre + sd * standardised, dims=names.SUBJECT)
    return effect


def _paired_effect(level: str, model: pm.Model, known: Indices | None, scale: float) -> Tensor:
    """Effects on `other`: a rest, and a loading on the effects on text against image where `known` says which.

    A loading is smooth where a correlation is not: through scales of zero and near correlations of one.
    """
    effect, sd = _LEVELS[level]
    dim = {"group": "all_group", "group_model": "all_branch"}[level]
    signed = pm.Normal(f"other_{level}_sd_signed", 0, scale)
    pm.Deterministic(f"other_{level}_sd", pt.abs(signed))
    rest = pm.Normal(f"other_{level}_coordinate", dims=dim)
    if known is None:
        found: Tensor = pm.Deterministic(f"other_{level}_effect", signed * rest, dims=dim)
        return found
    loading, of_following = pm.Normal(f"loading_{level}"), model[f"{sd}_signed"]
    whole = pt.sqrt(signed**2 + (loading * of_following) ** 2)
    pm.Deterministic(f"correlation_{level}", loading * pt.abs(of_following) / whole)
    # Where no trial follows text or image, the effect on them is unknown and adds to the spread.
    alone = whole * rest
    shared = loading * model[effect] + signed * rest[known]
    found = pm.Deterministic(f"other_{level}_effect", alone[known].set(shared), dims=dim)
    return found


def _branches(design: Design) -> list[tuple[str, str]]:
    pairs = zip(design.branch_group, design.branch_model, strict=True)
    return [(design.groups[group], design.models[model]) for group, model in pairs]


def _find(wanted: Sequence[Any], among: Sequence[Any]) -> Indices:
    position = {label: i for i, label in enumerate(among)}
    return np.array([position[label] for label in wanted], dtype=np.int64)


def _describe(
    drawn: Sample, others: dict[str, Sample], trials: pd.DataFrame, *, levels: list[str], ci_prob: float
) -> xr.Dataset:
    posterior = drawn.posterior
    points = _flatten(posterior["balance_point"])
    rho = np.column_stack([posterior[f"correlation_{level}"].to_numpy().ravel() for level in levels])
    compared = {name: _flatten(sample.posterior["balance_point"]) for name, sample in others.items()}
    centred = rho - rho.mean(axis=0)
    explained = centred @ np.linalg.lstsq(centred, points - points.mean(axis=0))[0]
    shift = points.mean(axis=0) - compared["two_outcomes"].mean(axis=0) + explained
    columns = {
        "balance_point": points,
        "shift": shift,
        "p_other": _flatten(posterior["p_other"]),
    } | {f"balance_point_{name}": draws for name, draws in compared.items()}
    tails = np.array([(1 - ci_prob) / 2, (1 + ci_prob) / 2])
    table = xr.Dataset(coords={names.SUBJECT: posterior[names.SUBJECT].to_numpy(), "level": levels})
    for dim, quantities in ((names.SUBJECT, columns), ("level", {"correlation": rho})):
        for name, draws in quantities.items():
            lower, upper = np.quantile(draws, tails, axis=0)
            for suffix, values in (("", draws.mean(axis=0)), ("_lower", lower), ("_upper", upper)):
                table[f"{name}{suffix}"] = (dim, values)
    table["p_positive"] = ("level", (rho > 0).mean(axis=0))
    subject = trials[names.SUBJECT]
    for name, counted in (("n_trials", subject), ("n_other", subject[trials[names.CHOICE] == names.OTHER])):
        found = counted.value_counts().reindex(table[names.SUBJECT].to_numpy(), fill_value=0)
        table[name] = (names.SUBJECT, found.to_numpy(np.int64))
    passed = drawn.passed and all(sample.passed for sample in others.values())
    table.attrs = {
        "ci_prob": ci_prob,
        "status": "ok" if passed else "not-converged",
        "ignorable": _judge(table, ci_prob=ci_prob, passed=passed),
        "rule": RULE,
        "attempts": int(drawn.convergence.attrs["attempts"]),
    }
    return table


def _judge(table: xr.Dataset, *, ci_prob: float, passed: bool) -> str:
    if not passed:
        return UNCLEAR
    tail = (1 - ci_prob) / 2
    above = table["p_positive"].to_numpy()
    if (np.minimum(above, 1 - above) < tail).any():
        return NOT_IGNORABLE
    near = (table["shift_lower"] > -PRACTICALLY_ZERO) & (table["shift_upper"] < PRACTICALLY_ZERO)
    return NO_SIGN if bool(near.all()) else UNCLEAR


def _flatten(draws: xr.DataArray) -> Floats:
    """Draws over (draw, subject)."""
    flat: Floats = draws.transpose("chain", "draw", names.SUBJECT).to_numpy().reshape(-1, draws.sizes[names.SUBJECT])
    return flat
