"""Graphs of the peers: the following model as its users would write it."""

from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names

type Indices = NDArray[np.int64]


def plain_graph(trials: pd.DataFrame) -> pm.Model:
    """The model in PyMC with every effect non-centred and nothing else done for the sampler."""
    model, group, cell = code(trials)
    coords = {
        "model": np.unique(trials[names.MODEL]),
        "group": np.arange(group.max() + 1),
        "cell": range(cell.max() + 1),
    }
    with pm.Model(coords=coords) as graph:
        balance_point = _scatter("balance_point", pm.Normal("balance_point_mean", 0, 0.75), 0.5, dims="model")
        log_slope = _scatter("log_slope", pm.Normal("log_slope_mean", np.log(2), 0.7), 0.5, dims="model")
        u = _scatter("group_effect", 0.0, 1.0, dims="group")
        v = _scatter("cell_effect", 0.0, 1.0, dims="cell")
        logit_p = pm.math.exp(log_slope)[model] * (balance_point[model] - trials[names.DH].to_numpy())
        pm.Bernoulli("is_text", logit_p=logit_p + u[group] + v[cell], observed=trials["is_text"].to_numpy())
    return graph


def numpyro_model(dH: Any, is_text: Any, model: Indices, group: Indices, cell: Indices) -> None:
    """The same in numpyro, statement for statement."""
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as dist

    def scatter(name: str, mean: Any, scale: float, size: int) -> Any:
        sd = numpyro.sample(f"{name}_sd", dist.HalfNormal(scale))
        with numpyro.plate(f"{name}_plate", size):
            return mean + sd * numpyro.sample(f"{name}_offset", dist.Normal(0, 1))

    mean = numpyro.sample("balance_point_mean", dist.Normal(0, 0.75))
    balance_point = numpyro.deterministic("balance_point", scatter("balance_point", mean, 0.5, int(model.max()) + 1))
    log_mean = numpyro.sample("log_slope_mean", dist.Normal(np.log(2), 0.7))
    slope = jnp.exp(scatter("log_slope", log_mean, 0.5, int(model.max()) + 1))
    u = scatter("group_effect", 0.0, 1.0, int(group.max()) + 1)
    v = scatter("cell_effect", 0.0, 1.0, int(cell.max()) + 1)
    logits = slope[model] * (balance_point[model] - dH) + u[group] + v[cell]
    numpyro.sample("is_text", dist.Bernoulli(logits=logits), obs=is_text)


def bambi_graph(trials: pd.DataFrame, *, with_cells: bool) -> pm.Model:
    """Bambi's graph of is_text ~ dH + (dH | model) + (1 | group), its own priors and coordinates."""
    import bambi

    formula = f"is_text ~ {names.DH} + ({names.DH}|{names.MODEL}) + (1|{names.GROUP})"
    if with_cells:
        formula += f" + (1|{names.GROUP}:{names.MODEL})"
    model = bambi.Model(formula, trials, family="bernoulli")
    model.build()
    graph: pm.Model = model.backend.model
    return graph


BAMBI_VARIABLES = ("Intercept", names.DH, f"1|{names.MODEL}", f"{names.DH}|{names.MODEL}")


def bambi_balance_points(posterior: xr.Dataset, trials: pd.DataFrame) -> xr.DataArray:
    """Balance points from bambi's coefficients: minus intercept by slope."""
    common, slopes = posterior[names.DH], posterior[f"{names.DH}|{names.MODEL}"]
    # Bambi's graph centres common predictors, so its intercept is the one at the mean dH.
    intercept = posterior["Intercept"] - common * float(trials[names.DH].mean()) + posterior[f"1|{names.MODEL}"]
    return -intercept / (common + slopes)


def code(trials: pd.DataFrame) -> tuple[Indices, Indices, Indices]:
    """Model, group and cell (their combination) of each trial, as indices."""
    model = np.unique(trials[names.MODEL], return_inverse=True)[1].astype(np.int64)
    group = np.unique(trials[names.GROUP], return_inverse=True)[1].astype(np.int64)
    cell = np.unique(group * (model.max() + 1) + model, return_inverse=True)[1].astype(np.int64)
    return model, group, cell


def _scatter(name: str, mean: Any, scale: float, *, dims: str) -> Any:
    sd = pm.HalfNormal(f"{name}_sd", scale)
    return pm.Deterministic(name, mean + sd * pm.Normal(f"{name}_offset", dims=dims), dims=dims)
