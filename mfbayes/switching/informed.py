"""Informed coordinates of all parts of the hazard model at once, from the pilot's estimates."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, solve_triangular

from mfbayes.switching.pilot import Estimates
from mfbayes.switching.structure import Structure

type Floats = NDArray[np.float64]

_PILOT_SHARE = 0.6


class Coordinates(NamedTuple):
    """Numbers that turn standard normal coordinates into rough posterior draws of the parts.

    With a part's standard deviation s, its value is s (s w / (1 + s^2 p) + z / sqrt(1 + s^2 p)), where p and w are what
    the pairs say of it, as in `mfbayes.coordinates.informed_normal`, and z = mean + factor @ coordinate. The
    factor is the one that makes coordinates independent at the pilot's standard deviations.

    Attributes
    ----------
    weighted_estimate, precision : ndarray, shape (n_parts,)
        w and p.
    mean : ndarray, shape (n_parts,)
    factor : ndarray, shape (n_parts, n_parts)
    """

    weighted_estimate: Floats
    precision: Floats
    mean: Floats
    factor: Floats


def inform(structure: Structure, pilot: Estimates) -> Coordinates:
    """Coordinates from the pilot's normal approximation of what the pairs say."""
    subject, layer = structure.step_subject, structure.step_layer
    information = _gather_information(structure, pilot)
    estimate = np.concatenate([pilot.level[:, subject, layer].ravel(), pilot.coefficient.ravel()])
    to_data = structure.map[: structure.n_data]
    told = to_data.T @ information @ to_data
    pull = to_data.T @ information @ (estimate - structure.centre[: structure.n_data])
    sd = np.concatenate([_PILOT_SHARE * structure.scale_priors, structure.known_sds])[structure.part_sd]
    # In units of the prior the matrix is well conditioned, and a part that is not told of stays as it was.
    whole = np.eye(sd.size) + sd[:, None] * told * sd
    posterior = sd * np.linalg.solve(whole, sd * pull)
    # What is left of a part's information once all others are as uncertain as they are.
    own = np.maximum(1 / np.diag(np.linalg.inv(whole)) - 1, 0.0) / sd**2
    weighted = (own + 1 / sd**2) * posterior
    narrowing = 1 + sd**2 * own
    scale = sd / np.sqrt(narrowing)
    mean = (posterior - sd**2 * weighted / narrowing) / scale
    lower = np.linalg.cholesky(whole / np.sqrt(np.outer(narrowing, narrowing)))
    return Coordinates(weighted, own, mean, solve_triangular(lower, np.eye(sd.size), lower=True).T)


def _gather_information(structure: Structure, pilot: Estimates) -> Floats:
    """Curvature in all levels and coefficients, shape (n_data, n_data)."""
    subject, layer = structure.step_subject, structure.step_layer
    n_levels, n_coefficients = 2 * structure.n_levels, len(structure.coefficients)
    n_subjects = len(structure.layout.subjects)
    cross = np.zeros((n_levels, structure.n_data - n_levels))
    by_level = pilot.cross_information[:, subject, layer].reshape(n_levels, n_coefficients)
    block = (np.arange(2)[:, None] * n_subjects + subject).ravel()
    columns = block[:, None] * n_coefficients + np.arange(n_coefficients)
    np.put_along_axis(cross, columns, by_level, axis=1)
    square = block_diag(*pilot.coefficient_information.reshape(-1, n_coefficients, n_coefficients))
    told = np.diag(pilot.level_information[:, subject, layer].ravel())
    return np.block([[told, cross], [cross.T, square]])
