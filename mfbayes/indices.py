r"""Indices of uncertainty: how unsure a model is of one modality alone, in four readings.

Of the distribution p over the first answer token, sorted so that p_(1) >= p_(2) >= ..., and of the
probability q of the designed answer of that modality (all its spellings together):

.. math::
    \text{entropy: } U = -\sum_i p_i \log p_i \qquad
    \text{margin: } U = 1 - (p_{(1)} - p_{(2)}) \qquad
    \text{max-probability: } U = 1 - p_{(1)} \qquad
    \text{nll: } U = -\log q

Each is >= 0 and zero where the model is certain (nll: certain of the designed answer). Whichever is
chosen takes the place of the entropies, so that dH = 2 (U_text - U_image) / (U_text + U_image).
Tables hold U, never the probability: near certainty 1 - p has digits that p has lost.

References
----------
Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information Extraction", IDA 2001,
doi:10.1007/3-540-44816-0_31, for the margin.
Settles, "Active Learning Literature Survey", University of Wisconsin-Madison, Computer Sciences
Technical Report 1648, 2009, for least confidence (one minus the largest probability).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.uncertainty import relative_uncertainty
from mfbayes.values import list_choices

type Floats = NDArray[np.float64]

COLUMNS = {
    names.ENTROPY: (names.H_TEXT, names.H_IMAGE),
    names.MARGIN: (names.MARGIN_UNCERTAINTY_TEXT, names.MARGIN_UNCERTAINTY_IMAGE),
    names.MAX_PROBABILITY: (names.LEAST_CONFIDENCE_TEXT, names.LEAST_CONFIDENCE_IMAGE),
    names.NLL: (names.NLL_TEXT, names.NLL_IMAGE),
}
"""Columns of each index: of the text alone and of the image alone."""

PLURALS = {
    names.ENTROPY: "entropies",
    names.MARGIN: "margin uncertainties",
    names.MAX_PROBABILITY: "least confidences",
    names.NLL: "answer negative log-likelihoods",
}
"""What messages call the two values of an index."""

VANISHING = float(np.finfo(np.float32).eps)
"""Certainty in single precision: probabilities next to 1 lie half of this apart, so nothing below it has a digit."""


def least_confidence(logits: ArrayLike) -> Floats:
    """One minus the largest probability of softmax(logits), as the sum of all the others.

    Parameters
    ----------
    logits : array_like, shape (..., n_vocabulary)

    Returns
    -------
    ndarray, shape (...)
        In [0, 1), float64.

    Examples
    --------
    >>> float(f"{least_confidence([0.0, -50.0]):.3g}")
    1.93e-22
    """
    others = _weigh_others(logits).sum(axis=-1)
    result: Floats = others / (1 + others)
    return result


def margin_uncertainty(logits: ArrayLike) -> Floats:
    """One minus the lead of the largest probability of softmax(logits) over the second largest.

    Parameters
    ----------
    logits : array_like, shape (..., n_vocabulary)

    Returns
    -------
    ndarray, shape (...)
        In [0, 1], float64; 1 where two tokens are equally likely.

    Examples
    --------
    >>> margin_uncertainty([[0.0, 0.0], [2.0, -998.0]])
    array([1., 0.])
    """
    weights = _weigh_others(logits)
    others = weights.sum(axis=-1)
    result: Floats = (others + weights.max(axis=-1)) / (1 + others)
    return result


def answer_nll(logits: ArrayLike, tokens: Sequence[int]) -> Floats:
    """Negative log-probability, in nats, that softmax(logits) gives to any of an answer's tokens.

    With w the log-odds of these tokens against all others, -log p = log(1 + exp(-w)): exact near p = 1
    too, where -log of the rounded probability would be zero.

    Parameters
    ----------
    logits : array_like, shape (..., n_vocabulary)
    tokens : sequence of int
        First tokens of the answer's spellings.

    Returns
    -------
    ndarray, shape (...)
        >= 0, float64.

    Examples
    --------
    >>> float(f"{answer_nll([0.0, -50.0], [0]):.3g}"), float(answer_nll([0.0, -50.0], [1]))
    (1.93e-22, 50.0)
    """
    values = np.asarray(logits, dtype=np.float64)
    own = np.zeros(values.shape[-1], dtype=bool)
    own[list(tokens)] = True
    against = np.logaddexp.reduce(values[..., ~own], axis=-1) - np.logaddexp.reduce(values[..., own], axis=-1)
    result: Floats = np.logaddexp(0.0, against)
    return result


def has_index(trials: pd.DataFrame, index: str) -> bool:
    """Whether every conflict trial has both values of an index."""
    return all(column in trials for column in COLUMNS[index]) and not _lack(trials, index).any()


def check_index(trials: pd.DataFrame, index: str) -> None:
    """Refuse an index that is unknown or that some conflict trials do not have.

    Raises
    ------
    InputError
    """
    if index not in names.INDICES:
        raise InputError(f"Expected index {list_choices(names.INDICES)}, got {index!r}.")
    if has_index(trials, index):
        return
    columns = COLUMNS[index]
    there = all(column in trials for column in columns)
    who = ", ".join(map(str, trials.loc[_lack(trials, index), names.MODEL].unique())) if there else "the trials"
    others = [other for other in names.INDICES if other != index and has_index(trials, other)]
    remedy = f"Ask for {' or '.join(f'--index {other}' for other in others)} (index=...), add" if others else "Add"
    raise InputError(
        f"The index {index!r} needs the columns {' and '.join(columns)}, which {who} "
        f"{'does' if there and ', ' not in who else 'do'} not have. {remedy} them, or collect "
        "again with --overwrite where mfbayes has collected them."
    )


def relative_index(trials: pd.DataFrame, index: str) -> Floats:
    """Relative uncertainty in [-2, 2] by the chosen index; NaN where both sides are zero; shape (n_trials,)."""
    text, image = COLUMNS[index]
    return relative_uncertainty(trials[text], trials[image])


def flag_near_ties(trials: pd.DataFrame, *, index: str = names.ENTROPY) -> pd.Series:
    r"""Trials of which the logits' noise leaves open which side is surer.

    Where no logit is off by more than e, each of the four indices is off by a factor between
    exp(-2e) and exp(2e), since

    .. math::
        |\partial \log U / \partial t| \le 2e
        \quad\text{along any change with}\quad |dl_i / dt| \le e.

    For the entropy that is since e \sum_i p_i \|-\log p_i - H\| <= 2 e H: surprisals are not negative,
    so none lies further below their mean than H. The log ratio of the two sides is then off by 4e at
    most. Read as a standard deviation of independent errors, e gives it one of 2e at most, and 4e
    is two of them. So a trial is a near tie where \|log(U_text / U_image)\| <= 4e, or where both
    indices are below the resolution of single precision (1.2e-7), in which many tables are computed: there
    one unit in the last place of a probability takes dH from one end of its range to the other. Where e is
    not known, only the latter is told.

    Parameters
    ----------
    trials : DataFrame
        Checked trials, with `logit_noise` (nats) where that is known.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty.

    Returns
    -------
    Series of bool
        Named `near_tie`, with the index of `trials`.

    Raises
    ------
    InputError
        Where the index is unknown or absent.

    Examples
    --------
    >>> frame = pd.DataFrame({"H_text": [0.5, 0.5, 1e-9], "H_image": [0.51, 0.9, 1e-12], "logit_noise": 0.01})
    >>> flag_near_ties(frame).tolist()
    [True, False, True]
    """
    check_index(trials, index)
    text, image = (trials[column].to_numpy(np.float64) for column in COLUMNS[index])
    noise = trials[names.LOGIT_NOISE].to_numpy(np.float64) if names.LOGIT_NOISE in trials else np.nan
    # Noise that is not known compares as no tie.
    reach = np.exp(-4 * noise)
    smaller, larger = np.minimum(text, image), np.maximum(text, image)
    return pd.Series((smaller >= reach * larger) | (larger < VANISHING), index=trials.index, name=names.NEAR_TIE)


def _lack(trials: pd.DataFrame, index: str) -> NDArray[np.bool_]:
    """Conflict trials without a value of an index whose columns are there."""
    lacking: NDArray[np.bool_] = trials[list(COLUMNS[index])].isna().to_numpy(bool).any(axis=1)
    return lacking & (trials[names.KIND] == names.CONFLICT).to_numpy(bool) if names.KIND in trials else lacking


def _weigh_others(logits: ArrayLike) -> Floats:
    """Probability of each outcome over that of the likeliest, whose own place holds zero."""
    values = np.asarray(logits, dtype=np.float64)
    top = values.argmax(axis=-1)[..., None]
    weights: Floats = np.exp(values - np.take_along_axis(values, top, axis=-1))
    np.put_along_axis(weights, top, 0.0, axis=-1)
    return weights
