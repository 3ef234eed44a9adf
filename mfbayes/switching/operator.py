"""The hazard model's density as a PyTensor operation, so that it stands in an ordinary PyMC model."""

from collections.abc import Callable
from typing import Any

import numba as nb
import numpy as np
import pytensor.tensor as pt
from llvmlite.binding import add_symbol
from numba.core import types
from numpy.typing import NDArray
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch import basic as numba_basic

from mfbayes.compiled import named_by_sources
from mfbayes.storage import hash_content
from mfbayes.switching import kernel, transform
from mfbayes.switching.informed import Coordinates
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.structure import Structure

type Floats = NDArray[np.float64]


class SwitchingDensity(Op):
    """Log-likelihood of pairs plus the log-prior of hazards less that of their coordinates, with its gradient.

    Inputs: spread (n_scales,) and coordinate (n_parts,). Outputs: the value, the hazards' parameters, and the value's
    gradients in both inputs. The value is NaN where the mode of a group's effects is not found, which a sampler takes
    as a divergence. All is one operation that owns its data, for a sampler takes long to compile many operations and
    large constants.

    Parameters
    ----------
    likelihood : SwitchingLikelihood
        Of the pairs.
    structure : Structure
        From parts to parameters.
    place : Coordinates
        From coordinates to parts.
    """

    __props__ = ("content",)

    def __init__(self, likelihood: SwitchingLikelihood, structure: Structure, place: Coordinates) -> None:
        self.doubles, self.integers = _pack(likelihood, structure, place)
        self.n_parameters = len(structure.parameters)
        self.content = hash_content(self.doubles.tobytes(), self.integers.tobytes())

    def make_node(self, *inputs: Variable[Any, Any]) -> Apply[Any]:
        """One node for value and gradient: whoever asks for both computes them once."""
        outputs = [pt.dscalar(), pt.dvector(), pt.dvector(), pt.dvector()]
        return Apply(self, [pt.as_tensor_variable(each) for each in inputs], outputs)

    def evaluate(self, spread: Floats, coordinate: Floats) -> tuple[float, Floats, Floats, Floats]:
        """The outputs at a point, in plain arrays; many threads may ask at once."""
        addresses = self.doubles.ctypes.data, self.integers.ctypes.data
        value, *others = _evaluate(spread, coordinate, self.n_parameters, *addresses)
        return float(value), *others

    def perform(self, node: Apply[Any], inputs: Any, output_storage: Any) -> None:
        """Compute in Python; the numba backend does the same without it."""
        for storage, value in zip(output_storage, self.evaluate(*inputs), strict=True):
            storage[0] = np.asarray(value)

    def infer_shape(self, node: Apply[Any], shapes: Any) -> list[Any]:
        """Shapes of the outputs from those of the inputs."""
        return [(), (self.n_parameters,), *shapes]

    def pullback(self, inputs: Any, outputs: Any, output_gradients: Any) -> list[Any]:
        """Chain the gradient that the node has computed; second derivatives are not there."""
        return [output_gradients[0] * gradient for gradient in outputs[2:]]

    def connection_pattern(self, node: Apply[Any]) -> list[list[bool]]:
        """Only the value can be differentiated."""
        return [[True, False, False, False]] * 2


def _pack(
    likelihood: SwitchingLikelihood, structure: Structure, place: Coordinates
) -> tuple[Floats, NDArray[np.int64]]:
    """All numbers in two arrays, in the order in which `_evaluate_packed` reads them."""
    vectors = (structure.centre, place.weighted_estimate, place.precision, place.mean)
    doubles = [place.map.ravel(), place.factor.ravel(), *vectors, structure.variances.ravel(), likelihood.doubles]
    _, n_subjects, n_places = structure.level_index.shape
    sizes = [
        len(structure.parameters),
        structure.n_parts,
        len(structure.scales),
        len(structure.variances),
        n_subjects,
        n_places,
        structure.slope_index.shape[2],
        likelihood.doubles.size,
        likelihood.integers.size,
    ]
    integers = [
        np.array(sizes, dtype=np.int64),
        structure.part_kind,
        *(index.ravel() for index in (structure.level_index, structure.age_index, structure.slope_index)),
        structure.group_index.ravel(),
        likelihood.integers,
    ]
    return np.concatenate(doubles).astype(np.float64), np.concatenate(integers).astype(np.int64)


_DOUBLES, _INTEGERS = types.CPointer(types.float64), types.CPointer(types.int64)  # type: ignore[attr-defined]
_N_SIZES = 9


