"""Balance points that are known only so far: their uncertainty, carried into the draws of hazards.

The model is sampled with every b at its posterior median. Were it sampled for many draws of b and the samples put
together, hazards would have the posterior given the traces, averaged over what the choices tell of b; traces would not
move b. The same is had to first order by moving each draw as far as the pilot's estimates move from the medians to a
draw of b. Standard deviations between layers, subjects and groups stay as they were drawn.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mfbayes.switching.fit import SwitchingFit
from mfbayes.switching.layout import lay_out_pairs
from mfbayes.switching.pilot import estimate_roughly
from mfbayes.switching.structure import build_structure
from mfbayes.switching.terms import find_x

type Floats = NDArray[np.float64]

_N_DRAWS = 50


def carry_points(
    fit: SwitchingFit, draws: Mapping[str, Floats], *, rng: np.random.Generator, n_draws: int = _N_DRAWS
) -> SwitchingFit:
    """Widen the draws of hazards by what is not known of the balance points.

    Parameters
    ----------
    fit : SwitchingFit
        A fit with the balance points at their medians.
    draws : mapping of str to ndarray, shape (n,)
        Joint posterior draws of every subject's balance point.
    rng : numpy.random.Generator
        Randomness.
    n_draws : int
        Draws of the balance points that are used, each for as many draws of the hazards as any other.

    Returns
    -------
    SwitchingFit
        For estimates of hazards and their coefficients. Its density and its replicates are those of the fit itself.
    """
    every = np.stack([draws[subject] for subject in fit.layout.subjects])
    chosen = rng.choice(every.shape[1], size=n_draws)
    # From the same start as the others, so that what is left of the search cancels.
    here = estimate_roughly(fit.structure, near=fit.pilot).parameters
    moved = np.stack([_estimate(fit, every[:, i]) for i in chosen]) - here
    posterior = fit.sample.posterior
    n_chains, n_each = posterior.sizes["chain"], posterior.sizes["draw"]
    place = rng.permutation(np.arange(n_chains * n_each) % n_draws).reshape(n_chains, n_each)
    hazards = posterior["hazards"].transpose("chain", "draw", "parameter")
    widened = posterior.assign(hazards=hazards + moved[place])
    return replace(fit, sample=replace(fit.sample, posterior=widened))


def _estimate(fit: SwitchingFit, b: Floats) -> Floats:
    """The pilot's parameters with other balance points."""
    x = find_x(fit.pairs.trajectories, dict(zip(fit.layout.subjects, b.tolist(), strict=True)))
    layout = lay_out_pairs(fit.pairs, x, terms=fit.layout.terms, groups=fit.layout.has_groups, n_bins=fit.n_bins)
    return estimate_roughly(build_structure(layout, fit.priors), near=fit.pilot).parameters
