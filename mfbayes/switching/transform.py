"""From coordinates to hazards and back with their gradients, in numba; `mfbayes.switching.informed` has the formula."""

import math

import numpy as np

from mfbayes.compiled import compiled


@compiled()
def find_hazards(spread, coordinate, maps, vectors, variances, part_kind, sd, whitened, standardised):  # type: ignore[no-untyped-def]
    """Hazards' parameters, and the log-density of the prior less that of the coordinates.

    Parameters
    ----------
    spread : ndarray, shape (n_scales,)
    coordinate : ndarray, shape (n_parts,)
    maps : tuple of ndarray
        Map to the parameters, (n_parameters, n_parts), and factor, (n_parts, n_parts).
    vectors : tuple of ndarray
        Centre of the parameters; weighted estimate, precision and mean of the parts.
    variances, part_kind : ndarray
        As in `Structure`.
    sd, whitened, standardised : ndarray, shape (n_parts,)
        On return the parts' standard deviations, whitened coordinates and standardised values.
    """
    to_parameters, factor = maps
    centre, weighted, precision, mean = vectors
    by_kind = np.sqrt(variances[:, 0] + np.dot(variances[:, 1:], spread**2))
    whitened[:] = mean + np.dot(factor, coordinate)
    correction = 0.0
    for i in range(coordinate.size):
        sd[i] = by_kind[part_kind[i]]
        narrowing = 1.0 + sd[i] ** 2 * precision[i]
        standardised[i] = sd[i] * weighted[i] / narrowing + whitened[i] / math.sqrt(narrowing)
        correction += 0.5 * (coordinate[i] ** 2 - standardised[i] ** 2 - math.log(narrowing))
    return correction, centre + np.dot(to_parameters, sd * standardised)


@compiled()
def pull_back(  # type: ignore[no-untyped-def]
    by_hazards,
    spread,
    coordinate,
    maps,
    vectors,
    variances,
    part_kind,
    sd,
    whitened,
    standardised,
    by_spread,
    by_coordinate,
):
    """Add to `by_spread`, and set `by_coordinate`, from the gradient in the hazards; the correction's is included."""
    to_parameters, factor = maps
    _, weighted, precision, _ = vectors
    by_variance = np.zeros(variances.shape[0])
    by_part = np.dot(by_hazards, to_parameters)
    by_whitened = np.empty_like(coordinate)
    for i in range(coordinate.size):
        narrowing = 1.0 + sd[i] ** 2 * precision[i]
        root = math.sqrt(narrowing)
        by_standardised = sd[i] * by_part[i] - standardised[i]
        by_whitened[i] = by_standardised / root
        bend = sd[i] * precision[i] / narrowing
        change = weighted[i] / narrowing * (1.0 - 2.0 * sd[i] * bend) - whitened[i] * bend / root
        by_sd = standardised[i] * by_part[i] + by_standardised * change - bend
        # A standard deviation of exactly zero has no slope in its variance, and is met by nobody.
        if sd[i] > 0.0:
            by_variance[part_kind[i]] += by_sd / sd[i]
    by_spread += np.dot(by_variance, variances[:, 1:]) * spread
    by_coordinate[:] = coordinate + np.dot(by_whitened, factor)
