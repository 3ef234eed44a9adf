"""The fit of a law: mode and curvature of its marginal posterior, without compiling anything."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag, solve_triangular
from scipy.optimize import minimize

from mfbayes.design import GROUP_SCALES, Design
from mfbayes.laws.law import Law
from mfbayes.marginal.likelihood import MarginalLikelihood, marginal_likelihood
from mfbayes.marginal.quadratic import expand
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]

_START_SD = 0.5
_TYPICAL_WEIGHT = 0.12  # p (1 - p) of a trial, averaged over the effects of groups
_ROUGHLY, _CLOSELY = 3e-2, 3e-3
_MOST_STEPS = 300
_MEMORY = 30
_ROOM = 2_000_000  # offsets of trials at a time
_NOWHERE = 1e100  # a value where the likelihood cannot be computed, to step back from
_SETTLED = 0.3  # posterior standard deviations between two rounds
_ROUNDS = 4
_FAR = 6.0  # a standard deviation of exp(-6) is none
_WIDE = 2.0
_RIDGE = 0.01  # keeps the logarithm of a standard deviation in reach where the data tell nothing of it


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """Log-density of a law's coefficients and the logarithms of the groups' standard deviations, but for theta's prior.

    Attributes
    ----------
    law : Law
    likelihood : MarginalLikelihood
        Of the law's features.
    group_scales : tuple of str
        Names of the groups' standard deviations that there are.
    priors : Priors
        For these.
    """

    law: Law
    likelihood: MarginalLikelihood
    group_scales: tuple[str, ...]
    priors: Priors

    @property
    def shape(self) -> tuple[int, int]:
        """(n_subjects, n_coefficients) of theta."""
        return self.likelihood.design.n_subjects, self.law.prior_mean.size

    def split(self, point: Floats) -> tuple[Floats, Floats]:
        """Theta (..., n_subjects, n_coefficients) and the three standard deviations (..., 3) of points (..., n)."""
        n = self.shape[0] * self.shape[1]
        scales = np.zeros((*point.shape[:-1], len(GROUP_SCALES)))
        scales[..., self._places] = np.exp(np.clip(point[..., n:], -2 * _FAR, _FAR))
        return point[..., :n].reshape(*point.shape[:-1], *self.shape), scales

    def by_group(self, points: Floats) -> Floats:
        """Marginal log-likelihood of each group at points (n_points, n), shape (n_points, n_groups)."""
        runs = np.array_split(points, max(1, points.shape[0] * self.likelihood.design.n_trials // _ROOM))
        found = []
        for theta, scales in map(self.split, runs):
            offset = self.law.offset(theta)
            found.append(
                self.likelihood.evaluate_points(
                    self.law.coefficients(theta), scales, offset=offset if offset.size else None
                )
            )
        return np.concatenate(found)

    def likelihood_at(self, point: Floats) -> tuple[float, Floats]:
        """Marginal log-likelihood and its gradient."""
        theta, scales = self.split(point)
        law, offset = self.law, self.law.offset(theta)
        found = self.likelihood.evaluate(law.coefficients(theta), scales, offset=offset, trials=offset.size > 0)
        return found.value, np.concatenate([law.pull(theta, found).ravel(), (scales * found.scales)[self._places]])

    def __call__(self, point: Floats) -> tuple[float, Floats]:
        """The same with the prior of the standard deviations."""
        value, gradient = self.likelihood_at(point)
        scale = np.array([getattr(self.priors, name) for name in self.group_scales])
        log_sds = point[-self.n_scales :]
        relative = np.exp(np.clip(log_sds, -2 * _FAR, _FAR)) / scale
        value += float((log_sds - 0.5 * relative**2).sum())
        gradient[-self.n_scales :] += 1 - relative**2
        return value, gradient

    @property
    def n_scales(self) -> int:
        """Number of standard deviations of groups' effects."""
        return len(self.group_scales)

    @property
    def _places(self) -> list[int]:
        return [GROUP_SCALES.index(name) for name in self.group_scales]

    def restrict(self, group: int) -> "Target":
        """The same function of the trials of one group only."""
        design = self.likelihood.design
        kept = design.trial_group == group
        law = self.law.keep(kept)
        return replace(self, law=law, likelihood=marginal_likelihood(design.keep(kept), law.features))

    def started_at(self, point: Floats) -> "Target":
        """The same, quickest near this point."""
        theta, scales = self.split(point)
        law = self.law
        scores, _ = self.likelihood.settle(law.coefficients(theta), scales, offset=law.offset(theta))
        start = np.where(np.isfinite(scores), scores, 0.0)
        return replace(self, likelihood=replace(self.likelihood, start=start))


