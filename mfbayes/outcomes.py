r"""Choices beyond two: whether leaving answers of neither side out moves the balance points.

With :math:`\eta_i` the linear predictor of the following model,

.. math::
    P(text \mid not\ other) = \operatorname{sigmoid}(\eta_i), \quad
    \operatorname{logit} P(other) = a_s + c_s^\top x_i + h_g + h_{gm}

where x is (dH, dH^2, standardised U_text + U_image), with U the index of uncertainty that dH is made of (see
`mfbayes.indices`; by default the entropy), a_s and each c_s are normal over subjects, and the effects of
groups are normal in pairs: (u_g, h_g) with correlation rho_g, (v_gm, h_gm) with rho_gm; they are
integrated out by Laplace's method. Given the covariates, `other` is ignorable exactly where the
correlations are 0: then the likelihood falls into two parts that share nothing. Otherwise groups that lean
to one side are left out more often. The trials tell of correlations between groups only; if `other` hangs
on the very trial's leaning, no data show it, and the bounds, for which nothing is assumed, say how far that
could move a balance point.

References
----------
Little and Rubin, "Statistical Analysis with Missing Data", 3rd ed., Wiley 2019,
doi:10.1002/9781119482260, chapter 15, for models of outcomes that are not missing at random.
"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.convergence import Sample
from mfbayes.design import lay_out
from mfbayes.errors import InputError
from mfbayes.estimates.comparisons import ZONE, check_zone
from mfbayes.estimates.draws import thin
from mfbayes.indices import check_index
from mfbayes.marginal.fast import approximate
from mfbayes.priors import Priors
from mfbayes.selection import check_selected

if TYPE_CHECKING:
    from mfbayes.outcome_model import OutcomePriors

type Floats = NDArray[np.float64]

NO_SIGN, NOT_IGNORABLE, UNCLEAR = "no sign against it", "not ignorable", "unclear"
_RULE = (
    f"'{NOT_IGNORABLE}' if zero is outside the interval of a correlation, with what is outside shared among the "
    f"correlations there are (Bonferroni); '{NO_SIGN}' if not and every balance point's interval of the shift lies "
    f"within {{zone:g}} of zero; else, or without convergence, '{UNCLEAR}'"
)
_MIN_OTHER, _MIN_GROUPS = 20, 5
_SHARE_DRAWS = 400
_LEVELS = ("group", "group_model")


def fit_three_outcomes(
    trials: pd.DataFrame,
    *,
    index: str = names.ENTROPY,
    priors: Priors | None = None,
    outcome_priors: "OutcomePriors | None" = None,
    seed: int = 0,
    ci_prob: float = 0.95,
    zone: float = ZONE,
    progress: bool = False,
) -> xr.Dataset:
    """Fit text, image and other together, and say what leaving `other` out does to the balance points.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that their dH is made of, and the total uncertainty with it.
    priors, outcome_priors : optional
        Priors of the two parts.
    seed : int
        The same seed gives the same numbers on the same machine.
    ci_prob : float
        Probability of all intervals (equal-tailed).
    zone : float
        Shifts of a balance point below this, in units of dH, are taken as none.
    progress : bool
        Show a progress bar on stderr, where that is a terminal.

    Returns
    -------
    Dataset
        Over `subject`, each with `_lower` and `_upper`: `balance_point`, `balance_point_two_outcomes` (fast
        tier), `shift` (first minus second), `p_other`, and the bounds `balance_point_if_text` and
        `balance_point_if_image`, as if every `other` were one of them; `n_trials`, `n_other`. Over `level`
        ("group", "group_model"): `correlation` with bounds, `p_positive`. Attributes: `ignorable`, the `rule`
        it follows, `status`, `ci_prob`, `seed`, `index`.

    Raises
    ------
    InputError
        Where it is no table of selected trials or they lack the index, with fewer than 20 answers of neither
        side or in fewer than 5 groups, with no other answer, or where `ci_prob` is not between 0 and 1 or `zone`
        not between 0 and 2.

    Notes
    -----
    Two posteriors of the same data have no joint distribution. The shift of a draw is the difference of both
    means plus what the draw's correlations, in a linear regression over draws, say of its balance point:
    the interval is that of the ignorance about the correlations, not of all that makes b unsure. The first mean is
    sampled and the second is of the fast tier, which is within about a tenth of b's posterior standard deviation
    of a sampled one: a shift of no more than that is none.
    """
    if not 0 < ci_prob < 1:
        raise InputError(f"Expected ci_prob between 0 and 1, got {ci_prob}.")
    check_zone(zone)
    check_selected(trials)
    check_index(trials, index)
    _check(trials)
    from mfbayes.outcome_model import pair_up, share_of_other, three_outcome_model
    from mfbayes.sampling import MARGINAL_ATTEMPTS, sample

    rewritten = {
        "two_outcomes": trials,
        "if_text": _rewrite(trials, names.TEXT),
        "if_image": _rewrite(trials, names.IMAGE),
    }
    others = {name: approximate(lay_out(table), priors=priors, seed=seed) for name, table in rewritten.items()}
    model = three_outcome_model(trials, index=index, priors=priors, outcome_priors=outcome_priors)
    levels = [level for level in _LEVELS if f"correlation_{level}" in model.named_vars]
    correlations = [f"correlation_{level}" for level in levels]
    gate = ["balance_point", "slope", "other_effect", *correlations]
    drawn = sample(
        model, keep=[*gate, "other_spread"], gate=gate, seed=seed, progress=progress, attempts=MARGINAL_ATTEMPTS
    )
    few = thin(drawn.posterior, _SHARE_DRAWS).stack(sample=("chain", "draw"))
    effects = few["other_effect"].transpose("sample", "feature", names.SUBJECT).to_numpy()
    share = share_of_other(pair_up(trials, index=index), effects, few["other_spread"].to_numpy())
    found = _describe(drawn, others, trials, share, levels=levels, ci_prob=ci_prob, zone=zone)
    return found.assign_attrs(seed=seed, index=index)


def has_enough_others(trials: pd.DataFrame) -> bool:
    """Whether answers of neither side are so many, and in so many groups, that three outcomes can be fitted.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    """
    n_other, n_groups = _count_others(trials)
    return n_other < len(trials) and n_other >= _MIN_OTHER and n_groups >= _MIN_GROUPS


def _count_others(trials: pd.DataFrame) -> tuple[int, int]:
    """Answers of neither side, and groups that have any."""
    is_other = (trials[names.CHOICE] == names.OTHER).to_numpy(bool)
    return int(is_other.sum()), trials.loc[is_other, [names.TASK, names.GROUP]].drop_duplicates().shape[0]


def _check(trials: pd.DataFrame) -> None:
    n_other, n_groups = _count_others(trials)
    if not n_other:
        raise InputError(
            "Expected some choices of 'other', but every answer is text or image. Nothing is left out of the fit, "
            "so three outcomes have nothing to tell."
        )
    if n_other == len(trials):
        raise InputError("Expected choices of text or image, but every choice is 'other'. Check the answers.")
    if not has_enough_others(trials):
        raise InputError(
            f"Expected at least {_MIN_OTHER} choices of 'other' in at least {_MIN_GROUPS} groups, got "
            f"{n_other} in {n_groups}. So few cannot say whether they are ignorable."
        )


def _rewrite(trials: pd.DataFrame, choice: str) -> pd.DataFrame:
    return trials.assign(**{names.CHOICE: trials[names.CHOICE].replace(names.OTHER, choice)})


def _describe(
    drawn: Sample,
    others: dict[str, Sample],
    trials: pd.DataFrame,
    share: Floats,
    *,
    levels: list[str],
    ci_prob: float,
    zone: float,
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
        "p_other": share,
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
        "ignorable": _judge(table, ci_prob=ci_prob, zone=zone, passed=passed),
        "rule": _RULE.format(zone=zone),
        "attempts": int(drawn.convergence.attrs["attempts"]),
    }
    return table


def _judge(table: xr.Dataset, *, ci_prob: float, zone: float, passed: bool) -> str:
    if not passed:
        return UNCLEAR
    above = table["p_positive"].to_numpy()
    tail = (1 - ci_prob) / 2 / above.size
    if (np.minimum(above, 1 - above) < tail).any():
        return NOT_IGNORABLE
    near = (table["shift_lower"] > -zone) & (table["shift_upper"] < zone)
    return NO_SIGN if bool(near.all()) else UNCLEAR


def _flatten(draws: xr.DataArray) -> Floats:
    """Draws over (draw, subject)."""
    flat: Floats = draws.transpose("chain", "draw", names.SUBJECT).to_numpy().reshape(-1, draws.sizes[names.SUBJECT])
    return flat
