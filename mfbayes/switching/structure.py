"""Structure of the hazard model: its normal parts, the linear map from parts to hazards, and all labels.

Every level and coefficient is a sum of independent normal parts of mean 0, see `mfbayes.switching.parts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mfbayes.switching.layout import Layout
from mfbayes.switching.pairs import AGES, OLD, SIDES
from mfbayes.switching.parts import SUBJECT_SDS, Block, divide_effects, divide_levels
from mfbayes.switching.priors import SwitchingPriors

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

LEVEL, EFFECT, LEVEL_MEAN, EFFECT_MEAN = "level", "effect", "level_mean", "effect_mean"
GROUP_SDS: Final = ("group_sd", "group_model_sd")


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """Linear maps and labels.

    Attributes
    ----------
    layout : Layout
        The pairs.
    scales : tuple of str
        Labels of the standard deviations that are estimated, NAME[SIDE].
    scale_priors : ndarray, shape (n_scales,)
        Scales of their half-normal priors.
    variances : ndarray, shape (n_kinds, 1 + n_scales)
        Of every kind of parts, the variance that is known, and weights of the squared scales that are added to it.
    part_kind : ndarray of int, shape (n_parts,)
        Kind of every part.
    parameters : tuple of str
        Labels of the hazards' parameters: levels by side, subject and layer, coefficients by side, subject and term,
        then the means of both over these subjects.
    map : ndarray, shape (n_parameters, n_parts)
        Parameters are `centre` + `map` @ parts.
    centre : ndarray, shape (n_parameters,)
    level_index, age_index : ndarray of int, shape (2, n_subjects, n_places)
        Parameters that a place's logit hazard is the sum of; the last index plus one is zero.
    slope_index : ndarray of int, shape (2, n_subjects, n_terms)
        Parameters that are the terms' slopes.
    group_index : ndarray of int, shape (2, 2)
        Scales of the effects of groups, and of group and subject, by side; the last index plus one is zero.
    """

    layout: Layout
    scales: tuple[str, ...]
    scale_priors: Floats
    variances: Floats
    part_kind: Indices
    parameters: tuple[str, ...]
    map: Floats
    centre: Floats
    level_index: Indices
    age_index: Indices
    slope_index: Indices
    group_index: Indices

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return self.part_kind.size

    @property
    def n_data(self) -> int:
        """Number of parameters that pairs depend on, the first ones."""
        return 2 * (self.n_levels + len(self.layout.subjects) * len(self.coefficients))

    @property
    def n_levels(self) -> int:
        """Number of levels of each side."""
        return int(self.layout.n_steps.sum())

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Labels of the terms and recent ages."""
        return (*self.layout.terms, *AGES[:OLD])

    @property
    def step_subject(self) -> Indices:
        """Subject of every level of a side."""
        return np.repeat(np.arange(len(self.layout.subjects)), self.layout.n_steps)

    @property
    def step_layer(self) -> Indices:
        """Layer of every level of a side, from 0."""
        return np.concatenate([np.arange(n) for n in self.layout.n_steps])

    @property
    def mean_kind(self) -> Indices:
        """Kinds of the parts that are means, in the order of the parameters."""
        kinds: Indices = self.part_kind[self.map[self.n_data :].argmax(axis=1)]
        return kinds

    def find_sds(self, spread: Floats) -> Floats:
        """Standard deviations of all parts, shape (..., n_parts), from the scales, shape (..., n_scales)."""
        variance = self.variances[:, 0] + spread**2 @ self.variances[:, 1:].T
        sds: Floats = np.sqrt(variance)[..., self.part_kind]
        return sds

    def tabulate(self, hazards: Floats) -> tuple[Floats, Floats]:
        """Table (2, n_subjects, n_places) and slopes (2, n_subjects, n_terms) of one draw of the parameters."""
        padded = np.append(hazards, 0.0)
        return padded[self.level_index] + padded[self.age_index], padded[self.slope_index]

    def scales_of_groups(self, spread: Floats) -> Floats:
        """Standard deviations of group effects of one draw of the scales, shape (2, 2)."""
        scales: Floats = np.append(spread, 0.0)[self.group_index]
        return scales


