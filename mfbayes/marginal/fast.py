r"""The fast tier: mode and curvature of the marginal likelihood, with the spread between subjects integrated.

The marginal log-likelihood of balance points, log slopes and the groups' standard deviations is
replaced by its quadratic at the mode. What stands above the subjects (their common means and the
standard deviations of every level) then has a closed-form density, which is integrated by importance
sampling from quasi-random points rather than maximised: at its mode the spread between subjects can
be zero, and every interval too narrow. What the quadratic misses is put back: along each parameter's own
line (`skewness`), and up to 40,000 trials by the marginal likelihood itself (`importance`).

References
----------
Rue, Martino and Chopin, "Approximate Bayesian inference for latent Gaussian models", Journal of the
Royal Statistical Society B 71(2), 2009, doi:10.1111/j.1467-9868.2008.00700.x.
"""

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from threadpoolctl import threadpool_limits

from mfbayes import names
from mfbayes.convergence import CHAINS, Sample
from mfbayes.design import Design
from mfbayes.errors import ConvergenceError, InputError
from mfbayes.marginal.importance import TAIL, Weighing, count_affordable, weigh
from mfbayes.marginal.likelihood import MarginalLikelihood, marginal_likelihood, three_scales
from mfbayes.marginal.population import Population, populate
from mfbayes.marginal.quadratic import Quadratic, expand
from mfbayes.marginal.skewness import reshape
from mfbayes.marginal.spreads import START_SCALE, Nodes, condition, find_likeliest, integrate
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]

MAX_SUBJECTS = 200
_ROUNDS = 4
_SETTLED = 0.1  # posterior standard deviations between two rounds
_FOUND = 1e-3
_FURTHER = 0.2
_FAR = 12.0
_MIN_NODE_SHARE = 0.05
_BINS = 64


def approximate(design: Design, *, priors: Priors | None = None, seed: int = 0, draws: int = 1000) -> Sample:
    """Fit the following model by mode and curvature, and draw from the approximation.

    Parameters
    ----------
    design : Design
        Trials, laid out.
    priors : Priors, optional
        Scales of the priors.
    seed : int
        The same seed gives the same draws.
    draws : int
        Independent draws in each of four "chains", so that the result has the shape of a sampled one.

    Returns
    -------
    Sample
        `passed` is False where no mode is found or the integration over spreads is too coarse.

    Raises
    ------
    InputError
        With more than 200 subjects, for whose curvature this tier is not made.
    ConvergenceError
        Where the likelihood has no mode with a finite curvature.
    """
    if design.n_subjects > MAX_SUBJECTS:
        raise InputError(
            f"Expected at most {MAX_SUBJECTS} models (times tasks and conditions) for method 'fast', "
            f"got {design.n_subjects}. Use method 'nuts'."
        )
    scales = priors or Priors()
    population = populate(design, scales)
    target = _Target(likelihood=marginal_likelihood(design), priors=scales, tilt=np.zeros(len(design.group_scales)))
    rng = np.random.default_rng(seed)
    try:
        # The matrices here are small: more threads for them would only take the cores from the likelihood's.
        with threadpool_limits(limits=1, user_api="blas"):
            target, quadratic, found = _find_mode(target, population)
            nodes = integrate(population, quadratic, rng=rng)
            posterior, weighing = _draw(target, quadratic, nodes, rng=rng, draws=draws)
    except np.linalg.LinAlgError as error:
        raise ConvergenceError(
            "The marginal likelihood of these trials has no mode with a finite curvature, which method 'fast' rests "
            "on. Use method 'nuts'."
        ) from error
    return _describe(posterior, design, weighing, passed=found and nodes.effective_share >= _MIN_NODE_SHARE)


@dataclass(frozen=True, kw_only=True)
class _Target:
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
        if point[n:].max() > _FAR:
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
        slope, log_sds = np.exp(points[:, n : 2 * n]), np.minimum(points[:, 2 * n :], _FAR)
        coefficients = np.stack([slope * points[:, :n], slope], axis=-1)
        sds = np.exp(log_sds)
        scales = np.array([three_scales(design, own) for own in sds])
        found = self.likelihood.evaluate_points(coefficients, scales)
        relative = sds / np.array([getattr(self.priors, name) for name in design.group_scales])
        values: Floats = found + (log_sds - 0.5 * relative**2).sum(axis=1)
        return values

    def started_at(self, point: Floats) -> "_Target":
        """The same function, quickest near this point."""
        n = self.likelihood.design.n_subjects
        slope = np.exp(point[n : 2 * n])
        coefficients = np.column_stack([slope * point[:n], slope])
        sds = three_scales(self.likelihood.design, np.exp(point[2 * n :]))
        return replace(self, likelihood=self.likelihood.started_at(coefficients, sds))


def _find_mode(target: _Target, population: Population) -> tuple[_Target, Quadratic, bool]:
    """The quadratic at the mode under the likeliest spreads, the target quick near it, and whether it was found."""
    sds = np.array([START_SCALE * spread.scale for spread in population.all_spreads])
    point = _start(target.likelihood.design)
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
    return target, quadratic, found


def _restrict(target: _Target, population: Population, sds: Floats, quadratic: Quadratic) -> Floats:
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
    return np.array([(log_width(quadratic.point + move) - here) / _FURTHER for move in moves])


