r"""The hazard model: what makes a trace switch from one answer to the other between two layers.

A trace of subject s (a model on one task under one condition) in group g that holds one answer at layer l holds the
other at the next with

.. math::
    \operatorname{logit} h = \mu_d + U_{ds} + A_d(t_{ls}) + V_{dls} + \beta_{ds} x
    - \gamma_{ds} (\sqrt{x^2 + .01} - .5) + \rho^1_{ds} 1[1] + \rho^2_{ds} 1[2] + u_{dg} + v_{dgs}

where d is the side that is left, x = dH - b_s, and 1[k] says that its last observed switch was k layers ago. A is a
random walk over relative depth t, on knots that models of every depth share, V what a subject's layer has of its own;
U, beta, gamma and rho are normal over subjects. Effects of groups are integrated out by Laplace's method. Between two
committed layers with layers of neither answer between them every path is summed, at the effects of groups that a pilot
estimates; ages there count the path's own switches, and are the observed ones again where it is committed again
(`mfbayes.switching.pairs`). b stands at its posterior median.
"""

from typing import Final

import pymc as pm

from mfbayes.coordinates import signed_scale
from mfbayes.switching.informed import inform
from mfbayes.switching.layout import Layout
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.operator import SwitchingDensity
from mfbayes.switching.pilot import estimate_roughly
from mfbayes.switching.priors import SwitchingPriors
from mfbayes.switching.structure import build_structure

GATED: Final = ("hazards", "spread")
"""Variables that must converge."""


def switching_model(layout: Layout, *, priors: SwitchingPriors | None = None) -> pm.Model:
    """Build the hazard model as a PyMC graph with named dims.

    `mfbayes.switching.structure` has the labels, `mfbayes.switching.informed` the coordinates that are sampled.

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
        Prior and pairs enter through a potential, so the model can be sampled but not simulated forwards.
    """
    structure = build_structure(layout, priors or SwitchingPriors())
    pilot = estimate_roughly(structure)
    likelihood = SwitchingLikelihood(layout, effects=pilot.effects, scores=pilot.scores)
    coords = {"scale": list(structure.scales), "parameter": list(structure.parameters)}
    with pm.Model(coords=coords, check_bounds=False) as model:
        spread = signed_scale("spread", structure.scale_priors, dims="scale")
        coordinate = pm.Normal("coordinate", shape=structure.n_parts)
        value, hazards, *_ = (
            SwitchingDensity(likelihood, structure, inform(structure, pilot)).make_node(spread, coordinate).outputs
        )
        pm.Potential("pairs", value)
        pm.Deterministic("hazards", hazards, dims="parameter")
    return model
