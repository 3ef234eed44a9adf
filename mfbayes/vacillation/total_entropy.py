"""Total entropy, the rival: the contrasts among traces alike in H_text + H_image, and whether there are such.

The entropy of the answer to the conflict itself is no rival but a mediator, so nothing is adjusted for it.
"""

import numpy as np
import xarray as xr
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes import names
from mfbayes.clusters import FEW_GROUPS
from mfbayes.vacillation.contrasts import BALANCED, IMAGE_SIDE, MIN_ITEMS, TEXT_SIDE, judge_cells, subtract_sides
from mfbayes.vacillation.measures import CLAIMS, COMMITTED
from mfbayes.vacillation.regions import ENTROPY_BINS, Tally, divide
from mfbayes.vacillation.summaries import bound, choose_pooled, pool_flags, pool_subjects

type Floats = NDArray[np.float64]

ADJUSTED = (BALANCED, TEXT_SIDE, IMAGE_SIDE)
STRATA = ("low", "middle", "high", "overlap")
HOLDS, FAILS = "holds", "fails"
# Below a quarter of the traces, the weights rest on a few of them.
MIN_SHARE = 0.25
_TERCILES = 3
_DEGREE, _RIDGE, _STEPS, _LONGEST = 3, 0.1, 12, 2.0


def adjust_for_total_entropy(tally: Tally, subjects: tuple[str, ...], *, ci_prob: float) -> xr.Dataset:
    """Contrasts within thirds of total entropy and, over all of it, with overlap weights [1]_.

    The chance e of an ambiguous trace against one of a clear side, given total entropy, is a logistic cubic in its
    rank; ambiguous traces count 1 - e and clear ones e, so that both have the same mean of every term. "balanced" is
    the mean of both sides, each with weights of its own.

    Returns
    -------
    Dataset
        `mean`, `lower`, `upper` over (subject, measure, contrast, stratum), strata "low", "middle", "high" and
        "overlap"; `effective_share` (effective sample size over traces, of the smaller arm), `smallest_cell` (traces
        in the emptiest third of a region) and `positivity` over (subject, contrast). Positivity "fails" by rule where
        a cell has fewer than 10 traces or the share is below 1/4; for "all", where it does for half of the
        subjects, and others alone are pooled, of those that contrasts are pooled over. Of a subject with conflicts
        whose entropies are not known, everything is NaN and positivity "".

    References
    ----------
    .. [1] Li, Morgan, Zaslavsky, "Balancing covariates via propensity score weighting", JASA 113 (2018),
       doi:10.1080/01621459.2016.1260466.
    """
    counts = tally.sums[COMMITTED][..., :3, :]
    sums = np.stack([tally.sums[name][..., :3, :] for name in CLAIMS], axis=1)
    by_third = counts.reshape(*counts.shape[:-1], _TERCILES, -1).sum(axis=-1)
    sums_by_third = sums.reshape(*sums.shape[:-1], _TERCILES, -1).sum(axis=-1)
    strata = [
        subtract_sides(sums_by_third[..., third], by_third[:, None, ..., third])[:, :, :3] for third in range(_TERCILES)
    ]
    weighted, share = _weigh(sums, counts)
    known = tally.has_entropies
    share[~known] = np.nan
    contrasts = np.where(known[:, None, None, None, None], np.stack([*strata, weighted], axis=3), np.nan)
    cells = by_third[:, 0].min(axis=-1).round().astype(np.int64)
    smallest = np.stack([cells.min(axis=-1), cells[:, :2].min(axis=-1), cells[:, 1:].min(axis=-1)], axis=-1)
    smallest = np.where(known[:, None], smallest, np.nan)
    enough = tally.n_groups[COMMITTED][:, :3] >= FEW_GROUPS
    grouped = np.stack([enough.all(axis=-1), enough[:, :2].all(axis=-1), enough[:, 1:].all(axis=-1)], axis=-1)
    holds = (smallest >= MIN_ITEMS) & (share >= MIN_SHARE)
    present = np.isfinite(share) & grouped
    finite = np.isfinite(bound(contrasts, ci_prob=ci_prob, n_groups=tally.n_resampled)[1])
    wide = np.broadcast_to(grouped[:, None, :, None], finite.shape)
    # Of the subjects that contrasts are pooled over.
    claimed = choose_pooled(
        judge_cells(by_third[:, 0].sum(axis=-1).round().astype(np.int64), tally.n_groups[COMMITTED][:, :3])[
            :, : len(ADJUSTED)
        ]
    )
    usable = wide & finite & (holds & claimed)[:, None, :, None]
    pooled = pool_subjects(contrasts, usable)
    shown = np.concatenate([wide & finite, pool_flags(usable)[-1:]])
    mean, lower, upper, _ = bound(pooled, ci_prob=ci_prob, n_groups=tally.n_resampled, usable=shown)
    judged = present & claimed
    pooled_holds = (judged & holds).sum(axis=0) * 2 > judged.sum(axis=0)
    words = np.where(present, np.where(holds, HOLDS, FAILS), "")
    last = np.where(judged.any(axis=0), np.where(pooled_holds, HOLDS, FAILS), "")
    dims, by_contrast = (names.SUBJECT, "measure", "contrast", "stratum"), (names.SUBJECT, "contrast")
    nothing = np.full((1, len(ADJUSTED)), np.nan)
    return xr.Dataset(
        {
            "mean": (dims, mean),
            "lower": (dims, lower),
            "upper": (dims, upper),
            "effective_share": (by_contrast, np.concatenate([share, nothing])),
            "smallest_cell": (by_contrast, np.concatenate([smallest, nothing])),
            "positivity": (by_contrast, np.concatenate([words, last[None]]).astype(object)),
        },
        coords={
            names.SUBJECT: np.array([*subjects, names.POOLED], dtype=object),
            "measure": np.array(CLAIMS, dtype=object),
            "contrast": np.array(ADJUSTED, dtype=object),
            "stratum": np.array(STRATA, dtype=object),
        },
        attrs={
            "ci_prob": ci_prob,
            "rule": f"positivity fails where a third of total entropy has fewer than {MIN_ITEMS} traces of a region, "
            f"or the effective sample size is below {MIN_SHARE} of the traces",
        },
    )