def _climb(target: _Target, population: Population, sds: Floats, quadratic: Quadratic) -> tuple[Floats, bool]:
    """Maximise the target and the population's density for given spreads."""
    n = 2 * population.n_subjects
    precision, _ = population.precision(sds)
    _, factor, _ = condition(population, quadratic, sds)
    inverse = np.linalg.inv(factor)

    def descend(whitened: Floats) -> tuple[float, Floats]:
        point = quadratic.point + inverse.T @ whitened
        value, gradient = target(point)
        away = point[:n] - population.mean
        value -= 0.5 * float(away @ precision @ away)
        gradient[:n] -= precision @ away
        if not np.isfinite(value):
            return np.inf, np.zeros_like(whitened)
        return -value, -(inverse @ gradient)

    # In coordinates where the curvature was one, the first step is Newton's.
    found = minimize(descend, np.zeros(quadratic.point.size), jac=True, method="BFGS", options={"gtol": _FOUND})
    reached = bool(np.abs(found.jac).max() < 10 * _FOUND)
    return quadratic.point + inverse.T @ found.x, reached


def _draw(
    target: _Target, quadratic: Quadratic, nodes: Nodes, *, rng: np.random.Generator, draws: int
) -> tuple[dict[str, Floats], Weighing | None]:
    """Independent draws of everything, an array of shape (4 draws, ...) a variable, and how they were weighed."""
    population, total = nodes.population, CHAINS * draws
    n = population.n_subjects
    points, weighing = _draw_weighed(target, quadratic, nodes, rng=rng, total=total)
    if weighing is None:
        points, _ = _bend(target, quadratic, nodes, nodes.draw(total, tail=np.inf, rng=rng))
    index = nodes.assign(points[:, : 2 * n], rng=rng)
    means = population.draw_means(points[:, : 2 * n], nodes.sds, index, rng=rng)
    slope = np.exp(points[:, n : 2 * n])
    drawn = {
        "balance_point": points[:, :n],
        "slope": slope,
        "intercept": slope * points[:, :n],
        "balance_point_mean": means[:, 0],
        "log_slope_mean": means[:, 1],
        "group_scales": np.exp(points[:, 2 * n :]),
    }
    for i, spread in enumerate(population.all_spreads):
        drawn[spread.name] = nodes.sds[index, i]
    return drawn, weighing


def _draw_weighed(
    target: _Target, quadratic: Quadratic, nodes: Nodes, *, rng: np.random.Generator, total: int
) -> tuple[Floats, Weighing | None]:
    """Draws of the subjects and the groups' spreads, drawn again by the true density where that is affordable."""
    n_weighed = count_affordable(total, target.likelihood.design.n_trials)
    if not n_weighed:
        return np.empty((0, 0)), None
    straight = nodes.draw(n_weighed, tail=TAIL, rng=rng)
    points, log_stretch = _bend(target, quadratic, nodes, straight)
    log_density = target.log_densities(points) + nodes.log_prior(points[:, : 2 * nodes.population.n_subjects])
    weighing = weigh(log_density + log_stretch - nodes.log_density(straight, tail=TAIL), total, rng=rng)
    return points if weighing is None else points[weighing.rows], weighing


def _bend(target: _Target, quadratic: Quadratic, nodes: Nodes, points: Floats) -> tuple[Floats, Floats]:
    """Give the parameters the lean and the tails that they have at the average spreads."""
    population, sds = nodes.population, nodes.average
    n = 2 * population.n_subjects
    precision, _ = population.precision(sds)
    mean, factor, _ = condition(population, quadratic, sds)
    inverse = np.linalg.inv(factor)

    def log_density(some: Floats) -> Floats:
        away, log_sds = some[:, :n] - population.mean, some[:, n:]
        found = target.log_densities(some) + log_sds @ target.tilt - 0.5 * ((away @ precision) * away).sum(axis=1)
        return np.where(log_sds.max(axis=1) > _FAR, -np.inf, found)

    return reshape(points, log_density=log_density, mean=mean, covariance=inverse.T @ inverse)


def _describe(drawn: dict[str, Floats], design: Design, weighing: Weighing | None, *, passed: bool) -> Sample:
    """Draws as a sampler would hand them over."""
    scales = drawn.pop("group_scales")
    drawn |= {name: scales[:, i] for i, name in enumerate(design.group_scales)}
    posterior = xr.Dataset(
        {
            name: (("chain", "draw", names.SUBJECT)[: 1 + values.ndim], values.reshape(CHAINS, -1, *values.shape[1:]))
            for name, values in drawn.items()
        },
        coords={names.SUBJECT: np.array(design.subjects, dtype=object)},
    )
    shape = (posterior.sizes["chain"], posterior.sizes["draw"])
    statistics = xr.Dataset({"diverging": (("chain", "draw"), np.zeros(shape, dtype=bool))})
    # Independent draws need no R-hat; whether mode and integral were found is all there is to ask.
    convergence = xr.Dataset(
        attrs={
            "passed": int(passed),
            "method": names.FAST,
            "divergences": 0,
            "draws": shape[1],
            "weighed": int(weighing is not None),
            "effective_share": weighing.effective_share if weighing else np.nan,
            "k_hat": weighing.k_hat if weighing else np.nan,
        }
    )
    return Sample(posterior=posterior, statistics=statistics, convergence=convergence)


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
    slope = np.clip(slope, 0.3, 10.0)
    scales = np.full(len(design.group_scales), np.log(0.5))
    return np.concatenate([np.clip(intercept / slope, -2.5, 2.5), np.log(slope), scales])
