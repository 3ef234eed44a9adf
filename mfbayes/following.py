r"""The following model: how relative uncertainty and inherent preference decide whom a model follows.

For trial i of subject s (a model on one task under one condition) and item group g

.. math::
    \operatorname{logit} P(choice_i = text) = \kappa_s (b_s - dH_i) + u_g + v_{gm} + w_{gmc}

with balance points b_s ~ N(mu_b, sigma_b), slopes log kappa_s ~ N(mu_k, sigma_k), and group effects
u_g ~ N(0, sigma_g), v_gm ~ N(0, sigma_gm), w_gmc ~ N(0, sigma_gmc), since the trials of a group share one
scene and one text. v is left out where no model has two trials of a group, w without several conditions.
Where subjects share a family, model, task or condition, both means also have a normal effect of each of
these levels.

References
----------
Zhang et al., "When Modalities Conflict: How Unimodal Reasoning Uncertainty Governs Preference
Dynamics in MLLMs", arXiv:2511.02243.
"""

from typing import Any, NamedTuple

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from mfbayes import names
from mfbayes.coordinates import informed_normal, signed_scale
from mfbayes.design import GROUP_SCALES, Design
from mfbayes.marginal.operator import integrated
from mfbayes.marginal.posterior import likelihood_near
from mfbayes.pilot import Estimates, estimate_pilot
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]
type Tensor = TensorVariable[Any, Any]


class Subjects(NamedTuple):
    """Intercepts and slopes of the subjects in a model under construction."""

    intercept: Tensor
    slope: Tensor


def following_model(design: Design, *, priors: Priors | None = None) -> pm.Model:
    """Build the following model as an explicit PyMC graph with named dims.

    Parameters
    ----------
    design : Design
        Trials, laid out.
    priors : Priors, optional
        Scales of the priors.

    Returns
    -------
    pymc.Model
        Free variables are standard normal coordinates (names ending in `_coordinate`) and signed
        scales (`_signed`); the quantities of interest are deterministic. Since the priors of the effects enter
        through potentials, the model can be sampled but not simulated forwards.
    """
    with pm.Model(coords=coordinates(design), check_bounds=False) as model:
        logit_p = linear_predictor(design, estimate_pilot(design), priors=priors or Priors())
        pm.Bernoulli("is_text", logit_p=logit_p, observed=design.is_text, dims="trial")
    return model


def marginal_model(design: Design, *, priors: Priors | None = None) -> pm.Model:
    """Build the following model with the effects of groups integrated out by Laplace's method.

    Parameters
    ----------
    design : Design
        Trials, laid out.
    priors : Priors, optional
        Scales of the priors.

    Returns
    -------
    pymc.Model
        With the variables of `following_model`, less the effects of groups.
    """
    scales = priors or Priors()
    pilot = estimate_pilot(design)
    with pm.Model(coords=coordinates(design), check_bounds=False) as model:
        subjects = add_subjects(design, scales, pilot)
        sds = {name: signed_scale(name, getattr(scales, name)) for name in design.group_scales}
        pm.Potential(
            "marginal_likelihood",
            integrated(
                likelihood_near(design, pilot),
                pt.stack([subjects.intercept, subjects.slope], axis=1),
                pt.stack([sds.get(name, pt.zeros(())) for name in GROUP_SCALES]),
            ),
        )
    return model


def coordinates(design: Design) -> dict[str, Any]:
    """Coordinates of the dims of either model."""
    return {
        names.SUBJECT: list(design.subjects),
        names.GROUP: list(design.groups),
        "branch": np.arange(design.branch_group.size),
        "cell": np.arange(design.cell_group.size),
        "trial": np.arange(design.n_trials),
    } | {f"{name}_label": list(labels) for name, (labels, _) in design.levels.items()}


