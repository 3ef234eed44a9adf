r"""Traces simulated forwards from the hazard model, so that the truth of everything it estimates is known.

With x = dH - b and d the side that is left, a trace of subject s in group g switches from layer to layer with

.. math::
    \operatorname{logit} h = \mu_d + \alpha_d (t - .5) + U_{ds} + V_{dls} + \beta_{ds} x
    - \gamma_{ds} (\sqrt{x^2 + .01} - .5) + \rho_1 1[1] + \rho_2 1[2] + u_{dg} + v_{dgs}

where t in [0, 1] is relative depth, 1[k] says that its last observed switch was k layers ago, and coefficients differ
between subjects by `subject_sd`. It commits first at a layer drawn from a geometric distribution, to either side alike;
later layers read neither answer at random, and across them it goes by the rule of `mfbayes.switching.paths`, which is
the model's.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.switching.pairs import AGES, OLD, SIDES
from mfbayes.switching.paths import draw_paths
from mfbayes.switching.terms import measure_closeness
from mfbayes.trajectories import Trajectories

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

_CODES = np.array([names.STATE_CODES[side] for side in SIDES], dtype=np.int8)


@dataclass(frozen=True, kw_only=True)
class Hazards:
    """Parameters of simulated switching in log-odds; pairs are (leaving text, leaving image).

    Attributes
    ----------
    level, by_depth, by_x, by_closeness : tuple of two float
        mu, alpha, beta and gamma, means over subjects.
    by_age : tuple of two float
        rho_1 and rho_2, in both directions.
    subject_sd, layer_sd, group_sd, group_model_sd : float
        Standard deviations of U (and of beta and gamma between subjects, half of it), V, u and v.
    start_layer : float
        Mean number of layers before the first commitment.
    other_share : float
        Probability that a later layer reads neither answer.
    """

    level: tuple[float, float] = (-3.0, -2.6)
    by_depth: tuple[float, float] = (-0.5, 0.5)
    by_x: tuple[float, float] = (0.6, -0.6)
    by_closeness: tuple[float, float] = (0.8, 0.8)
    by_age: tuple[float, float] = (0.9, 0.4)
    subject_sd: float = 0.3
    layer_sd: float = 0.2
    group_sd: float = 0.4
    group_model_sd: float = 0.3
    start_layer: float = 3.0
    other_share: float = 0.03

    def __post_init__(self) -> None:
        for name in ("subject_sd", "layer_sd", "group_sd", "group_model_sd", "start_layer"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"Expected {name} of simulated switching to be >= 0, got {getattr(self, name)}.")
        if not 0 <= self.other_share <= 1:
            raise InputError(f"Expected other_share of simulated switching from 0 to 1, got {self.other_share}.")


def simulate_switching(
    *,
    n_layers: tuple[int, ...],
    n_groups: int,
    n_items: int,
    rng: np.random.Generator,
    hazards: Hazards | None = None,
) -> tuple[Trajectories, dict[str, float], xr.Dataset]:
    """Draw traces of several models in the same groups.

    Parameters
    ----------
    n_layers : tuple of int
        Depth of each model, at least 2.
    n_groups, n_items : int
        Groups, and items of each.
    rng : numpy.random.Generator
        Randomness.
    hazards : Hazards, optional
        Parameters.

    Returns
    -------
    trajectories : Trajectories
        Traces; logit differences have the sign of the side and size 1.
    points : dict
        Balance point of every subject.
    truth : Dataset
        `level` over (side, subject, layer); `x`, `distance`, `switched-1-ago` and `switched-2-ago` over
        (side, subject); `group_sd` and `group_model_sd`; `group_effect` over (side, group, subject), u + v.
    """
    process = hazards or Hazards()
    if min(n_layers, default=0) < 2 or n_groups < 1 or n_items < 1:
        raise InputError("Expected models of 2 layers or more, a group or more, and an item or more in it.")
    n_subjects, deepest = len(n_layers), max(n_layers)
    subjects = tuple(f"m{s:02d}" for s in range(n_subjects))
    points = dict(zip(subjects, 0.4 * rng.standard_normal(n_subjects), strict=True))
    level = _draw_levels(process, n_layers, rng)
    beta, gamma = (
        np.array(mean)[:, None] + 0.5 * process.subject_sd * rng.standard_normal((2, n_subjects))
        for mean in (process.by_x, process.by_closeness)
    )
    effect = process.group_sd * rng.standard_normal((2, n_groups, 1))
    effect = effect + process.group_model_sd * rng.standard_normal((2, n_groups, n_subjects))
    subject, group = (
        axis.ravel()
        for axis in np.meshgrid(np.arange(n_subjects), np.repeat(np.arange(n_groups), n_items), indexing="ij")
    )
    n = subject.size
    H_text, H_image = np.exp(0.6 * rng.standard_normal((2, n)))
    dH = 2 * (H_text - H_image) / (H_text + H_image)
    x = dH - np.array(list(points.values()))[subject]
    base = beta[:, subject] * x + gamma[:, subject] * measure_closeness(x) + effect[:, group, subject]
    by_age = np.tile([*process.by_age, 0.0], (2, n_subjects, 1))
    committed = _commit(process, np.array(n_layers)[subject], deepest, rng)
    start: Indices = rng.integers(0, 2, size=(n,))
    side = draw_paths(committed, start, subject=subject, base=base, level=level, by_age=by_age, rng=rng)
    state = np.where(committed, _CODES[side], names.STATE_CODES[names.OTHER]).astype(np.int8)
    trajectories = Trajectories(
        subjects=subjects,
        subject_model=subjects,
        groups=tuple(f"g{g:04d}" for g in range(n_groups)),
        items=np.array([f"i{i}" for i in range(n)], dtype=object),
        subject=subject.astype(np.int64),
        group=group.astype(np.int64),
        n_layers=np.array(n_layers, dtype=np.int64),
        uncertainty=dH,
        h_text=H_text,
        h_image=H_image,
        is_control=np.zeros(n, dtype=bool),
        state=state,
        logit_difference=np.where(
            np.arange(deepest) < np.array(n_layers)[subject][:, None], 2.0 * (state == 1) - 1, np.nan
        ),
    )
    truth = xr.Dataset(
        {
            "level": (("side", names.SUBJECT, names.LAYER), level),
            "x": (("side", names.SUBJECT), beta),
            "distance": (("side", names.SUBJECT), gamma),
            **{age: ((), value) for age, value in zip(AGES[:OLD], process.by_age, strict=True)},
            "group_sd": process.group_sd,
            "group_model_sd": process.group_model_sd,
            "group_effect": (("side", names.GROUP, names.SUBJECT), effect),
        },
        coords={"side": list(SIDES), names.SUBJECT: list(subjects), names.LAYER: np.arange(1, deepest)},
    )
    return trajectories, points, truth


def _draw_levels(process: Hazards, n_layers: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Logit hazards of a group without effect at x = 0 apart from its term; NaN beyond a model's depth."""
    steps = max(n_layers) - 1
    level = np.full((2, len(n_layers), steps), np.nan)
    for s, depth in enumerate(n_layers):
        place = (np.arange(depth - 1) + 0.5) / (depth - 1) - 0.5
        offset = np.array(process.level) + process.subject_sd * rng.standard_normal(2)
        walk = offset[:, None] + np.array(process.by_depth)[:, None] * place
        level[:, s, : depth - 1] = walk + process.layer_sd * rng.standard_normal((2, depth - 1))
    return level


def _commit(process: Hazards, depth: Indices, n_layers: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Layers of every trace that read one of the answers."""
    layers = np.arange(n_layers)
    first: Indices = rng.geometric(1 / (1 + process.start_layer), size=depth.shape) - 1
    spoken: NDArray[np.bool_] = rng.random((depth.size, n_layers)) >= process.other_share
    return spoken & (layers >= first[:, None]) & (layers < depth[:, None])
