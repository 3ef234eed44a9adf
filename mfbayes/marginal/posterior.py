"""The posterior that method nuts samples: the density of `following.marginal_model`, compiled once for all fits.

A PyMC graph is compiled anew in every process, for longer than most fits are sampled. What is here is the
same density in the same coordinates (standard deviations over the scale of their prior), whose kernels are kept
between runs; a test holds value and gradient to the graph's. The sampler calls them as C functions: chains that went
through the interpreter would wait for its lock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import pandas as pd
from numba.core import types
from numpy.typing import NDArray
from nutpie.compile_pymc import CompiledPyMCModel
from nutpie.sample import CompiledModel

from mfbayes import names
from mfbayes.compiled import compiled, named_by_sources
from mfbayes.design import Design
from mfbayes.marginal.groups import integrate_groups
from mfbayes.marginal.hierarchy import take_back, unfold
from mfbayes.marginal.likelihood import MarginalLikelihood, marginal_likelihood, three_scales
from mfbayes.pilot import Estimates, estimate_pilot
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_PILOT_SCALE = 0.6
_N_DOUBLES, _N_INTEGERS = 7, 6
_N_HEAD = 1 + _N_DOUBLES + _N_INTEGERS
_REFUSED = 1  # from a density it ends a path as a divergence, from quantities it ends the chain


class Subjects(NamedTuple):
    """What places the coordinates of balance points and log slopes, one row each; see `hierarchy.unfold`."""

    prior: Floats
    estimate: Floats
    precision: Floats
    label: Indices
    n_labels: Indices


class Packed(NamedTuple):
    """All arrays of a posterior, one behind the other; `_unpack` takes them apart.

    Attributes
    ----------
    doubles : ndarray
    integers : ndarray
        The number of subjects and the end of every array among its kind, then the arrays.
    """

    doubles: Floats
    integers: Indices

    def find(self) -> NDArray[np.uintp]:
        """Addresses of both, which hold as long as they do."""
        return np.array([each.ctypes.data for each in self], dtype=np.uintp)


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
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
        n_levels, n_subjects = self.subjects.label.shape
        n_each = 2 + n_levels + self.subjects.n_labels.sum() + n_subjects
        return int(2 * n_each + np.count_nonzero(self.group_scale))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the quantities of interest, in the order and by the names of `describe`."""
        design = self.likelihood.design
        levels = ["", *(f"_{level}" for level in design.levels)]
        shapes: dict[str, tuple[int, ...]] = {}
        for name in ("balance_point", "slope", "intercept"):
            shapes[name] = (design.n_subjects,)
        for name in ("balance_point", "log_slope"):
            shapes |= {f"{name}_mean": ()} | {f"{name}{level}_sd": () for level in levels}
        return shapes | dict.fromkeys(design.group_scales, ())

    @cached_property
    def packed(self) -> Packed:
        """All arrays that the C functions read."""
        subjects, likelihood, d = self.subjects, self.likelihood, self.likelihood.design
        doubles = [subjects.prior, subjects.estimate, subjects.precision, self.group_scale]
        doubles += [likelihood.features, d.is_text, likelihood.start]
        integers = [subjects.label, subjects.n_labels, d.cell_subject, d.cell_start, d.branch_start, d.group_start]
        ends = [np.cumsum([each.size for each in arrays]) for arrays in (doubles, integers)]
        packed = Packed(
            np.concatenate([each.ravel() for each in doubles], dtype=np.float64),
            np.concatenate([subjects.label.shape[1:], *ends, *(each.ravel() for each in integers)], dtype=np.int64),
        )
        for each in packed:
            each.flags.writeable = False
        return packed

    def evaluate(self, point: Floats) -> tuple[float, Floats]:
        """Log-density up to a constant, and its gradient; NaN where a group's mode is not found.

        Parameters
        ----------
        point : ndarray, shape (n_dim,)
            Coordinates, about standard normal.

        Raises
        ------
        ValueError
            For another number of coordinates.
        """
        value, gradient = np.full(1, np.nan), np.full(self.n_dim, np.nan)
        _call(_kernels().density, self.n_dim, self._check(point), gradient, value, self.packed.find())
        return float(value[0]), gradient

    def describe(self, point: Floats) -> dict[str, Floats]:
        """Quantities of interest at a point, by the names that `following.marginal_model` gives them."""
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        flat = np.full(sum(sizes), np.nan)
        _call(_kernels().quantities, self.n_dim, flat.size, self._check(point), flat, self.packed.find())
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def _check(self, point: Floats) -> Floats:
        if point.shape != (self.n_dim,):
            raise ValueError(f"Expected {self.n_dim} coordinates, got an array of shape {point.shape}.")
        return np.ascontiguousarray(point, dtype=np.float64)


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
    return Posterior(subjects=subjects, likelihood=likelihood_near(design, pilot), group_scale=group_scale)


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
    return compile_density(form_posterior(design, priors=priors), subjects=design.subjects)


def compile_density(posterior: Posterior, *, subjects: Sequence[str]) -> CompiledModel:
    """A posterior as nutpie samples it, with named dims.

    Parameters
    ----------
    posterior : Posterior
        Log-density and quantities.
    subjects : sequence of str, length n_subjects
        Labels of the subjects.
    """
    shapes, packed, kernels = posterior.shapes, posterior.packed, _kernels()
    n_dim = posterior.n_dim
    # What nutpie makes of a PyMC graph, with our C functions in place of those that it compiles. What only its compiler
    # reads is None. It holds the arrays that the addresses in `user_data` lead to as `shared_data`.
    return CompiledPyMCModel(
        _n_dim=n_dim,
        dims={name: (names.SUBJECT,) for name, shape in shapes.items() if shape},
        _coords={names.SUBJECT: pd.Index(subjects)},
        _shapes=shapes,
        compiled_logp_func=kernels.density,
        compiled_expand_func=kernels.quantities,
        initial_point_func=lambda seed: np.random.default_rng(seed).uniform(-1, 1, n_dim),
        user_data=packed.find(),
        shared_data=packed._asdict(),
        shared_var_keys={},
        n_expanded=sum(int(np.prod(shape)) for shape in shapes.values()),
        shape_info=(list(shapes), None, list(shapes.values())),
        logp_func=None,
        expand_func=None,
    )


