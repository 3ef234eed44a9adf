"""Estimates of the hidden model: hazards, effects, hidden switches by region, occupancy, sides of single traces."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes import names
from mfbayes.clusters import FEW_GROUPS, expand_tails
from mfbayes.errors import InputError
from mfbayes.estimates.draws import tails, thin
from mfbayes.switching.forward import smooth
from mfbayes.switching.hidden import COVARIATE, DIRECTION
from mfbayes.switching.hidden_codes import Coded
from mfbayes.switching.hidden_influence import Influence, widen
from mfbayes.switching.hidden_tables import CENTRE, SMOOTH, Parameters, place_knots, tabulate
from mfbayes.traces import count_oscillations
from mfbayes.trajectories import Trajectories
from mfbayes.vacillation.regions import SIDES, place_in_regions

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

REGION = "region"
REGIONS = SIDES
_SMOOTHED_DRAWS = 100
_X = np.linspace(-2, 2, 41)


def describe_hazards(
    posterior: xr.Dataset, coded: Coded, *, ci_prob: float, influence: Influence | None = None
) -> tuple[xr.Dataset, xr.Dataset]:
    """Probability of leaving a side, by depth at x = 0, and by x halfway through the layers.

    Parameters
    ----------
    posterior : Dataset
        Draws of the hidden model.
    coded : Coded
        Trajectories in codes.
    ci_prob : float
        Probability of the intervals.
    influence : Influence, optional
        Of groups, for which intervals are widened.

    Returns
    -------
    by_depth : Dataset
        `mean`, `lower`, `upper` over (direction, subject, layer): from that layer to the next; NaN beyond.
    by_distance : Dataset
        The same over (direction, subject, x).
    """
    drawn = _combine(coded, {name: _stack(posterior, name) for name in ("hazard", "effect")})
    if influence is not None:
        groups, traces = (_combine(coded, each) for each in influence)
        drawn = [widen(d, groups=g, traces=t) for d, g, t in zip(drawn, groups, traces, strict=True)]
    at_balance, by_x = (expit(each) for each in drawn)
    beyond = np.arange(1, coded.deepest) >= coded.n_layers[:, None]
    depth = np.where(beyond[None, :, :, None], np.nan, at_balance)
    own = {name: posterior[name] for name in (DIRECTION, names.SUBJECT)}
    layers = {**own, names.LAYER: np.arange(1, coded.deepest)}
    return _bundle(depth, layers, ci_prob), _bundle(by_x, {**own, "x": _X}, ci_prob)


def _combine(coded: Coded, of: Mapping[str, Floats]) -> list[Floats]:
    """Log-odds of leaving a side by layer at x = 0, and by x halfway: linear in the draws, or influences, of both."""
    hazard, effect = of["hazard"], of["effect"]
    knots = place_knots(coded.n_layers, hazard.shape[2])
    bend = np.sqrt(_X**2 + SMOOTH) - CENTRE
    by_depth = np.einsum("slk,dskn->dsln", knots, hazard) - effect[:, :, None, 1] * (SMOOTH**0.5 - CENTRE)
    middle = place_knots(np.array([2]), hazard.shape[2])[0, 0]
    level = np.einsum("k,dskn->dsn", middle, hazard)[:, :, None]
    return [by_depth, level + effect[:, :, None, 0] * _X[:, None] - effect[:, :, None, 1] * bend[:, None]]


def describe_effects(posterior: xr.Dataset, *, ci_prob: float, influence: Influence | None = None) -> xr.Dataset:
    """Effects of x and of distance on the log-odds of switching, of each subject and on average.

    Parameters
    ----------
    posterior : Dataset
        Draws of the hidden model.
    ci_prob : float
        Probability of the intervals.
    influence : Influence, optional
        Of groups, for which intervals are widened.

    Returns
    -------
    Dataset
        `mean`, `lower`, `upper`, `p_positive` over (direction, subject, covariate), and with `mean_` before them
        for the subjects' mean, over (direction, covariate). A positive effect of distance is one by which sides change
        more often near the balance point.
    """
    own = {name: posterior[name] for name in (DIRECTION, names.SUBJECT, COVARIATE)}
    effect, shared = (_widen(posterior, name, influence) for name in ("effect", "effect_mean"))
    found = _bundle(effect, own, ci_prob).assign(p_positive=(tuple(own), (effect > 0).mean(axis=-1)))
    of_all = {name: own[name] for name in (DIRECTION, COVARIATE)}
    summary = _bundle(shared, of_all, ci_prob).assign(p_positive=(tuple(of_all), (shared > 0).mean(axis=-1)))
    return xr.merge([found, summary.rename({str(name): f"mean_{name}" for name in summary})]).assign_attrs(found.attrs)


def _widen(posterior: xr.Dataset, name: str, influence: Influence | None) -> Floats:
    draws = _stack(posterior, name)
    if influence is None:
        return draws
    return widen(draws, groups=influence.groups[name], traces=influence.traces[name])


def smooth_draws(
    posterior: xr.Dataset, coded: Coded, *, n_draws: int = _SMOOTHED_DRAWS
) -> Iterator[tuple[Floats, Floats]]:
    """P(text side) of every trace and layer, and its expected hidden switches, draw by draw.

    Parameters
    ----------
    posterior : Dataset
        Draws of the hidden model.
    coded : Coded
        Trajectories in codes.
    n_draws : int
        About how many draws to go through, evenly spaced.
    """
    few = thin(posterior, n_draws)
    draws = {name: _stack(few, name) for name in ("emission", "nu", "hazard", "effect", "start")}
    for draw in range(draws["nu"].size):
        own = {name: np.ascontiguousarray(values[..., draw]) for name, values in draws.items() if name != "nu"}
        tables = tabulate(Parameters(nu=float(draws["nu"][draw]), **own), coded)
        yield smooth(coded.chains, emission=tables.emission, hazard=tables.hazard, start=tables.start)


def describe_sides(
    posterior: xr.Dataset,
    coded: Coded,
    trajectories: Trajectories,
    x: Floats,
    *,
    ci_prob: float,
    rng: np.random.Generator,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Hidden switches by region beside those that the top-1 tokens show, and the share of the text's side by layer.

    Every draw of the parameters goes with groups drawn anew, one less than there are, so that intervals hold both
    uncertainties; they are expanded for few groups as `mfbayes.clusters` says.

    Parameters
    ----------
    posterior : Dataset
        Draws of the hidden model.
    coded : Coded
        The trajectories in codes.
    trajectories : Trajectories
        Layer traces.
    x : ndarray, shape (n,)
        dH - b of each trace.
    ci_prob : float
        Probability of the intervals.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    switches : Dataset
        `mean`, `lower`, `upper` of the expected hidden switches of a trace, `observed` mean oscillations and
        `n` traces over (subject, region); NaN where a region has no trace, bounds also with fewer than 6 groups.
        Regions are those of `mfbayes.vacillation.regions`.
    occupancy : Dataset
        `mean`, `lower`, `upper` of the share of traces on the text's side over (subject, layer); bounds NaN with fewer
        than 6 groups.
    """
    n = len(trajectories.subjects)
    region = place_in_regions(x, centre=0.0, is_control=np.zeros(x.size, dtype=bool))
    cell = trajectories.subject * len(REGIONS) + region
    size = np.bincount(cell, minlength=n * len(REGIONS)).reshape(n, -1)
    n_groups = np.array([np.unique(trajectories.group[cell == own]).size for own in range(n * len(REGIONS))])
    of_subject = np.array([np.unique(trajectories.group[trajectories.subject == own]).size for own in range(n)])
    observed = _average(count_oscillations(trajectories.state).astype(np.float64), cell, n * len(REGIONS))
    switches, occupied = [], []
    present, group = np.unique(trajectories.group, return_inverse=True)
    ends = expand_tails(ci_prob, max(present.size, 2), n_drawn=max(present.size - 1, 1))
    for p_text, hidden in smooth_draws(posterior, coded):
        times = rng.multinomial(max(present.size - 1, 1), np.full(present.size, 1 / present.size))
        drawn = times[group].astype(np.float64)
        switches.append(_average(hidden, cell, n * len(REGIONS), drawn).reshape(n, -1))
        occupied.append(
            np.stack(
                [_average(p_text[:, layer], trajectories.subject, n, drawn) for layer in range(coded.deepest)], axis=-1
            )
        )
    own = {names.SUBJECT: posterior[names.SUBJECT]}
    by_region = own | {REGION: np.array(REGIONS, dtype=object)}
    dims = tuple(by_region)
    told = _bundle(np.stack(switches, axis=-1), by_region, ci_prob, ends=ends)
    layers = own | {names.LAYER: np.arange(1, coded.deepest + 1)}
    shares = _bundle(np.stack(occupied, axis=-1), layers, ci_prob, ends=ends)
    return (
        _withhold(told, xr.DataArray(n_groups.reshape(n, -1), dims=dims)).assign(
            observed=(dims, observed.reshape(n, -1)), n=(dims, size)
        ),
        _withhold(shares, xr.DataArray(of_subject, dims=names.SUBJECT)),
    )


