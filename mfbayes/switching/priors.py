"""Priors of the hazards of switching."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SwitchingPriors:
    """Scales of the priors, in log-odds.

    Means over subjects are normal: `level_mean` and `level_mean_sd` of the hazard, around 0 for all else. The
    others are the scales of half-normal priors of standard deviations: between subjects of levels, of slopes in the
    terms and of effects of age, of the walk from the first to the last layer, of what a subject's layers have of their
    own, and of groups.
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
