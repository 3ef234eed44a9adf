"""Hazards compared: which terms foretell the switching in groups that the model has not seen."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes.errors import InputError
from mfbayes.sampling import Effort
from mfbayes.switching.fit import EFFORTS, SwitchingFit, fit_switching
from mfbayes.switching.leaving_out import leave_groups_out
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
        Whether groups for which importance weights are too uneven are left out in fact, in fits of their own; each
        takes about as long as the first fit.
    attempts : sequence of Effort
        As `fit_switching` takes them; by default one attempt.

    Returns
    -------
    Dataset
        Over `version`: `elpd` and `elpd_se` (nats, sums over groups), `elpd_difference` to the best and
        `difference_se` (groups paired), `max_k_hat`, `n_refitted`, `n_inexact` (groups whose weights cannot be
        trusted, and which no fit without them knows within .2 nats), `passed` (the gate of convergence). Gaps count
        at effects that the group's own adjacent pairs estimate, in every version alike. Attributes: `n_groups`,
        `best` (of versions whose density is finite; "" where none is), `refit`, and `reliable`, 1 where every density
        is exact and all passed.

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
    total, n_inexact = by_group.sum(axis=1), np.array([(~each.is_exact).sum() for each in found])
    best = int(np.argmax(np.where(np.isfinite(total), total, -np.inf)))
    to_best = by_group - by_group[best]
    return xr.Dataset(
        {
            "elpd": ("version", total),
            "elpd_se": ("version", _se(by_group)),
            "elpd_difference": ("version", to_best.sum(axis=1)),
            "difference_se": ("version", _se(to_best)),
            "max_k_hat": ("version", np.array([each.k_hat.max() for each in found])),
            "n_refitted": ("version", np.array([each.refitted.sum() for each in found])),
            "n_inexact": ("version", n_inexact),
            "passed": ("version", np.array(passed)),
        },
        coords={"version": np.array(list(versions), dtype=object)},
        attrs={
            "n_groups": by_group.shape[1],
            "best": list(versions)[best] if np.isfinite(total[best]) else "",
            "refit": int(refit),
            "reliable": int(not n_inexact.any() and all(passed)),
        },
    )


def note_weights(compared: xr.Dataset) -> list[str]:
    """What to say of a comparison whose importance weights are too uneven; nothing where they are not."""
    n_inexact = compared["n_inexact"].to_numpy()
    if not n_inexact.any():
        return []
    advice = (
        "In fits without them, too, it is not known within .2 nats; `attempts` with more draws tell more."
        if compared.attrs["refit"]
        else "`compare_switching(..., refit=True)` leaves those groups out in fact."
    )
    return [
        f"Versions of the hazard model: in {(n_inexact > 0).sum()} of {n_inexact.size} the density of groups left out "
        f"is not exact, for up to {n_inexact.max()} of {compared.attrs['n_groups']} groups have importance weights "
        f"that are too uneven (Pareto k-hat). Small differences between versions cannot be trusted. {advice}"
    ]


def _se(by_group: Floats) -> Floats:
    error: Floats = by_group.std(axis=1, ddof=1) * by_group.shape[1] ** 0.5
    return error
