"""Hazards compared: which terms foretell the switching in groups that the model has not seen."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes.errors import InputError
from mfbayes.sampling import count_steps
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
    progress: bool = False,
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
    progress : bool
        Show a progress bar on stderr, where that is a terminal.

    Returns
    -------
    Dataset
        Over `version`: `elpd` and `elpd_se` (nats, sums over groups), `elpd_difference` to the best and
        `difference_se` (groups paired), `n_unknown`, groups whose density Laplace's method does not find. Sums are
        over `n_groups` groups, those known in every version of which any is; a version of which none is has NaN. Gaps
        count at effects that the group's own adjacent pairs estimate, in every version alike. Attribute: `best`, ""
        where there is none.

    Raises
    ------
    InputError
        As `fit_switching`, and with fewer than two versions or groups.
    """
    if len(versions) < 2:
        raise InputError(f"Expected two versions or more to compare, got {list(versions)}.")
    pairs, x = pair_with_points(trajectories, points)
    layouts = [lay_out_pairs(pairs, x, terms=terms) for terms in versions.values()]
    n_groups = len(layouts[0].groups)
    if n_groups < 2:
        raise InputError("Expected traces of two groups or more, to leave one out, got one.")
    with count_steps("leaving groups out", total=len(layouts) * n_groups, shown=progress) as advance:
        density = np.stack(
            [leave_groups_out(each, priors=priors or SwitchingPriors(), on_group=advance) for each in layouts]
        )
    unknown = np.isnan(density)
    told = ~unknown.all(axis=1)
    common = density[:, ~unknown[told].any(axis=0)]
    total = common.sum(axis=1) if told.any() and common.size else np.full(len(versions), np.nan)
    has_best = bool(np.isfinite(total).any())
    best = int(np.nanargmax(total)) if has_best else 0
    return xr.Dataset(
        {
            "elpd": ("version", total),
            "elpd_se": ("version", _se(common)),
            "elpd_difference": ("version", total - total[best]),
            "difference_se": ("version", _se(common - common[best])),
            "n_unknown": ("version", unknown.sum(axis=1)),
            "n_groups": ("version", np.full(len(versions), common.shape[1] if has_best else 0)),
        },
        coords={"version": np.array(list(versions), dtype=object)},
        attrs={"best": list(versions)[best] if has_best else ""},
    )


def note_unknown(compared: xr.Dataset) -> list[str]:
    """What to say of a comparison that groups or versions take no part in; nothing where all do."""
    if not compared["n_unknown"].any():
        return []
    lost = compared["version"].to_numpy()[np.isnan(compared["elpd"].to_numpy())].tolist()
    n_groups = int(compared["n_groups"][0])
    return [
        f"Versions of the hazard model are compared on {n_groups} groups, for Laplace's method finds the density of no "
        "others in every version" + (f"; of {', '.join(lost)} it finds none." if lost else ".")
    ]


def _se(by_group: Floats) -> Floats:
    """Standard error of the sum over groups, shape (n_versions,); NaN of fewer than two."""
    n_versions, n_groups = by_group.shape
    if n_groups < 2:
        return np.full(n_versions, np.nan)
    error: Floats = by_group.std(axis=1, ddof=1) * n_groups**0.5
    return error
