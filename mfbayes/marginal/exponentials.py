"""Exponentials in vector registers, for kernels that spend most of their time in them."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from mfbayes.compiled import REORDERED, compiled

_LOG2_E = 1.4426950408889634
_LN_2 = 0.6931471805599453
_SHIFTER = 1.5 * 2.0**52  # adding it leaves an integer in the low bits of a double


@intrinsic  # type: ignore[untyped-decorator]
def read_bits(context: Any, value: Any) -> Any:
    """The bits of a double as an integer."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic  # type: ignore[untyped-decorator]
def as_double(context: Any, value: Any) -> Any:
    """The double that an integer's bits are."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@compiled(fastmath=REORDERED, inline="always")
def exp_of_negative(x):  # type: ignore[no-untyped-def]
    """exp(x) for x <= 0 within 4e-15, in operations that vectorise and wait for each other little."""
    x = max(x, -700.0)
    n = np.floor(x * _LOG2_E + 0.5)
    r = x - n * _LN_2
    r2 = r * r
    r4 = r2 * r2
    low = (1.0 + r) + r2 * (0.5 + r * (1 / 6.0))
    middle = (1 / 24.0 + r * (1 / 120.0)) + r2 * (1 / 720.0 + r * (1 / 5040.0))
    high = (1 / 40320.0 + r * (1 / 362880.0)) + r2 * (1 / 3628800.0 + r * (1 / 39916800.0))
    p = low + r4 * (middle + r4 * (high + r4 * (1 / 479001600.0)))
    return p * as_double((read_bits(n + _SHIFTER) + 1023) << 52)
