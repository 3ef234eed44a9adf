"""Structure of the hazard model: its normal parts, the linear map from parts to hazards, and all labels.

Every level and coefficient is a sum of independent normal parts: a mean, what a subject adds, waves of a random walk
over relative depth, what a layer adds. Parts have mean 0 and a standard deviation that is known or estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mfbayes.switching.layout import Layout
from mfbayes.switching.pairs import AGES, OLD, SIDES
from mfbayes.switching.priors import SwitchingPriors

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

LEVEL, EFFECT, LEVEL_MEAN, EFFECT_MEAN = "level", "effect", "level_mean", "effect_mean"
GROUP_SDS: Final = ("group_sd", "group_model_sd")
_MOST_KNOTS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """Linear maps and labels.

    Attributes
    ----------
    layout : Layout
        The pairs.
    scales : tuple of str
        Labels of the standard deviations that are estimated, NAME[SIDE] or NAME[SIDE, TERM].
    scale_priors : ndarray, shape (n_scales,)
        Scales of their half-normal priors.
    known_sds : ndarray
        Standard deviations that are not estimated.
    part_sd : ndarray of int, shape (n_parts,)
        Standard deviation of every part: an index into both in a row.
    parameters : tuple of str
        Labels of the hazards' parameters: levels by side, subject and layer, coefficients by side, subject and term,
        then the means of both.
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
    known_sds: Floats
    part_sd: Indices
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
        return self.part_sd.size

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
    n_levels, n_coefficients = int(layout.n_steps.sum()), len(coefficients)
    waves = walk_waves(layout.n_steps)
    of_subject = np.repeat(np.eye(n_subjects), layout.n_steps, axis=0)
    names_of = ["level_sd", "walk_sd", "layer_sd"]
    scales = [(f"{name}[{side}]", getattr(priors, name)) for name in names_of for side in SIDES]
    scales += [(f"effect_sd[{side}, {label}]", priors.coefficient_sd) for side in SIDES for label in coefficients]
    group_sds = _group_sds(layout)
    first_group = len(scales)
    scales += [(f"{name}[{side}]", getattr(priors, name)) for name in group_sds for side in SIDES]
    known = len(scales)

    # Levels: the mean, what a subject adds, the walk, what a layer adds. Columns are parts, of one side.
    level_map = np.column_stack([np.ones(n_levels), of_subject, waves, np.eye(n_levels)])
    level_parts = [(known, 1), (0, n_subjects), (2, waves.shape[1]), (4, n_levels)]
    mean_map = np.zeros((1, level_map.shape[1]))
    mean_map[0, 0] = 1
    # Coefficients, subject by subject: the mean and what a subject adds.
    effect_map = np.column_stack(
        [np.tile(np.eye(n_coefficients), (n_subjects, 1)), np.eye(n_subjects * n_coefficients)]
    )
    effect_mean_map = np.eye(n_coefficients, effect_map.shape[1])
    part_sd: list[Indices] = []
    for side in range(2):
        part_sd += [np.full(size, at if at == known else at + side) for at, size in level_parts]
    for side in range(2):
        own = 6 + side * n_coefficients + np.arange(n_coefficients)
        part_sd += [np.full(n_coefficients, known + 1), np.tile(own, n_subjects)]
    maps = [level_map, level_map, effect_map, effect_map]
    means = [mean_map, mean_map, effect_mean_map, effect_mean_map]
    steps = [(layout.subjects[s], layer + 1) for s, n in enumerate(layout.n_steps) for layer in range(n)]
    labels = [f"{LEVEL}[{side}, {subject}, {layer}]" for side in SIDES for subject, layer in steps]
    labels += [
        f"{EFFECT}[{side}, {subject}, {c}]" for side in SIDES for subject in layout.subjects for c in coefficients
    ]
    labels += [f"{LEVEL_MEAN}[{side}]" for side in SIDES]
    labels += [f"{EFFECT_MEAN}[{side}, {label}]" for side in SIDES for label in coefficients]
    is_level = np.array([label.startswith(LEVEL) for label in labels])
    level_index, age_index, slope_index = _index(layout, n_levels, n_coefficients, n_parameters=len(labels))
    group_index = np.full((2, 2), known)
    for number in range(len(group_sds)):
        group_index[:, number] = first_group + 2 * number + np.arange(2)
    return Structure(
        layout=layout,
        scales=tuple(label for label, _ in scales),
        scale_priors=np.array([scale for _, scale in scales]),
        known_sds=np.array([priors.level_mean_sd, priors.coefficient_mean_sd]),
        part_sd=np.concatenate(part_sd).astype(np.int64),
        parameters=tuple(labels),
        map=np.concatenate([_side_by_side(maps), _side_by_side(means)]),
        centre=np.where(is_level, priors.level_mean, 0.0),
        level_index=level_index,
        age_index=age_index,
        slope_index=slope_index,
        group_index=group_index,
    )


def walk_waves(n_steps: Indices) -> Floats:
    """A random walk over relative depth as independent waves: its level at every step, shape (n_all_steps, n_waves).

    The walk has mean 0 over the knots, and a standard deviation of 1 for its way from the first knot to the last.
    Weights of the waves (cosines, the walk's eigenvectors, each in its own size) are standard normal; between knots it
    is linear.
    """
    n_knots = min(int(n_steps.max()), _MOST_KNOTS)
    waves = np.arange(1, n_knots)
    knots = (np.arange(n_knots) + 0.5) / n_knots
    shape = np.sqrt(2 / n_knots) * np.cos(np.pi * np.outer(knots, waves))
    walk = shape / (2 * np.sin(np.pi * waves / (2 * n_knots))) / np.sqrt(max(n_knots - 1, 1))
    places = np.concatenate([(np.arange(n) + 0.5) / n for n in n_steps])
    return (
        np.stack([np.interp(places, knots, wave) for wave in walk.T], axis=1)
        if waves.size
        else np.empty((places.size, 0))
    )


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
