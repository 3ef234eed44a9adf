r"""Simulation: trials whose parameters are known, for power analysis and for tests.

For trial i of subject s (a model on one task under one condition) and item group g

.. math::
    P(choice_i = text \mid not\ other) = \lambda + (1 - 2 \lambda) \operatorname{sigmoid}(f_s + u_g + v_{gm} + w_{gmc})

with the law :math:`f_s = \kappa_s (b_s - dH_i)` unless the scenario asks for another one, and

.. math::
    \operatorname{logit} P(other_i) = \operatorname{logit} o + \delta (u_g + v_{gm} + w_{gmc})

Entropies are log-normal: they rise with the tier of difficulty, and trials of one model that show the same
text (or image) share its entropy, as in a collection.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import log

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit, logit

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.priors import Priors
from mfbayes.selection import label_subjects
from mfbayes.uncertainty import relative_uncertainty

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

# Logarithms of the entropies (nats) at the easiest and the hardest tier, as colour tasks show them.
_IMAGE_RANGE, _TEXT_RANGE = (-1.6, 0.74), (-1.3, 0.3)
_GROUP_SPREAD, _MODEL_SPREAD, _INPUT_SPREAD = 0.3, 0.25, 0.35


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated: the size of a study, its models and what they do.

    Attributes
    ----------
    models : int or mapping
        Number of models ("m1", "m2", ...), or their balance points by name.
    slopes : mapping, optional
        Slope by model; else drawn.
    balance_point_mean, balance_point_sd, log_slope_mean, log_slope_sd : float
        Population that balance points and slopes are drawn from where they are not given.
    families : mapping, optional
        Family by model.
    tasks, conditions : mapping
        What each task and each condition adds to every balance point, by name. Several tasks have
        groups of their own.
    family_sd, model_task_sd : float
        Sd of what a family, and a model on one of several tasks, adds to balance points and log slopes.
    n_groups, image_tiers, text_tiers : int
        Groups of a task, and the tiers that every group has items of, one of each pair.
    group_sd, group_model_sd, group_condition_sd : float
        Sds of u, v and (with several conditions) w, in log-odds.
    both_correct : float or mapping
        Share of trials answered correctly from each input alone, for all models or by model.
    other_share, other_by_effect : float
        o and delta above; with a delta other than 0, `other` is not ignorable.
    lapse : float
        lambda above, below 1/2.
    bump, bump_at, bump_width : float
        The law gains bump * exp(-((dH - bump_at) / bump_width)^2 / 2), in log-odds; with a bump above
        1.65 bump_width kappa it is not monotone.
    entropy_effects : pair of float, optional
        (t, v): the law is kappa b - t H_text + v H_image, a law in two entropies and not in dH.
    """

    models: int | Mapping[str, float] = 4
    slopes: Mapping[str, float] | None = None
    balance_point_mean: float = 0.0
    balance_point_sd: float = 0.4
    log_slope_mean: float = log(2.5)
    log_slope_sd: float = 0.3
    families: Mapping[str, str] | None = None
    tasks: Mapping[str, float] = field(default_factory=lambda: {names.DEFAULT_TASK: 0.0})
    conditions: Mapping[str, float] = field(default_factory=dict)
    family_sd: float = 0.0
    model_task_sd: float = 0.2
    n_groups: int = 60
    image_tiers: int = 14
    text_tiers: int = 3
    group_sd: float = 0.8
    group_model_sd: float = 0.5
    group_condition_sd: float = 0.3
    both_correct: float | Mapping[str, float] = 0.8
    other_share: float = 0.02
    other_by_effect: float = 0.0
    lapse: float = 0.0
    bump: float = 0.0
    bump_at: float = 0.0
    bump_width: float = 0.3
    entropy_effects: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("n_groups", "image_tiers", "text_tiers"):
            _demand(getattr(self, name) >= 1, f"{name} to be at least 1", getattr(self, name))
        _demand(len(self.model_names) >= 1, "at least one model", self.models)
        for name in (*_SDS, "balance_point_sd", "log_slope_sd", "family_sd", "model_task_sd"):
            value = getattr(self, name)
            _demand(np.isfinite(value) and value >= 0, f"{name} to be a finite number >= 0", value)
        _demand(0 <= self.lapse < 0.5, "lapse from 0 to below 0.5", self.lapse)
        _demand(0 <= self.other_share < 1, "other_share from 0 to below 1", self.other_share)
        _demand(self.bump_width > 0, "bump_width above 0", self.bump_width)
        _demand(len(self.tasks) >= 1, "at least one task", dict(self.tasks))
        _demand(self.families is not None or not self.family_sd, "families where family_sd is not 0", self.family_sd)
        shares = self.both_correct.values() if isinstance(self.both_correct, Mapping) else [self.both_correct]
        _demand(all(0 < share <= 1 for share in shares), "both_correct above 0 and at most 1", self.both_correct)
        for name in ("slopes", "families", "both_correct"):
            given = getattr(self, name)
            if isinstance(given, Mapping):
                _demand(set(given) == set(self.model_names), f"{name} for exactly the models", sorted(given))
        numbers = [*self.balance_points.values(), *self.tasks.values(), *self.conditions.values()]
        _demand(all(map(np.isfinite, numbers)), "finite balance points and shifts", numbers)
        slopes = list((self.slopes or {}).values())
        _demand(all(np.isfinite(slope) and slope > 0 for slope in slopes), "slopes above 0", slopes)

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of the models."""
        if isinstance(self.models, int):
            return tuple(f"m{i + 1}" for i in range(self.models))
        return tuple(self.models)

    @property
    def balance_points(self) -> dict[str, float]:
        """Balance points that are given, by model; empty where they are drawn."""
        return {} if isinstance(self.models, int) else dict(self.models)


_SDS = ("group_sd", "group_model_sd", "group_condition_sd")


def draw_population(scenario: Scenario, *, priors: Priors | None = None, rng: np.random.Generator) -> Scenario:
    """The same scenario with its population and group sds drawn from the priors.

    Parameters
    ----------
    scenario : Scenario
        Size, tiers and law.
    priors : Priors, optional
        Priors of the following model.
    rng : numpy.random.Generator
        Randomness.
    """
    scales = priors or Priors()
    return replace(
        scenario,
        balance_point_mean=scales.balance_point_mean_sd * rng.standard_normal(),
        balance_point_sd=abs(scales.balance_point_sd * rng.standard_normal()),
        log_slope_mean=scales.log_slope_mean + scales.log_slope_mean_sd * rng.standard_normal(),
        log_slope_sd=abs(scales.log_slope_sd * rng.standard_normal()),
        **{name: abs(getattr(scales, name) * rng.standard_normal()) for name in _SDS},
    )


def simulate_trials(scenario: Scenario, *, rng: np.random.Generator) -> tuple[pd.DataFrame, xr.Dataset]:
    """Draw trials of a scenario, in the columns of a collection.

    Parameters
    ----------
    scenario : Scenario
        What to simulate.
    rng : numpy.random.Generator
        Randomness; the same state gives the same trials.

    Returns
    -------
    trials : DataFrame
        A row a trial, as `mfbayes.trials.check_trials` returns them: model, task (condition, family),
        group, item, kind, d_text, d_image, H_text, H_image (nats), choice, text_correct, image_correct.
    truth : Dataset
        `balance_point`, `slope` over `subject` (with labels model, task, condition, family); the sds of
        the groups' effects that are there, and `lapse`. Under a law with a bump or in two
        entropies, `balance_point` is the parameter b and no longer where P(text) = 1/2.

    Examples
    --------
    >>> trials, truth = simulate_trials(Scenario(models={"a": 0.3}, n_groups=2), rng=np.random.default_rng(1))
    >>> len(trials), truth["balance_point"].to_series().to_dict()
    (84, {'a': 0.3})
    """
    models, tasks, conditions = scenario.model_names, tuple(scenario.tasks), tuple(scenario.conditions) or ("",)
    shape = (len(models), len(tasks), len(conditions))
    grid = (*shape, scenario.n_groups, scenario.image_tiers, scenario.text_tiers)
    balance_point, slope = _draw_subjects(scenario, shape, rng)
    H_image, H_text = _draw_entropies(scenario, shape, rng)
    effect = scenario.group_sd * rng.standard_normal((1, shape[1], 1, grid[3]))
    effect = effect + scenario.group_model_sd * rng.standard_normal((*shape[:2], 1, grid[3]))
    if len(conditions) > 1:
        effect = effect + scenario.group_condition_sd * rng.standard_normal(grid[:4])
    effect = np.broadcast_to(effect, grid[:4])[..., None, None]
    law = _apply_law(scenario, balance_point[..., None, None, None], slope[..., None, None, None], H_text, H_image)
    p_text = scenario.lapse + (1 - 2 * scenario.lapse) * expit(law + effect)
    is_text = rng.random(grid) < p_text
    is_other = rng.random(grid) < expit(logit(scenario.other_share) + scenario.other_by_effect * effect)
    codes = np.where(is_other, 2, np.where(is_text, 0, 1))
    correct = np.sqrt([_share_correct(scenario, model) for model in models]).reshape(-1, 1, 1, 1, 1, 1)
    index = [axis.ravel() for axis in np.indices(grid, dtype=np.int32, sparse=False)]
    trials = pd.DataFrame(_label(scenario, index, models, tasks, conditions))
    trials[names.H_TEXT] = np.broadcast_to(H_text, grid).ravel()
    trials[names.H_IMAGE] = np.broadcast_to(H_image, grid).ravel()
    trials[names.CHOICE] = pd.Index(names.CHOICES, dtype="str").take(codes.ravel())
    trials[names.TEXT_CORRECT] = (rng.random(grid) < correct).ravel()
    trials[names.IMAGE_CORRECT] = (rng.random(grid) < correct).ravel()
    return trials, _describe(scenario, trials, balance_point, slope)


def _draw_subjects(scenario: Scenario, shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Balance points and slopes, shape (n_models, n_tasks, n_conditions)."""
    models = scenario.model_names
    families = [(scenario.families or {}).get(model, "") for model in models]
    _, family = np.unique(families, return_inverse=True)
    parts = []
    means = ((scenario.balance_point_mean, scenario.balance_point_sd), (scenario.log_slope_mean, scenario.log_slope_sd))
    for mean, sd in means:
        own = mean + sd * rng.standard_normal(shape[0]) + scenario.family_sd * rng.standard_normal(shape[0])[family]
        parts.append(own)
    point = np.array([scenario.balance_points.get(m, drawn) for m, drawn in zip(models, parts[0], strict=True)])
    slope = np.array([(scenario.slopes or {}).get(m, np.exp(d)) for m, d in zip(models, parts[1], strict=True)])
    between = scenario.model_task_sd * rng.standard_normal((2, *shape[:2], 1)) * (shape[1] > 1)
    tasks = np.array(list(scenario.tasks.values()))[:, None]
    conditions = np.array(list(scenario.conditions.values()) or [0.0])
    balance_point = point[:, None, None] + between[0] + tasks + conditions
    return balance_point, np.broadcast_to(slope[:, None, None] * np.exp(between[1]), shape)