def linear_predictor(design: Design, pilot: Estimates, *, priors: Priors, slope_shift: Tensor | float = 0.0) -> Tensor:
    """Add everything up to logit P(text) of each trial to the model in whose context it is called.

    Parameters
    ----------
    design : Design
        Trials, laid out; the model has the dims of `coordinates`.
    pilot : Estimates
        Rough estimates, which place the coordinates.
    priors : Priors
        Scales of the priors.
    slope_shift : tensor, shape (n_subjects,), or float
        How far from the pilot's the log slopes are expected, given other parameters.
    """
    subjects = add_subjects(design, priors, pilot, slope_shift=slope_shift)
    sds: dict[str, Any] = {name: signed_scale(name, getattr(priors, name)) for name in design.group_scales}
    of_group, of_branch, of_cell = (sds.get(name, 0.0) for name in GROUP_SCALES)

    # What a cell's data say of u + v + w, once its subject's line is taken away.
    own_intercept, own_slope = subjects.intercept[design.cell_subject], subjects.slope[design.cell_subject]
    pilot_slope = np.exp(pilot.log_slope)[design.cell_subject]
    excess = pilot.cell_intercept - own_intercept + (own_slope - pilot_slope) * pilot.cell_uncertainty
    told_by_cell = pilot.cell_precision / (1 + of_cell**2 * pilot.cell_precision)
    n_branches, n_groups = design.branch_group.size, len(design.groups)
    precision = _sum_by(told_by_cell, design.cell_branch, n_branches)
    pull = _sum_by(told_by_cell * excess, design.cell_branch, n_branches)
    narrowing = 1 + of_branch**2 * precision
    group_effect = informed_normal(
        "group_effect",
        mean=0.0,
        sd=of_group,
        weighted_estimate=_sum_by(pull / narrowing, design.branch_group, n_groups),
        precision=_sum_by(precision / narrowing, design.branch_group, n_groups),
        dims=names.GROUP,
    )
    level = group_effect[design.branch_group]
    if design.has_model_effect:
        level = level + informed_normal(
            "group_model_effect",
            mean=0.0,
            sd=of_branch,
            weighted_estimate=pull - precision * level,
            precision=precision,
            dims="branch",
        )
    effect = level[design.cell_branch]
    if design.has_condition_effect:
        effect = effect + informed_normal(
            "group_condition_effect",
            mean=0.0,
            sd=of_cell,
            weighted_estimate=pilot.cell_precision * (excess - effect),
            precision=pilot.cell_precision,
            dims="cell",
        )
    logit_p: Tensor = (own_intercept + effect)[design.trial_cell] - subjects.slope[
        design.trial_subject
    ] * design.uncertainty
    return logit_p


def add_subjects(design: Design, priors: Priors, pilot: Estimates, *, slope_shift: Tensor | float = 0.0) -> Subjects:
    """Add balance points and slopes with their population to the model in whose context it is called."""
    balance_point = _hierarchical(
        "balance_point",
        design,
        mean=0.0,
        mean_sd=priors.balance_point_mean_sd,
        scale=priors.balance_point_sd,
        estimate=pilot.balance_point,
        precision=pilot.balance_point_precision,
    )
    log_slope = _hierarchical(
        "log_slope",
        design,
        mean=priors.log_slope_mean,
        mean_sd=priors.log_slope_mean_sd,
        scale=priors.log_slope_sd,
        estimate=pilot.log_slope + slope_shift,
        precision=pilot.log_slope_precision,
    )
    slope = pm.Deterministic("slope", pt.exp(log_slope), dims=names.SUBJECT)
    return Subjects(pm.Deterministic("intercept", slope * balance_point, dims=names.SUBJECT), slope)


def _hierarchical(
    name: str,
    design: Design,
    *,
    mean: float,
    mean_sd: float,
    scale: float,
    estimate: Tensor | Floats,
    precision: Floats,
) -> Tensor:
    """One effect a subject around a common mean and the effects of its levels, all in informed coordinates."""
    sd = signed_scale(f"{name}_sd", scale)
    known, expected = pt.constant(precision), pt.as_tensor_variable(estimate)
    told = known / (1 + sd**2 * known)
    centre: Tensor = informed_normal(
        f"{name}_mean",
        mean=mean,
        sd=mean_sd,
        weighted_estimate=(told * expected).sum(),
        precision=told.sum(),
        dims=None,
    )
    for level, (labels, index) in design.levels.items():
        effect = informed_normal(
            f"{name}_{level}_effect",
            mean=0.0,
            sd=signed_scale(f"{name}_{level}_sd", scale),
            weighted_estimate=_sum_by(told * (expected - centre), index, len(labels)),
            precision=_sum_by(told, index, len(labels)),
            dims=f"{level}_label",
        )
        centre = centre + effect[index]
    return informed_normal(
        name, mean=centre, sd=sd, weighted_estimate=known * expected, precision=known, dims=names.SUBJECT
    )


def _sum_by(values: Tensor | Floats, index: Indices, size: int) -> Tensor:
    total: Tensor = pt.zeros(size)[index].inc(values)
    return total
