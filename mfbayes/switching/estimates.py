"""Estimates of switching: hazards by depth and by distance, and what moves them, with intervals."""

import json
from importlib.resources import files

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes import names
from mfbayes.switching.fit import SIDE, TERM, SwitchingFit
from mfbayes.switching.structure import EFFECT, LEVEL
from mfbayes.switching.terms import DISTANCE, SIGNED, measure_closeness

_REACH, _N_GRID = 2.0, 41
_DRAWS = 1000
_OVER = ("chain", "draw")


def describe_switching(fit: SwitchingFit, *, ci_prob: float = 0.95) -> dict[str, xr.Dataset]:
    """All estimates of a fit, by the names that they have under `/estimates`.

    Parameters
    ----------
    fit : SwitchingFit
        Draws.
    ci_prob : float
        Probability of the equal-tailed intervals.

    Returns
    -------
    dict of Dataset
        `hazard_by_depth`, `hazard_by_distance` (where x is a term), `switching_effects`, `switching_convergence`.
    """
    found = {"hazard_by_depth": hazard_by_depth(fit, ci_prob=ci_prob)}
    if SIGNED in fit.layout.terms:
        found["hazard_by_distance"] = hazard_by_distance(fit, ci_prob=ci_prob)
    found["switching_effects"] = describe_effects(fit, ci_prob=ci_prob)
    found["switching_convergence"] = fit.sample.convergence
    return found


def tell_calibration() -> xr.Dataset:
    """What `mfbayes.switching.rates` measured on simulated traces, of which the truth is known; not of these traces.

    Returns
    -------
    Dataset
        Over `term`: `coverage`, the share of 95 % intervals of effects that cover the truth, and `bias` of posterior
        means in posterior standard deviations, of the side where it is larger; their Monte Carlo errors
        `coverage_error` and `bias_error`; and the numbers of data sets, `coverage_sets` and `bias_sets`.
    """
    measured = json.loads((files("mfbayes.switching") / "measured.json").read_text(encoding="utf-8"))
    terms = list(measured["coverage"])
    values = {
        f"{name}{suffix}": ("term", np.array([measured[name][term][place] for term in terms]))
        for name in ("coverage", "bias")
        for place, suffix in enumerate(("", "_error", "_sets"))
    }
    return xr.Dataset(values, coords={"term": np.array(terms, dtype=object)})


def hazard_by_depth(fit: SwitchingFit, *, ci_prob: float = 0.95) -> xr.Dataset:
    """Hazard of switching by layer at the balance point, in a group without effect and with no recent switch.

    Returns
    -------
    Dataset
        `mean`, `lower`, `upper` over (subject, side, layer), a layer being that from which a trace switches, and
        `depth` in (0, 1); NaN beyond a model's depth. With both entropies in place of x: at their means.
    """
    posterior, terms = fit.posterior, fit.layout.terms
    logit = posterior[LEVEL]
    if DISTANCE in terms:
        logit = logit + posterior[EFFECT].sel({TERM: DISTANCE}, drop=True) * float(measure_closeness(np.zeros(1))[0])
    n_steps = xr.DataArray(fit.layout.n_steps, dims=names.SUBJECT)
    found = _summarise(expit(logit), ci_prob=ci_prob).transpose(names.SUBJECT, SIDE, names.LAYER)
    depth = (posterior[names.LAYER] - 0.5) / n_steps
    return found.assign(depth=depth.where(depth < 1).transpose(names.SUBJECT, names.LAYER))


