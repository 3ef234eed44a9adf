"""The marginal likelihood as a PyTensor operation, so that it stands in an ordinary PyMC model."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch import basic as numba_basic
from pytensor.tensor.variable import TensorVariable

from mfbayes.marginal import kernel
from mfbayes.marginal.likelihood import MarginalLikelihood

# PyTensor keeps compiled functions between runs by this number: other kernel, other number.
_VERSION = zlib.crc32(Path(kernel.__file__).read_bytes() + Path(__file__).read_bytes())
_N_DIFFERENTIABLE = 2


class LaplaceMarginal(Op):
    """Marginal log-likelihood with its gradient, of coefficients and standard deviations of effects.

    Inputs: coefficients (n_subjects, n_features), scales (3,), and the data as `data_of` gives them.
    Outputs: the log-likelihood, its gradient in the coefficients and its gradient in the scales. The
    value is NaN where a mode is not found, which a sampler takes as a divergence.
    """

    __props__ = ()

    def make_node(self, coefficients: Variable, scales: Variable, *data: Variable) -> Apply:
        """One node for value and gradient: whoever asks for both computes them once."""
        inputs = [pt.as_tensor_variable(each) for each in (coefficients, scales, *data)]
        return Apply(self, inputs, [pt.dscalar(), pt.dmatrix(), pt.dvector()])

    def perform(self, node: Apply, inputs: Any, output_storage: Any) -> None:
        """Compute in Python; the numba backend does the same without it."""
        for storage, value in zip(output_storage, _integrate(*inputs), strict=True):
            storage[0] = np.asarray(value)

    def infer_shape(self, _graph: Any, _node: Apply, shapes: Any) -> list[Any]:
        """Shapes of the outputs from those of the inputs."""
        return [(), shapes[0], shapes[1]]

    def pullback(self, inputs: Any, outputs: Any, output_gradients: Any) -> list[Any]:
        """Chain the stored gradient; second derivatives are not there."""
        by = output_gradients[0]
        return [by * outputs[1], by * outputs[2]] + [DisconnectedType()() for _ in inputs[_N_DIFFERENTIABLE:]]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Only the value depends differentiably on the first two inputs."""
        return [[i < _N_DIFFERENTIABLE, False, False] for i in range(len(node.inputs))]


@kernel.nb.njit(cache=True, nogil=True)
def _integrate(  # type: ignore[no-untyped-def]
    coefficients, scales, features, is_text, cell_subject, cell_start, branch_start, group_start, start
):
    n_groups = group_start.size - 1
    by_group, gradient, scale_gradient = np.empty(n_groups), np.zeros(coefficients.shape), np.zeros(3)
    nothing = np.empty(0)
    kernel.integrate_groups(
        0,
        n_groups,
        np.ascontiguousarray(coefficients),
        features,
        nothing,
        is_text,
        cell_subject,
        cell_start,
        branch_start,
        group_start,
        np.ascontiguousarray(scales),
        start,
        gradient,
        nothing,
        scale_gradient,
        by_group,
    )
    return np.asarray(by_group.sum()), gradient, scale_gradient


@numba_basic.register_funcify_default_op_cache_key(LaplaceMarginal)
def _funcify(_op: LaplaceMarginal, **_: Any) -> tuple[Callable[..., Any], int]:
    @numba_basic.numba_njit
    def laplace_marginal(*inputs):  # type: ignore[no-untyped-def]
        return _integrate(*inputs)

    return laplace_marginal, _VERSION


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
    d = likelihood.design
    data = (
        likelihood.features,
        d.is_text,
        d.cell_subject,
        d.cell_start,
        d.branch_start,
        d.group_start,
        likelihood.start,
    )
    value: TensorVariable[Any, Any] = LaplaceMarginal()(coefficients, scales, *map(pt.as_tensor_variable, data))[0]
    return value