class _Kernels(NamedTuple):
    density: Any
    quantities: Any


_DOUBLES = types.CPointer(types.float64)  # type: ignore[attr-defined]
_PACKED = types.CPointer(_DOUBLES)  # type: ignore[attr-defined]
# As nutpie calls them.
_DENSITY = types.int64(types.uint64, _DOUBLES, _DOUBLES, _DOUBLES, _PACKED)
_QUANTITIES = types.int64(types.uint64, types.uint64, _DOUBLES, _DOUBLES, _PACKED)


@cache
def _kernels() -> _Kernels:
    """Both as C functions, compiled or taken from those kept."""
    return _Kernels(
        density=nb.cfunc(_DENSITY, cache=True, error_model="numpy")(_evaluate),
        quantities=nb.cfunc(_QUANTITIES, cache=True, error_model="numpy")(_describe),
    )


def _call(kernel: Any, *arguments: int | NDArray[Any]) -> None:
    """Call a C function on contiguous arrays."""
    kinds = kernel.ctypes.argtypes
    kernel.ctypes(
        *(own if isinstance(own, int) else own.ctypes.data_as(kind) for own, kind in zip(arguments, kinds, strict=True))
    )


# An exception that left a C function would be taken for success.
@named_by_sources
def _evaluate(n_dim, point, gradient, value, packed):  # type: ignore[no-untyped-def]
    try:
        nb.carray(value, (1,))[0] = _evaluate_packed(nb.carray(point, (n_dim,)), nb.carray(gradient, (n_dim,)), packed)
    except Exception:
        return _REFUSED
    return 0 if np.isfinite(nb.carray(value, (1,))[0]) else _REFUSED


@named_by_sources
def _describe(n_dim, n_values, point, values, packed):  # type: ignore[no-untyped-def]
    try:
        _describe_packed(nb.carray(point, (n_dim,)), nb.carray(values, (n_values,)), packed)
    except Exception:
        return _REFUSED
    return 0


@compiled()
def _evaluate_packed(point, gradient, packed):  # type: ignore[no-untyped-def]
    return _find_density(point, gradient, *_unpack(packed))


@compiled()
def _describe_packed(point, values, packed):  # type: ignore[no-untyped-def]
    _find_quantities(point, values, *_unpack(packed)[:6])


@compiled()
def _unpack(packed):  # type: ignore[no-untyped-def]
    """The arrays of `Packed`, in the order in which the kernels take them."""
    head = nb.carray(packed[1], (_N_HEAD,)).view(np.int64)
    n_subjects, d, i = head[0], head[1 : 1 + _N_DOUBLES], head[1 + _N_DOUBLES :]
    doubles = nb.carray(packed[0], (d[-1],))
    integers = nb.carray(packed[1], (_N_HEAD + i[-1],)).view(np.int64)[_N_HEAD:]
    return (
        doubles[: d[0]].reshape((2, 3)),
        doubles[d[0] : d[1]].reshape((2, n_subjects)),
        doubles[d[1] : d[2]].reshape((2, n_subjects)),
        doubles[d[2] : d[3]],
        integers[: i[0]].reshape((i[1] - i[0], n_subjects)),
        integers[i[0] : i[1]],
        doubles[d[3] : d[4]].reshape((2, d[5] - d[4])),
        doubles[d[4] : d[5]],
        doubles[d[5] :],
        integers[i[1] : i[2]],
        integers[i[2] : i[3]],
        integers[i[3] : i[4]],
        integers[i[4] :],
    )


@compiled()
def _find_quantities(  # type: ignore[no-untyped-def]
    point, values, prior, estimate, precision, group_scale, label, n_labels
):
    """On return the quantities of `Posterior.shapes`, one behind the other."""
    n_levels, n_subjects = label.shape
    n_each = 2 + n_levels + n_labels.sum() + n_subjects
    centre, z = np.empty((n_levels + 2, n_subjects)), np.empty(n_each)
    by_subject, at = values[: 3 * n_subjects].reshape((3, n_subjects)), 3 * n_subjects
    for i in range(2):
        own = point[i * n_each : (i + 1) * n_each]
        unfold(own, prior[i], estimate[i], precision[i], label, n_labels, centre, z)
        by_subject[i] = centre[n_levels + 1]
        values[at] = centre[0, 0]
        for level in range(1 + n_levels):
            values[at + 1 + level] = abs(prior[i, 2] * own[level])
        at += 2 + n_levels
    by_subject[1] = np.exp(by_subject[1])
    by_subject[2] = by_subject[1] * by_subject[0]
    place = 2 * n_each
    for k in range(group_scale.size):
        if group_scale[k] > 0:
            values[at] = abs(group_scale[k] * point[place])
            at += 1
            place += 1


@compiled()
def _find_density(  # type: ignore[no-untyped-def]
    point,
    gradient,
    prior,
    estimate,
    precision,
    group_scale,
    label,
    n_labels,
    features,
    is_text,
    start,
    cell_subject,
    cell_start,
    branch_start,
    group_start,
):
    """Log-density, and on return its gradient."""
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
