r"""Compression: the dH of any number of trials in 40 bins a subject, all that one logistic curve needs.

With :math:`y_i` 1 for the text, the log-likelihood of a subject is

.. math::
    \ell(\alpha, \beta) = \alpha \sum_i y_i + \beta \sum_i x_i y_i - \sum_i s(\alpha + \beta x_i),
    \qquad s(\eta) = \log(1 + e^\eta), \quad x_i = dH_i

The first two sums are exact. The last knows no y, and a bin of n trials with mean m and sum of squared
deviations M adds n s(a + b m) + b^2 M s''(a + b m) / 2 to it, off only by the third order.

References
----------
Chan, Golub and LeVeque, "Algorithms for Computing the Sample Variance", The American Statistician
37(3), 1983, doi:10.1080/00031305.1983.10483115, for the merging of means and squared deviations.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.pooled.batches import Batch, Floats, Indices, Subject
from mfbayes.storage import write_bytes

N_BINS = 40
LOW, HIGH = -2.0, 2.0
BIN_WIDTH = (HIGH - LOW) / N_BINS
_DIMS = {"count": 2, "mean": 2, "moment": 2}


@dataclass(frozen=True, kw_only=True)
class Compression:
    """Sufficient statistics of trials, a row a subject, subjects in order.

    Attributes
    ----------
    subjects : tuple of Subject
        Sorted, each once.
    count, mean, moment : ndarray, shape (n_subjects, 40)
        Number of trials in each bin of dH, their mean dH and sum of squared deviations from it; zero
        where a bin is empty.
    n_text, text_mean : ndarray, shape (n_subjects,)
        Number of trials that follow the text, and their mean dH (zero without any).
    text_low, text_high, image_low, image_high : ndarray, shape (n_subjects,)
        Range of dH where the text, and where the image is followed; (inf, -inf) without any.
    n_other : ndarray, shape (n_subjects,)
        Trials that follow neither.
    n_undefined : int
        Trials left out because their dH does not exist.
    """

    subjects: tuple[Subject, ...]
    count: Indices
    mean: Floats
    moment: Floats
    n_text: Indices
    text_mean: Floats
    text_low: Floats
    text_high: Floats
    image_low: Floats
    image_high: Floats
    n_other: Indices
    n_undefined: int

    @property
    def n_trials(self) -> Indices:
        """Number of trials with a choice of text or image, shape (n_subjects,)."""
        total: Indices = self.count.sum(axis=1)
        return total


def compress(batch: Batch) -> Compression:
    """Compress trials; their number no longer matters afterwards.

    Examples
    --------
    >>> batch = Batch(
    ...     subjects=(Subject("m", "color", ""),), groups=(), subject=np.array([0, 0]), group=np.array([0, 0]),
    ...     uncertainty=np.array([-0.98, -0.92]), is_text=np.array([True, False]), n_other=np.array([0]),
    ... )
    >>> compress(batch).mean[0, 10].round(3)
    np.float64(-0.95)
    """
    order = sorted(range(len(batch.subjects)), key=batch.subjects.__getitem__)
    n = len(order)
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)
    row, x = rank[batch.subject], batch.uncertainty
    cell = row * N_BINS + np.clip(((x - LOW) / BIN_WIDTH).astype(np.int64), 0, N_BINS - 1)
    count = np.bincount(cell, minlength=n * N_BINS)
    mean = np.bincount(cell, weights=x, minlength=n * N_BINS) / np.maximum(count, 1)
    moment = np.bincount(cell, weights=(x - mean[cell]) ** 2, minlength=n * N_BINS)
    is_text = batch.is_text
    n_text = np.bincount(row[is_text], minlength=n)
    text_low, text_high = _range(x[is_text], row[is_text], n)
    image_low, image_high = _range(x[~is_text], row[~is_text], n)
    return Compression(
        subjects=tuple(batch.subjects[i] for i in order),
        count=count.reshape(n, N_BINS).astype(np.int64),
        mean=mean.reshape(n, N_BINS),
        moment=moment.reshape(n, N_BINS),
        n_text=n_text.astype(np.int64),
        text_mean=np.bincount(row[is_text], weights=x[is_text], minlength=n) / np.maximum(n_text, 1),
        text_low=text_low,
        text_high=text_high,
        image_low=image_low,
        image_high=image_high,
        n_other=batch.n_other[order].astype(np.int64),
        n_undefined=batch.n_undefined,
    )


def merge(one: Compression, other: Compression) -> Compression:
    """What `compress` would give for the trials of both, to rounding, in whatever order parts are merged."""
    subjects = tuple(sorted({*one.subjects, *other.subjects}))
    a, b = _widen(one, subjects), _widen(other, subjects)
    count, mean = _merge_means(a.count, a.mean, b.count, b.mean)
    shared = np.where(count > 0, a.count * b.count / np.maximum(count, 1), 0.0)
    n_text, text_mean = _merge_means(a.n_text, a.text_mean, b.n_text, b.text_mean)
    return Compression(
        subjects=subjects,
        count=count,
        mean=mean,
        moment=a.moment + b.moment + shared * (b.mean - a.mean) ** 2,
        n_text=n_text,
        text_mean=text_mean,
        text_low=np.minimum(a.text_low, b.text_low),
        text_high=np.maximum(a.text_high, b.text_high),
        image_low=np.minimum(a.image_low, b.image_low),
        image_high=np.maximum(a.image_high, b.image_high),
        n_other=a.n_other + b.n_other,
        n_undefined=a.n_undefined + b.n_undefined,
    )


def no_trials() -> Compression:
    """The compression of no trials: merged with another, it changes nothing."""
    none = np.zeros(0, dtype=np.int64)
    return compress(
        Batch(
            subjects=(),
            groups=(),
            subject=none,
            group=none,
            uncertainty=np.zeros(0),
            is_text=none > 0,
            n_other=none,
        )
    )


def save_compression(compression: Compression, path: Path) -> None:
    """Write a compression as netCDF, atomically."""
    labels = {
        part: (names.SUBJECT, np.array([getattr(s, part) for s in compression.subjects], dtype=object))
        for part in Subject._fields
    }
    dims = (names.SUBJECT, "bin")
    values = {
        name: (dims[: _DIMS.get(name, 1)], getattr(compression, name))
        for name in (field.name for field in fields(Compression))
        if name not in ("subjects", "n_undefined")
    }
    dataset = xr.Dataset(values | labels, attrs={"n_undefined": compression.n_undefined})
    write_bytes(path, dataset.to_netcdf(engine="h5netcdf"))


def load_compression(path: Path) -> Compression:
    """Read a compression.

    Raises
    ------
    InputError
        Where the file is no whole compression.
    """
    try:
        with xr.open_dataset(path, engine="h5netcdf") as opened:
            dataset = opened.load()
        labels = [map(str, dataset[part].to_numpy()) for part in Subject._fields]
        numbers = {
            str(name): values.to_numpy() for name, values in dataset.data_vars.items() if name not in Subject._fields
        }
        return Compression(
            subjects=tuple(map(Subject, *labels)), n_undefined=int(dataset.attrs["n_undefined"]), **numbers
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"The file {path} is no whole compression of trials. Delete it; it is made again.") from error


def _range(x: Floats, row: Indices, n: int) -> tuple[Floats, Floats]:
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(low, row, x)
    np.maximum.at(high, row, x)
    return low, high


def _widen(compression: Compression, subjects: tuple[Subject, ...]) -> Compression:
    """The same with a row for each of `subjects`, which include its own."""
    if compression.subjects == subjects:
        return compression
    place = {subject: i for i, subject in enumerate(subjects)}
    rows = [place[subject] for subject in compression.subjects]

    def widen[T: (Floats, Indices)](values: T, empty: float = 0) -> T:
        wide: NDArray[np.generic] = np.full((len(subjects), *values.shape[1:]), empty, dtype=values.dtype)
        wide[rows] = values
        return wide  # type: ignore[return-value]

    return Compression(
        subjects=subjects,
        count=widen(compression.count),
        mean=widen(compression.mean),
        moment=widen(compression.moment),
        n_text=widen(compression.n_text),
        text_mean=widen(compression.text_mean),
        text_low=widen(compression.text_low, np.inf),
        text_high=widen(compression.text_high, -np.inf),
        image_low=widen(compression.image_low, np.inf),
        image_high=widen(compression.image_high, -np.inf),
        n_other=widen(compression.n_other),
        n_undefined=compression.n_undefined,
    )


def _merge_means(n_a: Indices, mean_a: Floats, n_b: Indices, mean_b: Floats) -> tuple[Indices, Floats]:
    n = n_a + n_b
    mean: Floats = (n_a * mean_a + n_b * mean_b) / np.maximum(n, 1)
    return n, mean