@dataclass(frozen=True, kw_only=True, eq=False)
class LawFit:
    """The normal approximation to the posterior of a law.

    Attributes
    ----------
    target : Target
    mode : ndarray, shape (n,)
        Theta of all subjects, then the logarithms of the groups' standard deviations.
    factor : ndarray, shape (n, n)
        Cholesky factor (lower) of the precision.
    found : bool
        Whether the mode was found.
    """

    target: Target
    mode: Floats
    factor: Floats
    found: bool

    def draw(self, n_draws: int, *, rng: np.random.Generator) -> Floats:
        """Independent draws, shape (n_draws, n)."""
        return draw_normal(self.mode, self.factor, n_draws, rng=rng)

    def theta(self, points: Floats) -> Floats:
        """Coefficients of the subjects, shape (n_draws, n_subjects, n_coefficients)."""
        n_subjects, n_coefficients = self.target.shape
        return points[:, : n_subjects * n_coefficients].reshape(-1, n_subjects, n_coefficients)

    def spread(self, points: Floats) -> Floats:
        """Standard deviation of the effects of a new group, all together; shape (n_draws,)."""
        log_sds = points[:, -self.target.n_scales :]
        result: Floats = np.sqrt((np.exp(2 * np.clip(log_sds, -_FAR, _WIDE))).sum(axis=1))
        return result


def draw_normal(mean: Floats, factor: Floats, n_draws: int, *, rng: np.random.Generator) -> Floats:
    """Draws of a normal distribution from the Cholesky factor of its precision, shape (n_draws, n)."""
    noise = rng.standard_normal((mean.size, n_draws))
    away = solve_triangular(factor, noise, lower=True, trans="T")
    result: Floats = mean + away.T
    return result


def fit_law(law: Law, design: Design, *, priors: Priors | None = None) -> LawFit:
    """Fit a law: each subject has its own coefficients, and all share the standard deviations of groups' effects.

    Parameters
    ----------
    law : Law
        Its features in the order of the design's trials.
    design : Design
        Trials, laid out.
    priors : Priors, optional
        Only the groups' standard deviations are used.
    """
    target = Target(
        law=law,
        likelihood=marginal_likelihood(design, law.features),
        group_scales=design.group_scales,
        priors=priors or Priors(),
    )
    n_subjects = target.shape[0]
    mean = np.concatenate([np.tile(law.prior_mean, n_subjects), np.zeros(target.n_scales)])
    precision = block_diag(*[law.prior_precision] * n_subjects, _RIDGE * np.eye(target.n_scales))
    point = mean.copy()
    point[-target.n_scales :] = np.log(_START_SD)
    whole = precision + _guess_curvature(target, point)
    found, tolerance = False, _ROUGHLY
    for _ in range(_ROUNDS):
        factor = np.linalg.cholesky(whole)
        reached, found = climb(target, point, mean, precision, factor, tolerance=tolerance)
        moved = float(np.abs(factor.T @ (reached - point)).max())
        point, settled = reached, tolerance == _CLOSELY and moved < _SETTLED
        if settled:
            break
        target = target.started_at(point)
        whole = precision + expand(target, point).curvature
        tolerance = _CLOSELY
    return LawFit(target=target, mode=point, factor=np.linalg.cholesky(whole), found=found)


def climb(
    function: Callable[[Floats], tuple[float, Floats]],
    point: Floats,
    mean: Floats,
    precision: Floats,
    factor: Floats,
    *,
    tolerance: float,
) -> tuple[Floats, bool]:
    """Maximise a function plus a normal prior, in coordinates where `factor` is the root of the curvature."""

    def descend(whitened: Floats) -> tuple[float, Floats]:
        here = point + solve_triangular(factor, whitened, lower=True, trans="T")
        value, gradient = function(here)
        pull = precision @ (here - mean)
        value -= 0.5 * float((here - mean) @ pull)
        if not np.isfinite(value):
            return _NOWHERE, np.zeros_like(whitened)
        return -value, -solve_triangular(factor, gradient - pull, lower=True)

    options = {"gtol": tolerance, "ftol": 1e-13, "maxiter": _MOST_STEPS, "maxcor": _MEMORY}
    found = minimize(descend, np.zeros(point.size), jac=True, method="L-BFGS-B", options=options)
    reached: Floats = point + solve_triangular(factor, found.x, lower=True, trans="T")
    return reached, bool(np.abs(found.jac).max() < 10 * tolerance)


def _guess_curvature(target: Target, point: Floats) -> Floats:
    """Curvature as if every trial told equally much; only the first steps depend on it."""
    design = target.likelihood.design
    theta, _ = target.split(point)
    slopes = target.law.jacobian(theta)
    blocks = [
        _TYPICAL_WEIGHT * (own @ own.T)
        for own in (slopes[:, design.trial_subject == subject] for subject in range(design.n_subjects))
    ]
    guess: Floats = block_diag(*blocks, np.eye(target.n_scales) * (2 + len(design.groups) / 2))
    return guess
