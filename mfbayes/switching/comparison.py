"""Hazards compared: which terms foretell the switching in groups that the model has not seen."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes.errors import InputError
from mfbayes.switching.fit import pair_with_points
from mfbayes.switching.layout import lay_out_pairs
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
    versions: Mapping[str, Sequence[str]] = VERSIONS,
    priors: SwitchingPriors | None = None,
) -> xr.Dataset:
    """Log predictive density of every version for groups left out; see `mfbayes.switching.leaving_out`.

    Nothing is sampled, so that no fit is needed before.

    Parameters
    ----------
    trajectories, points
        As `fit_switching` takes them.
    versions : mapping of str to sequence of str
        Terms by label.
    priors : SwitchingPriors, optional
        Scales of the priors, of every version.

    Returns
    -------
    Dataset
        Over `version`: `elpd` and `elpd_se` (nats, sums over groups), `elpd_difference` to the best and
        `difference_se` (groups paired), `n_unknown`, groups whose density Laplace's method does not find. Sums are over
        groups that are known in every version. Gaps count at effects that the group's own adjacent pairs estimate, in
        every version alike. Attributes: `n_groups`, those summed over, and `best`, "" where there is none.

    Raises
    ------
    InputError
        As `fit_switching`, and with fewer than two versions or groups.
    """
    if len(versions) < 2:
        raise InputError(f"Expected two versions or more to compare, got {list(versions)}.")
    pairs, x = pair_with_points(trajectories, points)
    by_group = []
    for terms in versions.values():
        layout = lay_out_pairs(pairs, x, terms=terms)
        if len(layout.groups) < 2:
            raise InputError("Expected traces of two groups or more, to leave one out, got one.")
        by_group.append(leave_groups_out(layout, priors=priors or SwitchingPriors()))
    density = np.stack(by_group)
    unknown = np.isnan(density)
    known = density[:, ~unknown.any(axis=0)]
    total = known.sum(axis=1) if known.size else np.full(len(versions), np.nan)
    best = int(np.argmax(total))
    to_best = known - known[best]
    return xr.Dataset(
        {
            "elpd": ("version", total),
            "elpd_se": ("version", _se(known)),
            "elpd_difference": ("version", total - total[best]),
            "difference_se": ("version", _se(to_best)),
            "n_unknown": ("version", unknown.sum(axis=1)),
        },
        coords={"version": np.array(list(versions), dtype=object)},
        attrs={"n_groups": known.shape[1], "best": list(versions)[best] if known.size else ""},
    )


def note_unknown(compared: xr.Dataset) -> list[str]:
    """What to say of a comparison that some groups take no part in; nothing where all do."""
    n_unknown = int(compared["n_unknown"].max())
    if not n_unknown:
        return []
    return [
        f"Versions of the hazard model are compared on {compared.attrs['n_groups']} groups: Laplace's method does not "
        f"find the density of up to {n_unknown} others in each version."
    ]


def _se(by_group: Floats) -> Floats:
    """Standard error of the sum over groups, shape (n_versions,); NaN of fewer than two."""
    n_versions, n_groups = by_group.shape
    if n_groups < 2:
        return np.full(n_versions, np.nan)
    error: Floats = by_group.std(axis=1, ddof=1) * n_groups**0.5
    return error
