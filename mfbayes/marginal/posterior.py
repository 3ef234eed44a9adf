"""The posterior that method nuts samples: the density of `following.marginal_model`, compiled once for all fits.

A PyMC graph is compiled anew in every process, for longer than most fits are sampled. What is here is the
same density in the same coordinates (standard deviations over the scale of their prior), whose kernels are kept
between runs; a test holds value and gradient to the graph's.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from nutpie.compiled_pyfunc import from_pyfunc
from nutpie.sample import CompiledModel

from mfbayes import names
from mfbayes.compiled import compiled
from mfbayes.design import Design
from mfbayes.marginal.groups import integrate_groups
from mfbayes.marginal.hierarchy import take_back, unfold
from mfbayes.marginal.likelihood import MarginalLikelihood, marginal_likelihood, three_scales
from mfbayes.pilot import Estimates, estimate_pilot
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_PILOT_SCALE = 0.6


class Subjects(NamedTuple):
    """What places the coordinates of balance points and log slopes, one row each; see `hierarchy.unfold`."""

    prior: Floats
    estimate: Floats
    precision: Floats
    label: Indices
    n_labels: Indices


class Posterior(NamedTuple):
    """Log-density and gradient over coordinates: those of balance points, of log slopes, then spreads of groups.

    Attributes
    ----------
    subjects : Subjects
        The population.
    likelihood : MarginalLikelihood
        Of the trials, quickest near the pilot.
    group_scale : ndarray, shape (3,)
        Scales of the priors of the spreads of groups, 0 for those that the design cannot tell.
    """

    subjects: Subjects
    likelihood: MarginalLikelihood
    group_scale: Floats

    @property
    def n_dim(self) -> int:
        """Number of coordinates."""
        return 2 * self._n_each + int(np.count_nonzero(self.group_scale))

    @property
    def _n_each(self) -> int:
        n_levels, n_subjects = self.subjects.label.shape
        return int(2 + n_levels + self.subjects.n_labels.sum() + n_subjects)

    def evaluate(self, point: Floats) -> tuple[float, Floats]:
        """Log-density up to a constant, and its gradient; NaN where a group's mode is not found.

        Parameters
        ----------
        point : ndarray, shape (n_dim,)
            Coordinates, about standard normal.
        """
        gradient = np.empty_like(point)
        design, subjects = self.likelihood.design, self.subjects
        value = _evaluate(
            point,
            *subjects,
            self.group_scale,
            self.likelihood.features,
            design.is_text,
            design.cell_subject,
            design.cell_start,
            design.branch_start,
            design.group_start,
            self.likelihood.start,
            gradient,
        )
        return value, gradient

    def describe(self, point: Floats) -> dict[str, Floats]:
        """Quantities of interest at a point, by the names that `following.marginal_model` gives them."""
        design, n_each = self.likelihood.design, self._n_each
        room = np.empty(n_each)
        centre = np.empty((self.subjects.label.shape[0] + 2, design.n_subjects))
        described = {}
        for i, name in enumerate(("balance_point", "log_slope")):
            own = point[i * n_each : (i + 1) * n_each]
            prior, estimate, precision = self.subjects.prior[i], self.subjects.estimate[i], self.subjects.precision[i]
            unfold(own, prior, estimate, precision, self.subjects.label, self.subjects.n_labels, centre, room)
            described[name] = centre[-1].copy()
            described[f"{name}_mean"] = np.array(centre[0, 0])
            described |= {
                f"{name}{level}_sd": np.array(abs(prior[2] * own[s]))
                for s, level in enumerate(["", *(f"_{level}" for level in design.levels)])
            }
        described["slope"] = np.exp(described.pop("log_slope"))
        described["intercept"] = described["slope"] * described["balance_point"]
        sds = np.abs(point[2 * n_each :]) * self.group_scale[self.group_scale > 0]
        return described | {name: np.array(sd) for name, sd in zip(design.group_scales, sds, strict=True)}


def form_posterior(design: Design, *, priors: Priors | None = None) -> Posterior:
    """The posterior of a design with the effects of groups integrated out.

    Parameters
    ----------
    design : Design
        Trials, laid out.
    priors : Priors, optional
        Scales of the priors.
    """
    scales, pilot = priors or Priors(), estimate_pilot(design)
    levels = list(design.levels.values())
    subjects = Subjects(
        prior=np.array(
            [
                [0.0, scales.balance_point_mean_sd, scales.balance_point_sd],
                [scales.log_slope_mean, scales.log_slope_mean_sd, scales.log_slope_sd],
            ]
        ),
        estimate=np.stack([pilot.balance_point, pilot.log_slope]),
        precision=np.stack([pilot.balance_point_precision, pilot.log_slope_precision]),
        label=np.array([index for _, index in levels], dtype=np.int64).reshape(len(levels), design.n_subjects),
        n_labels=np.array([len(labels) for labels, _ in levels], dtype=np.int64),
    )
    group_scale = three_scales(design, [getattr(scales, name) for name in design.group_scales])
    return Posterior(subjects, likelihood_near(design, pilot), group_scale)


def likelihood_near(design: Design, pilot: Estimates) -> MarginalLikelihood:
    """The marginal likelihood with modes of effects sought from where rough estimates have them."""
    slope = np.exp(pilot.log_slope)
    guess = three_scales(design, np.full(len(design.group_scales), _PILOT_SCALE))
    return marginal_likelihood(design).started_at(np.column_stack([slope * pilot.balance_point, slope]), guess)


def compile_posterior(design: Design, *, priors: Priors | None = None) -> CompiledModel:
    """The posterior as nutpie samples it, with named dims.

    Parameters
    ----------
    design : Design
        Trials, laid out.
    priors : Priors, optional
        Scales of the priors.
    """
    posterior = form_posterior(design, priors=priors)
    described = posterior.describe(np.zeros(posterior.n_dim))

    def make_describe(*_: int) -> Callable[[Floats], dict[str, Floats]]:
        return posterior.describe

    return from_pyfunc(
        posterior.n_dim,
        lambda: posterior.evaluate,
        make_describe,
        [np.dtype(np.float64)] * len(described),
        [value.shape for value in described.values()],
        list(described),
        coords={names.SUBJECT: pd.Index(design.subjects)},
        dims={name: (names.SUBJECT,) for name, value in described.items() if value.ndim},
        make_initial_point_fn=lambda seed: np.random.default_rng(seed).uniform(-1, 1, posterior.n_dim),
    )


@compiled()
def _evaluate(  # type: ignore[no-untyped-def]
    point,
    prior,
    estimate,
    precision,
    label,
    n_labels,
    group_scale,
    features,
    is_text,
    cell_subject,
    cell_start,
    branch_start,
    group_start,
    start,
    gradient,
):
    n_levels, n_subjects = label.shape
    n_each = 2 + n_levels + n_labels.sum() + n_subjects
    centre, z = np.empty((2, n_levels + 2, n_subjects)), np.empty((2, n_each))
    log_density = 0.0
    for i in range(2):
        own = point[i * n_each : (i + 1) * n_each]
        log_density += unfold(own, prior[i], estimate[i], precision[i], label, n_labels, centre[i], z[i])
    balance_point, log_slope = centre[0, n_levels + 1], centre[1, n_levels + 1]
    coefficients = np.empty((n_subjects, 2))
    for s in range(n_subjects):
        coefficients[s, 1] = np.exp(log_slope[s])
        coefficients[s, 0] = coefficients[s, 1] * balance_point[s]
    sds, at = np.zeros(group_scale.size), 2 * n_each
    for k in range(group_scale.size):
        if group_scale[k] > 0:
            sds[k] = group_scale[k] * point[at]
            log_density -= 0.5 * point[at] ** 2
            at += 1
    by_coefficient, by_sd = np.zeros((n_subjects, 2)), np.zeros(sds.size)
    by_group, nothing = np.empty(group_start.size - 1), np.empty(0)
    integrate_groups(
        0,
        by_group.size,
        coefficients,
        features,
        nothing,
        is_text,
        cell_subject,
        cell_start,
        branch_start,
        group_start,
        sds,
        start,
        by_coefficient,
        nothing,
        by_sd,
        by_group,
    )
    by_value = np.empty((2, n_subjects))
    for s in range(n_subjects):
        slope = coefficients[s, 1]
        by_value[0, s] = slope * by_coefficient[s, 0]
        by_value[1, s] = slope * (balance_point[s] * by_coefficient[s, 0] + by_coefficient[s, 1])
    for i in range(2):
        places = slice(i * n_each, (i + 1) * n_each)
        take_back(
            point[places],
            prior[i],
            estimate[i],
            precision[i],
            label,
            n_labels,
            centre[i],
            z[i],
            by_value[i],
            gradient[places],
        )
    at = 2 * n_each
    for k in range(group_scale.size):
        if group_scale[k] > 0:
            gradient[at] = group_scale[k] * by_sd[k] - point[at]
            at += 1
    return log_density + by_group.sum()
