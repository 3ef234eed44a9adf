"""Contrasts: the ambiguous region against both of its sides, against each, and against all that is clear."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.clusters import FEW_GROUPS
from mfbayes.vacillation.measures import CLAIMS, COMMITTED
from mfbayes.vacillation.regions import Tally, divide
from mfbayes.vacillation.summaries import bound, choose_pooled, pool_flags, pool_subjects

type Floats = NDArray[np.float64]
type Flags = NDArray[np.bool_]

BALANCED, TEXT_SIDE, IMAGE_SIDE, CLEAR = "balanced", "text-side", "image-side", "clear"
CONTRASTS = (BALANCED, TEXT_SIDE, IMAGE_SIDE, CLEAR)
MIN_ITEMS = 10


def contrast_regions(tally: Tally, subjects: tuple[str, ...], *, ci_prob: float) -> xr.Dataset:
    """Oscillations and round trips in the ambiguous region (A) less those of the text (T) and image (I) sides.

    "balanced" is A - (T + I) / 2, in which the late switch that answers of one side cost cancels; "text-side" is
    A - T, "image-side" A - I, "clear" A less the mean of all clear traces.

    Returns
    -------
    Dataset
        `mean`, `lower`, `upper`, `probability` (to be above zero) and `n_subjects` (that it rests on) over (subject,
        measure, contrast), as are `n_text`, `n_ambiguous`, `n_image` (traces that commit). The last subject is
        "all": the mean over those with an interval, groups drawn jointly, and their traces together; where any has
        all regions, over those that have them, in every contrast. No interval where a region has fewer than 10 traces
        or 6 groups.
    """
    counts = tally.sums[COMMITTED].sum(axis=-1)[..., :3]
    sums = np.stack([tally.sums[name].sum(axis=-1)[..., :3] for name in CLAIMS], axis=1)
    contrasts = subtract_sides(sums, counts[:, None])
    n = counts[:, 0].round().astype(np.int64)
    usable = np.broadcast_to(judge_cells(n, tally.n_groups[COMMITTED][:, :3])[:, None], contrasts.shape[:3])
    # A subject with a region that many draws leave empty is not pooled, since it has no interval of its own.
    usable = usable & np.isfinite(bound(contrasts, ci_prob=ci_prob, n_groups=tally.n_resampled)[1])
    inside = choose_pooled(usable)
    pooled = pool_subjects(contrasts, inside)
    shown = np.concatenate([usable, pool_flags(inside)[-1:]])
    mean, lower, upper, probability = bound(pooled, ci_prob=ci_prob, n_groups=tally.n_resampled, usable=shown)
    dims = (names.SUBJECT, "measure", "contrast")
    traces = np.broadcast_to(n[:, None, None], (*usable.shape, 3))
    traces = np.concatenate([traces, (inside[..., None] * traces).sum(axis=0)[None]])
    return xr.Dataset(
        {
            "mean": (dims, mean),
            "lower": (dims, lower),
            "upper": (dims, upper),
            "probability": (dims, probability),
            "n_subjects": (dims, np.concatenate([usable, inside.sum(axis=0)[None]]).astype(np.int64)),
            "n_text": (dims, traces[..., 0]),
            "n_ambiguous": (dims, traces[..., 1]),
            "n_image": (dims, traces[..., 2]),
        },
        coords={
            names.SUBJECT: np.array([*subjects, names.POOLED], dtype=object),
            "measure": np.array(CLAIMS, dtype=object),
            "contrast": np.array(CONTRASTS, dtype=object),
        },
        attrs={"ci_prob": ci_prob, "min_items": MIN_ITEMS, "min_groups": FEW_GROUPS},
    )


def subtract_sides(sums: Floats, counts: Floats) -> Floats:
    """Contrasts from sums and counts over (..., n_draws, 3 regions); shape (..., n_contrasts, n_draws)."""
    counts = np.broadcast_to(counts, sums.shape)
    text, ambiguous, image = np.moveaxis(divide(sums, counts), -1, 0)
    clear = divide(sums[..., 0] + sums[..., 2], counts[..., 0] + counts[..., 2])
    return np.stack([ambiguous - (text + image) / 2, ambiguous - text, ambiguous - image, ambiguous - clear], axis=-2)


def judge_cells(n_items: NDArray[np.int64], n_groups: NDArray[np.int64]) -> Flags:
    """Which contrasts have enough traces and groups in their regions; (n_subjects, 3) to (n_subjects, n_contrasts)."""
    text, ambiguous, image = ((n_items >= MIN_ITEMS) & (n_groups >= FEW_GROUPS)).T
    return np.stack(
        [text & ambiguous & image, text & ambiguous, image & ambiguous, (text | image) & ambiguous], axis=-1
    )
