"""The marginal likelihood of pairs of effects as a PyTensor operation."""

from collections.abc import Callable
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

from mfbayes.compiled import named_by_sources
from mfbayes.design import Design
from mfbayes.marginal import pairs
from mfbayes.storage import hash_content

type Floats = NDArray[np.float64]


class PairedData(NamedTuple):
    """Trials in the order of a design that has every trial.

    Attributes
    ----------
    design : Design
        Trials, laid out.
    outcome : ndarray, shape (n_trials,)
        0 image, 1 text, 2 other.
    features : ndarray, shape (n_features, n_trials)
        Two of text against image, then those of `other`.
    start : ndarray, shape (2, n_cells)
        Scores of the cells from which modes are sought: the nearer, the faster, and nothing else.
    """

    design: Design
    outcome: Floats
    features: Floats
    start: Floats


class PairedMarginal(Op):
    """Marginal log-likelihood with its gradient, of coefficients and covariances of pairs of effects.

    Inputs: coefficients (n_subjects, n_features) and covariances (7,). Outputs: the log-likelihood and its
    gradients. The value is NaN where a mode is not found, which a sampler takes as a divergence.

    Parameters
    ----------
    data : PairedData
        The data.
    """

    __props__ = ("content",)

    def __init__(self, data: PairedData) -> None:
        d = data.design
        sizes = np.array([d.n_trials, d.cell_subject.size, d.branch_group.size, d.group_start.size - 1])
        self.doubles = np.concatenate([data.outcome, data.start.ravel(), data.features.ravel()])
        self.integers = np.concatenate([sizes, d.cell_subject, d.cell_start, d.branch_start, d.group_start])
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


@nb.cfunc(_SIGNATURE, cache=True)
@named_by_sources
def _integrate_packed(  # type: ignore[no-untyped-def]
    n_subjects, n_features, coefficients, covariances, gradient, covariance_gradient, doubles, integers
):
    n_trials, n_cells, n_branches, n_groups = integers[0], integers[1], integers[2], integers[3]
    layout = nb.carray(integers, (4 + 2 * n_cells + 1 + n_branches + 1 + n_groups + 1,))[4:]
    before_features = n_trials + 2 * n_cells
    data = nb.carray(doubles, (before_features + n_features * n_trials,))
    after_cells, after_branches = 2 * n_cells + 1, 2 * n_cells + n_branches + 2
    return pairs.integrate_pairs(
        nb.carray(coefficients, (n_subjects, n_features)),
        data[before_features:].reshape((n_features, n_trials)),
        data[:n_trials],
        layout[:n_cells],
        layout[n_cells:after_cells],
        layout[after_cells:after_branches],
        layout[after_branches:],
        nb.carray(covariances, (7,)),
        data[n_trials:before_features].reshape((2, n_cells)),
        nb.carray(gradient, (n_subjects, n_features)),
        nb.carray(covariance_gradient, (7,)),
        np.empty((2, n_cells)),
    )


# Called by its name, the kernel is neither compiled nor optimised again with every model that uses it.
_SYMBOL = "mfbayes_paired_marginal"
add_symbol(_SYMBOL, _integrate_packed.address)
_integrate_external = types.ExternalFunction(
    _SYMBOL, types.float64(types.int64, types.int64, *(_DOUBLES,) * 4, types.intp, types.intp)
)


@nb.njit
def _integrate(coefficients, covariances, doubles_address, integers_address):  # type: ignore[no-untyped-def]
    coefficients, covariances = np.ascontiguousarray(coefficients), np.ascontiguousarray(covariances)
    gradient, covariance_gradient = np.zeros(coefficients.shape), np.zeros(7)
    value = _integrate_external(  # type: ignore[call-overload]
        coefficients.shape[0],
        coefficients.shape[1],
        coefficients.ctypes,
        covariances.ctypes,
        gradient.ctypes,
        covariance_gradient.ctypes,
        doubles_address,
        integers_address,
    )
    return np.asarray(value), gradient, covariance_gradient


@numba_basic.register_funcify_and_cache_key(PairedMarginal)  # type: ignore[no-untyped-call, untyped-decorator]
def _funcify(op: PairedMarginal, **_: Any) -> tuple[Callable[..., Any], None]:
    doubles, integers = op.doubles.ctypes.data, op.integers.ctypes.data

    @numba_basic.numba_njit
    def paired_marginal(coefficients, covariances):  # type: ignore[no-untyped-def]
        return _integrate(coefficients, covariances, doubles, integers)

    # Without a key it is not cached between runs: where the data lie will differ.
    return paired_marginal, None


def evaluate_pairs(data: PairedData, coefficients: Floats, covariances: Floats) -> tuple[float, Floats, Floats, Floats]:
    """Marginal log-likelihood, its gradients in coefficients and covariances, and the cells' scores.

    Parameters
    ----------
    data : PairedData
        The data.
    coefficients : ndarray, shape (n_subjects, n_features)
        Coefficients of each subject.
    covariances : ndarray, shape (7,)
        A11, A12, A22, B11, B12, B22 and C of `mfbayes.marginal.pairs`.
    """
    d = data.design
    gradient, covariance_gradient, scores = np.zeros_like(coefficients), np.zeros(7), np.zeros_like(data.start)
    value = pairs.integrate_pairs(
        np.ascontiguousarray(coefficients), data.features, data.outcome, d.cell_subject, d.cell_start, d.branch_start,
        d.group_start, np.asarray(covariances, dtype=np.float64), data.start, gradient, covariance_gradient, scores,
    )  # fmt: skip
    return float(value), gradient, covariance_gradient, scores


def integrated_pairs(
    data: PairedData, coefficients: TensorVariable[Any, Any], covariances: TensorVariable[Any, Any]
) -> TensorVariable[Any, Any]:
    """Marginal log-likelihood of symbolic coefficients and covariances, differentiable once in both.

    Parameters
    ----------
    data : PairedData
        The data.
    coefficients : tensor, shape (n_subjects, n_features)
        Coefficients of each subject.
    covariances : tensor, shape (7,)
        A11, A12, A22, B11, B12, B22 and C of `mfbayes.marginal.pairs`.
    """
    node = PairedMarginal(data).make_node(coefficients, covariances)
    return cast("TensorVariable[Any, Any]", node.outputs[0])
