"""The hidden model's likelihood as a PyTensor operation, so that it stands in an ordinary PyMC model."""

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
from pytensor.tensor.type import TensorType
from pytensor.tensor.variable import TensorVariable

from mfbayes.compiled import named_by_sources
from mfbayes.storage import hash_content
from mfbayes.switching import forward, hidden_tables
from mfbayes.switching.hidden_codes import Coded
from mfbayes.switching.hidden_tables import Parameters, evaluate_parameters, place_knots

type Tensor = TensorVariable[Any, Any]

_DIMS = (3, 0, 3, 3, 2)


class HiddenLikelihood(Op):
    """Log-likelihood of coded trajectories, sides summed out, with its gradient in the parameters.

    Inputs: the fields of `mfbayes.switching.hidden_tables.Parameters`, in order. Outputs: the log-likelihood and
    its gradient in each. The value is NaN where it is not finite, which a sampler takes as a divergence. The
    operation owns its data and goes from parameters to tables itself: every array and every operation in the
    graph makes a sampler slower to compile.

    Parameters
    ----------
    coded : Coded
        Trajectories in codes.
    n_knots : int
        Knots of relative depth.
    """

    __props__ = ("content",)

    def __init__(self, coded: Coded, n_knots: int) -> None:
        self.coded = coded
        self.doubles, self.integers = _pack(coded, n_knots)
        self.symbols = coded.chains.symbol
        self.content = hash_content(*(each.tobytes() for each in (self.doubles, self.integers, self.symbols)))

    def make_node(self, *inputs: Variable[Any, Any]) -> Apply[Any]:
        """One node for value and gradient: whoever asks for both computes them once."""
        outputs = [pt.dscalar(), *(TensorType("float64", (None,) * dims)() for dims in _DIMS)]
        return Apply(self, [pt.as_tensor_variable(each) for each in inputs], outputs)

    def perform(self, node: Apply[Any], inputs: Any, output_storage: Any) -> None:
        """Compute in Python; the numba backend does the same without it."""
        emission, nu, hazard, effect, start = inputs
        value, back = evaluate_parameters(
            Parameters(emission=emission, nu=float(nu), hazard=hazard, effect=effect, start=start), self.coded
        )
        gradient = back.emission, np.asarray(back.nu), back.hazard, back.effect, back.start
        for storage, each in zip(output_storage, (np.asarray(value), *gradient), strict=True):
            storage[0] = each

    def infer_shape(self, node: Apply[Any], shapes: Any) -> list[Any]:
        """Shapes of the outputs from those of the inputs."""
        return [(), *shapes]

    def pullback(self, inputs: Any, outputs: Any, output_gradients: Any) -> list[Any]:
        """Chain the gradient that the node has computed; second derivatives are not there."""
        return [output_gradients[0] * each for each in outputs[1:]]

    def connection_pattern(self, node: Apply[Any]) -> list[list[bool]]:
        """Only the value can be differentiated."""
        return [[True] + [False] * len(_DIMS)] * len(_DIMS)


