"""The plane of both uncertainties: P(text) over (H_text, H_image), and the curve where both sides are even."""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from mfbayes import names
from mfbayes.indices import COLUMNS
from mfbayes.laws.bases import span_plane, stack
from mfbayes.laws.catalogue import SURFACE, build_law, prepare
from mfbayes.laws.curves import average_share, check_probability, predict
from mfbayes.laws.laplace import fit_law
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]

_DRAWS = 200
_POINTS = 24
_HIGHEST = 0.99
_NEAR = 1.5  # points of the grid
_FEWEST_NEAR = 3


def map_plane(
    trials: pd.DataFrame,
    *,
    seed: int,
    ci_prob: float = 0.95,
    index: str = names.ENTROPY,
    priors: Priors | None = None,
) -> xr.Dataset:
    """P(text) over the plane of both uncertainties, and the balance curve where it is one half.

    The law in dH says that the curve is a ray from the origin, H_image = H_text (2 - b) / (2 + b); here it
    is read off a smooth surface that need not obey it. Points are even in the square root, so that
    sure answers, which crowd at the origin, are told apart.

    Parameters
    ----------
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    seed : int
        The same seed gives the same numbers.
    ci_prob : float
        Probability of the pointwise equal-tailed band of the curve, in (0, 1).
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that their dH is made of.
    priors : Priors, optional
        Only the groups' standard deviations are used.

    Returns
    -------
    Dataset
        `p_text` over (subject, H_text_point, H_image_point): averaged over draws and the effects of groups,
        NaN where fewer than 3 trials of the subject are near. `curve_H_image`, `curve_lower`, `curve_upper`
        over (subject, H_text_point): H_image where P(text) = 1/2, as median and interval over the draws whose
        curve is within the trials; NaN where it leaves them in the posterior mean or in half of the draws.
        `curve_share` is the share of draws that have one. Coordinates `H_text_point`, `H_image_point` in the
        index's units (nats).

    Raises
    ------
    InputError
        As `mfbayes.laws.catalogue.prepare`; where ci_prob is no probability.
    """
    check_probability(ci_prob)
    design = prepare(trials, index=index)
    H_text, H_image = (trials[column].to_numpy(np.float64)[design.row] for column in COLUMNS[index])
    fit = fit_law(build_law(SURFACE, trials, design, index=index), design, priors=priors)
    points = fit.draw(_DRAWS, rng=np.random.default_rng(seed))
    text_points, image_points = (_even_roots(values) for values in (H_text, H_image))
    across, up = np.meshgrid(text_points, image_points, indexing="ij")
    columns = stack([span_plane(H_text, H_image).features(across.ravel(), up.ravel())])
    spread = fit.spread(points)
    shares, curves = [], []
    for subject in range(design.n_subjects):
        own = design.trial_subject == subject
        log_odds = predict(fit, points, columns, subject=subject).reshape(_DRAWS, *across.shape)
        near = _is_near(H_text[own], H_image[own], text_points, image_points)
        share = average_share(log_odds, spread).mean(axis=0)
        shares.append(np.where(near & fit.found, share, np.nan))
        curves.append(_balance(np.where(near & fit.found, log_odds, np.nan), image_points, ci_prob=ci_prob))
    names_of_curves = ("curve_H_image", "curve_lower", "curve_upper", "curve_share")
    return xr.Dataset(
        {"p_text": ((names.SUBJECT, "H_text_point", "H_image_point"), np.array(shares))}
        | {
            name: ((names.SUBJECT, "H_text_point"), values)
            for name, values in zip(names_of_curves, np.stack(curves, axis=1), strict=True)
        },
        coords={
            names.SUBJECT: np.array(design.subjects, dtype=object),
            "H_text_point": text_points,
            "H_image_point": image_points,
        },
        attrs={"ci_prob": ci_prob, "seed": seed, "index": index},
    )


def cross_zero(heights: ArrayLike, places: ArrayLike) -> Floats:
    """Where functions go from below zero to above it, linearly between points; NaN where they never do.

    Of several such places the middle one (the lower of two middle ones) is taken.

    Parameters
    ----------
    heights : array_like, shape (..., n_points)
        NaN where unknown.
    places : array_like, shape (n_points,)

    Examples
    --------
    >>> cross_zero([[-1.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [0.0, 1.0, 2.0])
    array([0.5, nan])
    """
    values, at = np.asarray(heights, dtype=np.float64), np.asarray(places, dtype=np.float64)
    below, above = values[..., :-1], values[..., 1:]
    crosses = (below < 0) & (above >= 0)
    rank = np.cumsum(crosses, axis=-1)
    wanted = (rank[..., -1:] + 1) // 2
    step = np.argmax(crosses & (rank == wanted), axis=-1)[..., None]
    first, last = np.take_along_axis(below, step, -1)[..., 0], np.take_along_axis(above, step, -1)[..., 0]
    share = np.divide(-first, last - first, out=np.zeros_like(first), where=crosses.any(axis=-1))
    found: Floats = np.where(
        crosses.any(axis=-1), at[step[..., 0]] + share * (at[step[..., 0] + 1] - at[step[..., 0]]), np.nan
    )
    return found


def _balance(log_odds: Floats, image_points: Floats, *, ci_prob: float) -> Floats:
    """Median, bounds and share of the curves' crossings at every H_text, shape (4, n_points).

    The effects of groups are symmetric, so P(text) averaged over them is 1/2 where the log-odds are zero.
    """
    crossings = cross_zero(log_odds, image_points)
    share = np.isfinite(crossings).mean(axis=0)
    shown = (share > 0.5) & np.isfinite(cross_zero(log_odds.mean(axis=0), image_points))
    curve = np.full((3, share.size), np.nan)
    if shown.any():
        levels = [0.5, (1 - ci_prob) / 2, (1 + ci_prob) / 2]
        curve[:, shown] = np.nanquantile(crossings[:, shown], levels, axis=0)
    return np.vstack([curve, share])


def _even_roots(values: Floats) -> Floats:
    """Points even in the square root, from near zero to the 99th percentile."""
    roots = np.sqrt(np.quantile(values, _HIGHEST)) * np.arange(1, _POINTS + 1) / _POINTS
    points: Floats = roots**2
    return points


def _is_near(H_text: Floats, H_image: Floats, text_points: Floats, image_points: Floats) -> NDArray[np.bool_]:
    """Whether trials are within a point and a half of each point of the grid, in either direction."""
    places = [
        np.sqrt(values) / np.sqrt(points[-1]) * _POINTS - 1
        for values, points in ((H_text, text_points), (H_image, image_points))
    ]
    steps = np.arange(_POINTS)
    across, up = (np.abs(place[:, None] - steps) <= _NEAR for place in places)
    return np.asarray(across.T.astype(np.float64) @ up.astype(np.float64) >= _FEWEST_NEAR)
