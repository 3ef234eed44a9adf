"""Simulated traces of the hidden model, so that the truth is known."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.switching.hidden_tables import CENTRE, SMOOTH, Parameters, place_knots
from mfbayes.trajectories import Trajectories

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]


def draw_truth(n_layers: Sequence[int], *, rng: np.random.Generator, n_knots: int = 8) -> Parameters:
    """Draw parameters like those of deep models: small, noisy logits first, large and clear ones last.

    Parameters
    ----------
    n_layers : sequence of int
        Depth of each subject's model.
    rng : numpy.random.Generator
        Randomness.
    n_knots : int
        Knots of relative depth.
    """
    depths = np.asarray(n_layers)
    n, deepest = depths.size, int(depths.max())
    place = np.arange(deepest) / (depths[:, None] - 1)
    knots = min(n_knots, deepest - 1)
    walk = -2.5 + np.cumsum(0.3 * rng.standard_normal((2, knots)), axis=1)
    offset = 0.3 * rng.standard_normal((2, n))
    return Parameters(
        emission=np.stack(
            [
                -0.7 + 1.8 * place + 0.15 * rng.standard_normal((n, deepest)),
                -0.6 + 0.8 * place + 0.1 * rng.standard_normal((n, deepest)),
                *(-0.5 - 2.5 * place + 0.3 * rng.standard_normal((2, n, deepest))),
            ],
            axis=-1,
        ),
        nu=5.0,
        hazard=walk[:, None, :] + offset[:, :, None] + 0.2 * rng.standard_normal((2, n, knots)),
        effect=np.array([[0.6, 0.8], [-0.6, 0.8]])[:, None, :] + 0.2 * rng.standard_normal((2, n, 2)),
        start=np.array([0.8, -0.8]) + np.array([0.3, 0.2]) * rng.standard_normal((n, 2)),
    )


def simulate_hidden(
    truth: Parameters,
    *,
    n_layers: Sequence[int],
    n_traces: int,
    rng: np.random.Generator,
    n_groups: int = 40,
    group_sd: float = 0.0,
) -> tuple[Trajectories, dict[str, float], NDArray[np.bool_]]:
    """Draw layer traces from the hidden model, with balance points at zero.

    Parameters
    ----------
    truth : Parameters
        Parameters, with logit differences in logits.
    n_layers : sequence of int
        Depth of each subject's model.
    n_traces, n_groups : int
        Traces of each subject, and the groups that they are spread over.
    group_sd : float
        Standard deviation of what a group adds to the log-odds of leaving either side, in all subjects.
    rng : numpy.random.Generator
        Randomness.

    Returns
    -------
    trajectories : Trajectories
        Traces; a top-1 token that is an answer agrees with the sign of the logit difference.
    points : dict
        Balance point of every subject: zero.
    is_text : ndarray of bool, shape (n, deepest)
        The hidden side, False beyond the last layer.

    Raises
    ------
    InputError
        Where the parameters are of other depths or subjects.
    """
    depths = np.asarray(n_layers, dtype=np.int64)
    n, deepest = depths.size, int(depths.max())
    if truth.emission.shape != (n, deepest, 4):
        raise InputError(f"Expected parameters of shape {(n, deepest, 4)}, got {truth.emission.shape}.")
    subject = np.repeat(np.arange(n), n_traces)
    H_text, H_image = np.exp(0.8 * rng.standard_normal((2, subject.size)) - 0.5)
    x = 2 * (H_text - H_image) / (H_text + H_image)
    steps = np.einsum("slk,dsk->dsl", place_knots(depths, truth.hazard.shape[2]), truth.hazard)
    effect = truth.effect[:, subject]
    level = effect[:, :, 0] * x - effect[:, :, 1] * (np.sqrt(x**2 + SMOOTH) - CENTRE)
    group = np.tile(np.arange(n_traces) % n_groups, n)
    # Of a generator of their own, so that all else is as without them.
    level = level + group_sd * rng.spawn(1)[0].standard_normal((2, n_groups))[:, group]
    is_text = np.zeros((subject.size, deepest), dtype=bool)
    is_text[:, 0] = rng.random(x.size) < expit(truth.start[subject, 0] + truth.start[subject, 1] * x)
    for layer in range(1, deepest):
        before = is_text[:, layer - 1]
        hazard = expit(
            np.where(before, steps[0, subject, layer - 1] + level[0], steps[1, subject, layer - 1] + level[1])
        )
        is_text[:, layer] = before ^ (rng.random(x.size) < hazard)
    seen = truth.emission[subject]
    noise = np.exp(seen[:, :, 1]) * rng.standard_t(truth.nu, is_text.shape)
    difference = np.where(is_text, 1, -1) * np.exp(seen[:, :, 0]) + noise
    own = np.where(is_text, seen[:, :, 2], seen[:, :, 3])
    state = (difference > 0).astype(np.int8)
    state[rng.random(state.shape) < expit(own)] = names.STATE_CODES[names.OTHER]
    beyond = np.arange(deepest) >= depths[subject, None]
    difference[beyond], state[beyond], is_text[beyond] = np.nan, names.STATE_CODES[names.OTHER], False
    labels = tuple(f"model-{own + 1}" for own in range(n))
    trajectories = Trajectories(
        subjects=labels,
        subject_model=labels,
        groups=tuple(f"g{group:04d}" for group in range(n_groups)),
        items=np.array([f"item-{row % n_traces:05d}" for row in range(subject.size)], dtype=object),
        subject=subject,
        group=group,
        n_layers=depths,
        uncertainty=x,
        h_text=H_text,
        h_image=H_image,
        is_control=np.zeros(subject.size, dtype=bool),
        state=state,
        logit_difference=difference,
    )
    return trajectories, dict.fromkeys(labels, 0.0), is_text
