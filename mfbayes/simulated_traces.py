r"""Simulated layer traces: switching between the two answers by known hazards, ending in the model's choice.

Between layers l and l + 1 the answer that a trace holds switches with the hazard

.. math::
    \operatorname{logit} h_{il} = \mu_m - \gamma (\sqrt{x_i^2 + .01} - .5) + \tau (t_l - .5) + U_g,
    \qquad x_i = dH_i - b_s,\ t_l = (l - 1) / (L - 2)

with l = 1 ... L - 1, :math:`\mu_m \sim N(\mu, \sigma_m)` and :math:`U_g \sim N(0, \sigma_g)`. The last layer is the
choice, and each trace is drawn from it backwards. So, given the choice and all later layers, switches are independent
and have just these hazards in both directions: what an analysis of switches estimates has a true value. (Given the
layer *before*, hazards differ by direction, since choices depend on x.)
Apart from that, a layer before the last reads neither answer with probability o (1 - (l - 1) / (L - 1)), whatever
its state. The logit difference has the sign of the state and the size

.. math::
    s\, (.1 + (l - 1) / (L - 1)) \sqrt{x_i^2 + .01}\; e^{\epsilon}, \qquad \epsilon \sim N(0, .5)

small near the balance point and growing with depth.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.selection import label_groups, label_subjects
from mfbayes.uncertainty import relative_uncertainty

type Floats = NDArray[np.float64]

_SMOOTH, _CENTRE = 0.01, 0.5
_FLOOR, _SPREAD = 0.1, 0.5
_TEXT, _IMAGE, _OTHER = (names.STATE_CODES[name] for name in names.CHOICES)


@dataclass(frozen=True, kw_only=True)
class Switching:
    """Parameters of simulated traces, in log-odds unless said otherwise.

    Attributes
    ----------
    intercept, model_sd, group_sd : float
        mu, sigma_m and sigma_g.
    by_distance : float
        gamma, for a distance of 1 in dH; 0 leaves oscillations unrelated to the balance point.
    by_depth : float
        tau, from the first to the last pair of layers.
    other_share : float
        o: probability that the first layer reads neither answer.
    logit_scale : float
        s: size of the logit difference at the last layer at a distance of 1, about.
    """

    intercept: float = -3.0
    model_sd: float = 0.2
    group_sd: float = 0.4
    by_distance: float = 1.0
    by_depth: float = -0.5
    other_share: float = 0.5
    logit_scale: float = 6.0

    def __post_init__(self) -> None:
        for name in ("model_sd", "group_sd"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(
                    f"Expected {name} of the traces to be a finite number >= 0, got {getattr(self, name)}."
                )
        if not 0 <= self.other_share <= 1:
            raise InputError(f"Expected other_share of the traces from 0 to 1, got {self.other_share}.")
        if not self.logit_scale > 0:
            raise InputError(f"Expected logit_scale of the traces above 0, got {self.logit_scale}.")


def simulate_traces(
    trials: pd.DataFrame,
    balance_points: Mapping[str, float],
    *,
    rng: np.random.Generator,
    n_layers: int = 32,
    switching: Switching | None = None,
) -> tuple[dict[str, xr.Dataset], xr.Dataset]:
    """Draw a layer trace for every trial, by model.

    Parameters
    ----------
    trials : DataFrame
        Checked trials with items; of one condition, since a model's traces are named by their items.
    balance_points : mapping
        b of every subject, by its label (`mfbayes.selection.label_subjects`).
    rng : numpy.random.Generator
        Randomness.
    n_layers : int
        L, at least 3; the last layer is the model's answer.
    switching : Switching, optional
        Parameters.

    Returns
    -------
    traces : dict of Dataset
        By model: `state` (1 text, 0 image, -1 neither) and `logit_difference` over (item, layer), as
        `mfbayes.traces.read_traces` returns them.
    truth : Dataset
        `hazard_intercept` over model, `hazard_group` over group, and the parameters of `Switching`.

    Raises
    ------
    InputError
        Where items are missing or not unique within a model, or a subject has no balance point.
    """
    process = switching or Switching()
    if n_layers < 3:
        raise InputError(f"Expected at least 3 layers, got {n_layers}.")
    if names.ITEM not in trials or trials.duplicated([names.MODEL, names.ITEM]).any():
        raise InputError(
            "Expected trials with every item once for a model. Simulate traces of one condition at a time."
        )
    point = label_subjects(trials).map(dict(balance_points)).to_numpy(np.float64)
    if np.isnan(point).any():
        raise InputError(f"Expected a balance point for every subject, got {sorted(balance_points)}.")
    x = relative_uncertainty(trials[names.H_TEXT], trials[names.H_IMAGE]) - point
    if np.isnan(x).any():
        raise InputError("Expected trials whose dH exists, but in some both entropies are zero. Leave them out.")
    distance = np.sqrt(x**2 + _SMOOTH)
    model, models = pd.factorize(trials[names.MODEL])
    group, groups = pd.factorize(label_groups(trials))
    by_model = process.intercept + process.model_sd * rng.standard_normal(len(models))
    by_group = process.group_sd * rng.standard_normal(len(groups))
    level = by_model[model] + by_group[group] - process.by_distance * (distance - _CENTRE)
    depth = np.linspace(0, 1, n_layers - 1) - 0.5
    switches = rng.random((len(trials), n_layers - 1)) < expit(level[:, None] + process.by_depth * depth)
    state = _walk_back(trials[names.CHOICE].to_numpy(), switches, rng)
    place = np.linspace(0, 1, n_layers)
    size = process.logit_scale * (_FLOOR + place) * distance[:, None]
    difference = (2 * state - 1) * size * np.exp(_SPREAD * rng.standard_normal(state.shape))
    # At the last layer the probability is zero: what is read there is the answer itself.
    state[rng.random(state.shape) < process.other_share * (1 - place)] = _OTHER
    state[(trials[names.CHOICE] == names.OTHER).to_numpy(bool), -1] = _OTHER
    item = trials[names.ITEM].to_numpy(object)
    traces = {
        str(name): _bundle(item[model == number], state[model == number], difference[model == number])
        for number, name in enumerate(models)
    }
    truth = xr.Dataset(
        {
            "hazard_intercept": (names.MODEL, by_model),
            "hazard_group": (names.GROUP, by_group),
            "by_distance": process.by_distance,
            "by_depth": process.by_depth,
            "hazard_group_sd": process.group_sd,
            "other_share": process.other_share,
        },
        coords={names.MODEL: np.asarray(models, dtype=object), names.GROUP: np.asarray(groups, dtype=object)},
    )
    return traces, truth


def _walk_back(choice: NDArray[np.object_], switches: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int8]:
    """States of all layers, 1 text or 0 image, from the last one and the switches before it."""
    undecided = rng.random(choice.size) < 0.5
    last = np.where(choice == names.OTHER, undecided, choice == names.TEXT)
    odd = np.cumsum(switches[:, ::-1], axis=1)[:, ::-1] % 2 == 1
    state = np.column_stack([last[:, None] ^ odd, last])
    return np.where(state, _TEXT, _IMAGE).astype(np.int8)


def _bundle(item: NDArray[np.object_], state: NDArray[np.int8], difference: Floats) -> xr.Dataset:
    dims = (names.ITEM, names.LAYER)
    return xr.Dataset(
        {names.STATE: (dims, state), names.LOGIT_DIFFERENCE: (dims, difference.astype(np.float32))},
        coords={names.ITEM: item, names.LAYER: np.arange(1, state.shape[1] + 1)},
    )
