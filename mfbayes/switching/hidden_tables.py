r"""Tables of the hidden model from its parameters, and derivatives in the tables back to the parameters.

A logit difference y on side :math:`\pm` has the density of Student's t with location :math:`\pm m` and scale s,
:math:`z = (y \mp m) / s`:

.. math:: \log f = \log\Gamma(\tfrac{\nu+1}2) - \log\Gamma(\tfrac\nu2) - \tfrac12 \log(\nu\pi) - \log s
          - \tfrac{\nu+1}2 \log(1 + z^2/\nu)
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mfbayes.compiled import compiled
from mfbayes.switching.forward import Gradient, evaluate
from mfbayes.switching.hidden_codes import Coded

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

SMOOTH, CENTRE = 0.01, 0.5
LOCATION, SCALE, OTHER = 0, 1, 2  # of `emission`; on the image's side `other` is one further


@dataclass(frozen=True, kw_only=True, eq=False)
class Parameters:
    """Parameters of the hidden model.

    Attributes
    ----------
    emission : ndarray, shape (n_subjects, deepest, 4)
        Log of the location and of the scale of logit differences, in the subject's unit; log-odds that the top-1
        is neither answer on the text's and on the image's side.
    nu : float
        Degrees of freedom.
    hazard : ndarray, shape (2, n_subjects, n_knots)
        Log-odds of leaving a side at the knots of relative depth; text to image first.
    effect : ndarray, shape (2, n_subjects, 2)
        beta and gamma: of x, and of distance, which lowers hazards where it is positive.
    start : ndarray, shape (n_subjects, 2)
        Log-odds of starting on the text's side at x = 0, and their slope in x.
    """

    emission: Floats
    nu: float
    hazard: Floats
    effect: Floats
    start: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Tables:
    """What `mfbayes.switching.forward.evaluate` takes."""

    emission: Floats
    hazard: Floats
    start: Floats


def place_knots(n_layers: Indices, n_knots: int) -> Floats:
    """Weight of every knot of relative depth in every step from layer to layer.

    Parameters
    ----------
    n_layers : ndarray of int, shape (n_subjects,)
        Depth of each subject's model.
    n_knots : int
        Knots from the first step, relative depth 0, to the last, 1.

    Returns
    -------
    ndarray, shape (n_subjects, deepest - 1, n_knots)
        Weights of linear interpolation, of which every step's sum is 1; zero beyond the last step.
    """
    weights = np.zeros((n_layers.size, int(n_layers.max()) - 1, n_knots))
    for own, depth in enumerate(n_layers):
        at = np.linspace(0, n_knots - 1, depth - 1) if depth > 2 else np.array([(n_knots - 1) / 2])
        weights[own, : depth - 1] = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n_knots)))
    return weights


def tabulate(parameters: Parameters, coded: Coded) -> Tables:
    """Compute all tables: what every code says of the sides, and the log-odds of every bin of x."""
    knots = place_knots(coded.n_layers, parameters.hazard.shape[2])
    (n, deepest, n_codes), n_bins = coded.difference.shape, coded.x.shape[1]
    tables = Tables(
        emission=np.zeros((n, deepest, 2 * n_codes, 2)),
        hazard=np.zeros((2, n, deepest - 1, n_bins)),
        start=np.zeros((n, n_bins)),
    )
    p = parameters
    fill_tables(
        *(p.emission, p.nu, p.hazard, p.effect, p.start, coded.difference, coded.x, knots, coded.n_layers),
        *(tables.emission, tables.hazard, tables.start),
    )
    return tables


def evaluate_parameters(parameters: Parameters, coded: Coded) -> tuple[float, Parameters]:
    """Log-likelihood of coded trajectories with its gradient in the parameters."""
    tables = tabulate(parameters, coded)
    of: Gradient = evaluate(coded.chains, emission=tables.emission, hazard=tables.hazard, start=tables.start)
    p, knots = parameters, place_knots(coded.n_layers, parameters.hazard.shape[2])
    back = [np.zeros(each.shape) for each in (p.emission, p.hazard, p.effect, p.start)]
    by_nu = pull_back(
        *(p.emission, p.nu, coded.difference, coded.x, knots, coded.n_layers, of.emission, of.hazard, of.start),
        *back,
    )
    return of.value, Parameters(emission=back[0], nu=by_nu, hazard=back[1], effect=back[2], start=back[3])


@compiled()
def fill_tables(  # type: ignore[no-untyped-def]
    emission,
    nu,
    hazard,
    effect,
    start,
    difference,
    x,
    knots,
    n_layers,
    emission_table,
    hazard_table,
    start_table,
):
    """Fill the last three arrays."""
    n_codes, n_bins, n_knots = difference.shape[2], x.shape[1], hazard.shape[2]
    constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - math.log(nu * math.pi) / 2
    for s in range(n_layers.size):
        for layer in range(n_layers[s]):
            own = emission[s, layer]
            m, each = math.exp(own[LOCATION]), math.exp(-own[SCALE])
            for side in range(2):
                centre = m if side == 0 else -m
                seen, unseen = -_softplus(own[OTHER + side]), -_softplus(-own[OTHER + side])
                for code in range(n_codes):
                    z = (difference[s, layer, code] - centre) * each
                    density = constant - own[SCALE] - (nu + 1) / 2 * math.log1p(z * z / nu)
                    emission_table[s, layer, 2 * code, side] = density + seen
                    emission_table[s, layer, 2 * code + 1, side] = density + unseen
        for b in range(n_bins):
            bend = math.sqrt(x[s, b] * x[s, b] + SMOOTH) - CENTRE
            start_table[s, b] = start[s, 0] + start[s, 1] * x[s, b]
            for d in range(2):
                shift = effect[d, s, 0] * x[s, b] - effect[d, s, 1] * bend
                for step in range(n_layers[s] - 1):
                    hazard_table[d, s, step, b] = shift
        for d in range(2):
            for step in range(n_layers[s] - 1):
                level = 0.0
                for k in range(n_knots):
                    level += knots[s, step, k] * hazard[d, s, k]
                for b in range(n_bins):
                    hazard_table[d, s, step, b] += level


@compiled()
def pull_back(  # type: ignore[no-untyped-def]
    emission,
    nu,
    difference,
    x,
    knots,
    n_layers,
    by_emission_table,
    by_hazard_table,
    by_start_table,
    by_emission,
    by_hazard,
    by_effect,
    by_start,
):
    """Add derivatives in the parameters to the last four arrays, and return that in nu."""
    n_codes, n_bins, n_knots = difference.shape[2], x.shape[1], by_hazard.shape[2]
    by_constant = (_digamma((nu + 1) / 2) - _digamma(nu / 2) - 1 / nu) / 2
    by_nu = 0.0
    for s in range(n_layers.size):
        for layer in range(n_layers[s]):
            own, back = emission[s, layer], by_emission[s, layer]
            m, each = math.exp(own[LOCATION]), math.exp(-own[SCALE])
            for side in range(2):
                centre = m if side == 0 else -m
                n_seen, n_unseen, by_location, by_scale = 0.0, 0.0, 0.0, 0.0
                for code in range(n_codes):
                    seen = by_emission_table[s, layer, 2 * code, side]
                    unseen = by_emission_table[s, layer, 2 * code + 1, side]
                    n = seen + unseen
                    if n == 0.0:
                        continue
                    z = (difference[s, layer, code] - centre) * each
                    pull = n * (nu + 1) * z / (nu + z * z)
                    n_seen += seen
                    n_unseen += unseen
                    by_location += pull * centre * each
                    by_scale += pull * z - n
                    by_nu += n * by_constant + (pull * z / nu - n * math.log1p(z * z / nu)) / 2
                back[LOCATION] += by_location
                back[SCALE] += by_scale
                back[OTHER + side] += n_unseen - (n_seen + n_unseen) / (1 + math.exp(-own[OTHER + side]))
        for b in range(n_bins):
            bend = math.sqrt(x[s, b] * x[s, b] + SMOOTH) - CENTRE
            by_start[s, 0] += by_start_table[s, b]
            by_start[s, 1] += by_start_table[s, b] * x[s, b]
            for d in range(2):
                total = 0.0
                for step in range(n_layers[s] - 1):
                    total += by_hazard_table[d, s, step, b]
                by_effect[d, s, 0] += total * x[s, b]
                by_effect[d, s, 1] -= total * bend
        for d in range(2):
            for step in range(n_layers[s] - 1):
                total = 0.0
                for b in range(n_bins):
                    total += by_hazard_table[d, s, step, b]
                for k in range(n_knots):
                    by_hazard[d, s, k] += total * knots[s, step, k]
    return by_nu


@compiled()
def _softplus(value):  # type: ignore[no-untyped-def]
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


@compiled()
def _digamma(value):  # type: ignore[no-untyped-def]
    """Up by the recurrence to where the asymptotic series is exact to double precision."""
    result = 0.0
    while value < 10.0:
        result -= 1 / value
        value += 1
    square = 1 / (value * value)
    series = 1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square * (1 / 132 - square / 47.4))))
    return result + math.log(value) - 0.5 / value - square * series
