"""Means of every measure over the regions around the balance point and over the control."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import norm

from mfbayes import names
from mfbayes.clusters import FEW_GROUPS
from mfbayes.vacillation.measures import COMMITTED, MEASURES, NEVER, OSCILLATIONS, counter_of
from mfbayes.vacillation.regions import AMBIGUOUS_REACH, REGIONS, Tally, divide
from mfbayes.vacillation.summaries import bound

type Floats = NDArray[np.float64]


def describe_means(tally: Tally, subjects: tuple[str, ...], *, ci_prob: float) -> xr.Dataset:
    """Mean of each measure of each subject in each region, groups resampled and the balance point redrawn.

    Ambiguous: abs(dH - b) < 0.5. Clear is the rest, split into its text side (dH below b) and its image side.
    Estimates are those at the median of b. Traces that never commit are left out of the means and told as a share.

    Returns
    -------
    Dataset
        `mean`, `lower`, `upper`, `n` (traces with the measure) over (subject, measure, region) and
        `never_committed`, `never_lower`, `never_upper` over (subject, region). Regions of a one-sided subject are
        NaN, since its balance point is not known; bounds also where fewer than 6 groups have traces. Where all traces
        or none commit, bounds of the share are those of Wilson with one observation a group, since groups drawn anew
        have no spread.
    """
    shape = (len(subjects), len(MEASURES), len(REGIONS))
    found = {name: np.full(shape, np.nan) for name in ("mean", "lower", "upper")}
    n = np.zeros(shape, dtype=np.int64)
    for j, measure in enumerate(MEASURES):
        counter = counter_of(measure)
        counts = _by_region(tally.sums[counter])
        means = divide(_by_region(tally.sums[measure]), counts).transpose(0, 2, 1)
        usable = _count_groups(tally, counter) >= FEW_GROUPS
        found["mean"][:, j], found["lower"][:, j], found["upper"][:, j], _ = bound(
            means, ci_prob=ci_prob, n_groups=tally.n_resampled, usable=usable
        )
        n[:, j] = counts[:, 0].round().astype(np.int64)
    never = _bound_never(tally, ci_prob=ci_prob)
    dims = (names.SUBJECT, "measure", "region")
    return xr.Dataset(
        {name: (dims, values) for name, values in found.items()}
        | {"n": (dims, n)}
        | {name: ((names.SUBJECT, "region"), values) for name, values in never.items()},
        coords={
            names.SUBJECT: np.array(subjects, dtype=object),
            "measure": np.array(MEASURES, dtype=object),
            "region": np.array(REGIONS, dtype=object),
        },
        attrs={"ci_prob": ci_prob, "ambiguous_reach": AMBIGUOUS_REACH},
    )


def select_oscillations(means: xr.Dataset) -> xr.Dataset:
    """The oscillations alone, over (subject, region)."""
    return means.sel(measure=OSCILLATIONS, drop=True)


def _bound_never(tally: Tally, *, ci_prob: float) -> dict[str, Floats]:
    """Share of traces that never commit and its bounds, each of shape (n_subjects, n_regions)."""
    committed, never = (_by_region(tally.sums[name]) for name in (COMMITTED, NEVER))
    shares = divide(never, committed + never).transpose(0, 2, 1)
    # Groups with traces of either kind are at least as many as those with the one or the other.
    n_groups = np.maximum(_count_groups(tally, COMMITTED), _count_groups(tally, NEVER))
    share, lower, upper, _ = bound(shares, ci_prob=ci_prob, n_groups=tally.n_resampled, usable=n_groups >= FEW_GROUPS)
    z = norm.ppf((1 + ci_prob) / 2) ** 2
    edge = z / (n_groups + z)
    return {
        "never_committed": share,
        "never_lower": np.where(np.isfinite(lower) & (share == 1), 1 - edge, lower),
        "never_upper": np.where(np.isfinite(upper) & (share == 0), edge, upper),
    }


def _by_region(sums: Floats) -> Floats:
    """Sums over bins, with both clear sides together; shape (n_subjects, 1 + n_draws, n_regions)."""
    text, ambiguous, image, control = np.moveaxis(sums.sum(axis=-1), -1, 0)
    return np.stack([text, ambiguous, image, text + image, control], axis=-1)


def _count_groups(tally: Tally, counter: str) -> NDArray[np.int64]:
    text, ambiguous, image, control = tally.n_groups[counter].T
    # Groups of both sides overlap; the larger side is what they have at least.
    return np.stack([text, ambiguous, image, np.maximum(text, image), control], axis=-1)
