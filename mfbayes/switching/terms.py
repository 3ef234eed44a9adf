"""Terms: what of a trial moves its hazards of switching."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.trajectories import Trajectories

type Floats = NDArray[np.float64]

SIGNED: Final = "x"
DISTANCE: Final = "distance"
DEFAULT_TERMS: Final = (SIGNED, DISTANCE)
APART: Final = (names.H_TEXT, names.H_IMAGE, DISTANCE)
"""Both entropies apart in place of x."""

_SMOOTH, _CENTRE = 0.01, 0.5


class _Measured(NamedTuple):
    trajectories: Trajectories
    x: Floats


def measure_closeness(x: Floats) -> Floats:
    """.5 - sqrt(x^2 + .01): how near to the balance point, smooth at it and 0 about half a unit away."""
    closeness: Floats = _CENTRE - np.sqrt(np.square(x) + _SMOOTH)
    return closeness


_TERMS: Mapping[str, Callable[[_Measured], Floats]] = {
    SIGNED: lambda of: of.x,
    DISTANCE: lambda of: measure_closeness(of.x),
    names.H_TEXT: lambda of: _centred(of.trajectories.h_text),
    names.H_IMAGE: lambda of: _centred(of.trajectories.h_image),
}


def find_x(trajectories: Trajectories, points: Mapping[str, float]) -> Floats:
    """X = dH - b of every trace, from the balance points of the subjects by their labels.

    Raises
    ------
    InputError
        Where a subject has no finite balance point.
    """
    b = np.array([points.get(subject, np.nan) for subject in trajectories.subjects], dtype=np.float64)
    if not np.isfinite(b).all():
        lacking = [s for s, known in zip(trajectories.subjects, np.isfinite(b), strict=True) if not known]
        raise InputError(f"Expected a finite balance point for every subject with traces, got none for {lacking}.")
    x: Floats = trajectories.uncertainty - b[trajectories.subject]
    return x


def measure_terms(trajectories: Trajectories, x: Floats, *, terms: Sequence[str]) -> Floats:
    """Values of the terms, shape (n_traces, n_terms).

    Parameters
    ----------
    trajectories : Trajectories
        Traces with their trials.
    x : ndarray, shape (n_traces,)
        dH - b.
    terms : sequence of {"x", "distance", "H_text", "H_image"}
        x itself; .5 - sqrt(x^2 + .01), so that a positive coefficient means more switching near the balance point;
        entropies in nats less their mean over all traces.

    Raises
    ------
    InputError
        For a term that does not exist or comes twice, or one of entropies where they are not known.
    """
    if len(set(terms)) < len(terms) or not set(terms) <= set(_TERMS):
        raise InputError(f"Expected terms among {', '.join(_TERMS)}, each once, got {list(terms)}.")
    of = _Measured(trajectories, x)
    values = np.stack([_TERMS[term](of) for term in terms], axis=1) if terms else np.empty((len(trajectories), 0))
    if not np.isfinite(values).all():
        raise InputError(
            f"Expected H_text and H_image of every trace for the terms {list(terms)}, got some without. Use terms "
            f"among {SIGNED} and {DISTANCE}, which are of dH by any index."
        )
    return values


def _centred(values: Floats) -> Floats:
    centred: Floats = values - values.mean()
    return centred
