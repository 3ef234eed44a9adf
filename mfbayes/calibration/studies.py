"""Studies of known truth: parameters drawn from their priors, trials drawn from the model."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from mfbayes.design import Design
from mfbayes.lapses import LapsePrior
from mfbayes.priors import Priors

SEED = 20_261_122
"""Seeds are this, the number of the study and the replicate."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study to simulate: its size, how groups differ, and where its dH lies.

    Attributes
    ----------
    n_groups, n_models : int
        Size; every model meets every group in 0 to some 20 trials, models in unequal shares.
    group_sd, group_model_sd : float or None
        Standard deviations of u and v; None draws them from their priors.
    tilt : float
        Centre of dH: below zero text is followed more often, above less.
    lapses : bool
        Whether models also answer at random, at rates drawn from their prior.
    """

    n_groups: int
    n_models: int
    group_sd: float | None
    group_model_sd: float | None
    tilt: float
    lapses: bool = False


def list_studies() -> list[Study]:
    """The grid: groups x sigma_g x sigma_gm x models, tilts of dH dealt out evenly among them."""
    levels = itertools.product(
        enumerate((40, 120, 400)), enumerate((0.3, 0.8, 1.5)), enumerate((0.0, 0.5, 1.5)), enumerate((2, 4, 8))
    )
    return [
        Study(
            n_groups=groups,
            n_models=models,
            group_sd=sd,
            group_model_sd=model_sd,
            tilt=(-1.0, 0.0, 1.0)[(g + s + v + m) % 3],
        )
        for (g, groups), (s, sd), (v, model_sd), (m, models) in levels
    ]


def simulate_study(study: Study, *, rng: np.random.Generator) -> tuple[Design, dict[str, Any]]:
    """Draw parameters from their priors and trials from the model.

    Returns
    -------
    design : Design
        Trials, laid out.
    truth : dict
        True values by the names of the posterior's variables.
    """
    priors, n = Priors(), study.n_models
    b_mean, b_sd = priors.balance_point_mean_sd * rng.normal(), abs(priors.balance_point_sd * rng.normal())
    k_mean = priors.log_slope_mean + priors.log_slope_mean_sd * rng.normal()
    k_sd = abs(priors.log_slope_sd * rng.normal())
    balance_point, slope = b_mean + b_sd * rng.normal(size=n), np.exp(k_mean + k_sd * rng.normal(size=n))
    group_sd = abs(priors.group_sd * rng.normal()) if study.group_sd is None else study.group_sd
    model_sd = abs(priors.group_model_sd * rng.normal()) if study.group_model_sd is None else study.group_model_sd
    mean_trials = 10 * np.exp(rng.uniform(-0.7, 0.7, n))
    counts = rng.poisson(mean_trials, (study.n_groups, n))
    cell = np.repeat(np.arange(counts.size), counts.ravel())
    group, subject = cell // n, cell % n
    # dH as two entropies make it: a spread of items around where their group lies.
    ratio = study.tilt + rng.normal(size=study.n_groups)[group] * 0.5 + rng.normal(size=cell.size)
    dH = 2 * np.tanh(ratio / 2)
    effect = group_sd * rng.normal(size=study.n_groups)[group] + model_sd * rng.normal(size=counts.size)[cell]
    p_text = expit(slope[subject] * (balance_point[subject] - dH) + effect)
    lapse = rng.beta(1, 1 / LapsePrior().mean - 1, n) / 2 if study.lapses else np.zeros(n)
    is_text = rng.random(cell.size) < lapse[subject] + (1 - 2 * lapse[subject]) * p_text
    kept, group = np.unique(group, return_inverse=True)
    labels = tuple(f"m{i}" for i in range(n))
    design = Design(
        subjects=labels,
        subject_model=labels,
        subject_task=("task",) * n,
        subject_condition=("",) * n,
        subject_family=("",) * n,
        groups=tuple(f"g{i}" for i in kept),
        uncertainty=dH,
        is_text=is_text.astype(np.float64),
        trial_subject=subject,
        trial_group=group.astype(np.int64),
        row=np.arange(cell.size),
    )
    truth = {
        "balance_point": balance_point,
        "slope": slope,
        "balance_point_mean": b_mean,
        "balance_point_sd": b_sd,
        "log_slope_mean": k_mean,
        "log_slope_sd": k_sd,
        "group_sd": group_sd,
        "group_model_sd": model_sd,
    } | ({"lapse": lapse} if study.lapses else {})
    return design, truth
