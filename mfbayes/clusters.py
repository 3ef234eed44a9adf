"""Clusters: means and their intervals where the trials of one item group resemble each other.

References
----------
Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69(4), 2015,
doi:10.1080/00031305.2015.1089789, for the expanded percentile interval.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

N_RESAMPLES = 2000
FEW_GROUPS = 6
"""With fewer groups a bootstrap has no interval: it cannot draw what it has not seen."""


def resample_groups(n_groups: int, *, rng: np.random.Generator, n_resamples: int = N_RESAMPLES) -> Floats:
    """How often each group is drawn when groups are drawn with replacement; shape (n_resamples, n_groups)."""
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples).astype(np.float64)


def expand_tails(ci_prob: float, n_groups: int, *, n_drawn: int) -> tuple[float, float]:
    """Probabilities at whose quantiles over resamples of groups an interval covers as often as it says.

    Percentiles are too narrow with few groups: where G of G are drawn the variance of resamples is (G - 1) / G of what
    it should be, and a normal quantile stands where one of Student's t with G - 1 degrees of freedom should.

    Parameters
    ----------
    ci_prob : float
        Probability of the interval.
    n_groups, n_drawn : int
        Groups there are, two or more, and groups drawn for a resample; drawing one less makes the variance right.
    """
    reach = expand_reach(ci_prob, n_groups, n_drawn=n_drawn) * norm.ppf((1 + ci_prob) / 2)
    return float(norm.cdf(-reach)), float(norm.cdf(reach))


def expand_reach(ci_prob: float, n_groups: int, *, n_drawn: int) -> float:
    """How many times further than the percentiles an interval reaches that `expand_tails` makes of a normal."""
    wide = t.ppf((1 + ci_prob) / 2, n_groups - 1) / norm.ppf((1 + ci_prob) / 2)
    return float((n_drawn / (n_groups - 1)) ** 0.5 * wide)


def bound_means(
    values: Floats, *, group: Indices, column: Indices, n_columns: int, ci_prob: float, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Indices]:
    """Means of several columns with expanded percentile intervals from one bootstrap over groups.

    Parameters
    ----------
    values : ndarray, shape (n_trials,)
        What is averaged.
    group, column : ndarray of int, shape (n_trials,)
        Group of each trial, and the column (bin, tier, region) that it belongs to.
    n_columns : int
        Number of columns.
    ci_prob : float
        Probability of the intervals.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    mean, lower, upper, n : ndarray, shape (n_columns,)
        NaN where a column is empty; bounds NaN also where it has fewer than 6 groups.
    """
    codes, index = np.unique(group, return_inverse=True)
    sums, counts = np.zeros((codes.size, n_columns)), np.zeros((codes.size, n_columns))
    np.add.at(sums, (index, column), values)
    np.add.at(counts, (index, column), 1.0)
    n = counts.sum(axis=0)
    mean = _divide(sums.sum(axis=0), n)
    lower, upper = np.full(n_columns, np.nan), np.full(n_columns, np.nan)
    weights = resample_groups(codes.size, rng=rng) if codes.size else np.zeros((0, 0))
    means = _divide(weights @ sums, weights @ counts)
    n_groups = (counts > 0).sum(axis=0)
    for position in np.flatnonzero(n_groups >= FEW_GROUPS):
        drawn = means[:, position]
        tails = expand_tails(ci_prob, int(n_groups[position]), n_drawn=int(n_groups[position]))
        lower[position], upper[position] = np.quantile(drawn[~np.isnan(drawn)], tails)
    return mean, lower, upper, n.astype(np.int64)


def bound_shares(
    hits: Floats, *, group: Indices, column: Indices, n_columns: int, ci_prob: float, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats, Indices]:
    """`bound_means` of 0s and 1s, honest where every trial agrees and where groups are few.

    There the bootstrap has too little spread or no interval; it is then at least as wide as Wilson's with one
    observation a group.
    """
    mean, lower, upper, n = bound_means(hits, group=group, column=column, n_columns=n_columns, ci_prob=ci_prob, rng=rng)
    z = norm.ppf((1 + ci_prob) / 2) ** 2
    for position in np.flatnonzero(n > 0):
        n_groups, share = np.unique(group[column == position]).size, mean[position]
        if n_groups >= FEW_GROUPS and 0 < share < 1:
            continue
        centre = (share + z / (2 * n_groups)) / (1 + z / n_groups)
        reach = np.sqrt(z * share * (1 - share) / n_groups + z**2 / (4 * n_groups**2)) / (1 + z / n_groups)
        lower[position] = max(0.0, np.fmin(lower[position], centre - reach))
        upper[position] = min(1.0, np.fmax(upper[position], centre + reach))
    return mean, lower, upper, n


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    quotient: Floats = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return quotient
