"""Fitting the hidden model: trajectories and balance points in, draws and estimates out."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from mfbayes import names
from mfbayes.sampling import Effort, sample
from mfbayes.switching.hidden import PARAMETERS, POPULATION, HiddenPriors, hidden_switching_model
from mfbayes.switching.hidden_codes import encode
from mfbayes.switching.hidden_estimates import describe_effects, describe_hazards, describe_sides
from mfbayes.switching.hidden_influence import measure_influence
from mfbayes.trajectories import Trajectories

# The gate judges well over a thousand elements at size: so many draws keep the worst of them below its bound.
HIDDEN_ATTEMPTS = (
    Effort(tune=300, draws=800, target_accept=0.8),
    Effort(tune=800, draws=1500, target_accept=0.9),
)


def fit_hidden(
    trajectories: Trajectories,
    points: Mapping[str, float],
    *,
    seed: int,
    n_codes: int = 64,
    n_bins: int = 32,
    n_knots: int = 8,
    priors: HiddenPriors | None = None,
    ci_prob: float = 0.95,
    progress: bool = False,
    attempts: Sequence[Effort] = HIDDEN_ATTEMPTS,
) -> xr.DataTree:
    """Fit the hidden model to the traces of conflict items.

    The model has no effects of groups. Intervals of hazards and effects are widened for the influence of groups
    (`mfbayes.switching.hidden_influence`), with the attribute `groups` "widened", or "none" where all traces are of one
    group and they are too narrow if there are others. Draws in `/posterior` are as the model has them.

    Parameters
    ----------
    trajectories : Trajectories
        Layer traces with their trials; controls are left out.
    points : mapping of str to float
        Balance point of each subject, by its label.
    seed : int
        The same seed gives the same draws on the same machine.
    n_codes, n_bins : int
        As `mfbayes.switching.hidden_codes.encode` takes them.
    n_knots, priors
        As `mfbayes.switching.hidden.hidden_switching_model` takes them.
    ci_prob : float
        Probability of the intervals.
    progress : bool
        Show a progress bar on stderr, where that is a terminal.
    attempts : sequence of Effort
        What to try until the gate is passed.

    Returns
    -------
    DataTree
        `/posterior`, `/sample_stats`, `/convergence`, and as `mfbayes.switching.hidden_estimates` describes them
        `/estimates/hidden_hazard_by_depth`, `hidden_hazard_by_distance`, `hidden_effects`, `hidden_switches` and
        `hidden_occupancy`, with the attribute `status`, "ok" or "not-converged".

    Raises
    ------
    InputError
        Where a subject's traces cannot be used.
    """
    conflicts = trajectories.conflicts
    coded = encode(conflicts, points, n_codes=n_codes, n_bins=n_bins)
    model = hidden_switching_model(coded, n_knots=n_knots, priors=priors)
    drawn = sample(
        model,
        keep=[*PARAMETERS, *POPULATION],
        gate=[*PARAMETERS, *POPULATION],
        seed=seed,
        progress=progress,
        attempts=attempts,
    )
    posterior = drawn.posterior
    b = np.array([points[label] for label in conflicts.subjects])
    x = conflicts.uncertainty - b[conflicts.subject]
    influence = measure_influence(posterior, coded, conflicts.group) if np.ptp(conflicts.group) else None
    said = {"groups": "none" if influence is None else "widened"}
    by_depth, by_distance = (
        each.assign_attrs(said) for each in describe_hazards(posterior, coded, ci_prob=ci_prob, influence=influence)
    )
    # Where dH = b + x cannot be, nothing is said.
    dH = by_distance["x"] + xr.DataArray(b, dims=names.SUBJECT)
    by_distance = by_distance.where(np.abs(dH) <= 2 + 1e-9).assign_attrs(by_distance.attrs)
    switches, occupancy = describe_sides(
        posterior, coded, conflicts, x, ci_prob=ci_prob, rng=np.random.default_rng(seed)
    )
    estimates = {
        "hidden_hazard_by_depth": by_depth,
        "hidden_hazard_by_distance": by_distance,
        "hidden_effects": describe_effects(posterior, ci_prob=ci_prob, influence=influence).assign_attrs(said),
        "hidden_switches": switches,
        "hidden_occupancy": occupancy,
    }
    status = {"status": "ok" if drawn.passed else "not-converged"}
    parts = {f"/estimates/{name}": found.assign_attrs(status) for name, found in estimates.items()}
    return xr.DataTree.from_dict(
        {"/posterior": posterior, "/sample_stats": drawn.statistics, "/convergence": drawn.convergence} | parts
    )
