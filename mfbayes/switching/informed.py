"""Informed coordinates of all parts of the hazard model at once, from the pilot's estimates."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from mfbayes.switching.pilot import Estimates
from mfbayes.switching.structure import Structure

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]


class Coordinates(NamedTuple):
    """Numbers that turn standard normal coordinates into rough posterior draws of the parts.

    Parts of one kind may be turned into each other without changing their prior, and are turned so that what the pairs
    say of each is told of no other. With its standard deviation s, a turned part has the value
    s (s w / (1 + s^2 p) + z / sqrt(1 + s^2 p)), where p and w are what the pairs say of it, as in
    `mfbayes.coordinates.informed_normal`, and z = mean + factor @ coordinate. The factor is the one that makes
    coordinates independent at the pilot's standard deviations.

    Attributes
    ----------
    map : ndarray, shape (n_parameters, n_parts)
        Parameters are the structure's centre and this map times the turned parts.
    weighted_estimate, precision : ndarray, shape (n_parts,)
        w and p.
    mean : ndarray, shape (n_parts,)
    factor : ndarray, shape (n_parts, n_parts)
    """

    map: Floats
    weighted_estimate: Floats
    precision: Floats
    mean: Floats
    factor: Floats


def inform(structure: Structure, pilot: Estimates) -> Coordinates:
    """Coordinates from the pilot's normal approximation of what the pairs say."""
    to_data = structure.map[: structure.n_data]
    told = to_data.T @ pilot.information @ to_data
    # Slope of the approximation where all parts are zero.
    away = (pilot.parameters - structure.centre)[: structure.n_data]
    pull = to_data.T @ (pilot.gradient + pilot.information @ away)
    sd = structure.find_sds(pilot.spread)
    # In units of the prior the matrix is well conditioned, and a part that is not told of stays as it was.
    whole = np.eye(sd.size) + sd[:, None] * told * sd
    covariance = np.linalg.inv(whole)
    turn, variance = _find_axes(covariance, structure.part_kind)
    whole, pull = turn.T @ whole @ turn, turn.T @ pull
    posterior = sd * np.linalg.solve(whole, sd * pull)
    # What is left of a part's information once those of other kinds are as uncertain as they are.
    own = np.maximum(1 / variance - 1, 0.0) / sd**2
    weighted = (own + 1 / sd**2) * posterior
    narrowing = 1 + sd**2 * own
    scale = sd / np.sqrt(narrowing)
    mean = (posterior - sd**2 * weighted / narrowing) / scale
    lower = np.linalg.cholesky(whole / np.sqrt(np.outer(narrowing, narrowing)))
    factor = solve_triangular(lower, np.eye(sd.size), lower=True).T
    return Coordinates(structure.map @ turn, weighted, own, mean, factor)


def _find_axes(covariance: Floats, part_kind: Indices) -> tuple[Floats, Floats]:
    """Principal axes of the parts of each kind, as columns, and their variances."""
    turn, variance = np.zeros_like(covariance), np.empty(part_kind.size)
    for kind in np.unique(part_kind):
        own = np.flatnonzero(part_kind == kind)
        variance[own], turn[np.ix_(own, own)] = np.linalg.eigh(covariance[np.ix_(own, own)])
    return turn, variance
