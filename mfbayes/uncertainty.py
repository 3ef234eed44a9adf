r"""Uncertainty of an answer, and of the text relative to the image.

.. math::
    H = -\sum_i p_i \log p_i, \qquad dH = 2 \frac{H_{text} - H_{image}}{H_{text} + H_{image}}

References
----------
Zhang et al., "When Modalities Conflict: How Unimodal Reasoning Uncertainty Governs Preference
Dynamics in MLLMs", arXiv:2511.02243.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

type Floats = NDArray[np.float64]


def entropy(logits: ArrayLike) -> Floats:
    r"""Shannon entropy in nats of softmax(logits), exact also where it is tiny.

    With delta = l - max(l) and S the sum of exp(delta) over all but the largest,
    H = log1p(S) + sum(exp(delta) (-delta)) / (1 + S): no two nearly equal numbers are subtracted,
    so an entropy of 1e-20 keeps its digits.

    Parameters
    ----------
    logits : array_like, shape (..., n_vocabulary)
        Unnormalised log-probabilities; -inf is an outcome that cannot occur.

    Returns
    -------
    ndarray, shape (...)
        Entropies in nats, in [0, log n_vocabulary], float64.

    Examples
    --------
    >>> float(entropy([0.0, 0.0]).round(6))
    0.693147
    >>> float(f"{entropy([0.0, -50.0]):.3g}")
    9.84e-21
    """
    values = np.asarray(logits, dtype=np.float64)
    delta = values - values.max(axis=-1, keepdims=True)
    weights = np.exp(delta)
    np.put_along_axis(weights, delta.argmax(axis=-1)[..., None], 0.0, axis=-1)
    rest = weights.sum(axis=-1)
    surprise = np.where(weights > 0, weights * -np.where(np.isfinite(delta), delta, 0.0), 0.0).sum(axis=-1)
    result: Floats = np.log1p(rest) + surprise / (1 + rest)
    return result


def relative_uncertainty(H_text: ArrayLike, H_image: ArrayLike) -> Floats:
    """How much less sure the model is of the text alone than of the image alone: dH in [-2, 2].

    Negative: the text is the surer side. NaN where both entropies are zero, since then
    neither side is surer and the ratio does not exist.

    Parameters
    ----------
    H_text, H_image : array_like, shape (n_trials,)
        Entropies in nats, >= 0.

    Examples
    --------
    >>> relative_uncertainty([0.1, 1.0, 0.0], [0.3, 0.0, 0.0])
    array([-1.,  2., nan])
    """
    text, image = np.asarray(H_text, dtype=np.float64), np.asarray(H_image, dtype=np.float64)
    larger = np.maximum(text, image)
    # Dividing by the larger one first keeps the sum from overflowing or vanishing.
    scale = np.where(larger > 0, larger, np.nan)
    result: Floats = 2 * (text / scale - image / scale) / (text / scale + image / scale)
    return result
