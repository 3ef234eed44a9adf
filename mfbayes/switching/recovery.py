"""Recovery: how far estimates are from the truth of simulated data, in their own unit and in posterior deviations."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

type Floats = NDArray[np.float64]
type Errors = Mapping[str, float]

FIELDS = ("bias", "mse", "z", "z2")


def compare_with_truth(draws: ArrayLike, truth: ArrayLike) -> dict[str, float]:
    """Errors of posterior means, over all elements whose truth is known.

    Parameters
    ----------
    draws : array_like, shape (n_draws, ...)
        Posterior draws.
    truth : array_like, shape (...)
        What they are of; NaN where there is none.

    Returns
    -------
    dict
        `bias`, the mean error of posterior means; `mse`, their mean squared error; `z` and `z2`, the same in
        posterior standard deviations. Where draws are those of the truth's own posterior, `z2` is near 1. NaN where
        no truth is known.

    Examples
    --------
    >>> compare_with_truth([[1.0, 5.0], [3.0, 9.0]], [0.0, float("nan")])
    {'bias': 2.0, 'mse': 4.0, 'z': 2.0, 'z2': 4.0}
    """
    values, true = np.asarray(draws, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    flat = values.reshape(len(values), -1)
    wanted = np.broadcast_to(true, values.shape[1:]).ravel()
    error, sd = flat.mean(axis=0) - wanted, flat.std(axis=0)
    known = np.isfinite(error) & (sd > 0)
    if not known.any():
        return dict.fromkeys(FIELDS, float("nan"))
    error, z = error[known], error[known] / sd[known]
    found = (error.mean(), (error**2).mean(), z.mean(), (z**2).mean())
    return {name: float(value) for name, value in zip(FIELDS, found, strict=True)}


def describe_errors(each: Iterable[Errors]) -> list[str]:
    """Cells of a table from the errors of data sets: bias, root mean squared error, and the same in posterior sds.

    Biases have Monte Carlo errors from the spread between data sets in brackets, where there are two or more.
    """
    rows = list(each)
    bias, mse, z, z2 = (np.array([row[name] for row in rows], dtype=np.float64) for name in FIELDS)
    return [_with_error(bias), f"{np.sqrt(mse.mean()):.3f}", _with_error(z, digits=2), f"{np.sqrt(z2.mean()):.2f}"]


def _with_error(values: Floats, *, digits: int = 3) -> str:
    said = f"{values.mean():.{digits}f}"
    return f"{said} ({values.std(ddof=1) / len(values) ** 0.5:.{digits}f})" if len(values) > 1 else said