def _draw_entropies(scenario: Scenario, shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Entropies of images and of texts, shapes (..., n_groups, image_tiers, 1) and (..., n_groups, 1, text_tiers)."""
    found = []
    for tiers, (lowest, highest) in ((scenario.image_tiers, _IMAGE_RANGE), (scenario.text_tiers, _TEXT_RANGE)):
        # A single tier lies in the middle.
        place = np.linspace(0, 1, tiers) if tiers > 1 else np.array([0.5])
        level = lowest + (highest - lowest) * place
        level = level + _GROUP_SPREAD * rng.standard_normal((1, shape[1], 1, scenario.n_groups, 1))
        level = level + _MODEL_SPREAD * rng.standard_normal((*shape, 1, 1))
        found.append(np.exp(level + _INPUT_SPREAD * rng.standard_normal((*shape, scenario.n_groups, tiers))))
    return found[0][..., :, None], found[1][..., None, :]


def _apply_law(scenario: Scenario, balance_point: Floats, slope: Floats, H_text: Floats, H_image: Floats) -> Floats:
    if scenario.entropy_effects is not None:
        by_text, by_image = scenario.entropy_effects
        result: Floats = slope * balance_point - by_text * H_text + by_image * H_image
        return result
    dH = relative_uncertainty(H_text, H_image)
    distance = (dH - scenario.bump_at) / scenario.bump_width
    result = slope * (balance_point - dH) + scenario.bump * np.exp(-(distance**2) / 2)
    return result


def _share_correct(scenario: Scenario, model: str) -> float:
    return scenario.both_correct[model] if isinstance(scenario.both_correct, Mapping) else scenario.both_correct


def _label(
    scenario: Scenario,
    index: list[NDArray[np.int32]],
    models: tuple[str, ...],
    tasks: tuple[str, ...],
    conditions: tuple[str, ...],
) -> dict[str, pd.Index | NDArray[np.int64] | str]:
    """Columns that say which trial a row is."""
    model, task, condition, group, d_image, d_text = index
    groups = [f"g{i:04d}" for i in range(scenario.n_groups)]
    items = pd.Index(
        [
            f"{name}-" * (len(tasks) > 1) + f"{g}-v{v:02d}-t{t}"
            for name in tasks
            for g in groups
            for v in range(scenario.image_tiers)
            for t in range(scenario.text_tiers)
        ],
        dtype="str",
    )
    item = ((task * np.int64(len(groups)) + group) * scenario.image_tiers + d_image) * scenario.text_tiers + d_text
    columns: dict[str, pd.Index | NDArray[np.int64] | str] = {names.MODEL: pd.Index(models, dtype="str").take(model)}
    if scenario.families is not None:
        columns[names.FAMILY] = pd.Index([scenario.families[name] for name in models], dtype="str").take(model)
    columns[names.TASK] = pd.Index(tasks, dtype="str").take(task)
    if scenario.conditions:
        columns[names.CONDITION] = pd.Index(conditions, dtype="str").take(condition)
    return columns | {
        names.GROUP: pd.Index(groups, dtype="str").take(group),
        names.ITEM: items.take(item),
        names.KIND: names.CONFLICT,
        names.D_TEXT: d_text.astype(np.int64),
        names.D_IMAGE: d_image.astype(np.int64),
    }


def _describe(scenario: Scenario, trials: pd.DataFrame, balance_point: Floats, slope: Floats) -> xr.Dataset:
    """The parameters, labelled as a posterior is."""
    rows = trials.iloc[:: len(trials) // balance_point.size]
    label = (names.SUBJECT, names.MODEL, names.TASK, names.CONDITION, names.FAMILY)
    absent = pd.Series("", index=rows.index)
    parts = {name: rows.get(name, absent) for name in label[1:]}
    truth = xr.Dataset(
        {
            "balance_point": (names.SUBJECT, balance_point.ravel()),
            "slope": (names.SUBJECT, slope.ravel()),
            "group_sd": scenario.group_sd,
            "group_model_sd": scenario.group_model_sd,
            "lapse": scenario.lapse,
        },
        coords={names.SUBJECT: label_subjects(rows, like=trials).to_numpy(object)}
        | {name: (names.SUBJECT, column.to_numpy(object)) for name, column in parts.items()},
    )
    return truth.assign(group_condition_sd=scenario.group_condition_sd) if len(scenario.conditions) > 1 else truth


def _demand(holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise InputError(f"Expected {expected}, got {got!r}. Change it in the scenario.")