def _pack(coded: Coded, n_knots: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The data in two arrays, for the time to compile a sampler grows with their number."""
    chains = coded.chains
    knots = place_knots(coded.n_layers, n_knots)
    sizes = np.array([*coded.difference.shape, coded.x.shape[1], n_knots, chains.symbol.size, chains.block_start.size])
    doubles = np.concatenate([each.ravel() for each in (chains.count, coded.difference, coded.x, knots)])
    blocks = chains.block_start, chains.block_size, chains.block_subject, chains.block_bin
    return doubles, np.concatenate([sizes, *blocks, coded.n_layers])


_DOUBLES, _INTEGERS, _BYTES = (
    types.CPointer(kind)  # type: ignore[attr-defined]
    for kind in (types.float64, types.int64, types.uint8)
)


@nb.cfunc(types.float64(types.float64, *(_DOUBLES,) * 9, _BYTES, _INTEGERS), cache=True)
@named_by_sources
def _evaluate_packed(  # type: ignore[no-untyped-def]
    nu,
    emission,
    hazard,
    effect,
    start,
    by_emission,
    by_rest,
    by_effect,
    by_start,
    doubles,
    symbols,
    integers,
):
    n, deepest, n_codes, n_bins = integers[0], integers[1], integers[2], integers[3]
    n_knots, n_seen, n_blocks = integers[4], integers[5], integers[6]
    layout = nb.carray(integers, (7 + 4 * n_blocks + n,))[7:]
    n_layers = layout[4 * n_blocks :]
    n_counts, n_differences, n_knot_weights = (
        n * deepest * 2 * n_codes,
        n * deepest * n_codes,
        n * (deepest - 1) * n_knots,
    )
    data = nb.carray(doubles, (n_counts + n_differences + n * n_bins + n_knot_weights,))
    count = data[:n_counts].reshape((n, deepest, 2 * n_codes))
    difference = data[n_counts : n_counts + n_differences].reshape((n, deepest, n_codes))
    after = n_counts + n_differences
    x = data[after : after + n * n_bins].reshape((n, n_bins))
    knots = data[after + n * n_bins :].reshape((n, deepest - 1, n_knots))
    own = nb.carray(emission, (n, deepest, 4))
    # Rows beyond a model's last layer are never read, but their gradient is.
    tables = np.zeros((n, deepest, 2 * n_codes, 2)), np.zeros((2, n, deepest - 1, n_bins)), np.zeros((n, n_bins))
    back = np.empty(tables[0].shape), np.empty(tables[1].shape), np.empty(tables[2].shape)
    hidden_tables.fill_tables(
        own,
        nu,
        nb.carray(hazard, (2, n, n_knots)),
        nb.carray(effect, (2, n, 2)),
        nb.carray(start, (n, 2)),
        difference,
        x,
        knots,
        n_layers,
        tables[0],
        tables[1],
        tables[2],
    )
    value = forward.pass_through(
        tables[0],
        tables[1],
        tables[2],
        nb.carray(symbols, (n_seen,)),
        layout[:n_blocks],
        layout[n_blocks : 2 * n_blocks],
        layout[2 * n_blocks : 3 * n_blocks],
        layout[3 * n_blocks : 4 * n_blocks],
        n_layers,
        count,
        back[0],
        back[1],
        back[2],
    )
    # The gradient in nu stands before that in the hazards.
    rest = nb.carray(by_rest, (1 + 2 * n * n_knots,))
    rest[0] = hidden_tables.pull_back(
        own,
        nu,
        difference,
        x,
        knots,
        n_layers,
        back[0],
        back[1],
        back[2],
        nb.carray(by_emission, (n, deepest, 4)),
        rest[1:].reshape((2, n, n_knots)),
        nb.carray(by_effect, (2, n, 2)),
        nb.carray(by_start, (n, 2)),
    )
    return value


# Called by its name, the kernel is neither compiled nor optimised again with every model that uses it.
_SYMBOL = "mfbayes_hidden_likelihood"
add_symbol(_SYMBOL, _evaluate_packed.address)
_evaluate_external = types.ExternalFunction(
    _SYMBOL, types.float64(types.float64, *(_DOUBLES,) * 8, types.intp, types.intp, types.intp)
)


@nb.njit
def _evaluate(emission, nu, hazard, effect, start, doubles, symbols, integers):  # type: ignore[no-untyped-def]
    emission, hazard = np.ascontiguousarray(emission), np.ascontiguousarray(hazard)
    effect, start = np.ascontiguousarray(effect), np.ascontiguousarray(start)
    by_emission, by_rest = np.zeros(emission.shape), np.zeros(1 + hazard.size)
    by_effect, by_start = np.zeros(effect.shape), np.zeros(start.shape)
    value = _evaluate_external(  # type: ignore[call-overload]
        nu.item(),
        emission.ctypes,
        hazard.ctypes,
        effect.ctypes,
        start.ctypes,
        by_emission.ctypes,
        by_rest.ctypes,
        by_effect.ctypes,
        by_start.ctypes,
        doubles,
        symbols,
        integers,
    )
    return (
        np.asarray(value),
        by_emission,
        np.asarray(by_rest[0]),
        by_rest[1:].copy().reshape(hazard.shape),
        by_effect,
        by_start,
    )


@numba_basic.register_funcify_and_cache_key(HiddenLikelihood)  # type: ignore[no-untyped-call, untyped-decorator]
def _funcify(op: HiddenLikelihood, **_: Any) -> tuple[Callable[..., Any], None]:
    doubles, symbols, integers = op.doubles.ctypes.data, op.symbols.ctypes.data, op.integers.ctypes.data

    @numba_basic.numba_njit
    def hidden_likelihood(emission, nu, hazard, effect, start):  # type: ignore[no-untyped-def]
        return _evaluate(emission, nu, hazard, effect, start, doubles, symbols, integers)

    # Without a key it is not cached between runs: where the data lie will differ.
    return hidden_likelihood, None


def hidden_likelihood(
    coded: Coded, *, emission: Tensor, nu: Tensor, hazard: Tensor, effect: Tensor, start: Tensor, n_knots: int
) -> Tensor:
    """Log-likelihood of symbolic parameters, differentiable once in each.

    Parameters
    ----------
    coded : Coded
        Trajectories in codes.
    emission, nu, hazard, effect, start : tensor
        As `mfbayes.switching.hidden_tables.Parameters` has them.
    n_knots : int
        Knots of `hazard`.
    """
    node = HiddenLikelihood(coded, n_knots).make_node(emission, nu, hazard, effect, start)
    return cast("Tensor", node.outputs[0])
