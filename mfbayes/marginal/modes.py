"""Modes of the marginal posterior of the fast tier, and the density that is climbed to find them.

Where a model's slope is near zero its balance point is told by next to nothing, and the posterior can have two modes:
one in which the level above pulls the balance point to its mean and the groups' effects make up for it, and one in
which the spread of the level above is wide. From spreads that start wide the climb keeps to what trials say; where some
subject's own slope is in doubt it is made from narrow ones as well.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from mfbayes.design import Design
from mfbayes.marginal.likelihood import MarginalLikelihood, marginal_likelihood, three_scales
from mfbayes.marginal.population import Population
from mfbayes.marginal.quadratic import Quadratic, expand
from mfbayes.marginal.spreads import condition, find_likeliest
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]

FAR = 12.0
"""Logarithm of a standard deviation of groups that none exceeds."""

_WIDE, _NARROW = 3.0, 0.6
"""Standard deviations of the levels where the climb begins, over the scales of their priors."""

_ROUNDS = 4
_SETTLED = 0.1  # posterior standard deviations between two rounds
_SAME = 1.0  # posterior standard deviations between two modes
_FOUND = 1e-3
_FURTHER = 0.2
_BINS = 64
_LEAST_SLOPE = 0.3


@dataclass(frozen=True, kw_only=True)
class Target:
    """Marginal log-likelihood and the groups' priors over (b, log kappa, log sd of the group effects).

    `tilt` is added to the slope in the logarithms of the sds. At the mode of everything together, spreads of
    groups are too small, as variances of maximum likelihood are against those of restricted maximum
    likelihood; what integrating the subjects out would add is about linear in the logarithms.
    """

    likelihood: MarginalLikelihood
    priors: Priors
    tilt: Floats

    def __call__(self, point: Floats) -> tuple[float, Floats]:
        """Value and gradient."""
        design = self.likelihood.design
        n = design.n_subjects
        if point[n:].max() > FAR:
            return -np.inf, np.zeros_like(point)
        balance_point, slope = point[:n], np.exp(point[n : 2 * n])
        sds = np.exp(point[2 * n :])
        found = self.likelihood.evaluate(np.column_stack([slope * balance_point, slope]), three_scales(design, sds))
        by_intercept, by_slope = found.coefficients.T
        by_sd = found.scales[three_scales(design, np.ones_like(sds)) > 0]
        relative = sds / np.array([getattr(self.priors, name) for name in design.group_scales])
        # The density is that of log sd: the Jacobian keeps the mode away from minus infinity.
        value = found.value + float(((1 + self.tilt) * point[2 * n :] - 0.5 * relative**2).sum())
        gradient = np.concatenate(
            [
                slope * by_intercept,
                slope * (balance_point * by_intercept + by_slope),
                sds * by_sd + 1 + self.tilt - relative**2,
            ]
        )
        return value, gradient

    def log_densities(self, points: Floats) -> Floats:
        """Values at many points, from (n_points, n) to (n_points,), without the tilt."""
        design = self.likelihood.design
        n = design.n_subjects
        slope, log_sds = np.exp(points[:, n : 2 * n]), np.minimum(points[:, 2 * n :], FAR)
        coefficients = np.stack([slope * points[:, :n], slope], axis=-1)
        sds = np.exp(log_sds)
        scales = np.array([three_scales(design, own) for own in sds])
        found = self.likelihood.evaluate_points(coefficients, scales).sum(axis=1)
        relative = sds / np.array([getattr(self.priors, name) for name in design.group_scales])
        values: Floats = found + (log_sds - 0.5 * relative**2).sum(axis=1)
        return values

    def started_at(self, point: Floats) -> "Target":
        """The same function, quickest near this point."""
        n = self.likelihood.design.n_subjects
        slope = np.exp(point[n : 2 * n])
        coefficients = np.column_stack([slope * point[:n], slope])
        sds = three_scales(self.likelihood.design, np.exp(point[2 * n :]))
        return replace(self, likelihood=self.likelihood.started_at(coefficients, sds))


class Mode(NamedTuple):
    """A mode: the target, quick near it, its quadratic there, and whether the climb came to an end."""

    target: Target
    quadratic: Quadratic
    found: bool

    @property
    def height(self) -> float:
        """Logarithm of the likelihood at the quadratic's origin, up to a constant that modes share.

        With the evidence that is integrated from the quadratic, which has no constant of its own, it says how much
        a mode weighs.
        """
        point, gradient, curvature = self.quadratic
        return float(self.target.log_densities(point[None])[0] - gradient @ point - 0.5 * point @ curvature @ point)


def find_modes(design: Design, population: Population, priors: Priors) -> list[Mode]:
    """One mode, or two where a slope is in doubt and two climbs end apart.

    Raises
    ------
    numpy.linalg.LinAlgError
        Where the likelihood has no mode with a finite curvature.
    """
    target = Target(likelihood=marginal_likelihood(design), priors=priors, tilt=np.zeros(len(design.group_scales)))
    start = _start(design)
    modes = [_find_mode(target, population, start, scale=_WIDE)]
    if np.exp(start[design.n_subjects : 2 * design.n_subjects]).min() > _LEAST_SLOPE * (1 + 1e-6):
        return modes
    other = _find_mode(target, population, start, scale=_NARROW)
    return modes if _is_near(other.quadratic.point, modes[0], population) else [*modes, other]


def _is_near(point: Floats, mode: Mode, population: Population) -> bool:
    """Whether a point is within the width of a mode in every direction."""
    _, factor, _ = condition(population, mode.quadratic, np.exp(find_likeliest(population, mode.quadratic)))
    return bool(np.abs(factor.T @ (point - mode.quadratic.point)).max() < _SAME)


def _find_mode(target: Target, population: Population, start: Floats, *, scale: float) -> Mode:
    """The mode under the likeliest spreads, climbed to from spreads that are `scale` times those of their priors."""
    sds = np.array([scale * spread.scale for spread in population.all_spreads])
    point = start
    target = target.started_at(point)
    quadratic, found = expand(target, point, roughly=True), False
    for number in range(_ROUNDS):
        point, found = _climb(target, population, sds, quadratic)
        target = target.started_at(point)
        quadratic = expand(target, point)
        if number == 0:
            target = replace(target, tilt=_restrict(target, population, sds, quadratic))
            quadratic.gradient[-target.tilt.size :] += target.tilt
        sds = np.exp(find_likeliest(population, quadratic))
        mean, factor, _ = condition(population, quadratic, sds)
        moved = factor.T @ (mean - point)
        if found and np.abs(moved).max() < _SETTLED:
            break
    return Mode(target, quadratic, found)


def _restrict(target: Target, population: Population, sds: Floats, quadratic: Quadratic) -> Floats:
    """How fast the subjects' posterior widens with the logarithm of each spread of groups, shape (n_scales,)."""
    n = 2 * population.n_subjects
    precision, _ = population.precision(sds)

    def log_width(point: Floats, curvature: Floats | None = None) -> float:
        def given_scales(subjects: Floats) -> tuple[float, Floats]:
            value, gradient = target(np.concatenate([subjects, point[n:]]))
            return value, gradient[:n]

        found = expand(given_scales, point[:n], roughly=True).curvature if curvature is None else curvature
        return -0.5 * float(np.linalg.slogdet(found + precision)[1])

    here = log_width(quadratic.point, quadratic.curvature[:n, :n])
    moves = _FURTHER * np.eye(quadratic.point.size)[n:]
    widening = [(log_width(quadratic.point + move) - here) / _FURTHER for move in moves]
    # Nothing is told better where groups differ more. It seems so where choices are nearly certain and the subjects
    # stay where they are while groups move; a tilt of -1 would leave the spread without a mode.
    return np.maximum(widening, 0.0)