def _withhold(found: xr.Dataset, n_groups: xr.DataArray) -> xr.Dataset:
    """Estimates without the bounds that rest on too few groups."""
    return found.assign({end: found[end].where(n_groups >= FEW_GROUPS) for end in ("lower", "upper")})


def decode(posterior: xr.Dataset, coded: Coded, trajectories: Trajectories, rows: Indices) -> xr.Dataset:
    """Probability that chosen traces are on the text's side in each layer, given all their layers.

    Parameters
    ----------
    posterior : Dataset
        Draws of the hidden model.
    coded : Coded
        The trajectories in codes.
    trajectories : Trajectories
        Layer traces.
    rows : ndarray of int
        Which of them.

    Returns
    -------
    Dataset
        `p_text` over (trace, layer), averaged over the posterior, and `switches` over trace; with `item` and
        `subject` as coordinates of trace.

    Raises
    ------
    InputError
        Where a row does not exist.
    """
    chosen = np.asarray(rows)
    if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= len(trajectories):
        raise InputError(f"Expected rows from 0 to {len(trajectories) - 1}, got {chosen.tolist()[:10]}.")
    p_text, switches = (
        np.mean(each, axis=0)
        for each in zip(*((p[chosen], n[chosen]) for p, n in smooth_draws(posterior, coded)), strict=True)
    )
    label = np.array(trajectories.subjects, dtype=object)[trajectories.subject[chosen]]
    return xr.Dataset(
        {"p_text": (("trace", names.LAYER), p_text), "switches": ("trace", switches)},
        coords={
            names.LAYER: np.arange(1, coded.deepest + 1),
            names.ITEM: ("trace", trajectories.items[chosen]),
            names.SUBJECT: ("trace", label),
        },
    )


