"""The spread between subjects, integrated: posteriors given a level's standard deviations, and how these weigh."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import chi2, halfnorm, multivariate_t, norm, qmc

from mfbayes.marginal.population import Population
from mfbayes.marginal.quadratic import Quadratic

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_START_SCALE = 0.6  # where standard deviations are looked for first, over the scales of their priors

_ROOM = 2e7  # numbers in all the nodes' matrices
_PRODUCTS = 2_000_000  # products of coordinates at a time
_RIDGE = 1e-6
_SPREADS = (-7.0, 3.0)  # logarithms: as good as zero, and beyond anything
_CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
_TAIL = 5.0
_GOOD_NODE_SHARE, _MOVES = 0.3, 3
_FEW = 2  # spreads, of one level


@dataclass(frozen=True)
class _Logarithms:
    """Logarithms of standard deviations whose priors are half-normal, of these scales."""

    scales: Floats
    limits: ClassVar[tuple[float, float]] = _SPREADS

    def place(self, log_sds: Floats) -> Floats:
        """Coordinates of logarithms of standard deviations."""
        return log_sds

    def sds(self, points: Floats) -> Floats:
        """Standard deviations at points within the limits."""
        found: Floats = np.exp(points)
        return found

    def log_prior(self, points: Floats) -> Floats:
        """Log density of the priors, up to a constant; from (..., n_spreads) to (...,)."""
        density: Floats = (points - 0.5 * (np.exp(points) / self.scales) ** 2).sum(axis=-1)
        return density


@dataclass(frozen=True)
class _NormalScores:
    """The same, in coordinates whose priors are standard normal.

    The logarithm of a standard deviation of which trials tell little has a long tail to the left. A Student t in its
    place wastes some nodes for each and nearly all of them for a dozen; the score is about normal.
    """

    scales: Floats
    limits: ClassVar[tuple[float, float]] = (-8.0, 8.0)

    def place(self, log_sds: Floats) -> Floats:
        """Coordinates of logarithms of standard deviations."""
        found: Floats = np.clip(norm.isf(halfnorm.sf(np.exp(log_sds) / self.scales)), *self.limits)
        return found

    def sds(self, points: Floats) -> Floats:
        """Standard deviations at points within the limits."""
        found: Floats = np.maximum(self.scales * halfnorm.isf(norm.sf(points)), np.exp(_SPREADS[0]))
        return found

    def log_prior(self, points: Floats) -> Floats:
        """Log density of the priors, up to a constant; from (..., n_spreads) to (...,)."""
        density: Floats = -0.5 * (points**2).sum(axis=-1)
        return density


class Conditional(NamedTuple):
    """Posterior given spreads: mean (..., n), Cholesky factor of the precision (..., n, n), log evidence (...)."""

    mean: Floats
    factor: Floats
    evidence: Floats


class Nodes:
    """Spreads to average over, their weights, and the normal posterior given each: a mixture.

    Attributes
    ----------
    population : Population
        What stands above the subjects.
    sds : ndarray, shape (n_nodes, n_spreads)
        Standard deviations of the levels.
    weights : ndarray, shape (n_nodes,)
        Posterior probability of each node; they sum to one.
    conditional : Conditional
        Posterior of balance points, log slopes and logarithms of the groups' spreads, given each node.
    log_evidence : float
        Logarithm of the integral of the quadratic, less its constant, and the population over everything.
    """

    def __init__(self, population: Population, sds: Floats, log_weights: Floats, conditional: Conditional) -> None:
        self.population, self.sds, self.conditional = population, sds, conditional
        total = logsumexp(log_weights)
        self.log_evidence = float(total) - float(np.log(log_weights.size))
        self._log_weights = log_weights - total
        self.weights = np.exp(self._log_weights)

    @property
    def effective_number(self) -> float:
        """Effective number of nodes: all of them if they weigh the same, 1 if one has all the weight."""
        return float(1 / (self.weights**2).sum())

    @property
    def average(self) -> Floats:
        """Geometric mean of the standard deviations, shape (n_spreads,)."""
        average: Floats = np.exp(self.weights @ np.log(self.sds))
        return average

    def draw(self, n_draws: int, *, tail: float, rng: np.random.Generator) -> Floats:
        """Independent draws from the mixture in random order, shape (n_draws, n).

        Parameters
        ----------
        n_draws : int
            How many.
        tail : float
            Degrees of freedom of Student's t in place of each normal; infinite for the normal itself.
        rng : numpy.random.Generator
            Randomness.
        """
        size = self.conditional.mean.shape[1]
        points = np.empty((n_draws, size))
        stretch = np.ones(n_draws) if np.isinf(tail) else np.sqrt(tail / rng.chisquare(tail, n_draws))
        index = resample(self.weights, n_draws, rng=rng)
        for node in np.unique(index):
            own = index == node
            noise = rng.standard_normal((size, int(own.sum()))) * stretch[own]
            points[own] = self.conditional.mean[node] + np.linalg.solve(self.conditional.factor[node].T, noise).T
        rng.shuffle(points)
        return points

    def log_density(self, points: Floats, *, tail: float) -> Floats:
        """Log density of the mixture of Student's t, up to a constant; from (n_draws, n) to (n_draws,)."""
        size = points.shape[1]
        log_root = np.log(np.diagonal(self.conditional.factor, axis1=1, axis2=2)).sum(axis=1)
        constant = self._log_weights + log_root
        # Around a point in the middle, so that nothing cancels in the quadratic forms.
        middle = self.weights @ self.conditional.mean
        mean = self.conditional.mean - middle
        precision = self.conditional.factor @ np.swapaxes(self.conditional.factor, 1, 2)
        pull = (precision @ mean[..., None])[..., 0]
        density = np.empty(len(points))
        for some in _split(len(points), size * (size + 1) // 2):
            squares = _quadratic_forms(precision, points[some] - middle)
            squares += (pull * mean).sum(axis=1)[:, None] - 2 * pull @ (points[some] - middle).T
            by_node = -(tail + size) / 2 * np.log1p(np.maximum(squares, 0.0) / tail)
            density[some] = logsumexp(by_node + constant[:, None], axis=0)
        return density

    def log_prior(self, subjects: Floats) -> Floats:
        """Log density of subjects with their spreads integrated, up to a constant that all nodes share.

        Parameters
        ----------
        subjects : ndarray, shape (n_draws, 2 n_subjects)
            Balance points, then log slopes.
        """
        density: Floats = logsumexp(self._log_joint(subjects), axis=0) + self.log_evidence
        return density

    def assign(self, subjects: Floats, *, rng: np.random.Generator) -> Indices:
        """Draw the node of each draw of the subjects; shape (n_draws,)."""
        joint = self._log_joint(subjects)
        cumulated = np.cumsum(np.exp(joint - joint.max(axis=0)), axis=0)
        # One minus a number below one is above zero, so that a node of no weight is never drawn.
        found: Indices = (cumulated < (1 - rng.random(len(subjects))) * cumulated[-1]).sum(axis=0)
        return found

    def _log_joint(self, subjects: Floats) -> Floats:
        """Log weight of each node times the density of the subjects given it, shape (n_nodes, n_draws)."""
        n, away = self.population.n_subjects, subjects - self.population.mean
        precision, log_determinant = self._precision
        joint = np.empty((self.weights.size, len(subjects)))
        constant = self._log_weights - self.conditional.evidence - 0.5 * log_determinant
        for some in _split(len(subjects), n * (n + 1)):
            squares = _quadratic_forms(precision[:, :n, :n], away[some, :n])
            squares += _quadratic_forms(precision[:, n:, n:], away[some, n:])
            joint[:, some] = constant[:, None] - 0.5 * squares
        return joint

    @cached_property
    def _precision(self) -> tuple[Floats, Floats]:
        return self.population.precision(self.sds)


def _split(n_points: int, n_products: int) -> list[Indices]:
    """Points in runs whose products of coordinates have room."""
    return np.array_split(np.arange(n_points), max(1, n_points * n_products // _PRODUCTS))


def _quadratic_forms(matrices: Floats, points: Floats) -> Floats:
    """Values x'Ax of symmetric matrices (n_matrices, n, n) and points (n_points, n), shape (n_matrices, n_points).

    In one product of matrices: entries of each, times products of coordinates.
    """
    first, second = np.triu_indices(points.shape[1])
    entries = np.where(first == second, 1.0, 2.0) * matrices[:, first, second]
    forms: Floats = entries @ (points[:, first] * points[:, second]).T
    return forms


def resample(weights: Floats, n_draws: int, *, rng: np.random.Generator) -> Indices:
    """Systematic resampling: each index is drawn as often as its weight says, up to one."""
    cumulated = np.cumsum(weights) / weights.sum()
    cumulated[-1] = 1.0
    return np.searchsorted(cumulated, (np.arange(n_draws) + rng.random()) / n_draws)


def condition(population: Population, quadratic: Quadratic, sds: Floats) -> Conditional:
    """The quadratic and the population together, for spreads of shape (..., n_spreads)."""
    n, size = 2 * population.n_subjects, quadratic.point.size
    precision, log_determinant = population.precision(sds)
    # The groups' standard deviations have no population; their prior is in the quadratic.
    whole = quadratic.curvature + _RIDGE * np.eye(size) + np.zeros((*sds.shape[:-1], 1, 1))
    whole[..., :n, :n] += precision
    shift = precision @ population.mean
    pull = np.zeros((*sds.shape[:-1], size)) + quadratic.curvature @ quadratic.point + quadratic.gradient
    pull[..., :n] += shift
    factor = np.linalg.cholesky(whole)
    half = np.linalg.solve(factor, pull[..., None])
    mean = np.linalg.solve(np.swapaxes(factor, -1, -2), half)[..., 0]
    log_diagonal = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(axis=-1)
    evidence = 0.5 * ((half**2).sum(axis=(-1, -2)) - log_determinant - shift @ population.mean) - log_diagonal
    return Conditional(mean, factor, evidence)


def find_likeliest(population: Population, quadratic: Quadratic) -> Floats:
    """Logarithms of the standard deviations at their mode, shape (n_spreads,)."""
    scales = _scales(population)
    logarithms = _Logarithms(scales)

    def descend(log_sds: Floats) -> float:
        kept = np.clip(log_sds, *_SPREADS)
        density, _ = _evaluate(population, quadratic, logarithms, kept)
        return -float(density) + float(np.abs(log_sds - kept).sum())

    start = np.log(_START_SCALE * scales)
    found = minimize(descend, start, method="Nelder-Mead", options={"xatol": 0.01, "fatol": 0.01})
    return np.clip(np.asarray(found.x, dtype=np.float64), *_SPREADS)


def integrate(population: Population, quadratic: Quadratic, *, rng: np.random.Generator) -> Nodes:
    """Weigh quasi-random points around the mode of the spreads, moved to where the weight is.

    Points are laid out in logarithms where subjects have no levels above them, else in normal scores.
    """
    scales = _scales(population)
    coordinates = _Logarithms(scales) if scales.size <= _FEW else _NormalScores(scales)
    centre = coordinates.place(find_likeliest(population, quadratic))
    width = _widths(population, quadratic, coordinates, centre)
    nodes = _weigh(population, quadratic, coordinates, centre, width, rng=rng)
    for _ in range(_MOVES):
        if nodes.effective_number > _GOOD_NODE_SHARE * nodes.weights.size:
            break
        points = coordinates.place(np.log(nodes.sds))
        centre = nodes.weights @ points
        away = points - centre
        values, vectors = np.linalg.eigh((away * nodes.weights[:, None]).T @ away)
        width = (vectors * np.sqrt(np.clip(values, 0.01, None))) @ vectors.T
        moved = _weigh(population, quadratic, coordinates, centre, width, rng=rng)
        nodes = max(nodes, moved, key=lambda found: found.effective_number)
    return nodes


def _scales(population: Population) -> Floats:
    return np.array([spread.scale for spread in population.all_spreads])


def _weigh(
    population: Population,
    quadratic: Quadratic,
    coordinates: _Logarithms | _NormalScores,
    centre: Floats,
    width: Floats,
    *,
    rng: np.random.Generator,
) -> Nodes:
    """Importance weights of points of a Student t around a centre, `width` the symmetric root of its shape."""
    # More dimensions ask for more points, larger matrices leave room for fewer.
    n_nodes = 2 ** int(np.clip(np.log2(_ROOM / quadratic.point.size**2), 7, min(6 + centre.size // 2, 10)))
    uniform = np.clip(qmc.Sobol(centre.size + 1, rng=rng).random(n_nodes), 1e-9, 1 - 1e-9)
    stretch = np.sqrt(chi2.ppf(uniform[:, :1], _TAIL) / _TAIL)
    points = np.clip(centre + (norm.ppf(uniform[:, 1:]) / stretch) @ width, *coordinates.limits)
    density, conditional = _evaluate(population, quadratic, coordinates, points)
    proposal = multivariate_t(loc=centre, shape=width @ width, df=_TAIL).logpdf(points)
    return Nodes(population, coordinates.sds(points), density - proposal, conditional)


def _widths(
    population: Population, quadratic: Quadratic, coordinates: _Logarithms | _NormalScores, centre: Floats
) -> Floats:
    """Symmetric root of the inverse curvature of the spreads' log density at a centre."""
    moves = 0.1 * np.eye(centre.size)
    corners = np.array([[[centre + a * i + b * j for j in moves] for i in moves] for a, b in _CORNERS])
    density, _ = _evaluate(population, quadratic, coordinates, corners)
    curvature = -(density[0] - density[1] - density[2] + density[3]) / (4 * 0.1**2)
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    widths: Floats = (vectors / np.sqrt(np.clip(values, 0.2, None))) @ vectors.T
    return widths


def _evaluate(
    population: Population, quadratic: Quadratic, coordinates: _Logarithms | _NormalScores, points: Floats
) -> tuple[Floats, Conditional]:
    """Log density of the spreads at points, shape (...,), and the posterior given each."""
    conditional = condition(population, quadratic, coordinates.sds(points))
    return conditional.evidence + coordinates.log_prior(points), conditional
