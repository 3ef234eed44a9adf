r"""The following model: how relative uncertainty and inherent preference decide whom a model follows.

For trial i of subject m (a model on one task) and item group g

.. math::
    \operatorname{logit} P(choice_i = text) = \kappa_m (b_m - dH_i) + u_g + v_{gm}

with balance points b_m ~ N(mu_b, sigma_b), slopes log kappa_m ~ N(mu_k, sigma_k), and group effects
u_g ~ N(0, sigma_g), v_gm ~ N(0, sigma_gm), since the trials of a group share one scene and one text.

References
----------
Zhang et al., "When Modalities Conflict: How Unimodal Reasoning Uncertainty Governs Preference
Dynamics in MLLMs", arXiv:2511.02243.
Gorinova, Moore and Hoffman, "Automatic Reparameterisation of Probabilistic Programs", ICML 2020,
arXiv:1906.03028, for coordinates between the centred and the non-centred form.
"""

from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from mfbayes import names
from mfbayes.pilot import estimate_roughly
from mfbayes.trials import label_groups

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]
type Tensor = TensorVariable[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Priors:
    """Scales of the priors, on dH for balance points and in log-odds for group effects."""

    balance_point_mean_sd: float = 0.75
    balance_point_sd: float = 0.5
    log_slope_mean: float = log(2)
    log_slope_mean_sd: float = 0.7
    log_slope_sd: float = 0.5
    group_sd: float = 1.0
    group_model_sd: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Design:
    """Trials as arrays: which subject and group each belongs to, its dH and whether text was followed.

    A cell is a pair of subject and group that has a trial.
    """

    subjects: tuple[str, ...]
    subject_model: tuple[str, ...]
    subject_task: tuple[str, ...]
    groups: tuple[str, ...]
    uncertainty: Floats
    is_text: Floats
    trial_subject: Indices
    trial_group: Indices

    @cached_property
    def has_repeats(self) -> bool:
        """Whether some group has two trials of one subject, without which v cannot be told from noise."""
        return self.cell_subject.size < self.uncertainty.size

    @cached_property
    def cell_subject(self) -> Indices:
        """Subject of each cell, shape (n_cells,)."""
        return self._cells[0] // len(self.groups)

    @cached_property
    def cell_group(self) -> Indices:
        """Group of each cell, shape (n_cells,)."""
        return self._cells[0] % len(self.groups)

    @cached_property
    def trial_cell(self) -> Indices:
        """Cell of each trial, shape (n_trials,)."""
        return self._cells[1]

    @cached_property
    def _cells(self) -> tuple[Indices, Indices]:
        codes, cell = np.unique(self.trial_subject * len(self.groups) + self.trial_group, return_inverse=True)
        return codes, cell


def lay_out(trials: pd.DataFrame) -> Design:
    """Lay selected trials out as arrays; choices of neither answer are left out.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.trials.Selection`. A subject stays even if all its choices are `other`.
    """
    subjects = trials[[names.SUBJECT, names.MODEL, names.TASK]].drop_duplicates(names.SUBJECT)
    subjects = subjects.sort_values([names.TASK, names.MODEL])
    fitted = trials[trials[names.CHOICE] != names.OTHER]
    group_labels = label_groups(trials)[fitted.index]
    groups = sorted(set(group_labels))
    return Design(
        subjects=tuple(subjects[names.SUBJECT]),
        subject_model=tuple(subjects[names.MODEL]),
        subject_task=tuple(subjects[names.TASK]),
        groups=tuple(groups),
        uncertainty=fitted[names.DH].to_numpy(np.float64),
        is_text=np.where(fitted[names.CHOICE] == names.TEXT, 1.0, 0.0),
        trial_subject=pd.Index(subjects[names.SUBJECT]).get_indexer(fitted[names.SUBJECT]).astype(np.int64),
        trial_group=pd.Index(groups).get_indexer(group_labels).astype(np.int64),
    )


def following_model(design: Design, *, priors: Priors | None = None) -> pm.Model:
    """Build the following model as a PyMC graph with named dims.

    Parameters
    ----------
    design : Design
        Trials; without repeats in any cell the effects v are left out.
    priors : Priors, optional
        Scales of the priors.

    Returns
    -------
    pymc.Model
        Free variables are standard normal coordinates (names ending in `_coordinate`) and signed
        scales (`_signed`); the quantities of interest are deterministic. Since the priors of the effects enter
        through potentials, the model can be sampled but not simulated forwards.
    """
    scales = priors or Priors()
    pilot = estimate_roughly(
        design.uncertainty,
        design.is_text,
        trial_cell=design.trial_cell,
        cell_subject=design.cell_subject,
        n_subjects=len(design.subjects),
    )
    coords = {
        "subject": list(design.subjects),
        "group": list(design.groups),
        "cell": np.arange(design.cell_subject.size),
        "trial": np.arange(design.uncertainty.size),
    }
    with pm.Model(coords=coords, check_bounds=False) as model:
        balance_point = _hierarchical(
            "balance_point",
            mean=0.0,
            mean_sd=scales.balance_point_mean_sd,
            sd=_signed_scale("balance_point_sd", scales.balance_point_sd),
            estimate=pilot.balance_point,
            precision=pilot.balance_point_precision,
        )
        log_slope = _hierarchical(
            "log_slope",
            mean=scales.log_slope_mean,
            mean_sd=scales.log_slope_mean_sd,
            sd=_signed_scale("log_slope_sd", scales.log_slope_sd),
            estimate=pilot.log_slope,
            precision=pilot.log_slope_precision,
        )
        slope = pm.Deterministic("slope", pt.exp(log_slope), dims="subject")
        intercept = pm.Deterministic("intercept", slope * balance_point, dims="subject")

        # What a cell's data say of u + v, once its subject's line is taken away.
        pilot_slope = np.exp(pilot.log_slope)[design.cell_subject]
        line = intercept[design.cell_subject] - (slope[design.cell_subject] - pilot_slope) * pilot.cell_uncertainty
        excess = pilot.cell_intercept - line
        group_sd = _signed_scale("group_sd", scales.group_sd)
        cell_sd = _signed_scale("group_model_sd", scales.group_model_sd) if design.has_repeats else 0.0
        told = pilot.cell_precision / (1 + cell_sd**2 * pilot.cell_precision)
        told_of_group = _sum_by(told, design.cell_group, len(design.groups))
        group_effect = _informed_normal(
            "group_effect",
            mean=0.0,
            sd=group_sd,
            weighted_estimate=_sum_by(told * excess, design.cell_group, len(design.groups)),
            precision=told_of_group,
            dims="group",
        )
        cell_effect = group_effect[design.cell_group]
        if design.has_repeats:
            cell_effect = cell_effect + _informed_normal(
                "cell_effect",
                mean=0.0,
                sd=cell_sd,
                weighted_estimate=pilot.cell_precision * (excess - cell_effect),
                precision=pilot.cell_precision,
                dims="cell",
            )
        level = intercept[design.cell_subject] + cell_effect
        logit_p = level[design.trial_cell] - slope[design.trial_subject] * design.uncertainty
        pm.Bernoulli("is_text", logit_p=logit_p, observed=design.is_text, dims="trial")
    return model


def _signed_scale(name: str, scale: float) -> Tensor:
    """A half-normal standard deviation as the size of a normal variable, whose sign means nothing.

    Every formula here is smooth in the signed variable, also through zero; the logarithm, in which
    a standard deviation near zero has no end to go to, would mix slowly there.
    """
    signed: Tensor = pm.Normal(f"{name}_signed", 0, scale)
    pm.Deterministic(name, pt.abs(signed))
    return signed


def _hierarchical(name: str, *, mean: float, mean_sd: float, sd: Tensor, estimate: Floats, precision: Floats) -> Tensor:
    """One effect a subject around a common mean, both in informed coordinates."""
    told = precision / (1 + sd**2 * precision)
    common = _informed_normal(
        f"{name}_mean",
        mean=mean,
        sd=mean_sd,
        weighted_estimate=(told * estimate).sum(),
        precision=told.sum(),
        dims=None,
    )
    return _informed_normal(
        name, mean=common, sd=sd, weighted_estimate=precision * estimate, precision=precision, dims="subject"
    )


def _informed_normal(
    name: str,
    *,
    mean: Tensor | float,
    sd: Tensor | float,
    weighted_estimate: Tensor | Floats,
    precision: Tensor | Floats,
    dims: str | None,
) -> Tensor:
    """A normal variable in the coordinates in which its posterior is roughly standard normal.

    If the data said N(estimate, 1 / precision), the coordinate would be exactly standard normal for
    every value of `mean` and `sd`, and no funnel would be left. The change of variables is exact
    whatever the data say: precision 0 is the non-centred form, precision infinite the centred one.
    """
    coordinate = pm.Normal(f"{name}_coordinate", dims=dims)
    narrowing = 1 + sd**2 * precision
    standardised = sd * (weighted_estimate - precision * mean) / narrowing + coordinate / pt.sqrt(narrowing)
    pm.Potential(f"{name}_prior", 0.5 * (coordinate**2 - standardised**2 - pt.log(narrowing)).sum())
    variable: Tensor = pm.Deterministic(name, mean + sd * standardised, dims=dims)
    return variable


def _sum_by(values: Tensor | Floats, index: Indices, size: int) -> Tensor:
    total: Tensor = pt.zeros(size)[index].inc(values)
    return total