def _weigh(sums: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Overlap-weighted contrasts (n_subjects, n_claims, 3, 1 + n_draws) and effective shares (n_subjects, 3)."""
    sides, shares = [], []
    for side in (0, 2):
        chance = estimate_propensity(counts[..., 1, :], counts[..., side, :])[:, None]
        ambiguous = _average(sums[..., 1, :], counts[:, None, ..., 1, :], 1 - chance)
        clear = _average(sums[..., side, :], counts[:, None, ..., side, :], chance)
        sides.append(ambiguous - clear)
        first = chance[:, 0, 0]
        arms = [(counts[:, 0, 1], 1 - first), (counts[:, 0, side], first)]
        shares.append(np.min([measure_effective_share(n, weight) for n, weight in arms], axis=0))
    contrasts = np.stack([(sides[0] + sides[1]) / 2, *sides], axis=2)
    return contrasts, np.stack([np.minimum(*shares), *shares], axis=-1)


def estimate_propensity(treated: Floats, others: Floats) -> Floats:
    """Chance to be treated in bins of equal numbers: a logistic cubic in the bin's rank.

    Parameters
    ----------
    treated, others : ndarray, shape (..., n_bins)
        Numbers of traces.

    Returns
    -------
    ndarray, shape (..., n_bins)
        Fitted by Newton's steps with a ridge of 0.1 on all but the intercept, which keeps it finite where
        the two do not overlap.
    """
    place = (2 * np.arange(ENTROPY_BINS) + 1) / ENTROPY_BINS - 1
    basis = legvander(place, _DEGREE)
    squares = (basis[:, :, None] * basis[:, None, :]).reshape(ENTROPY_BINS, -1)
    ridge = np.diag([1e-6, *[_RIDGE] * _DEGREE])
    total = treated + others
    beta = np.zeros((*treated.shape[:-1], _DEGREE + 1))
    for _ in range(_STEPS):
        chance = expit(beta @ basis.T)
        gradient = (treated - total * chance) @ basis - beta @ ridge
        curvature = (total * chance * (1 - chance) @ squares).reshape(*beta.shape, _DEGREE + 1) + ridge
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        length = np.abs(step).max(axis=-1, keepdims=True)
        beta = beta + step * np.minimum(1, _LONGEST / np.maximum(length, 1e-12))
        if length.max() < 1e-3:
            break
    fitted: Floats = expit(beta @ basis.T)
    return fitted


def measure_effective_share(counts: Floats, weight: Floats) -> Floats:
    """(sum of weights)^2 / sum of their squares, over the number of traces; shape (...) from (..., n_bins)."""
    total, squares = (counts * weight).sum(axis=-1), (counts * weight**2).sum(axis=-1)
    return divide(total**2, squares * counts.sum(axis=-1))


def _average(sums: Floats, counts: Floats, weight: Floats) -> Floats:
    top = (sums * weight).sum(axis=-1)
    return divide(top, np.broadcast_to((counts * weight).sum(axis=-1), top.shape))