def build_structure(layout: Layout, priors: SwitchingPriors) -> Structure:
    """Put parts, maps and labels together."""
    n_subjects, coefficients = len(layout.subjects), (*layout.terms, *AGES[:OLD])
    group_sds = _group_sds(layout)
    scale_names = (*SUBJECT_SDS, *group_sds)
    # Slopes in x and in distance have the same unit, and so have effects of age: subjects differ as much in each.
    of_coefficient = ["slope_sd"] * len(layout.terms) + ["age_sd"] * OLD
    levels = divide_levels(layout.n_steps, priors)
    effects = divide_effects(n_subjects, of_coefficient, priors)
    sides = [(blocks, side) for blocks in (levels, effects) for side in range(2)]
    maps = [np.concatenate([block.columns for block in blocks], axis=1) for blocks, _ in sides]
    # A mean over the subjects is its part, which comes first.
    n_means = [1, 1, len(coefficients), len(coefficients)]
    variances = [_variance(block, scale_names, side) for blocks, side in sides for block in blocks]
    sizes = [block.columns.shape[1] for blocks, _ in sides for block in blocks]
    steps = [(layout.subjects[s], layer + 1) for s, n in enumerate(layout.n_steps) for layer in range(n)]
    labels = [f"{LEVEL}[{side}, {subject}, {layer}]" for side in SIDES for subject, layer in steps]
    labels += [
        f"{EFFECT}[{side}, {subject}, {c}]" for side in SIDES for subject in layout.subjects for c in coefficients
    ]
    labels += [f"{LEVEL_MEAN}[{side}]" for side in SIDES]
    labels += [f"{EFFECT_MEAN}[{side}, {label}]" for side in SIDES for label in coefficients]
    is_level = np.array([label.startswith(LEVEL) for label in labels])
    level_index, age_index, slope_index = _index(layout, len(steps), len(coefficients), n_parameters=len(labels))
    n_scales = 2 * len(scale_names)
    group_index = np.full((2, 2), n_scales)
    for number in range(len(group_sds)):
        group_index[:, number] = 2 * (len(SUBJECT_SDS) + number) + np.arange(2)
    return Structure(
        layout=layout,
        scales=tuple(f"{name}[{side}]" for name in scale_names for side in SIDES),
        scale_priors=np.repeat([getattr(priors, name) for name in scale_names], 2),
        variances=np.stack(variances),
        part_kind=np.repeat(np.arange(len(sizes)), sizes),
        parameters=tuple(labels),
        map=np.concatenate(
            [
                _side_by_side(maps),
                _side_by_side([np.eye(n, each.shape[1]) for n, each in zip(n_means, maps, strict=True)]),
            ]
        ),
        centre=np.where(is_level, priors.level_mean, 0.0),
        level_index=level_index,
        age_index=age_index,
        slope_index=slope_index,
        group_index=group_index,
    )


def _variance(block: Block, scale_names: Sequence[str], side: int) -> Floats:
    """What is known of a block's variance, and weights of the squares of all scales."""
    weights = np.zeros((len(scale_names), 2))
    for name, weight in block.variance.items():
        weights[scale_names.index(name), side] = weight
    return np.concatenate([[block.known], weights.ravel()])


def _group_sds(layout: Layout) -> Sequence[str]:
    """Standard deviations of group effects that a layout can tell apart."""
    if not layout.has_groups:
        return ()
    return GROUP_SDS if len(layout.subjects) > 1 else GROUP_SDS[:1]


def _index(
    layout: Layout, n_levels: int, n_coefficients: int, *, n_parameters: int
) -> tuple[Indices, Indices, Indices]:
    """Where the levels, recent ages and slopes of every side and subject stand among the parameters."""
    n_subjects, n_terms = len(layout.subjects), len(layout.terms)
    first = np.cumsum(layout.n_steps) - layout.n_steps
    # Beyond a subject's depth any level serves: no pair is there.
    step = first[:, None] + np.minimum(np.arange(layout.n_steps.max()), layout.n_steps[:, None] - 1)
    by_layer = np.repeat(step, len(AGES), axis=1)
    level = np.stack([by_layer, by_layer + n_levels])
    effect = 2 * n_levels + np.arange(2 * n_subjects * n_coefficients).reshape(2, n_subjects, n_coefficients)
    ages = np.concatenate([effect[:, :, n_terms:], np.full((2, n_subjects, 1), n_parameters)], axis=2)
    return level, np.tile(ages, (1, 1, int(layout.n_steps.max()))), effect[:, :, :n_terms]


def _side_by_side(blocks: list[Floats]) -> Floats:
    """A block-diagonal matrix."""
    rows, columns = (np.cumsum([0, *(block.shape[axis] for block in blocks)]) for axis in (0, 1))
    whole = np.zeros((rows[-1], columns[-1]))
    for number, block in enumerate(blocks):
        whole[rows[number] : rows[number + 1], columns[number] : columns[number + 1]] = block
    return whole
