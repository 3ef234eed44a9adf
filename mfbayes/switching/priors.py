"""Priors of the hazards of switching."""

from dataclasses import dataclass, fields

import numpy as np

from mfbayes.errors import InputError


@dataclass(frozen=True, kw_only=True)
class SwitchingPriors:
    """Scales of the priors, in log-odds.

    Means over subjects are normal: `level_mean` and `level_mean_sd` of the hazard, around 0 for all else. The
    others are the scales of half-normal priors of standard deviations: between subjects of levels, of slopes in the
    terms and of effects of age, of the walk from the first to the last layer, of what a subject's layers have of their
    own, and of groups.

    Raises
    ------
    InputError
        For a scale that is not a finite number above zero, or a mean that is not finite.
    """

    level_mean: float = -2.5
    level_mean_sd: float = 1.5
    level_sd: float = 0.7
    walk_sd: float = 1.5
    layer_sd: float = 0.5
    coefficient_mean_sd: float = 1.0
    slope_sd: float = 0.5
    age_sd: float = 0.5
    group_sd: float = 1.0
    group_model_sd: float = 1.0

    def __post_init__(self) -> None:
        check_priors(self, means=("level_mean",))


def check_priors(priors: object, *, means: tuple[str, ...]) -> None:
    """Refuse a dataclass of priors of which a mean is not finite, or anything else is not finite and above zero.

    Parameters
    ----------
    priors : dataclass
        All fields are numbers.
    means : tuple of str
        Fields that may be zero or negative.

    Raises
    ------
    InputError
        With the name of the field and what it is.
    """
    for each in fields(priors):  # type: ignore[arg-type]
        value = getattr(priors, each.name)
        if each.name in means:
            expected, right = "a finite number", np.isfinite(value)
        else:
            expected, right = "a finite number above 0", np.isfinite(value) and value > 0
        if not right:
            raise InputError(f"Expected {each.name} of {type(priors).__name__} to be {expected}, got {value}.")