@nb.cfunc(types.float64(*(_DOUBLES,) * 6, _INTEGERS), cache=True)
@named_by_sources
def _evaluate_packed(spread, coordinate, hazards, by_spread, by_coordinate, doubles, integers):  # type: ignore[no-untyped-def]
    sizes = nb.carray(integers, (_N_SIZES,))
    n_parameters, n_parts, n_scales, n_kinds = sizes[0], sizes[1], sizes[2], sizes[3]
    n_subjects, n_places, n_terms, n_doubles, n_integers = sizes[4], sizes[5], sizes[6], sizes[7], sizes[8]
    n_table, n_slopes = 2 * n_subjects * n_places, 2 * n_subjects * n_terms
    n_own = n_parameters * n_parts + n_parts * n_parts + n_parameters + 3 * n_parts + n_kinds * (1 + n_scales)
    own, at = nb.carray(doubles, (n_own + n_doubles,)), 0
    to_parameters, at = own[: n_parameters * n_parts].reshape((n_parameters, n_parts)), n_parameters * n_parts
    factor, at = own[at : at + n_parts * n_parts].reshape((n_parts, n_parts)), at + n_parts * n_parts
    centre, at = own[at : at + n_parameters], at + n_parameters
    weighted, precision = own[at : at + n_parts], own[at + n_parts : at + 2 * n_parts]
    mean, at = own[at + 2 * n_parts : at + 3 * n_parts], at + 3 * n_parts
    variances, data = own[at:n_own].reshape((n_kinds, 1 + n_scales)), own[n_own:]
    n_indices = _N_SIZES + n_parts + 2 * n_table + n_slopes + 4
    index, at = nb.carray(integers, (n_indices + n_integers,)), _N_SIZES
    part_kind, at = index[at : at + n_parts], at + n_parts
    level_index, at = index[at : at + n_table], at + n_table
    age_index, at = index[at : at + n_table], at + n_table
    slope_index, at = index[at : at + n_slopes], at + n_slopes
    group_index, layout = index[at : at + 4], index[at + 4 :]

    scales_in, point = nb.carray(spread, (n_scales,)), nb.carray(coordinate, (n_parts,))
    sd, whitened, standardised = np.empty((3, n_parts))
    maps, vectors = (to_parameters, factor), (centre, weighted, precision, mean)
    value, found = transform.find_hazards(
        scales_in, point, maps, vectors, variances, part_kind, sd, whitened, standardised
    )
    nb.carray(hazards, (n_parameters,))[:] = found
    # The last entries stand for what is zero: the effect of an old age, and of groups where they have none.
    padded, padded_scales = np.append(found, 0.0), np.append(scales_in, 0.0)
    table = (padded[level_index] + padded[age_index]).reshape((2, n_subjects, n_places))
    slopes = padded[slope_index].reshape((2, n_subjects, n_terms))
    scales = padded_scales[group_index].reshape((2, 2))
    by_table, by_slopes, by_scales = np.zeros(table.shape), np.zeros(slopes.shape), np.zeros((2, 2))
    by_group = np.empty(layout[0])
    kernel.integrate_switches(table, slopes, scales, data, layout, by_table, by_slopes, by_scales, by_group)
    by_padded, by_padded_scales = np.zeros(n_parameters + 1), np.zeros(n_scales + 1)
    for i in range(n_table):
        by_padded[level_index[i]] += by_table.ravel()[i]
        by_padded[age_index[i]] += by_table.ravel()[i]
    for i in range(n_slopes):
        by_padded[slope_index[i]] += by_slopes.ravel()[i]
    for i in range(4):
        by_padded_scales[group_index[i]] += by_scales.ravel()[i]
    of_spread = nb.carray(by_spread, (n_scales,))
    of_spread[:] = by_padded_scales[:n_scales]
    transform.pull_back(
        by_padded[:n_parameters],
        scales_in,
        point,
        maps,
        vectors,
        variances,
        part_kind,
        sd,
        whitened,
        standardised,
        of_spread,
        nb.carray(by_coordinate, (n_parts,)),
    )
    return value + by_group.sum()


# Called by its name, the kernel is neither compiled nor optimised again with every model that uses it.
_SYMBOL = "mfbayes_switching_density"
add_symbol(_SYMBOL, _evaluate_packed.address)
_evaluate_external = types.ExternalFunction(_SYMBOL, types.float64(*(_DOUBLES,) * 5, types.intp, types.intp))


@nb.njit(nogil=True)
def _evaluate(spread, coordinate, n_parameters, doubles_address, integers_address):  # type: ignore[no-untyped-def]
    spread, coordinate = np.ascontiguousarray(spread), np.ascontiguousarray(coordinate)
    hazards = np.empty(n_parameters)
    by_spread, by_coordinate = np.empty(spread.size), np.empty(coordinate.size)
    value = _evaluate_external(  # type: ignore[call-overload]
        spread.ctypes,
        coordinate.ctypes,
        hazards.ctypes,
        by_spread.ctypes,
        by_coordinate.ctypes,
        doubles_address,
        integers_address,
    )
    return np.asarray(value), hazards, by_spread, by_coordinate


@numba_basic.register_funcify_and_cache_key(SwitchingDensity)  # type: ignore[no-untyped-call, untyped-decorator]
def _funcify(op: SwitchingDensity, **_: Any) -> tuple[Callable[..., Any], None]:
    n_parameters, doubles, integers = op.n_parameters, op.doubles.ctypes.data, op.integers.ctypes.data

    @numba_basic.numba_njit
    def switching_density(spread, coordinate):  # type: ignore[no-untyped-def]
        return _evaluate(spread, coordinate, n_parameters, doubles, integers)

    # Without a key it is not cached between runs: where the data lie will differ.
    return switching_density, None
