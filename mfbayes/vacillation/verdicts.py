"""Verdicts by rule: whether models vacillate more near balance, and whether total entropy could be why."""

import numpy as np
import xarray as xr

from mfbayes import names
from mfbayes.vacillation.contrasts import BALANCED, IMAGE_SIDE, TEXT_SIDE
from mfbayes.vacillation.measures import CLAIMS
from mfbayes.vacillation.total_entropy import HOLDS

BOTH_SIDES = "higher than on both sides"
TEXT_SIDE_ONLY = "higher than on the text side only"
IMAGE_SIDE_ONLY = "higher than on the image side only"
ON_AVERAGE = "higher than both sides on average"
UNDECIDED = "not distinguishable"
REVERSED = "reversed"
UNTOLD = "too few traces"
VERDICTS = (BOTH_SIDES, TEXT_SIDE_ONLY, IMAGE_SIDE_ONLY, ON_AVERAGE, UNDECIDED, REVERSED, UNTOLD)

YES, NO, NO_POSITIVITY = "yes", "no", "positivity fails"

_RULE = (
    f"'{UNTOLD}' without intervals of the contrasts with both sides; else '{BOTH_SIDES}' where both lie above zero; "
    f"'{REVERSED}' where the balanced contrast lies below zero; '{TEXT_SIDE_ONLY}' or '{IMAGE_SIDE_ONLY}' where "
    f"the one lies above zero; '{ON_AVERAGE}' where the balanced contrast alone does; else '{UNDECIDED}'"
)
_SEPARABLE_RULE = (
    f"of the contrasts that the verdict rests on: '{NO_POSITIVITY}' where positivity does for one of them; '{YES}' "
    f"where the interval with overlap weights lies on the same side of zero for each of them; else '{NO}', "
    "and so where there is no difference to tell"
)
_RESTS_ON = {
    BOTH_SIDES: (TEXT_SIDE, IMAGE_SIDE),
    TEXT_SIDE_ONLY: (TEXT_SIDE,),
    IMAGE_SIDE_ONLY: (IMAGE_SIDE,),
    ON_AVERAGE: (BALANCED,),
    REVERSED: (BALANCED,),
}


def judge_claim(contrasts: xr.Dataset, adjusted: xr.Dataset) -> xr.Dataset:
    """Say for each subject, and all of them, how vacillation near balance compares with that on the sides.

    Parameters
    ----------
    contrasts : Dataset
        As `contrasts.contrast_regions` gives it.
    adjusted : Dataset
        As `total_entropy.adjust_for_total_entropy` gives it.

    Returns
    -------
    Dataset
        `verdict` (one of `VERDICTS`) and `separable` from total entropy ("yes", "no", "positivity fails", or empty
        without a verdict) over (subject, measure); the rules are attributes.
    """
    subjects = contrasts[names.SUBJECT].to_numpy()
    verdict = np.full((subjects.size, len(CLAIMS)), "", dtype=object)
    separable = verdict.copy()
    for i, subject in enumerate(subjects):
        for j, measure in enumerate(CLAIMS):
            place = {names.SUBJECT: subject, "measure": measure}
            verdict[i, j] = _judge(contrasts.sel(place))
            separable[i, j] = _separate(
                str(verdict[i, j]),
                adjusted[["lower", "upper"]].sel(place | {"stratum": "overlap"}),
                adjusted["positivity"].sel({names.SUBJECT: subject}),
            )
    dims = (names.SUBJECT, "measure")
    return xr.Dataset(
        {"verdict": (dims, verdict), "separable": (dims, separable)},
        coords={names.SUBJECT: subjects, "measure": np.array(CLAIMS, dtype=object)},
        attrs={"rule": _RULE, "separable_rule": _SEPARABLE_RULE},
    )


def _judge(contrasts: xr.Dataset) -> str:
    lower, upper = (
        dict(zip(contrasts["contrast"].to_numpy(), contrasts[name].to_numpy(), strict=True))
        for name in ("lower", "upper")
    )
    if np.isnan([lower[TEXT_SIDE], lower[IMAGE_SIDE]]).any():
        return UNTOLD
    above = {name: bool(lower[name] > 0) for name in (BALANCED, TEXT_SIDE, IMAGE_SIDE)}
    if above[TEXT_SIDE] and above[IMAGE_SIDE]:
        return BOTH_SIDES
    if upper[BALANCED] < 0:
        return REVERSED
    if above[TEXT_SIDE] or above[IMAGE_SIDE]:
        return TEXT_SIDE_ONLY if above[TEXT_SIDE] else IMAGE_SIDE_ONLY
    return ON_AVERAGE if above[BALANCED] else UNDECIDED


def _separate(verdict: str, weighted: xr.Dataset, positivity: xr.DataArray) -> str:
    if verdict == UNTOLD:
        return ""
    rests_on = list(_RESTS_ON.get(verdict, ()))
    if not rests_on:
        return NO
    if not (positivity.sel(contrast=rests_on) == HOLDS).all():
        return NO_POSITIVITY
    bounds = weighted.sel(contrast=rests_on)
    holds = bounds["upper"] < 0 if verdict == REVERSED else bounds["lower"] > 0
    return YES if bool(holds.all()) else NO
