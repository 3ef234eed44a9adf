"""Priors of the following model, shared by every tier of inference."""

from dataclasses import dataclass
from math import log


@dataclass(frozen=True, kw_only=True)
class Priors:
    """Scales of the priors, on dH for balance points and in log-odds for group effects.

    `balance_point_sd` and `log_slope_sd` are the scales of the half-normal priors of every level's
    standard deviation: between subjects, and between families, models, tasks and conditions.
    """

    balance_point_mean_sd: float = 0.75
    balance_point_sd: float = 0.5
    log_slope_mean: float = log(2)
    log_slope_mean_sd: float = 0.7
    log_slope_sd: float = 0.5
    group_sd: float = 1.0
    group_model_sd: float = 1.0
    group_condition_sd: float = 1.0
