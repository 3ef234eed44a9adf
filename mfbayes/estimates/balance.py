"""Estimates of inherent preference: balance points, their densities and their order."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import gaussian_kde

from mfbayes import names
from mfbayes.clusters import bound_shares
from mfbayes.estimates.draws import subject_coordinates
from mfbayes.estimates.tables import name_index, without_nonsense
from mfbayes.laws.free_slope import estimate_free_slope
from mfbayes.selection import label_groups
from mfbayes.storage import write_text

COLUMNS = (
    "model",
    "task",
    "condition",
    "family",
    "mean",
    "median",
    "sd",
    "lower",
    "upper",
    "ci_prob",
    "index",
    "intercept_mean",
    "slope_mean",
    "slope_lower",
    "slope_upper",
    "n_trials",
    "n_text",
    "n_image",
    "n_other",
    "tfr",
    "status",
    "law",
    "converged",
)
_DENSITY_POINTS = 200
# What is said of the law does not change with the intervals that somebody wants to see.
_LAW_CI_PROB = 0.95


def balance_points(tree: xr.DataTree) -> pd.DataFrame:
    """Balance point of every model and task: how surely it leans to the text or to the image.

    Parameters
    ----------
    tree : DataTree
        A fit, as `mfbayes.fit` returns it.

    Returns
    -------
    DataFrame
        `mean, median, sd, lower, upper` of b (in units of dH; below zero: prefers the image), `index`: the
        uncertainty that dH is made of, whose balance points are not to be compared with those of another, the
        intercept kappa b, the slope kappa, counts of choices, the text-following ratio `tfr`,
        `status`: "one-sided" (which no sampler mends), else "not-converged", "outside" or "ok",
        `law`: whether P(text) clearly "falls" with dH, "rises", is "unclear" or "unknown", and `converged`:
        whether the fit did, the same in every row. A balance point locates something only where the status
        is "ok" and the law "falls". What a failed fit leaves beyond any sense is NaN.
    """
    estimates = without_nonsense(tree["estimates/balance_points"].to_dataset())
    table = estimates.to_dataframe().reset_index(drop=True)
    table["ci_prob"] = float(estimates.attrs["ci_prob"])
    table["index"] = name_index(tree)
    table["converged"] = tree.attrs["status"] == "ok"
    return table[list(COLUMNS)]


def write_balance_points(tree: xr.DataTree, path: str | Path) -> None:
    """Write `balance_points` as CSV, atomically, with every digit."""
    write_text(Path(path), balance_points(tree).to_csv(index=False, lineterminator="\n"))


def describe_balance_points(
    posterior: xr.Dataset, trials: pd.DataFrame, *, ci_prob: float, passed: bool, rng: np.random.Generator
) -> xr.Dataset:
    """Everything one says of a subject in a line: b, slope, counts, TFR, whether the law holds, status.

    Parameters
    ----------
    posterior : Dataset
        Draws of the following model.
    trials : DataFrame
        Trials of a `mfbayes.selection.Selection`.
    ci_prob : float
        Probability of all intervals (equal-tailed; TFR by a bootstrap over groups).
    passed : bool
        Whether the sampler converged.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Dataset
        Over `subject`. `law` says whether a slope free to take either sign is clearly negative.
    """
    groups = label_groups(trials).astype("category").cat.codes.to_numpy(np.int64)
    rows = [
        _describe_choices(trials[own], group=groups[own], ci_prob=ci_prob, rng=rng)
        for own in ((trials[names.SUBJECT] == subject).to_numpy() for subject in posterior[names.SUBJECT].to_numpy())
    ]
    point, slope = posterior["balance_point"], posterior["slope"]
    over = ("chain", "draw")
    lower, upper = _bounds(point, ci_prob)
    slope_lower, slope_upper = _bounds(slope, ci_prob)
    table = xr.Dataset(
        {
            "mean": point.mean(over),
            "median": point.median(over),
            "sd": point.std(over, ddof=1),
            "lower": lower,
            "upper": upper,
            "intercept_mean": posterior["intercept"].mean(over),
            "slope_mean": slope.mean(over),
            "slope_lower": slope_lower,
            "slope_upper": slope_upper,
        }
        | {name: (names.SUBJECT, np.array([row[name] for row in rows])) for name in rows[0]},
        attrs={"ci_prob": ci_prob},
    )
    status = [
        _judge(row, median, passed=passed)
        for row, median in zip(rows, table["median"].to_numpy().tolist(), strict=True)
    ]
    table["status"] = (names.SUBJECT, np.array(status, dtype=object))
    table["law"] = table["law"].astype(object)
    return table.drop_vars(("dH_min", "dH_max"))


def density_of_balance_points(posterior: xr.Dataset) -> xr.Dataset:
    """Posterior density of each balance point: `value` and `density` over (subject, point)."""
    values, densities = [], []
    for subject in range(posterior.sizes[names.SUBJECT]):
        draws = posterior["balance_point"].isel(subject=subject).to_numpy().ravel()
        margin = 3 * draws.std() * draws.size**-0.2
        grid = np.linspace(draws.min() - margin, draws.max() + margin, _DENSITY_POINTS)
        values.append(grid)
        # Chains that never moved have no density; the gate has refused them by then.
        densities.append(gaussian_kde(draws)(grid) if margin > 0 else np.full(grid.size, np.nan))
    dims = (names.SUBJECT, "point")
    return xr.Dataset(
        {"value": (dims, np.array(values)), "density": (dims, np.array(densities))},
        coords=subject_coordinates(posterior),
    )


def _bounds(draws: xr.DataArray, ci_prob: float) -> tuple[xr.DataArray, xr.DataArray]:
    lower, upper = ((1 - ci_prob) / 2, (1 + ci_prob) / 2)
    found = draws.quantile([lower, upper], dim=("chain", "draw"))
    return found.isel(quantile=0, drop=True), found.isel(quantile=1, drop=True)


def _describe_choices(
    trials: pd.DataFrame, *, group: np.ndarray, ci_prob: float, rng: np.random.Generator
) -> dict[str, Any]:
    choice = trials[names.CHOICE].to_numpy()
    fitted = choice != names.OTHER
    hits = (choice[fitted] == names.TEXT).astype(np.float64)
    dH = trials[names.DH].to_numpy(np.float64)[fitted]
    tfr, lower, upper, _ = bound_shares(
        hits, group=group[fitted], column=np.zeros(hits.size, dtype=np.int64), n_columns=1, ci_prob=ci_prob, rng=rng
    )
    free = estimate_free_slope(dH, hits, group[fitted], ci_prob=ci_prob)
    return {
        "n_trials": len(trials),
        "n_text": int(hits.sum()),
        "n_image": int(hits.size - hits.sum()),
        "n_other": int((~fitted).sum()),
        "tfr": tfr[0],
        "tfr_lower": lower[0],
        "tfr_upper": upper[0],
        "free_slope": free.slope,
        "free_slope_lower": free.lower,
        "free_slope_upper": free.upper,
        "law": estimate_free_slope(dH, hits, group[fitted], ci_prob=_LAW_CI_PROB).law,
        "dH_min": dH.min(initial=np.inf),
        "dH_max": dH.max(initial=-np.inf),
    }


def _judge(row: dict[str, Any], median: float, *, passed: bool) -> str:
    if row["n_text"] == 0 or row["n_image"] == 0:
        return "one-sided"
    if not passed:
        return "not-converged"
    return "ok" if row["dH_min"] <= median <= row["dH_max"] else "outside"
