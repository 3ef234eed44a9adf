"""Laws compared: which of them foretells the choices in groups that it has not seen."""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.laws.catalogue import DH, build_law, list_laws, prepare
from mfbayes.laws.laplace import fit_law
from mfbayes.laws.leaving_out import MAX_K_HAT, LeftOut, leave_groups_out
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]

LAW = "law"
_DRAWS = 400
# Below this a difference of elpd tells nothing, whatever its standard error.
_NEGLIGIBLE = 4.0
_STANDARD_ERRORS = 2.0


def compare_laws(
    trials: pd.DataFrame, *, seed: int, index: str = names.ENTROPY, priors: Priors | None = None
) -> xr.Dataset:
    """Log predictive density of every law for groups left out, and whether dH alone is enough.

    Every law has the same effects of groups (integrated out), and every subject its own coefficients
    under the same weak priors. A group's density is that of all its trials together, all models.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    seed : int
        The same seed gives the same numbers.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that their dH is made of.
    priors : Priors, optional
        Only the groups' standard deviations are used.

    Returns
    -------
    Dataset
        Over `law`: `elpd` and `elpd_se` (nats, sums over groups), `elpd_difference` to the best law (0 or
        below) and `difference_se` (from the paired groups), `elpd_against_dH` and `against_dH_se` (above 0:
        better than dH), `p_parameters` (effective number), `max_k_hat`, `n_bad_k` (groups whose importance
        weights could not be used; there the group was taken out of the normal approximation instead),
        `found` (whether the mode was found; without, everything else is NaN). Attributes `n_groups`, `n_trials`,
        `best` (empty where no mode was found) and `dH_suffices`:
        "no" where the law that is furthest above dH is so by more than 4 nats and more than 2 standard
        errors, "yes" where no law is above dH by more than 4 nats, "unclear" between. Not compared: laws
        whose mode was not found.

    Raises
    ------
    InputError
        As `mfbayes.laws.catalogue.prepare`.

    References
    ----------
    Sivula, Magnusson, Matamoros and Vehtari, "Uncertainty in Bayesian Leave-One-Out Cross-Validation Based
    Model Comparison", arXiv:2008.10296, for the 4 nats.
    """
    design = prepare(trials, index=index)
    labels = list_laws(trials)
    found, left_out = [], []
    for number, label in enumerate(labels):
        fit = fit_law(build_law(label, trials, design, index=index), design, priors=priors)
        rng = np.random.default_rng([seed, number])
        unknown = LeftOut(*np.full((3, len(design.groups)), np.nan))
        left_out.append(leave_groups_out(fit, n_draws=_DRAWS, rng=rng) if fit.found else unknown)
        found.append(fit.found)
    by_group, all_told, bad = (np.array(values) for values in zip(*left_out, strict=True))
    total = by_group.sum(axis=1)
    best, dH = int(np.nanargmax(total)) if any(found) else labels.index(DH), labels.index(DH)
    to_best, to_dH = by_group - by_group[best], by_group - by_group[dH]
    return xr.Dataset(
        {
            "elpd": (LAW, total),
            "elpd_se": (LAW, _se(by_group)),
            "elpd_difference": (LAW, to_best.sum(axis=1)),
            "difference_se": (LAW, _se(to_best)),
            "elpd_against_dH": (LAW, to_dH.sum(axis=1)),
            "against_dH_se": (LAW, _se(to_dH)),
            "p_parameters": (LAW, (all_told - by_group).sum(axis=1)),
            "max_k_hat": (LAW, bad.max(axis=1)),
            "n_bad_k": (LAW, np.where(found, (~(bad <= MAX_K_HAT)).sum(axis=1), np.nan)),
            "found": (LAW, np.array(found)),
        },
        coords={LAW: np.array(labels, dtype=object)},
        attrs={
            "n_groups": len(design.groups),
            "n_trials": design.n_trials,
            "best": labels[best] if any(found) else "",
            "dH_suffices": _judge(to_dH.sum(axis=1), _se(to_dH)),
            "seed": seed,
            "index": index,
        },
    )


def _se(by_group: Floats) -> Floats:
    """Standard error of the sum over groups, shape (n_laws,)."""
    error: Floats = by_group.std(axis=1, ddof=1) * by_group.shape[1] ** 0.5
    return error


def _judge(ahead: Floats, error: Floats) -> str:
    """Whether dH suffices, from how far each law is ahead of it."""
    if np.isnan(ahead).all():
        return "unclear"
    furthest = int(np.nanargmax(ahead))
    if ahead[furthest] <= _NEGLIGIBLE:
        return "yes"
    return "no" if ahead[furthest] > _STANDARD_ERRORS * error[furthest] else "unclear"