def _stack(posterior: xr.Dataset, name: str) -> Floats:
    """Draws of a variable, the draws last."""
    values: Floats = posterior[name].transpose(..., "chain", "draw").to_numpy()
    return values.reshape(*values.shape[:-2], -1)


def _average(values: Floats, cell: Indices, n_cells: int, weight: Floats | None = None) -> Floats:
    """Weighted mean of each cell, NaN where it has no weight."""
    own = np.ones(values.size) if weight is None else weight
    total = np.bincount(cell, weights=own, minlength=n_cells)
    known = np.bincount(cell, weights=own * values, minlength=n_cells)
    mean: Floats = np.divide(known, total, out=np.full(n_cells, np.nan), where=total > 0)
    return mean


def _bundle(
    draws: Floats, coords: Mapping[str, Any], ci_prob: float, *, ends: tuple[float, float] | None = None
) -> xr.Dataset:
    """Mean and interval over the last axis; a draw that has no value is left out, and NaN is what never has one."""
    between = tails(ci_prob) if ends is None else ends
    flat = draws.reshape(-1, draws.shape[-1])
    found = np.full((3, flat.shape[0]), np.nan)
    for row, values in enumerate(flat):
        known = values[~np.isnan(values)]
        if known.size:
            found[:, row] = known.mean(), *np.quantile(known, between)
    shape = draws.shape[:-1]
    return xr.Dataset(
        {
            name: (tuple(coords), values.reshape(shape))
            for name, values in zip(("mean", "lower", "upper"), found, strict=True)
        },
        coords={name: np.asarray(values) for name, values in coords.items()},
        attrs={"ci_prob": ci_prob},
    )
