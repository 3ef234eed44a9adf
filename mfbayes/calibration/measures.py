"""What is measured on studies of known truth: coverage, ranks of the truth, widths beside another tier's."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from mfbayes.calibration.studies import SEED, Study, simulate_study
from mfbayes.convergence import Sample
from mfbayes.design import Design
from mfbayes.marginal.fast import approximate

type Floats = NDArray[np.float64]
type Fit = Callable[[Design, int], Sample]

CI_PROB = 0.95
_RANK_BINS = 20
_RANK_DRAWS = 399
_GATE = ("balance_point", "slope", "balance_point_mean", "log_slope_mean", "balance_point_sd", "log_slope_sd")


def measure_coverage(study: Study, *, number: int, replicates: int, fit: Fit | None = None) -> dict[str, Any]:
    """How often 95 % intervals of balance points and of their differences cover the truth.

    Parameters
    ----------
    study : Study
        What is simulated.
    number : int
        Of the study; with the replicate it is the seed.
    replicates : int
        Studies simulated and fitted.
    fit : callable, optional
        From a design and a seed to draws; by default the fast tier.

    Returns
    -------
    dict
        Shares `b` and `difference` with Monte Carlo errors from the spread between replicates (models
        of a replicate share its groups), the mean TFR and the replicates whose fit did not pass.
    """
    fit = fit or (lambda design, seed: approximate(design, seed=seed, draws=500))
    shares, pair_shares, ratios, failures = [], [], [], 0
    for replicate in range(replicates):
        rng = np.random.default_rng([SEED, number, replicate])
        design, truth = simulate_study(study, rng=rng)
        drawn = fit(design, replicate)
        failures += not drawn.passed
        points = drawn.posterior["balance_point"].stack(sample=("chain", "draw")).to_numpy()
        shares.append(_covered(points, truth["balance_point"]).mean())
        first, second = np.triu_indices(study.n_models, 1)
        between = truth["balance_point"][first] - truth["balance_point"][second]
        pair_shares.append(_covered(points[first] - points[second], between).mean())
        ratios.append(design.is_text.mean())
    return {
        "b": float(np.mean(shares)),
        "b_error": float(np.std(shares, ddof=1) / replicates**0.5),
        "difference": float(np.mean(pair_shares)),
        "difference_error": float(np.std(pair_shares, ddof=1) / replicates**0.5),
        "tfr_lowest": float(np.min(ratios)),
        "tfr_highest": float(np.max(ratios)),
        "failures": failures,
        "replicates": replicates,
    }


def compare_tiers(study: Study, *, number: int, replicate: int) -> dict[str, Any]:
    """How wide intervals of the fast tier are over those of the sampled tier, on the same trials.

    Returns
    -------
    dict
        `b`, `difference`: geometric means over models and pairs of models of the ratio of widths; `k_hat`: of the
        fast tier's weights, NaN where it did not weigh.
    """
    rng = np.random.default_rng([SEED, number, replicate])
    design, _ = simulate_study(study, rng=rng)
    fast, sampled = approximate(design, seed=replicate), sample_marginal(design, replicate)
    first, second = np.triu_indices(study.n_models, 1)
    widths = []
    for drawn in (fast, sampled):
        points = drawn.posterior["balance_point"].stack(sample=("chain", "draw")).to_numpy()
        widths.append([np.diff(_bounds(draws), axis=0)[0] for draws in (points, points[first] - points[second])])
    ratios = [float(np.exp(np.log(ours / theirs).mean())) for ours, theirs in zip(*widths, strict=True)]
    return {
        "replicate": replicate,
        "b": ratios[0],
        "difference": ratios[1],
        "k_hat": float(fast.convergence.attrs["k_hat"]),
        "passed": sampled.passed,
    }


def rank_truth(study: Study, *, number: int, replicate: int, fit: Fit) -> dict[str, Any]:
    """Ranks of the true values among thinned draws, from 0 to 399, by variable; whether the fit `passed`."""
    rng = np.random.default_rng([SEED, number, replicate])
    design, truth = simulate_study(study, rng=rng)
    drawn = fit(design, replicate)
    ranks: dict[str, Any] = {"passed": drawn.passed}
    for name, value in truth.items():
        draws = drawn.posterior[name].stack(sample=("chain", "draw")).transpose(..., "sample").to_numpy()
        positions = np.linspace(0, draws.shape[-1] - 1, _RANK_DRAWS).astype(np.int64)
        ranks[name] = np.atleast_1d((draws[..., positions] < np.asarray(value)[..., None]).sum(axis=-1)).tolist()
    return ranks


def judge_ranks(ranks: list[int]) -> tuple[float, float]:
    """Chi-square of the ranks' histogram in 20 bins against uniformity, and its p-value."""
    counts = np.bincount(np.array(ranks) * _RANK_BINS // (_RANK_DRAWS + 1), minlength=_RANK_BINS)
    expected = counts.sum() / _RANK_BINS
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return statistic, float(chi2.sf(statistic, _RANK_BINS - 1))


def sample_marginal(design: Design, seed: int) -> Sample:
    """Draws of the sampled tier, as `fit(method="nuts")` makes them."""
    from mfbayes.marginal.posterior import compile_posterior
    from mfbayes.sampling import MARGINAL_ATTEMPTS, sample

    gate = [*_GATE, *design.group_scales]
    return sample(compile_posterior(design), keep=gate, gate=gate, seed=seed, attempts=MARGINAL_ATTEMPTS)


def sample_lapsing(design: Design, seed: int) -> Sample:
    """Draws of the model with lapses, as `fit(lapse=True)` makes them."""
    from mfbayes.lapses import lapsing_model
    from mfbayes.sampling import LAPSING_ATTEMPTS, sample

    gate = [*_GATE, *design.group_scales, "lapse"]
    return sample(lapsing_model(design), keep=gate, gate=gate, seed=seed, attempts=LAPSING_ATTEMPTS)


def _bounds(draws: Floats) -> Floats:
    bounds: Floats = np.quantile(draws, [(1 - CI_PROB) / 2, (1 + CI_PROB) / 2], axis=1)
    return bounds


def _covered(draws: Floats, truth: Floats) -> NDArray[np.bool_]:
    lower, upper = _bounds(draws)
    covered: NDArray[np.bool_] = (lower <= truth) & (truth <= upper)
    return covered


def describe_ranks(studies: Sequence[Sequence[int]]) -> tuple[float, float, float, float]:
    """Mean rank less one half, and mean squared distance from one half over that of uniform ranks, with their errors.

    A distance below one tells of intervals that are too wide, above one too narrow. The Monte Carlo errors are
    those between studies, so that ranks of one study need not be independent.

    Parameters
    ----------
    studies : sequence of sequence of int
        Ranks from 0 to 399, by study.
    """
    shares = [(np.array(ranks) + 0.5) / (_RANK_DRAWS + 1) - 0.5 for ranks in studies]
    shifts = np.array([share.mean() for share in shares])
    spreads = np.array([12 * np.square(share).mean() for share in shares])
    errors = [float(values.std(ddof=1) / len(studies) ** 0.5) for values in (shifts, spreads)]
    return float(shifts.mean()), errors[0], float(spreads.mean()), errors[1]
