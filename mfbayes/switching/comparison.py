"""Hazards compared: which terms foretell the switching in groups that the model has not seen.

References
----------
Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto Smoothed Importance Sampling", Journal of Machine
Learning Research 25(72), 2024, arXiv:1507.02646.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from numpy.typing import NDArray
from scipy.special import logsumexp

from mfbayes.errors import InputError
from mfbayes.sampling import Effort
from mfbayes.switching.fit import EFFORTS, SwitchingFit, fit_switching
from mfbayes.switching.likelihood import SwitchingLikelihood
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
_MAX_K_HAT = 0.7
_N_DRAWS = 400


def compare_switching(
    trajectories: Trajectories,
    points: Mapping[str, float],
    *,
    fitted: SwitchingFit | None = None,
    versions: Mapping[str, Sequence[str]] = VERSIONS,
    priors: SwitchingPriors | None = None,
    seed: int = 0,
    attempts: Sequence[Effort] = EFFORTS[:1],
) -> xr.Dataset:
    """Log predictive density of every version for groups left out, by importance sampling of the groups' marginals.

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
    attempts : sequence of Effort
        As `fit_switching` takes them; by default one attempt.

    Returns
    -------
    Dataset
        Over `version`: `elpd` and `elpd_se` (nats, sums over groups), `elpd_difference` to the best and
        `difference_se` (groups paired), `max_k_hat`, `n_bad_k` (groups whose weights have k-hat above .7 or unknown,
        of which the density is optimistic), `passed` (the gate of convergence). Gaps count at effects that the group's
        own adjacent pairs estimate, in every version alike. Attributes: `n_groups`, `best`, and `reliable`, 1 where no
        version has such weights and all passed.

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
    rows, k_hats, passed = [], [], []
    for terms in versions.values():
        if fitted is not None and fitted.layout.terms == tuple(terms) and fitted.priors == scales:
            fit = fitted
        else:
            fit = fit_switching(trajectories, points, terms=terms, priors=scales, seed=seed, attempts=attempts)
        left_out = leave_groups_out(fit, rng=np.random.default_rng(seed))
        rows.append(left_out.elpd)
        k_hats.append(left_out.k_hat)
        passed.append(fit.sample.passed)
    by_group, bad = np.array(rows), np.array(k_hats)
    total, n_bad = by_group.sum(axis=1), (~(bad <= _MAX_K_HAT)).sum(axis=1)
    to_best = by_group - by_group[int(np.argmax(total))]
    return xr.Dataset(
        {
            "elpd": ("version", total),
            "elpd_se": ("version", _se(by_group)),
            "elpd_difference": ("version", to_best.sum(axis=1)),
            "difference_se": ("version", _se(to_best)),
            "max_k_hat": ("version", bad.max(axis=1)),
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
        f"optimistic, for up to {n_bad.max()} of {compared.attrs['n_groups']} groups have importance weights with a "
        f"Pareto k-hat above {_MAX_K_HAT:g}. Small differences between versions cannot be trusted."
    ]


def _se(by_group: Floats) -> Floats:
    error: Floats = by_group.std(axis=1, ddof=1) * by_group.shape[1] ** 0.5
    return error
