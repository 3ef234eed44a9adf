r"""The hazard model: what makes a trace switch from one answer to the other between two layers.

A trace of subject s (a model on one task under one condition) in group g that holds one answer at layer l holds the
other at the next with

.. math::
    \operatorname{logit} h = \mu_d + U_{ds} + A_d(t_{ls}) + V_{dls} + \beta_{ds} x
    - \gamma_{ds} (\sqrt{x^2 + .01} - .5) + \rho^1_{ds} 1[1] + \rho^2_{ds} 1[2] + u_{dg} + v_{dgs}

where d is the side that is left, x = dH - b_s, and 1[k] says that it switched k layers ago. A is a random walk over
relative depth t, on knots that models of every depth share, V what a subject's layer has of its own; U, beta,
gamma and rho are normal over subjects. Effects of groups are integrated out by Laplace's method; gaps are summed out
exactly (at the effects that a pilot estimates). b stands at its posterior median.
"""

from typing import Final

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from mfbayes.coordinates import Floats, Tensor, signed_scale
from mfbayes.switching.informed import inform
from mfbayes.switching.layout import Layout
from mfbayes.switching.operator import SwitchingLikelihood, log_likelihood
from mfbayes.switching.pilot import estimate_effects, estimate_roughly
from mfbayes.switching.priors import SwitchingPriors
from mfbayes.switching.structure import build_structure

GATED: Final = ("hazards", "spread")
"""Variables that must converge."""


def switching_model(layout: Layout, *, priors: SwitchingPriors | None = None) -> pm.Model:
    """Build the hazard model as a PyMC graph with named dims.

    Few operations on long vectors take the place of many on short ones, for the time to compile a sampler grows with
    their number; `mfbayes.switching.structure` has the linear maps between them and their labels.

    Parameters
    ----------
    layout : Layout
        Pairs of layers, laid out.
    priors : SwitchingPriors, optional
        Scales of the priors.

    Returns
    -------
    pymc.Model
        `hazards` over `parameter`: levels, coefficients and their means; `spread` over `scale`: standard deviations.
        Priors enter through a potential, so the model can be sampled but not simulated forwards.
    """
    scales, pilot = priors or SwitchingPriors(), estimate_roughly(layout)
    structure = build_structure(layout, scales)
    effects, scores = estimate_effects(layout, pilot)
    likelihood = SwitchingLikelihood(layout, effects=effects, scores=scores)
    place = inform(structure, pilot)
    coords = {"scale": list(structure.scales), "parameter": list(structure.parameters)}
    with pm.Model(coords=coords, check_bounds=False) as model:
        spread = signed_scale("spread", structure.scale_priors, dims="scale")
        coordinate = pm.Normal("coordinate", shape=structure.n_parts)
        sd = _append(spread, structure.known_sds)[structure.part_sd]
        # Rough posterior: standard normal at the pilot's spreads, and a part's own share of it at any other.
        whitened = place.mean + pt.constant(place.factor) @ coordinate
        narrowing = 1 + sd**2 * place.precision
        standardised = sd * place.weighted_estimate / narrowing + whitened / pt.sqrt(narrowing)
        pm.Potential("prior", 0.5 * (coordinate**2 - standardised**2 - pt.log(narrowing)).sum())
        hazards = pm.Deterministic(
            "hazards", structure.centre + pt.constant(structure.map) @ (sd * standardised), dims="parameter"
        )
        padded = _append(hazards, np.zeros(1))
        pm.Potential(
            "pairs",
            log_likelihood(
                likelihood,
                table=padded[structure.level_index] + padded[structure.age_index],
                slopes=padded[structure.slope_index],
                scales=_append(spread, np.zeros(1))[structure.group_index],
            ),
        )
    return model


def _append(values: Tensor, more: Floats) -> Tensor:
    longer: Tensor = pt.join(0, values, more)  # type: ignore[no-untyped-call]
    return longer
