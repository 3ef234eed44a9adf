"""The effects of groups that the marginal likelihood integrated out, brought back."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.design import GROUP_SCALES, Design
from mfbayes.marginal.likelihood import marginal_likelihood

type Floats = NDArray[np.float64]

_DRAWS = 48


def recover_effects(design: Design, posterior: xr.Dataset) -> xr.Dataset:
    """Posterior mean and standard deviation of u (group) and v (group and model), in log-odds.

    Given the parameters the effects are about normal around their mode; both moments are then averaged
    over some 50 draws of the parameters, evenly spaced.

    Parameters
    ----------
    design : Design
        The trials that were fitted.
    posterior : Dataset
        Draws of `intercept`, `slope` and the standard deviations of the effects.

    Returns
    -------
    Dataset
        `group_effect`, `group_effect_sd` over group and, where v is in the model, `group_model_effect`,
        `group_model_effect_sd` over (model, group), NaN where a model has no trial of a group.
    """
    drawn = posterior.stack(sample=("chain", "draw")).transpose("sample", ...)
    positions = np.unique(np.linspace(0, drawn.sizes["sample"] - 1, _DRAWS).astype(np.int64))
    intercept, slope = drawn["intercept"].to_numpy(), drawn["slope"].to_numpy()
    scales = np.column_stack(
        [
            drawn[name].to_numpy() if name in design.group_scales else np.zeros(drawn.sizes["sample"])
            for name in GROUP_SCALES
        ]
    )
    likelihood = marginal_likelihood(design)
    group, branch = _Moments(design.group_start.size - 1), _Moments(design.branch_group.size)
    for number, i in enumerate(positions):
        coefficients = np.column_stack([intercept[i], slope[i]])
        if number == 0:
            likelihood = likelihood.started_at(coefficients, scales[i])
        scores, weights = likelihood.settle(coefficients, scales[i])
        _add_moments(design, scores, weights, scales[i] ** 2, group, branch)
    found = {
        "group_effect": (names.GROUP, group.mean),
        "group_effect_sd": (names.GROUP, group.sd),
    }
    effects = xr.Dataset(found, coords={names.GROUP: np.array(design.groups, dtype=object)})
    if design.has_model_effect:
        for name, values in (("group_model_effect", branch.mean), ("group_model_effect_sd", branch.sd)):
            spread = np.full((len(design.models), len(design.groups)), np.nan)
            spread[design.branch_model, design.branch_group] = values
            effects[name] = ((names.MODEL, names.GROUP), spread)
        effects = effects.assign_coords({names.MODEL: np.array(design.models, dtype=object)})
    return effects


class _Moments:
    """Running mean and variance of normal distributions that are averaged."""

    def __init__(self, size: int) -> None:
        self._n = 0
        self._means, self._squares, self._variances = np.zeros(size), np.zeros(size), np.zeros(size)

    def add(self, mean: Floats, variance: Floats) -> None:
        self._n += 1
        self._means += mean
        self._squares += mean**2
        self._variances += variance

    @property
    def mean(self) -> Floats:
        return self._means / self._n

    @property
    def sd(self) -> Floats:
        between = np.maximum(self._squares / self._n - self.mean**2, 0.0)
        return np.sqrt(between + self._variances / self._n)


def _add_moments(
    design: Design, scores: Floats, weights: Floats, variances: Floats, group: _Moments, branch: _Moments
) -> None:
    """Conditional means and variances of u and v, up the tree and down again as in the kernel."""
    of_group, of_branch, of_cell = variances
    first_cell, first_branch = design.branch_start[:-1], design.group_start[:-1]
    told_by_branch = np.add.reduceat(weights / (1 + of_cell * weights), first_cell)
    branch_score = np.add.reduceat(scores, first_cell)
    told = told_by_branch / (1 + of_branch * told_by_branch)
    information = np.add.reduceat(told, first_branch)
    group_variance = of_group / (1 + of_group * information)
    group.add(of_group * np.add.reduceat(branch_score, first_branch), group_variance)
    known = told - told**2 * group_variance[np.repeat(np.arange(first_branch.size), np.diff(design.group_start))]
    branch.add(of_branch * branch_score, of_branch - of_branch**2 * known)