def _climb(target: Target, population: Population, sds: Floats, quadratic: Quadratic) -> tuple[Floats, bool]:
    """Maximise the target and the population's density for given spreads."""
    n, start = 2 * population.n_subjects, quadratic.point
    precision, _ = population.precision(sds)
    _, factor, _ = condition(population, quadratic, sds)
    # In coordinates where the curvature was one, the first step is Newton's. Where that curvature is of no mode they
    # can stretch a direction so that no step along it ends well; the plain ones are of size one.
    for scale in (np.linalg.inv(factor).T, np.eye(start.size)):

        def descend(step: Floats, scale: Floats = scale, start: Floats = start) -> tuple[float, Floats]:
            point = start + scale @ step
            value, gradient = target(point)
            away = point[:n] - population.mean
            value -= 0.5 * float(away @ precision @ away)
            gradient[:n] -= precision @ away
            if not np.isfinite(value):
                return np.inf, np.zeros_like(step)
            return -value, -(scale.T @ gradient)

        found = minimize(descend, np.zeros(start.size), jac=True, method="BFGS", options={"gtol": _FOUND})
        start = start + scale @ found.x
        if np.abs(found.jac).max() < 10 * _FOUND:
            return start, True
    return start, False


def _start(design: Design) -> Floats:
    """Where to begin: a logistic fit for each subject on binned dH, and middling spreads of the groups."""
    edge = np.linspace(-2, 2, _BINS + 1)
    column = np.clip(np.searchsorted(edge, design.uncertainty, side="right") - 1, 0, _BINS - 1)
    place = design.trial_subject * _BINS + column
    shape = (design.n_subjects, _BINS)
    n = np.bincount(place, minlength=design.n_subjects * _BINS).reshape(shape)
    hits = np.bincount(place, design.is_text, minlength=design.n_subjects * _BINS).reshape(shape)
    middle = (edge[:-1] + edge[1:]) / 2
    intercept, slope = np.zeros(design.n_subjects), np.full(design.n_subjects, 2.0)
    features = np.stack([np.ones(_BINS), -middle])
    for _ in range(12):
        p = expit(intercept[:, None] - slope[:, None] * middle)
        score = (hits - n * p) @ features.T - np.column_stack([intercept / 4, slope - 2.0])
        weight = n * p * (1 - p)
        information = np.einsum("sb,ib,jb->sij", weight, features, features) + np.diag([0.25, 1.0])
        step = np.clip(np.linalg.solve(information, score[..., None])[..., 0], -1.5, 1.5)
        intercept, slope = intercept + step[:, 0], slope + step[:, 1]
    slope = np.clip(slope, _LEAST_SLOPE, 10.0)
    scales = np.full(len(design.group_scales), np.log(0.5))
    return np.concatenate([np.clip(intercept / slope, -2.5, 2.5), np.log(slope), scales])
