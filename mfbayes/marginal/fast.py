r"""The fast tier: mode and curvature of the marginal likelihood, with the spread between subjects integrated.

The marginal log-likelihood of balance points, log slopes and the groups' standard deviations is
replaced by its quadratic at the mode. What stands above the subjects (their common means and the
standard deviations of every level) then has a closed-form density, which is integrated by importance
sampling from quasi-random points rather than maximised: at its mode the spread between subjects can
be zero, and every interval too narrow. What the quadratic misses is put back: along each parameter's own
line (`skewness`), and by the marginal likelihood itself where that is affordable (`importance`). Where two modes are
found (`modes`), both are drawn around.

References
----------
Rue, Martino and Chopin, "Approximate Bayesian inference for latent Gaussian models", Journal of the
Royal Statistical Society B 71(2), 2009, doi:10.1111/j.1467-9868.2008.00700.x.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mfbayes import names
from mfbayes.convergence import CHAINS, Sample
from mfbayes.design import Design
from mfbayes.errors import ConvergenceError
from mfbayes.marginal.importance import TAIL, Weighing, count_affordable, weigh
from mfbayes.marginal.modes import FAR, Mode, find_modes
from mfbayes.marginal.population import populate
from mfbayes.marginal.skewness import reshape
from mfbayes.marginal.spreads import Nodes, condition, integrate
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

# Effective number. Means of a balance point given each node vary by at most half of its posterior standard deviation,
# so that with 25 the whole mean errs by a tenth of it.
_MIN_NODES = 25
_NEGLIGIBLE = 10.0  # nats below the heaviest mode


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
        `passed` is False where no mode is found (`mode_found` of its convergence is 0) or the integration over
        spreads is too coarse (`effective_nodes` below `min_effective_nodes`).

    Raises
    ------
    ConvergenceError
        Where the likelihood has no mode with a finite curvature.
    """
    scales = priors or Priors()
    population = populate(design, scales)
    rng = np.random.default_rng(seed)
    try:
        # The matrices here are small: more threads for them would only take the cores from the likelihood's.
        with threadpool_limits(limits=1, user_api="blas"):
            modes = find_modes(design, population, scales)
            peaks = _rank([_Peak(mode, integrate(population, mode.quadratic, rng=rng)) for mode in modes])
            posterior, weighing = _draw(peaks, rng=rng, draws=draws)
    except np.linalg.LinAlgError as error:
        raise ConvergenceError(
            "The marginal likelihood of these trials has no mode with a finite curvature, which method 'fast' rests "
            "on. Use method 'nuts'."
        ) from error
    peaks = peaks if weighing else peaks[:1]
    return _describe(posterior, design, weighing, peaks)


class _Peak(NamedTuple):
    """A mode, and the normal posteriors around it for every spread of the levels."""

    mode: Mode
    nodes: Nodes

    @property
    def weight(self) -> float:
        """Logarithm of its share of the posterior, up to a constant that peaks share."""
        return self.mode.height + self.nodes.log_evidence


def _rank(peaks: list[_Peak]) -> list[_Peak]:
    """The heaviest first, without those that weigh next to nothing beside it."""
    ranked = sorted(peaks, key=lambda peak: -peak.weight)
    return [peak for peak in ranked if not peak.weight < ranked[0].weight - _NEGLIGIBLE]


def _draw(peaks: list[_Peak], *, rng: np.random.Generator, draws: int) -> tuple[dict[str, Floats], Weighing | None]:
    """Independent draws of everything, an array of shape (4 draws, ...) a variable, and how they were weighed."""
    total, population = CHAINS * draws, peaks[0].nodes.population
    n = population.n_subjects
    points, peak_of, weighing = _draw_weighed(peaks, rng=rng, total=total)
    if weighing is None:
        points, _ = _bend(peaks[0], peaks[0].nodes.draw(total, tail=np.inf, rng=rng))
        peak_of = np.zeros(total, dtype=np.int64)
    means, sds = np.empty((total, 2)), np.empty((total, len(population.all_spreads)))
    for k in np.unique(peak_of):
        own, nodes = peak_of == k, peaks[k].nodes
        index = nodes.assign(points[own, : 2 * n], rng=rng)
        means[own] = population.draw_means(points[own, : 2 * n], nodes.sds, index, rng=rng)
        sds[own] = nodes.sds[index]
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
        drawn[spread.name] = sds[:, i]
    return drawn, weighing


