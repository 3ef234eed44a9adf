"""The log-likelihood of pairs of layers as a PyTensor operation, so that it stands in an ordinary PyMC model."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numba as nb
import numpy as np
import pytensor.tensor as pt
from llvmlite.binding import add_symbol
from numba.core import types
from numpy.typing import NDArray
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch import basic as numba_basic
from pytensor.tensor.variable import TensorVariable

from mfbayes.marginal import kernel as marginal_kernel
from mfbayes.storage import hash_content
from mfbayes.switching import kernel
from mfbayes.switching.layout import Layout

type Floats = NDArray[np.float64]
type Tensor = TensorVariable[Any, Any]

# Other kernel, other name.
_VERSION = zlib.crc32(
    b"".join(Path(file).read_bytes() for file in (kernel.__file__, marginal_kernel.__file__, __file__))
)


class Evaluation(NamedTuple):
    """Log-likelihood and its derivatives.

    Attributes
    ----------
    value : float
        NaN where the mode of a group's effects is not found.
    table, slopes, scales : ndarray
        Derivatives, each in the shape of what it belongs to.
    by_group : ndarray, shape (n_groups,)
        The value's parts.
    """

    value: float
    table: Floats
    slopes: Floats
    scales: Floats
    by_group: Floats


class SwitchingLikelihood(Op):
    """Log-likelihood of pairs with its gradient in the table of hazards, slopes and standard deviations of groups.

    Inputs: table (2, n_subjects, n_places), slopes (2, n_subjects, n_terms) and scales (2, 2). Outputs: the value and
    its three gradients. The value is NaN where a mode is not found, which a sampler takes as a divergence. The
    operation owns its data, see `mfbayes.marginal.operator.LaplaceMarginal`.

    Parameters
    ----------
    layout : Layout
        The pairs.
    effects : ndarray, shape (2, n_cells)
        Estimates of the effects of group and subject, at which gaps are crossed.
    scores : ndarray, shape (2, n_cells)
        Scores of the cells from which modes are sought: the nearer, the faster, and nothing else.
    """

    __props__ = ("content",)

    def __init__(self, layout: Layout, *, effects: Floats, scores: Floats) -> None:
        self.doubles, self.integers = _pack(layout, effects, scores)
        self.content = hash_content(self.doubles.tobytes(), self.integers.tobytes())

    def make_node(self, *inputs: Variable[Any, Any]) -> Apply[Any]:
        """One node for value and gradient: whoever asks for both computes them once."""
        outputs = [pt.dscalar(), pt.dtensor3(), pt.dtensor3(), pt.dmatrix()]
        return Apply(self, [pt.as_tensor_variable(each) for each in inputs], outputs)

    def evaluate(self, table: Floats, slopes: Floats, scales: Floats) -> Evaluation:
        """The value with its parts and derivatives, outside of any graph."""
        inputs = [np.ascontiguousarray(each, dtype=np.float64) for each in (table, slopes, scales)]
        of_table, of_slopes, of_scales = (np.zeros_like(each) for each in inputs)
        by_group = np.zeros(self.integers[0])
        kernel.integrate_switches(*inputs, self.doubles, self.integers, of_table, of_slopes, of_scales, by_group)
        return Evaluation(float(by_group.sum()), of_table, of_slopes, of_scales, by_group)

    def perform(self, node: Apply[Any], inputs: Any, output_storage: Any) -> None:
        """Compute in Python; the numba backend does the same without it."""
        for storage, value in zip(output_storage, self.evaluate(*inputs), strict=False):
            storage[0] = np.asarray(value)

    def infer_shape(self, node: Apply[Any], shapes: Any) -> list[Any]:
        """Shapes of the outputs from those of the inputs."""
        return [(), *shapes]

    def pullback(self, inputs: Any, outputs: Any, output_gradients: Any) -> list[Any]:
        """Chain the gradients that the node has computed; second derivatives are not there."""
        return [output_gradients[0] * gradient for gradient in outputs[1:]]

    def connection_pattern(self, node: Apply[Any]) -> list[list[bool]]:
        """Only the value can be differentiated."""
        return [[True, False, False, False]] * 3


def _pack(layout: Layout, effects: Floats, scores: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """The data in two arrays, for the time to compile a sampler grows with their number."""
    gaps, (text, image) = layout.gaps, layout.rows
    sizes = [
        layout.group_start.size - 1,
        layout.cell_subject.size,
        len(layout.features),
        gaps.layer.size,
        layout.has_groups,
        text.place.size,
        image.place.size,
    ]
    integers = [
        np.array(sizes, dtype=np.int64),
        *(layout.group_start, layout.cell_start, layout.cell_subject),
        *(text.start, text.place, image.start, image.place),
        *(gaps.start, gaps.layer, gaps.length, gaps.age, gaps.side, gaps.end),
    ]
    doubles = [
        layout.features.ravel(),
        *(text.count, text.switches, image.count, image.switches),
        *(scores.ravel(), effects.ravel(), gaps.count),
    ]
    return np.concatenate(doubles).astype(np.float64), np.concatenate(integers).astype(np.int64)


_DOUBLES, _INTEGERS = types.CPointer(types.float64), types.CPointer(types.int64)  # type: ignore[attr-defined]
_SIGNATURE = types.float64(_INTEGERS, *(_DOUBLES,) * 7, _INTEGERS)


@nb.cfunc(_SIGNATURE, cache=True)
def _integrate_packed(  # type: ignore[no-untyped-def]
    sizes, table, slopes, scales, table_gradient, slope_gradient, scale_gradient, doubles, integers
):
    shapes = nb.carray(sizes, (5,))
    n_subjects, n_places, n_terms = shapes[0], shapes[1], shapes[2]
    packed = nb.carray(integers, (shapes[4],))
    by_group = np.empty(packed[0])
    kernel.integrate_switches(
        nb.carray(table, (2, n_subjects, n_places)),
        nb.carray(slopes, (2, n_subjects, n_terms)),
        nb.carray(scales, (2, 2)),
        nb.carray(doubles, (shapes[3],)),
        packed,
        nb.carray(table_gradient, (2, n_subjects, n_places)),
        nb.carray(slope_gradient, (2, n_subjects, n_terms)),
        nb.carray(scale_gradient, (2, 2)),
        by_group,
    )
    return by_group.sum()


# Called by its name, the kernel is neither compiled nor optimised again with every model that uses it.
_SYMBOL = f"mfbayes_switching_likelihood_{_VERSION}"
add_symbol(_SYMBOL, _integrate_packed.address)
_integrate_external = types.ExternalFunction(
    _SYMBOL, types.float64(_INTEGERS, *(_DOUBLES,) * 6, types.intp, types.intp)
)


@nb.njit
def _integrate(table, slopes, scales, doubles_address, n_doubles, integers_address, n_integers):  # type: ignore[no-untyped-def]
    table, slopes, scales = np.ascontiguousarray(table), np.ascontiguousarray(slopes), np.ascontiguousarray(scales)
    table_gradient, slope_gradient = np.zeros(table.shape), np.zeros(slopes.shape)
    scale_gradient = np.zeros(scales.shape)
    sizes = np.array([table.shape[1], table.shape[2], slopes.shape[2], n_doubles, n_integers])
    value = _integrate_external(  # type: ignore[call-overload]
        sizes.ctypes,
        table.ctypes,
        slopes.ctypes,
        scales.ctypes,
        table_gradient.ctypes,
        slope_gradient.ctypes,
        scale_gradient.ctypes,
        doubles_address,
        integers_address,
    )
    return np.asarray(value), table_gradient, slope_gradient, scale_gradient


@numba_basic.register_funcify_and_cache_key(SwitchingLikelihood)  # type: ignore[no-untyped-call, untyped-decorator]
def _funcify(op: SwitchingLikelihood, **_: Any) -> tuple[Callable[..., Any], None]:
    doubles, n_doubles = op.doubles.ctypes.data, op.doubles.size
    integers, n_integers = op.integers.ctypes.data, op.integers.size

    @numba_basic.numba_njit
    def switching_likelihood(table, slopes, scales):  # type: ignore[no-untyped-def]
        return _integrate(table, slopes, scales, doubles, n_doubles, integers, n_integers)

    # Without a key it is not cached between runs: where the data lie will differ.
    return switching_likelihood, None


def log_likelihood(likelihood: SwitchingLikelihood, *, table: Tensor, slopes: Tensor, scales: Tensor) -> Tensor:
    """Log-likelihood of symbolic hazards, differentiable once in each.

    Parameters
    ----------
    likelihood : SwitchingLikelihood
        Of the pairs.
    table : tensor, shape (2, n_subjects, n_places)
        Logit hazards by side, subject and place, where the terms are zero.
    slopes : tensor, shape (2, n_subjects, n_terms)
        Coefficients of the terms.
    scales : tensor, shape (2, 2)
        By side, the standard deviations of the effects of group, and of group and subject.
    """
    return cast("Tensor", likelihood.make_node(table, slopes, scales).outputs[0])