def hazard_by_distance(fit: SwitchingFit, *, ci_prob: float = 0.95) -> xr.Dataset:
    """Hazard of switching by x = dH - b, averaged over the layers, in a group without effect and with no recent switch.

    Returns
    -------
    Dataset
        `mean`, `lower`, `upper` over (subject, side, x), x from -2 to 2; NaN where dH = b + x, with b as the fit has
        it, would not be in [-2, 2], where it always lies.
    """
    every = max(1, fit.posterior.sizes["chain"] * fit.posterior.sizes["draw"] // _DRAWS)
    posterior = fit.posterior.isel(draw=slice(None, None, every))
    grid = xr.DataArray(np.linspace(-_REACH, _REACH, _N_GRID), dims="x")
    shift = posterior[EFFECT].sel({TERM: SIGNED}, drop=True) * grid
    if DISTANCE in fit.layout.terms:
        closeness = xr.DataArray(measure_closeness(grid.to_numpy()), dims="x")
        shift = shift + posterior[EFFECT].sel({TERM: DISTANCE}, drop=True) * closeness
    found = _summarise(_average(posterior[LEVEL], shift), ci_prob=ci_prob)
    dH = xr.DataArray(_find_points(fit), dims=names.SUBJECT) + grid
    possible = found.where(np.abs(dH) <= _REACH + 1e-9).assign_attrs(found.attrs)
    return possible.transpose(names.SUBJECT, SIDE, "x").assign_coords(x=grid.to_numpy())


def describe_effects(fit: SwitchingFit, *, ci_prob: float = 0.95) -> xr.Dataset:
    """Coefficients of the hazards with the probability that they are positive, and standard deviations.

    Returns
    -------
    Dataset
        `mean`, `lower`, `upper`, `p_positive` over (subject, side, term); the same over (side, term) as `mean_*` of
        the means over subjects; `sd_*` over (side, scale) of standard deviations. A term is x, distance (positive:
        more switching near the balance point), H_text, H_image, or how long ago it switched.
    """
    posterior = fit.posterior
    own, mean = (_summarise(posterior[name], ci_prob=ci_prob, sign=True) for name in (EFFECT, "effect_mean"))
    spreads = [str(n) for n in posterior.data_vars if str(n).endswith("_sd") and TERM not in posterior[n].dims]
    joined = np.stack([posterior[name].transpose(*_OVER, SIDE).to_numpy() for name in spreads], axis=-1)
    coords = {SIDE: posterior[SIDE], "scale": np.array(spreads, dtype=object)}
    sd = _summarise(xr.DataArray(joined, dims=(*_OVER, SIDE, "scale"), coords=coords), ci_prob=ci_prob)
    merged = own.transpose(names.SUBJECT, SIDE, TERM).assign(
        {f"mean_{name}": values for name, values in mean.data_vars.items()}
        | {f"sd_{name}": values.transpose(SIDE, "scale") for name, values in sd.data_vars.items()}
    )
    merged.attrs["passed"] = int(fit.sample.passed)
    return merged


def _find_points(fit: SwitchingFit) -> NDArray[np.float64]:
    """Balance points that the fit was made with, shape (n_subjects,)."""
    of = fit.pairs.trajectories
    first = [int(np.flatnonzero(of.subject == code)[0]) for code in range(len(of.subjects))]
    points: NDArray[np.float64] = (of.uncertainty - fit.x)[first]
    return points


def _average(level: xr.DataArray, shift: xr.DataArray) -> xr.DataArray:
    """Mean hazard over the layers, a layer at a time."""
    total, count = xr.zeros_like(shift), xr.zeros_like(level.isel({names.LAYER: 0, "chain": 0, "draw": 0}, drop=True))
    for number in range(level.sizes[names.LAYER]):
        own = level.isel({names.LAYER: number}, drop=True)
        total = total + expit(own + shift).fillna(0.0)
        count = count + own.notnull().isel(chain=0, draw=0, drop=True)
    return total / count


def _summarise(draws: xr.DataArray, *, ci_prob: float, sign: bool = False) -> xr.Dataset:
    tails = draws.quantile([(1 - ci_prob) / 2, (1 + ci_prob) / 2], dim=_OVER, skipna=False)
    found = xr.Dataset(
        {
            "mean": draws.mean(_OVER),
            "lower": tails.isel(quantile=0, drop=True),
            "upper": tails.isel(quantile=1, drop=True),
        },
        attrs={"ci_prob": ci_prob},
    )
    return found.assign(p_positive=(draws > 0).mean(_OVER)) if sign else found