def _draw_weighed(
    peaks: list[_Peak], *, rng: np.random.Generator, total: int
) -> tuple[Floats, Indices, Weighing | None]:
    """Draws of the subjects and the groups' spreads, drawn again by the true density where that is affordable.

    Every peak has its own part of the space, where its normals are denser than those of the others: what it draws
    elsewhere counts nothing, so that each part is counted once.

    Returns
    -------
    points : ndarray, shape (total, n)
    peak_of : ndarray of int, shape (total,)
        The peak that each was drawn around.
    weighing : Weighing or None
        None where draws cannot be weighed; the others are empty then.
    """
    nothing = np.empty((0, 0)), np.empty(0, dtype=np.int64), None
    design = peaks[0].mode.target.likelihood.design
    n_weighed = count_affordable(total, design.n_trials, len(design.groups))
    if not n_weighed:
        return nothing
    all_points, all_ratios = [], []
    for k, peak in enumerate(peaks):
        nodes, target = peak.nodes, peak.mode.target
        straight = nodes.draw(n_weighed // len(peaks), tail=TAIL, rng=rng)
        points, log_stretch = _bend(peak, straight)
        log_density = target.log_densities(points) + nodes.log_prior(points[:, : 2 * nodes.population.n_subjects])
        ratios = log_density + log_stretch - nodes.log_density(straight, tail=TAIL)
        if len(peaks) > 1:
            dense = [each.nodes.log_density(points, tail=TAIL) for each in peaks]
            ratios = np.where(np.argmax(dense, axis=0) == k, ratios, -np.inf)
        all_points.append(points)
        all_ratios.append(ratios)
    weighing = weigh(np.concatenate(all_ratios), total, rng=rng)
    if weighing is None:
        return nothing
    peak_of = np.repeat(np.arange(len(peaks)), n_weighed // len(peaks))
    return np.concatenate(all_points)[weighing.rows], peak_of[weighing.rows], weighing


def _bend(peak: _Peak, points: Floats) -> tuple[Floats, Floats]:
    """Give the parameters the lean and the tails that they have at the average spreads."""
    target, nodes = peak.mode.target, peak.nodes
    population, sds = nodes.population, nodes.average
    n = 2 * population.n_subjects
    precision, _ = population.precision(sds)
    mean, factor, _ = condition(population, peak.mode.quadratic, sds)
    inverse = np.linalg.inv(factor)

    def log_density(some: Floats) -> Floats:
        away, log_sds = some[:, :n] - population.mean, some[:, n:]
        found = target.log_densities(some) + log_sds @ target.tilt - 0.5 * ((away @ precision) * away).sum(axis=1)
        return np.where(log_sds.max(axis=1) > FAR, -np.inf, found)

    return reshape(points, log_density=log_density, mean=mean, covariance=inverse.T @ inverse)


def _describe(drawn: dict[str, Floats], design: Design, weighing: Weighing | None, peaks: list[_Peak]) -> Sample:
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
    found, effective = all(peak.mode.found for peak in peaks), min(peak.nodes.effective_number for peak in peaks)
    convergence = xr.Dataset(
        attrs={
            "passed": int(found and effective >= _MIN_NODES),
            "method": names.FAST,
            "divergences": 0,
            "draws": shape[1],
            "modes": len(peaks),
            "mode_found": int(found),
            "effective_nodes": effective,
            "min_effective_nodes": _MIN_NODES,
            "weighed": int(weighing is not None),
            "effective_share": weighing.effective_share if weighing else np.nan,
            "k_hat": weighing.k_hat if weighing else np.nan,
        }
    )
    return Sample(posterior=posterior, statistics=statistics, convergence=convergence)
