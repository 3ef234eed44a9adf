"""Measures a trained model for its card: accuracy, entropy, and which side it follows.

The measurement takes the package's own road: PNG files, the Auto classes, the exported processor.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import spearmanr

from mfbayes import names
from mfbayes.datasets import Dataset
from mfbayes.inference.collection import collect
from mfbayes.traces import count_oscillations, read_traces
from mfbayes.uncertainty import relative_uncertainty

N_BOOTSTRAP: Final = 400
_NEWTON_STEPS: Final = 30
_RIDGE: Final = 1e-3
_NEAR: Final = 0.5  # of the balance point, in dH


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model does on a dataset it was not trained on.

    Attributes
    ----------
    n_groups : int
        Groups of the dataset.
    by_image_tier : pandas.DataFrame
        A row a visual tier: `accuracy` and `entropy` (nats) from the image alone, and the shares
        `text`, `image`, `other` of the answers to conflicts and to controls.
    by_text_tier : pandas.DataFrame
        A row a text tier: `accuracy` and `entropy` (nats) from the text alone.
    dH_range : (float, float)
        Least and largest relative uncertainty.
    rank_correlation : (float, float)
        Spearman correlation of tier and mean entropy, for images and for texts.
    choices : dict of str to float
        Shares of text, image and other among the answers to conflicts.
    n_both_correct : int
        Conflict items answered correctly from each side alone.
    balance_point : (float, float, float)
        Of a plain logistic fit to those: estimate and 95 % interval over resampled groups.
    slope : float
        Of the same fit: change of the log-odds of the text with dH.
    oscillations : dict of str to float
        Mean number over both-correct conflicts near the balance point, and far from it on either side.
    """

    n_groups: int
    by_image_tier: pd.DataFrame
    by_text_tier: pd.DataFrame
    dH_range: tuple[float, float]  # noqa: N815
    rank_correlation: tuple[float, float]
    choices: dict[str, float]
    n_both_correct: int
    balance_point: tuple[float, float, float]
    slope: float
    oscillations: dict[str, float]


def evaluate(model_folder: Path, dataset: Dataset, *, work: Path, seed: int = 0) -> Evaluation:
    """Collect a model's answers to a dataset and sum them up.

    Parameters
    ----------
    model_folder : Path
        An exported model.
    dataset : Dataset
        Its seed must not be one that training used.
    work : Path
        Where the collection is kept.
    seed : int
        Seed of the resampled groups.
    """
    folder = collect(dataset, str(model_folder), out=work, progress=False)
    trials = pd.read_parquet(folder / names.TRIALS_FILE)
    traces = read_traces(folder / names.TRACES_FILE)
    counts = pd.Series(count_oscillations(traces[names.STATE].to_numpy()), index=traces[names.ITEM].to_numpy())
    return sum_up(trials, oscillations=counts, seed=seed)


def sum_up(trials: pd.DataFrame, *, oscillations: pd.Series, seed: int = 0) -> Evaluation:
    """Sum up trials and their numbers of oscillations, the latter indexed by item."""
    trials = trials.assign(dH=relative_uncertainty(trials[names.H_TEXT], trials[names.H_IMAGE]))
    conflicts = trials[trials[names.KIND] == names.CONFLICT]
    images = conflicts.drop_duplicates([names.GROUP, names.D_IMAGE])
    texts = conflicts.drop_duplicates([names.GROUP, names.D_TEXT])
    by_image = _by_tier(images, names.D_IMAGE, correct=names.IMAGE_CORRECT, entropy=names.H_IMAGE)
    for kind, rows in trials.groupby(names.KIND):
        shares = pd.crosstab(rows[names.D_IMAGE], rows[names.CHOICE], normalize="index")
        by_image = by_image.join(shares.reindex(columns=list(names.CHOICES), fill_value=0.0).add_prefix(f"{kind} "))
    by_text = _by_tier(texts, names.D_TEXT, correct=names.TEXT_CORRECT, entropy=names.H_TEXT)
    both = conflicts[
        conflicts[names.TEXT_CORRECT] & conflicts[names.IMAGE_CORRECT] & (conflicts[names.CHOICE] != names.OTHER)
    ]
    balance_point, slope = _find_balance(both)
    interval = _resample_groups(both, np.random.default_rng(seed))
    distance = both[names.DH] - balance_point
    counts = oscillations.reindex(both[names.ITEM]).to_numpy()
    regions = {"text-clear": distance < -_NEAR, "ambiguous": distance.abs() <= _NEAR, "image-clear": distance > _NEAR}
    followed = {choice: float((conflicts[names.CHOICE] == choice).mean()) for choice in names.CHOICES}
    return Evaluation(
        n_groups=conflicts[names.GROUP].nunique(),
        by_image_tier=by_image,
        by_text_tier=by_text,
        dH_range=(float(conflicts[names.DH].min()), float(conflicts[names.DH].max())),
        rank_correlation=(_correlate(by_image), _correlate(by_text)),
        choices=followed,
        n_both_correct=len(both),
        balance_point=(balance_point, *interval),
        slope=slope,
        oscillations={
            name: float(counts[inside.to_numpy()].mean()) for name, inside in regions.items() if inside.any()
        },
    )


def _by_tier(rows: pd.DataFrame, tier: str, *, correct: str, entropy: str) -> pd.DataFrame:
    return rows.groupby(tier).agg(accuracy=(correct, "mean"), entropy=(entropy, "mean"))


def _correlate(table: pd.DataFrame) -> float:
    return float(spearmanr(table.index, table["entropy"]).statistic)


def _find_balance(rows: pd.DataFrame, counts: NDArray[np.int64] | None = None) -> tuple[float, float]:
    """Balance point and slope of logit P(text) = a + s dH, each row weighted by its count."""
    design = np.column_stack([np.ones(len(rows)), rows[names.DH].to_numpy()])
    is_text = (rows[names.CHOICE] == names.TEXT).to_numpy().astype(float)
    weights = np.ones(len(rows)) if counts is None else counts
    beta = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        p = expit(design @ beta)
        hessian = design.T @ (design * (weights * p * (1 - p))[:, None]) + _RIDGE * np.eye(2)
        beta = beta + np.linalg.solve(hessian, design.T @ (weights * (is_text - p)) - _RIDGE * beta)
    return float(-beta[0] / beta[1]), float(beta[1])


def _resample_groups(rows: pd.DataFrame, rng: np.random.Generator) -> tuple[float, float]:
    codes, groups = pd.factorize(rows[names.GROUP])
    drawn = [
        _find_balance(rows, np.bincount(rng.integers(len(groups), size=len(groups)), minlength=len(groups))[codes])[0]
        for _ in range(N_BOOTSTRAP)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
