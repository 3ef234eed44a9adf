r"""The hidden model of switching: a side in every layer, seen through logit differences and top-1 tokens.

In layer l a trace of subject s is on the text's or on the image's side. Between layers it leaves its side d with

.. math::
    \operatorname{logit} h = a_{ds}(t) + \beta_{ds} x - \gamma_{ds} (\sqrt{x^2 + .01} - .5), \qquad x = dH - b_s

where a, linear between knots of relative depth t, lies around a random walk that subjects share and around the
subject's own offset; it starts on the text's side with log-odds linear in x. On the text's side the logit difference is
Student-t around +m, on the image's side around -m, with m > 0, the scale and the probability that the top-1 token is
neither answer free for every subject and layer. As m is positive, the sides cannot trade names.

A top-1 token that is one of the two answers is the one that the sign of the logit difference tells already.
Whether it is text or image is therefore not counted as evidence a second time: only whether it is neither is.

Groups have no effects here: given the parameters, traces are independent. `mfbayes.switching.hidden_influence` widens
what is reported for that.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pytensor.tensor.variable import TensorVariable

from mfbayes import names
from mfbayes.switching.hidden_codes import Coded
from mfbayes.switching.hidden_operator import hidden_likelihood
from mfbayes.switching.priors import check_priors

type Floats = NDArray[np.float64]
type Tensor = TensorVariable[Any, Any]

DIRECTION, KNOT, FEATURE, COVARIATE, TERM, SPREAD = "direction", "knot", "feature", "covariate", "term", "spread"
DIRECTIONS = ("text-to-image", "image-to-text")
FEATURES = ("log_location", "log_scale", "other_on_text", "other_on_image")
COVARIATES = ("x", "distance")
TERMS = ("level", "x")
SPREADS = (*FEATURES, "walk", "offset", "hazard", "by_x", "by_distance", "start", "start_by_x")
PARAMETERS = ("emission", "nu", "hazard", "effect", "start")
POPULATION = ("emission_mean", "hazard_mean", "effect_mean", "start_mean", "log_sd")


@dataclass(frozen=True, kw_only=True)
class HiddenPriors:
    """Priors of the hidden model: log-odds for hazards, logs in units of a subject's logit differences.

    Every standard deviation of a population is log-normal around its `_sd`, with a spread of `sd_spread`:
    it stays off zero, where effects written around their mean would be hard to sample.

    Raises
    ------
    InputError
        For a standard deviation, a spread, a shape or a rate that is not a finite number above zero, or a mean that is
        not finite.
    """

    log_location_mean_sd: float = 1.0
    log_location_sd: float = 0.5
    log_scale_mean: float = -0.5
    log_scale_mean_sd: float = 1.0
    log_scale_sd: float = 0.4
    other_mean: float = -2.0
    other_mean_sd: float = 1.5
    other_sd: float = 1.0
    nu_shape: float = 2.0
    nu_rate: float = 0.3
    hazard_mean: float = -2.0
    hazard_mean_sd: float = 1.5
    walk_sd: float = 0.5
    offset_sd: float = 0.4
    hazard_sd: float = 0.4
    effect_mean_sd: float = 1.0
    effect_sd: float = 0.4
    start_mean_sd: float = 1.5
    start_sd: float = 0.7
    sd_spread: float = 0.5

    def __post_init__(self) -> None:
        check_priors(self, means=("log_scale_mean", "other_mean", "hazard_mean"))


def hidden_switching_model(coded: Coded, *, n_knots: int = 8, priors: HiddenPriors | None = None) -> pm.Model:
    """Build the hidden model with the sides summed out exactly.

    Parameters
    ----------
    coded : Coded
        Trajectories in codes.
    n_knots : int
        Knots of relative depth; no more than the deepest model has steps.
    priors : HiddenPriors, optional
        Scales of the priors.

    Returns
    -------
    pymc.Model
        With the variables `PARAMETERS`, as `mfbayes.switching.hidden_tables.Parameters` describes them, and their
        `POPULATION`. Since the likelihood enters through a potential, the model can be sampled but not simulated
        forwards.
    """
    p = priors or HiddenPriors()
    knots = min(n_knots, coded.deepest - 1)
    coords = {
        names.SUBJECT: list(coded.subjects),
        names.LAYER: np.arange(1, coded.deepest + 1),
        DIRECTION: list(DIRECTIONS),
        KNOT: np.linspace(0, 1, knots) if knots > 1 else np.array([0.5]),
        FEATURE: list(FEATURES),
        COVARIATE: list(COVARIATES),
        TERM: list(TERMS),
        SPREAD: list(SPREADS),
    }
    typical = (
        *(p.log_location_sd, p.log_scale_sd, p.other_sd, p.other_sd, p.walk_sd, p.offset_sd, p.hazard_sd),
        *(p.effect_sd, p.effect_sd, p.start_sd, p.start_sd),
    )
    with pm.Model(coords=coords, check_bounds=False) as model:
        # Few variables that are arrays: a sampler compiles in proportion to their number.
        sd = pt.exp(pm.Normal("log_sd", np.log(typical), p.sd_spread, dims=SPREAD))
        hidden_likelihood_of = {
            "emission": _emission(coded, p, sd[:4]),
            "nu": pm.Deterministic("nu", 1 + pm.Gamma("nu_excess", p.nu_shape, p.nu_rate)),
            "hazard": _hazard(coded, p, sd[4:7], knots),
            "effect": _effect(p, sd[7:9]),
            "start": _start(p, sd[9:]),
        }
        pm.Potential("sides_summed_out", hidden_likelihood(coded, n_knots=knots, **hidden_likelihood_of))
    return model


def _emission(coded: Coded, p: HiddenPriors, sd: Tensor) -> Tensor:
    mean = pm.Normal(
        "emission_mean",
        np.array([0.0, p.log_scale_mean, p.other_mean, p.other_mean]),
        np.array([p.log_location_mean_sd, p.log_scale_mean_sd, p.other_mean_sd, p.other_mean_sd]),
        dims=FEATURE,
    )
    size = _typical_size(coded)
    first = np.stack([size, size - 0.5, np.full_like(size, p.other_mean), np.full_like(size, p.other_mean)], axis=-1)
    emission: Tensor = pm.Normal("emission", mean, sd, dims=(names.SUBJECT, names.LAYER, FEATURE), initval=first)
    return emission


def _hazard(coded: Coded, p: HiddenPriors, sd: Tensor, n_knots: int) -> Tensor:
    walk_sd, offset_sd, own_sd = sd[0], sd[1], sd[2]
    shared = pm.Normal("hazard_mean", p.hazard_mean, p.hazard_mean_sd, dims=(DIRECTION, KNOT))
    # Beyond the first knot the steps of the walk take the place of the levels' own priors.
    step, later = (shared[:, 1:] - shared[:, :-1]) / walk_sd, (shared[:, 1:] - p.hazard_mean) / p.hazard_mean_sd
    pm.Potential("walk", ((later**2 - step**2) / 2 - pt.log(walk_sd)).sum())
    centre = shared[:, None, :]
    if len(coded.subjects) > 1:
        centre = centre + pm.ZeroSumNormal("offset", offset_sd, dims=(DIRECTION, names.SUBJECT))[:, :, None]
    # Centred where traces say much of a level and not centred where they say little, for either is hard to
    # sample where the other is easy; the share is a constant, so that the model is the same whatever it is.
    share = _guess_shares(coded, p.hazard_sd, n_knots)
    coordinate = pm.Normal("hazard_coordinate", share * centre, own_sd**share, dims=(DIRECTION, names.SUBJECT, KNOT))
    hazard: Tensor = pm.Deterministic(
        "hazard",
        centre + own_sd ** (1 - share) * (coordinate - share * centre),
        dims=(DIRECTION, names.SUBJECT, KNOT),
    )
    return hazard


def _guess_shares(coded: Coded, sd: float, n_knots: int) -> Floats:
    """Share of a hazard's level that its traces tell, if one trace in ten switches at a step and half show it."""
    n_traces = coded.chains.count[:, 0].sum(axis=-1)
    precision = n_traces * (coded.n_layers - 1) / n_knots * 0.5 * 0.09 * 0.5
    told: Floats = sd**2 * precision / (1 + sd**2 * precision)
    return told[:, None]


def _effect(p: HiddenPriors, sd: Tensor) -> Tensor:
    mean = pm.Normal("effect_mean", 0, p.effect_mean_sd, dims=(DIRECTION, COVARIATE))
    effect: Tensor = pm.Normal("effect", mean[:, None, :], sd, dims=(DIRECTION, names.SUBJECT, COVARIATE))
    return effect


def _start(p: HiddenPriors, sd: Tensor) -> Tensor:
    mean = pm.Normal("start_mean", 0, np.array([p.start_mean_sd, p.effect_mean_sd]), dims=TERM)
    start: Tensor = pm.Normal("start", mean, sd, dims=(names.SUBJECT, TERM))
    return start


def _typical_size(coded: Coded) -> Floats:
    """Log of the mean size of every layer's logit differences, where sampling starts."""
    n = coded.chains.count.reshape(*coded.difference.shape, 2).sum(axis=-1)
    total = (n * np.abs(coded.difference)).sum(axis=-1)
    mean: Floats = np.log(np.maximum(total / np.maximum(n.sum(axis=-1), 1), 1e-3))
    return np.where(n.sum(axis=-1) > 0, mean, 0.0)
