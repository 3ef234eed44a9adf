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

from mfbayes import names
from mfbayes.design import Design
from mfbayes.errors import InputError
from mfbayes.estimates.draws import MODEL_LABEL, tails
from mfbayes.following import coordinates, linear_predictor
from mfbayes.priors import Priors


@dataclass(frozen=True, kw_only=True)
class LapsePrior:
    """Beta prior of each model's rate of lapses, 2 lambda in [0, 1); its mean is .05 by default.

    Raises
    ------
    InputError
        Where a parameter is not a finite number above zero.
    """

    alpha: float = 1.0
    beta: float = 19.0

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            if not (np.isfinite(value) and value > 0):
                raise InputError(f"Expected {name} of the lapse prior to be a finite number above 0, got {value}.")


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
    with pm.Model(coords=coordinates(design) | {MODEL_LABEL: list(design.models)}, check_bounds=False) as model:
        logit_p = linear_predictor(design, priors=priors or Priors())
        rate = pm.Beta("lapse_rate", prior.alpha, prior.beta, dims=MODEL_LABEL)
        lapse = pm.Deterministic("lapse", rate / 2, dims=MODEL_LABEL)
        own = lapse[design.model_index[design.trial_subject]]
        # The smaller of two probabilities is never found by subtraction from 1, which would lose it.
        side = pt.constant(2 * design.is_text - 1)
        likelihood = pt.log(own + (1 - 2 * own) * pt.sigmoid(side * logit_p))
        pm.Potential("is_text", likelihood.sum())
    return model


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
