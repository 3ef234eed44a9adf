"""The population above the subjects, as the normal distribution it is for given standard deviations."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbayes.design import Design
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

# Keeps covariances invertible where a level's standard deviation is as good as zero.
_JITTER = 1e-8


class Spread(NamedTuple):
    """A standard deviation of the population: its name, the scale of its half-normal prior, and whom it tells apart.

    `members` has a row a subject and a column a label: who shares an effect.
    """

    name: str
    scale: float
    members: Floats


@dataclass(frozen=True)
class Population:
    """How balance points and log slopes of subjects vary, given standard deviations of every level.

    Attributes
    ----------
    means, mean_sds : tuple of two float
        Prior of the common means of balance points and log slopes.
    spreads : tuple of two tuples of Spread
        Levels of balance points and of log slopes, the subjects' own last.
    """

    n_subjects: int
    means: tuple[float, float]
    mean_sds: tuple[float, float]
    spreads: tuple[tuple[Spread, ...], tuple[Spread, ...]]

    @property
    def all_spreads(self) -> tuple[Spread, ...]:
        """Spreads in the order in which standard deviations are given."""
        return (*self.spreads[0], *self.spreads[1])

    @property
    def mean(self) -> Floats:
        """Mean of balance points and log slopes, shape (2 n_subjects,)."""
        return np.repeat(np.array(self.means), self.n_subjects)

    def covariances(self, sds: Floats, *, around_mean: bool = False) -> tuple[Floats, Floats]:
        """Covariances of balance points and of log slopes, shape (..., n_subjects, n_subjects) each.

        Parameters
        ----------
        sds : ndarray, shape (..., n_spreads)
            In the order of `all_spreads`.
        around_mean : bool
            Given the common means, instead of with their uncertainty.
        """
        first = len(self.spreads[0])
        variances = sds[..., :first] ** 2, sds[..., first:] ** 2
        balance_point, log_slope = (
            np.einsum("...l,lij->...ij", of_levels, together)
            + (_JITTER * np.eye(self.n_subjects) + (0.0 if around_mean else mean_sd**2))
            for of_levels, together, mean_sd in zip(variances, self._together, self.mean_sds, strict=True)
        )
        return balance_point, log_slope

    @cached_property
    def _together(self) -> tuple[Floats, Floats]:
        """For every level, which two subjects share an effect; shape (n_levels, n_subjects, n_subjects)."""
        first, second = (np.stack([s.members @ s.members.T for s in spreads]) for spreads in self.spreads)
        return first, second

    def precision(self, sds: Floats) -> tuple[Floats, Floats]:
        """Inverse covariance of all, (..., 2 n_subjects, 2 n_subjects), and log-determinants of the covariance."""
        n = self.n_subjects
        inverse, log_determinant = np.zeros((*sds.shape[:-1], 2 * n, 2 * n)), np.zeros(sds.shape[:-1])
        for i, covariance in enumerate(self.covariances(sds)):
            own = slice(i * n, (i + 1) * n)
            inverse[..., own, own] = np.linalg.inv(covariance)
            log_determinant += np.linalg.slogdet(covariance)[1]
        return inverse, log_determinant

    def draw_means(self, subjects: Floats, sds: Floats, index: Indices, *, rng: np.random.Generator) -> Floats:
        """Draw the two common means given the subjects and the standard deviations.

        Parameters
        ----------
        subjects : ndarray, shape (n_draws, 2 n_subjects)
            Balance points, then log slopes.
        sds : ndarray, shape (n_nodes, n_spreads)
            Standard deviations that draws share.
        index : ndarray, shape (n_draws,)
            The row of `sds` of each draw.

        Returns
        -------
        ndarray, shape (n_draws, 2)
        """
        drawn = np.empty((len(subjects), 2))
        for i, covariance in enumerate(self.covariances(sds, around_mean=True)):
            weights = np.linalg.solve(covariance, np.ones((self.n_subjects, 1)))[..., 0]
            precision = (1 / self.mean_sds[i] ** 2 + weights.sum(axis=-1))[index]
            own = subjects[:, i * self.n_subjects : (i + 1) * self.n_subjects]
            centre = (self.means[i] / self.mean_sds[i] ** 2 + (own * weights[index]).sum(axis=1)) / precision
            drawn[:, i] = centre + rng.standard_normal(len(subjects)) / np.sqrt(precision)
        return drawn


def populate(design: Design, priors: Priors) -> Population:
    """The population of a design's subjects: one spread a level, and the subjects' own."""
    found = []
    for quantity, scale in (("balance_point", priors.balance_point_sd), ("log_slope", priors.log_slope_sd)):
        levels = [
            Spread(f"{quantity}_{name}_sd", scale, np.eye(len(labels))[index])
            for name, (labels, index) in design.levels.items()
        ]
        found.append((*levels, Spread(f"{quantity}_sd", scale, np.eye(design.n_subjects))))
    return Population(
        n_subjects=design.n_subjects,
        means=(0.0, priors.log_slope_mean),
        mean_sds=(priors.balance_point_mean_sd, priors.log_slope_mean_sd),
        spreads=(found[0], found[1]),
    )
