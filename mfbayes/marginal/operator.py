"""The marginal likelihood as a PyTensor operation, so that it stands in an ordinary PyMC model."""

from collections.abc import Callable
from typing import Any, cast

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

from mfbayes.compiled import named_by_sources
from mfbayes.marginal import groups
from mfbayes.marginal.likelihood import MarginalLikelihood
from mfbayes.storage import hash_content


class LaplaceMarginal(Op):
    """Marginal log-likelihood with its gradient, of coefficients and standard deviations of effects.

    Inputs: coefficients (n_subjects, n_features) and scales (3,). Outputs: the log-likelihood, its
    gradient in the coefficients and its gradient in the scales. The value is NaN where a mode is not
    found, which a sampler takes as a divergence. The operation owns its data: as inputs of the graph
    they would make every sampler slower to compile.

    Parameters
    ----------
    likelihood : MarginalLikelihood
        Of the data.
    """

    __props__ = ("content",)

    def __init__(self, likelihood: MarginalLikelihood) -> None:
        self.doubles, self.integers = _pack(likelihood)
        self.content = hash_content(self.doubles.tobytes(), self.integers.tobytes())

    def make_node(self, *inputs: Variable[Any, Any]) -> Apply[Any]:
        """One node for value and gradient: whoever asks for both computes them once."""
        return Apply(self, [pt.as_tensor_variable(each) for each in inputs], [pt.dscalar(), pt.dmatrix(), pt.dvector()])

    def perform(self, node: Apply[Any], inputs: Any, output_storage: Any) -> None:
        """Compute in Python; the numba backend does the same without it."""
        addresses = self.doubles.ctypes.data, self.integers.ctypes.data
        for storage, value in zip(output_storage, _integrate(*inputs, *addresses), strict=True):
            storage[0] = np.asarray(value)

    def infer_shape(self, node: Apply[Any], shapes: Any) -> list[Any]:
        """Shapes of the outputs from those of the inputs."""
        return [(), shapes[0], shapes[1]]

    def pullback(self, inputs: Any, outputs: Any, output_gradients: Any) -> list[Any]:
        """Chain the gradient that the node has computed; second derivatives are not there."""
        return [output_gradients[0] * outputs[1], output_gradients[0] * outputs[2]]

    def connection_pattern(self, node: Apply[Any]) -> list[list[bool]]:
        """Only the value can be differentiated."""
        return [[True, False, False], [True, False, False]]


_DOUBLES, _INTEGERS = types.CPointer(types.float64), types.CPointer(types.int64)  # type: ignore[attr-defined]
_SIGNATURE = types.float64(types.int64, types.int64, *(_DOUBLES,) * 5, _INTEGERS)


def _pack(likelihood: MarginalLikelihood) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The data in two arrays, for the time to compile a sampler grows with their number."""
    d = likelihood.design
    sizes = np.array([d.n_trials, d.cell_subject.size, d.branch_group.size, d.group_start.size - 1])
    doubles = np.concatenate([d.is_text, likelihood.start, likelihood.features.ravel()])
    return doubles, np.concatenate([sizes, d.cell_subject, d.cell_start, d.branch_start, d.group_start])


@nb.cfunc(_SIGNATURE, cache=True)
@named_by_sources
def _integrate_packed(  # type: ignore[no-untyped-def]
    n_subjects, n_features, coefficients, scales, gradient, scale_gradient, doubles, integers
):
    n_trials, n_cells, n_branches, n_groups = integers[0], integers[1], integers[2], integers[3]
    layout = nb.carray(integers, (4 + 2 * n_cells + 1 + n_branches + 1 + n_groups + 1,))[4:]
    data = nb.carray(doubles, (n_trials + n_cells + n_features * n_trials,))
    after_cells, after_branches = 2 * n_cells + 1, 2 * n_cells + n_branches + 2
    by_group, nothing = np.empty(n_groups), np.empty(0)
    groups.integrate_groups(
        0,
        n_groups,
        nb.carray(coefficients, (n_subjects, n_features)),
        data[n_trials + n_cells :].reshape((n_features, n_trials)),
        nothing,
        data[:n_trials],
        layout[:n_cells],
        layout[n_cells:after_cells],
        layout[after_cells:after_branches],
        layout[after_branches:],
        nb.carray(scales, (3,)),
        data[n_trials : n_trials + n_cells],
        nb.carray(gradient, (n_subjects, n_features)),
        nothing,
        nb.carray(scale_gradient, (3,)),
        by_group,
    )
    return by_group.sum()


# Called by its name, the kernel is neither compiled nor optimised again with every model that uses it.
_SYMBOL = "mfbayes_laplace_marginal"
add_symbol(_SYMBOL, _integrate_packed.address)
_integrate_external = types.ExternalFunction(
    _SYMBOL, types.float64(types.int64, types.int64, *(_DOUBLES,) * 4, types.intp, types.intp)
)


@nb.njit
def _integrate(coefficients, scales, doubles_address, integers_address):  # type: ignore[no-untyped-def]
    coefficients, scales = np.ascontiguousarray(coefficients), np.ascontiguousarray(scales)
    gradient, scale_gradient = np.zeros(coefficients.shape), np.zeros(3)
    value = _integrate_external(  # type: ignore[call-overload]
        coefficients.shape[0],
        coefficients.shape[1],
        coefficients.ctypes,
        scales.ctypes,
        gradient.ctypes,
        scale_gradient.ctypes,
        doubles_address,
        integers_address,
    )
    return np.asarray(value), gradient, scale_gradient


@numba_basic.register_funcify_and_cache_key(LaplaceMarginal)  # type: ignore[no-untyped-call, untyped-decorator]
def _funcify(op: LaplaceMarginal, **_: Any) -> tuple[Callable[..., Any], None]:
    doubles, integers = op.doubles.ctypes.data, op.integers.ctypes.data

    @numba_basic.numba_njit
    def laplace_marginal(coefficients, scales):  # type: ignore[no-untyped-def]
        return _integrate(coefficients, scales, doubles, integers)

    # Without a key it is not cached between runs: where the data lie will differ.
    return laplace_marginal, None


def integrated(
    likelihood: MarginalLikelihood, coefficients: TensorVariable[Any, Any], scales: TensorVariable[Any, Any]
) -> TensorVariable[Any, Any]:
    """Marginal log-likelihood of symbolic coefficients and scales, differentiable once in both.

    Parameters
    ----------
    likelihood : MarginalLikelihood
        Of the data.
    coefficients : tensor, shape (n_subjects, n_features)
        Coefficients of each subject.
    scales : tensor, shape (3,)
        Standard deviations of the effects of group, group and model, and group, model and condition.
    """
    node = LaplaceMarginal(likelihood).make_node(coefficients, scales)
    return cast("TensorVariable[Any, Any]", node.outputs[0])
