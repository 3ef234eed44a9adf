"""The fit: traces in, draws of hazards and their labelled estimates out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.convergence import Sample
from mfbayes.errors import InputError
from mfbayes.sampling import Effort, sample
from mfbayes.switching.layout import N_BINS, Layout, lay_out_pairs
from mfbayes.switching.model import GATED, switching_model
from mfbayes.switching.pairs import SIDES, Pairs, find_unpaired, pair_layers
from mfbayes.switching.parts import SUBJECT_SDS
from mfbayes.switching.pilot import Estimates, estimate_roughly
from mfbayes.switching.priors import SwitchingPriors
from mfbayes.switching.structure import EFFECT, EFFECT_MEAN, GROUP_SDS, LEVEL, LEVEL_MEAN, Structure, build_structure
from mfbayes.switching.terms import DEFAULT_TERMS, find_x
from mfbayes.trajectories import Trajectories

type Floats = NDArray[np.float64]

SIDE, TERM = "side", "term"
EFFORTS = (
    Effort(tune=200, draws=1000, target_accept=0.6),
    Effort(tune=500, draws=1200, target_accept=0.85),
    Effort(tune=1500, draws=1500, target_accept=0.95),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SwitchingFit:
    """Draws of the hazard model with what they were drawn from.

    Attributes
    ----------
    pairs : Pairs
        Pairs of committed layers.
    x : ndarray, shape (n_traces,)
        dH - b of the pairs' traces.
    layout : Layout
        As the likelihood read them.
    structure : Structure
        Labels and linear maps.
    priors : SwitchingPriors
        Scales of the priors.
    n_bins : int
        Bins a subject, without effects of groups.
    sample : Sample
        Draws of `hazards` and `spread`, and whether they can be trusted.
    """

    pairs: Pairs
    x: Floats
    layout: Layout
    structure: Structure
    priors: SwitchingPriors
    n_bins: int
    sample: Sample

    @cached_property
    def pilot(self) -> Estimates:
        """Rough estimates, at whose effects of groups gaps are crossed."""
        return estimate_roughly(self.structure)

    @cached_property
    def posterior(self) -> xr.Dataset:
        """Draws by name.

        `level` over (side, subject, layer), logit hazards at terms of zero and no recent switch, NaN beyond a model's
        depth; `effect` over (side, subject, term); `level_mean`, `effect_mean`; and over sides `level_sd`, `walk_sd`,
        `layer_sd`, `slope_sd`, `age_sd`, and `group_sd`, `group_model_sd` where groups have effects.
        """
        return _unpack(self.structure, self.sample.posterior)


def fit_switching(
    trajectories: Trajectories,
    points: Mapping[str, float],
    *,
    groups: bool = True,
    terms: Sequence[str] = DEFAULT_TERMS,
    n_bins: int = N_BINS,
    priors: SwitchingPriors | None = None,
    seed: int = 0,
    progress: bool = False,
    attempts: Sequence[Effort] = EFFORTS,
) -> SwitchingFit:
    """Sample the hazard model on conflict traces.

    Parameters
    ----------
    trajectories : Trajectories
        Traces joined with their trials; controls are left out, and so are subjects of which no conflict trace has two
        committed layers.
    points : mapping of str to float
        Balance point of every subject by its label, the posterior's median; `mfbayes.switching.points` carries its
        uncertainty into the draws.
    groups : bool
        Whether groups have effects. Without, pairs are gathered into bins: much faster, and overconfident.
    terms : sequence of {"x", "distance", "H_text", "H_image"}
        What moves hazards; see `mfbayes.switching.terms`.
    n_bins : int
        Bins a subject, without effects of groups.
    priors : SwitchingPriors, optional
        Scales of the priors.
    seed : int
        The same seed gives the same draws on the same machine.
    progress : bool
        Show a progress bar on stderr, where that is a terminal.
    attempts : sequence of Effort
        What to try, in order.

    Raises
    ------
    InputError
        Where no trace has two committed layers, a balance point is missing, or terms do not exist.
    """
    pairs, x = pair_with_points(trajectories, points)
    layout = lay_out_pairs(pairs, x, terms=terms, groups=groups, n_bins=n_bins)
    if layout.has_groups and len(layout.groups) < 2:
        raise InputError("Expected traces of two groups or more, to tell groups apart; use groups=False with one.")
    scales = priors or SwitchingPriors()
    drawn = sample(
        switching_model(layout, priors=scales),
        keep=GATED,
        gate=GATED,
        seed=seed,
        progress=progress,
        attempts=attempts,
    )
    structure = build_structure(layout, scales)
    return SwitchingFit(
        pairs=pairs, x=x, layout=layout, structure=structure, priors=scales, n_bins=n_bins, sample=drawn
    )


def pair_with_points(trajectories: Trajectories, points: Mapping[str, float]) -> tuple[Pairs, Floats]:
    """Pairs of committed layers of the subjects that have any, and dH - b of their traces, shape (n_traces,).

    Raises
    ------
    InputError
        Where no trace has two committed layers, or a balance point is missing.
    """
    pairs = pair_layers(trajectories)
    if silent := find_unpaired(pairs):
        # All that the model has of them is its population.
        pairs = pair_layers(trajectories.only([own for own in trajectories.subjects if own not in silent]))
    return pairs, find_x(pairs.trajectories, points)


def _unpack(structure: Structure, draws: xr.Dataset) -> xr.Dataset:
    """Long vectors as labelled arrays."""
    layout, leading = structure.layout, ("chain", "draw")
    n_subjects, n_levels, n_terms = len(layout.subjects), structure.n_levels, len(structure.coefficients)
    hazards = draws["hazards"].transpose(*leading, "parameter").to_numpy()
    spread = draws["spread"].transpose(*leading, "scale").to_numpy()
    shape = hazards.shape[:2]
    level = np.full((*shape, 2, n_subjects, int(layout.n_steps.max())), np.nan)
    subject, layer = structure.step_subject, structure.step_layer
    level[:, :, :, subject, layer] = hazards[:, :, : 2 * n_levels].reshape(*shape, 2, n_levels)
    after = structure.n_data
    means = _draw_means(structure, hazards[:, :, after:], spread)
    effect = hazards[:, :, 2 * n_levels : after].reshape(*shape, 2, n_subjects, n_terms)
    found = {
        LEVEL: ((*leading, SIDE, names.SUBJECT, names.LAYER), level),
        EFFECT: ((*leading, SIDE, names.SUBJECT, TERM), effect),
        LEVEL_MEAN: ((*leading, SIDE), means[:, :, :2]),
        EFFECT_MEAN: ((*leading, SIDE, TERM), means[:, :, 2:].reshape(*shape, 2, n_terms)),
    }
    for number, name in enumerate((*SUBJECT_SDS, *GROUP_SDS)[: spread.shape[2] // 2]):
        found[name] = ((*leading, SIDE), spread[:, :, 2 * number : 2 * number + 2])
    coords = {
        SIDE: np.array(SIDES, dtype=object),
        names.SUBJECT: np.array(layout.subjects, dtype=object),
        names.LAYER: np.arange(1, level.shape[-1] + 1),
        TERM: np.array(structure.coefficients, dtype=object),
    }
    return xr.Dataset(found, coords=coords)


def _draw_means(structure: Structure, of_subjects: Floats, spread: Floats) -> Floats:
    """Draws of the means over all subjects that there could be, from those over these subjects."""
    centre, of_means = structure.centre[structure.n_data :], structure.variances[structure.mean_kind]
    variance, added = of_means[:, 0], spread**2 @ of_means[:, 1:].T
    share = variance / (variance + added)
    # The same noise whenever the same draws are unpacked.
    noise = np.random.default_rng(0).standard_normal(of_subjects.shape)
    means: Floats = centre + share * (of_subjects - centre) + np.sqrt(variance * (1 - share)) * noise
    return means
