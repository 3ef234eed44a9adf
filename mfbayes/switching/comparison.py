"""Hazards compared: which terms foretell the switching in groups that the model has not seen."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes.errors import InputError
from mfbayes.sampling import Effort
from mfbayes.switching.fit import EFFORTS, SwitchingFit, fit_switching
from mfbayes.switching.leaving_out import MAX_K_HAT, leave_groups_out
from mfbayes.switching.priors import SwitchingPriors
from mfbayes.switching.terms import APART, DEFAULT_TERMS, SIGNED
from mfbayes.trajectories import Trajectories

type Floats = NDArray[np.float64]

VERSIONS: Final[Mapping[str, Sequence[str]]] = {
    "without x": (),
    "x": (SIGNED,),
    "x and distance": DEFAULT_TERMS,
    "entropies apart and distance": APART,
}


def compare_switching(
    trajectories: Trajectories,
    points: Mapping[str, float],
    *,
    fitted: SwitchingFit | None = None,
    versions: Mapping[str, Sequence[str]] = VERSIONS,
    priors: SwitchingPriors | None = None,
    seed: int = 0,
    refit: bool = False,
    attempts: Sequence[Effort] = EFFORTS[:1],
) -> xr.Dataset:
    """Log predictive density of every version for groups left out; see `mfbayes.switching.leaving_out`.

    Parameters
    ----------
    trajectories, points
        As `fit_switching` takes them.
    fitted : SwitchingFit, optional
        A fit of one of the versions with effects of groups, not to be fitted again.
    versions : mapping of str to sequence of str
        Terms by label.
    priors : SwitchingPriors, optional
        Scales of the priors; by default those of `fitted`. A fit with others is not used.
    seed : int
        The same seed gives the same numbers.
    refit : bool
        Whether groups for which importance weights are too uneven are left out in fact, in fits of their own: exact,
        and about as long for each as for the first fit.
    attempts : sequence of Effort
        As `fit_switching` takes them; by default one attempt.

    Returns
    -------
    Dataset
        Over `version`: `elpd` and `elpd_se` (nats, sums over groups), `elpd_difference` to the best and
        `difference_se` (groups paired), `max_k_hat`, `n_refitted`, `n_bad_k` (groups not refitted whose weights have
        k-hat above .7 or unknown, of which the density is not exact), `passed` (the gate of convergence). Gaps count
        at effects that the group's own adjacent pairs estimate, in every version alike. Attributes: `n_groups`,
        `best`, and `reliable`, 1 where every density is exact and all passed.

    Raises
    ------
    InputError
        As `fit_switching`, with fewer than two versions, and for a fit without effects of groups.
    """
    if len(versions) < 2:
        raise InputError(f"Expected two versions or more to compare, got {list(versions)}.")
    if fitted is not None and not fitted.layout.has_groups:
        raise InputError(
            "Expected a fit with effects of groups, for versions are compared on groups left out, got one without. "
            "Fit with groups=True, or leave `fitted` out."
        )
    scales = priors or (fitted.priors if fitted is not None else SwitchingPriors())
    found, passed = [], []
    for terms in versions.values():
        if fitted is not None and fitted.layout.terms == tuple(terms) and fitted.priors == scales:
            fit = fitted
        else:
            fit = fit_switching(trajectories, points, terms=terms, priors=scales, seed=seed, attempts=attempts)
        found.append(leave_groups_out(fit, refit=refit, seed=seed, attempts=attempts))
        passed.append(fit.sample.passed)
    by_group = np.stack([each.elpd for each in found])
    total, n_bad = by_group.sum(axis=1), np.array([(~each.is_exact).sum() for each in found])
    to_best = by_group - by_group[int(np.argmax(total))]
    return xr.Dataset(
        {
            "elpd": ("version", total),
            "elpd_se": ("version", _se(by_group)),
            "elpd_difference": ("version", to_best.sum(axis=1)),
            "difference_se": ("version", _se(to_best)),
            "max_k_hat": ("version", np.array([each.k_hat.max() for each in found])),
            "n_refitted": ("version", np.array([each.refitted.sum() for each in found])),
            "n_bad_k": ("version", n_bad),
            "passed": ("version", np.array(passed)),
        },
        coords={"version": np.array(list(versions), dtype=object)},
        attrs={
            "n_groups": by_group.shape[1],
            "best": list(versions)[int(np.argmax(total))],
            "reliable": int(not n_bad.any() and all(passed)),
        },
    )


def note_weights(compared: xr.Dataset) -> list[str]:
    """What to say of a comparison whose importance weights are too uneven; nothing where they are not."""
    n_bad = compared["n_bad_k"].to_numpy()
    if not n_bad.any():
        return []
    return [
        f"Versions of the hazard model: in {(n_bad > 0).sum()} of {n_bad.size} the density of groups left out is "
        f"not exact, for up to {n_bad.max()} of {compared.attrs['n_groups']} groups have importance weights with a "
        f"Pareto k-hat above {MAX_K_HAT:g}. Small differences between versions cannot be trusted; "
        "`compare_switching(..., refit=True)` leaves those groups out in fact."
    ]


def _se(by_group: Floats) -> Floats:
    error: Floats = by_group.std(axis=1, ddof=1) * by_group.shape[1] ** 0.5
    return error
