"""Priors of the following model, shared by every tier of inference."""

from dataclasses import dataclass, fields
from math import isfinite, log
from typing import TYPE_CHECKING

import numpy as np

from mfbayes.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, kw_only=True)
class Priors:
    """Scales of the priors, on dH for balance points and in log-odds for group effects.

    `balance_point_sd` and `log_slope_sd` are the scales of the half-normal priors of every level's
    standard deviation: between subjects, and between families, models, tasks and conditions.

    Raises
    ------
    InputError
        Where a scale is not a finite number above zero, or a mean no finite number.
    """

    balance_point_mean_sd: float = 0.75
    balance_point_sd: float = 0.5
    log_slope_mean: float = log(2)
    log_slope_mean_sd: float = 0.7
    log_slope_sd: float = 0.5
    group_sd: float = 1.0
    group_model_sd: float = 1.0
    group_condition_sd: float = 1.0

    def __post_init__(self) -> None:
        check_scales(self)


def check_scales(priors: "DataclassInstance") -> None:
    """Refuse fields that are no finite number, and standard deviations (`..._sd`) that are not above zero.

    Raises
    ------
    InputError
    """
    for field in fields(priors):
        value = getattr(priors, field.name)
        is_number = isinstance(value, int | float | np.number) and isfinite(value)
        is_scale = field.name.endswith("_sd")
        if not is_number or (is_scale and not value > 0):
            expected = "a finite number above 0" if is_scale else "a finite number"
            raise InputError(f"Expected {field.name} of the priors to be {expected}, got {value!r}.")
