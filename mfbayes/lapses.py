r"""Lapses: random answers to either side, opt-in, which flatten a response curve unless they are modelled.

.. math::
    P(choice_i = text) = \lambda_m + (1 - 2 \lambda_m) \operatorname{sigmoid}(\eta_i)

with :math:`\eta_i` the linear predictor of the following model and :math:`\lambda_m` in [0, 1/2) the rate
at which model m answers text, and just as often image, whatever the case: twice :math:`\lambda_m` is its
rate of lapses. The curve still passes through 1/2 at the balance point. An asymmetric lapse moves the
dH at which P(text) = 1/2 away from b, so that b would no longer be what it is called; it is not offered.

References
----------
Wichmann and Hill, "The psychometric function: I. Fitting, sampling, and goodness of fit", Perception &
Psychophysics 63(8), 2001, doi:10.3758/BF03194544.
"""

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.design import Design
from mfbayes.errors import InputError
from mfbayes.estimates.draws import MODEL_LABEL, tails
from mfbayes.following import coordinates, linear_predictor
from mfbayes.pilot import estimate_pilot, guess_lapse
from mfbayes.priors import Priors

type Floats = NDArray[np.float64]

# Where the pilot looks for a model's rate.
_GRID = np.array([0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3])


@dataclass(frozen=True, kw_only=True)
class LapsePrior:
    """Prior of each model's rate of lapses, 2 lambda in [0, 1): Beta(1, 1 / mean - 1).

    With a mean up to a half it is densest at 0.

    Attributes
    ----------
    mean : float
        Between 0 and 1.

    Raises
    ------
    InputError
        Where the mean is not between 0 and 1.
    """

    mean: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.mean < 1:
            raise InputError(f"Expected the mean of the lapse prior between 0 and 1, got {self.mean}.")


def lapsing_model(design: Design, *, priors: Priors | None = None, lapse_prior: LapsePrior | None = None) -> pm.Model:
    """Build the following model with a symmetric rate of lapses for each model.

    Parameters
    ----------
    design : Design
        Trials, laid out.
    priors : Priors, optional
        Scales of the priors of the following model.
    lapse_prior : LapsePrior, optional
        Prior of 2 lambda.

    Returns
    -------
    pymc.Model
        With the variables of `following_model` and `lapse` (lambda, in [0, 1/2)) over the dim `model_label`,
        for `model` is what labels the subjects of a posterior.
    """
    prior = lapse_prior or LapsePrior()
    beta = 1 / prior.mean - 1
    typical = _guess(design, log_prior=(beta - 1) * np.log1p(-2 * _GRID))[design.model_index]
    pilot, nearby = estimate_pilot(design, lapse=typical), estimate_pilot(design, lapse=1.2 * typical)
    # The more lapses, the steeper the curve: along this line the posterior of both is long, across it narrow.
    steepening = (nearby.log_slope - pilot.log_slope) / (0.2 * typical)
    with pm.Model(coords=coordinates(design) | {MODEL_LABEL: list(design.models)}, check_bounds=False) as model:
        # The prior's quantile at a normal coordinate: a rate near 0 is no long way off, as its logit would be.
        above = 0.5 * pt.erfc(pm.Normal("lapse_coordinate", dims=MODEL_LABEL) / np.sqrt(2))
        lapse = pm.Deterministic("lapse", -0.5 * pt.expm1(pt.log(above) / beta), dims=MODEL_LABEL)
        by_subject = lapse[design.model_index]
        logit_p = linear_predictor(
            design, pilot, priors=priors or Priors(), slope_shift=steepening * (by_subject - typical)
        )
        own = by_subject[design.trial_subject]
        # The smaller of two probabilities is never found by subtraction from 1, which would lose it.
        side = pt.constant(2 * design.is_text - 1)
        likelihood = pt.log(own + (1 - 2 * own) * pt.sigmoid(side * logit_p))
        pm.Potential("is_text", likelihood.sum())
    return model


def _guess(design: Design, *, log_prior: Floats) -> Floats:
    """A likely rate of each model, which places the sampler's coordinates and nothing else."""
    model = design.model_index[design.trial_subject]
    own = [model == m for m in range(len(design.models))]
    return np.array(
        [guess_lapse(design.uncertainty[m], design.is_text[m], grid=_GRID, log_prior=log_prior) for m in own]
    )


def describe_lapses(posterior: xr.Dataset, *, ci_prob: float) -> xr.Dataset:
    """How often each model answers at random, as lambda: the probability of each side by chance.

    Parameters
    ----------
    posterior : Dataset
        Draws of `lapse`.
    ci_prob : float
        Probability of the equal-tailed intervals.

    Returns
    -------
    Dataset
        Over `model`: `mean`, `median`, `lower`, `upper` of lambda; twice that are random answers.
    """
    drawn = (
        posterior["lapse"].transpose(MODEL_LABEL, "chain", "draw").to_numpy().reshape(posterior.sizes[MODEL_LABEL], -1)
    )
    lower, upper = np.quantile(drawn, tails(ci_prob), axis=1)
    found = {"mean": drawn.mean(axis=1), "median": np.median(drawn, axis=1), "lower": lower, "upper": upper}
    return xr.Dataset(
        {name: (names.MODEL, values) for name, values in found.items()},
        coords={names.MODEL: posterior[MODEL_LABEL].to_numpy().astype(object)},
        attrs={"ci_prob": ci_prob},
    )
