"""Scores: what each item group contributes to the slope of the log-likelihood, by a second pass over the trials.

Groups are shared by subjects, so scores are kept for each cell (a subject and a group): they give the
covariance of all coefficients at once, and add up whatever the parts that trials come in.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit

from mfbayes.errors import InputError
from mfbayes.pooled.batches import Batch, Subject
from mfbayes.pooled.optimum import Coefficients
from mfbayes.storage import write_with

KEYS: Final = [*Subject._fields, "group"]
SUMS: Final = ["n_trials", "score_intercept", "score_slope", "weight", "weight_dH", "weight_dH2", "log_likelihood"]


def score(batch: Batch, coefficients: Coefficients) -> pd.DataFrame:
    """Sums over the trials of each cell, at given coefficients.

    Parameters
    ----------
    batch : Batch
    coefficients : Coefficients
        Of every subject of the batch; where they are NaN only the trials are counted.

    Returns
    -------
    DataFrame
        A row a cell: `model, task, condition, group, n_trials`; the score `score_intercept,
        score_slope`, sums of (y - p) and (y - p) dH; the information `weight, weight_dH, weight_dH2`, sums of
        p (1 - p) times 1, dH and dH^2; and `log_likelihood`.
    """
    place = {subject: i for i, subject in enumerate(coefficients.subjects)}
    known = np.nan_to_num(coefficients.lines[[place[subject] for subject in batch.subjects]].reshape(-1, 2))
    x, hits = batch.uncertainty, batch.is_text
    eta = known[batch.subject, 0] + known[batch.subject, 1] * x
    p = expit(eta)
    residual, weight = hits - p, p * (1 - p)
    cell, cells = pd.factorize(batch.subject * max(len(batch.groups), 1) + batch.group)
    subject, group = np.divmod(cells, max(len(batch.groups), 1))
    summands = (
        None,
        residual,
        residual * x,
        weight,
        weight * x,
        weight * x**2,
        log_expit(np.where(hits, eta, -eta)),
    )
    labels = pd.DataFrame(batch.subjects, columns=list(Subject._fields), dtype=object).iloc[subject]
    table = labels.reset_index(drop=True).assign(
        group=np.array([name for _, name in batch.groups], dtype=object)[group]
    )
    sums = {name: np.bincount(cell, values, len(cells)) for name, values in zip(SUMS, summands, strict=True)}
    return table.assign(**sums)[[*KEYS, *SUMS]]


def merge_scores(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Scores of all the trials together, cells in order."""
    merged = pd.concat(list(tables), ignore_index=True)
    return merged.groupby(KEYS, sort=True, as_index=False)[SUMS].sum()


def save_scores(scores: pd.DataFrame, path: Path) -> None:
    """Write scores as parquet, atomically."""
    write_with(path, lambda temporary: scores.to_parquet(temporary, index=False))


def load_scores(path: Path) -> pd.DataFrame:
    """Read scores.

    Raises
    ------
    InputError
        Where the file holds no whole table of scores.
    """
    try:
        scores = pd.read_parquet(path)
    # pyarrow raises whatever its layers raise on damaged bytes; all of it means the same.
    except Exception as error:
        raise InputError(f"The file {path} is no whole table of scores. Delete it; it is made again.") from error
    if list(scores.columns) != [*KEYS, *SUMS]:
        raise InputError(f"The file {path} holds no scores. Delete it; it is made again.")
    return scores.astype(dict.fromkeys(KEYS, object) | _NUMBERS)


_NUMBERS: Final[dict[str, Any]] = dict.fromkeys(SUMS[1:], np.float64) | {"n_trials": np.int64}
