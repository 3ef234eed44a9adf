"""The effects of groups: as they were sampled, or brought back where the marginal likelihood integrated them out."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.design import GROUP_SCALES, Design
from mfbayes.marginal.likelihood import marginal_likelihood

type Floats = NDArray[np.float64]

_DRAWS = 48
EFFECTS = ("group_effect", "group_model_effect")
"""What a posterior calls u and v where they were sampled."""


def recover_effects(design: Design, posterior: xr.Dataset) -> xr.Dataset:
    """Posterior mean and standard deviation of u (group) and v (group and model), in log-odds.

    Moments of the draws, where effects were sampled. Where they were integrated out, they are about normal around
    their mode given the parameters, and both moments are averaged over some 50 draws of these, evenly spaced; that
    is for choices without lapses.

    Parameters
    ----------
    design : Design
        The trials that were fitted.
    posterior : Dataset
        Draws of the effects, or of `intercept`, `slope` and the standard deviations of the effects.

    Returns
    -------
    Dataset
        `group_effect`, `group_effect_sd` over group and, where v is in the model, `group_model_effect`,
        `group_model_effect_sd` over (model, group), NaN where a model has no trial of a group.
    """
    if EFFECTS[0] in posterior:
        sampled = [name for name in EFFECTS if name in posterior]
        over = ("chain", "draw")
        moments = [(posterior[name].mean(over).to_numpy(), posterior[name].std(over).to_numpy()) for name in sampled]
    else:
        moments = [(part.mean, part.sd) for part in _bring_back(design, posterior)]
    (group, group_sd), *of_branch = moments
    effects = xr.Dataset(
        {"group_effect": (names.GROUP, group), "group_effect_sd": (names.GROUP, group_sd)},
        coords={names.GROUP: np.array(design.groups, dtype=object)},
    )
    if design.has_model_effect:
        for name, values in zip(("group_model_effect", "group_model_effect_sd"), of_branch[0], strict=True):
            spread = np.full((len(design.models), len(design.groups)), np.nan)
            spread[design.branch_model, design.branch_group] = values
            effects[name] = ((names.MODEL, names.GROUP), spread)
        effects = effects.assign_coords({names.MODEL: np.array(design.models, dtype=object)})
    return effects


def _bring_back(design: Design, posterior: xr.Dataset) -> "tuple[_Moments, _Moments]":
    """Moments of u and of v by Laplace's method."""
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
    return group, branch


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
