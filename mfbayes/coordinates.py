"""Coordinates in which a posterior is about standard normal, so that a sampler goes through it in long steps.

References
----------
Gorinova, Moore and Hoffman, "Automatic Reparameterisation of Probabilistic Programs", ICML 2020,
arXiv:1906.03028, for coordinates between the centred and the non-centred form.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

type Floats = NDArray[np.float64]
type Tensor = TensorVariable[Any, Any]
type Dims = str | Sequence[str] | None


def signed_scale(name: str, scale: float | Floats, *, dims: Dims = None) -> Tensor:
    """A half-normal standard deviation as the size of a normal variable, whose sign means nothing.

    Every formula here is smooth in the signed variable, also through zero; the logarithm, in which
    a standard deviation near zero has no end to go to, would mix slowly there.
    """
    signed: Tensor = pm.Normal(f"{name}_signed", 0, scale, dims=dims)
    pm.Deterministic(name, pt.abs(signed), dims=dims)
    return signed


def informed_normal(
    name: str,
    *,
    mean: Tensor | float,
    sd: Tensor | float,
    weighted_estimate: Tensor | Floats,
    precision: Tensor | Floats,
    dims: Dims,
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
