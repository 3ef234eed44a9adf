"""Sampling: NUTS by nutpie behind a convergence gate, with more care where the first try fails it."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import nutpie
import pymc as pm
import xarray as xr
from arviz_stats import ess, rhat  # type: ignore[attr-defined]
from rich.console import Console
from rich.progress import Progress

MAX_R_HAT = 1.01
MIN_ESS = 400
MAX_DIVERGENCE_SHARE = 0.005
CHAINS = 4


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long and how carefully one attempt samples, a chain."""

    tune: int
    draws: int
    target_accept: float


ATTEMPTS = (
    Effort(tune=400, draws=500, target_accept=0.9),
    Effort(tune=1000, draws=1000, target_accept=0.95),
    Effort(tune=2000, draws=2000, target_accept=0.99),
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draws of a model and whether they can be trusted.

    Attributes
    ----------
    posterior, statistics : Dataset
        Draws over (chain, draw) and the sampler's own statistics.
    convergence : Dataset
        `r_hat`, `ess_bulk`, `ess_tail` over `parameter`; attributes `passed`, `divergences`,
        `divergence_share`, `draws`, `chains`, `attempts`.
    """

    posterior: xr.Dataset
    statistics: xr.Dataset
    convergence: xr.Dataset

    @property
    def passed(self) -> bool:
        """Whether the last attempt passed the gate."""
        return bool(self.convergence.attrs["passed"])


def sample(
    model: pm.Model,
    *,
    keep: Sequence[str],
    gate: Sequence[str],
    seed: int,
    progress: bool = False,
    attempts: Sequence[Effort] = ATTEMPTS,
) -> Sample:
    """Sample a model until its draws pass the gate or the attempts are used up.

    Parameters
    ----------
    model : pymc.Model
        The model.
    keep, gate : sequence of str
        Variables to keep, and those of them that must converge.
    seed : int
        The same seed gives the same draws on the same machine, on any number of cores.
    progress : bool
        Show a progress bar on stderr, where that is a terminal.
    attempts : sequence of Effort
        What to try, in order.
    """
    compiled = nutpie.compile_pymc_model(model, var_names=list(keep))
    for number, effort in enumerate(attempts, start=1):
        total = CHAINS * (effort.tune + effort.draws)
        with _showing(f"sampling, attempt {number}", total=total, shown=progress) as report:
            drawn = nutpie.sample(
                compiled,
                chains=CHAINS,
                cores=min(CHAINS, os.cpu_count() or 1),
                tune=effort.tune,
                draws=effort.draws,
                target_accept=effort.target_accept,
                seed=seed + number - 1,
                save_warmup=False,
                progress_bar=False,
                progress_callback=report,
            )
        posterior = drawn["posterior"].to_dataset()
        statistics = drawn["sample_stats"].to_dataset()
        convergence = judge(posterior, diverging=statistics["diverging"], gate=gate)
        convergence.attrs["attempts"] = number
        if convergence.attrs["passed"]:
            break
    return Sample(posterior=posterior[list(keep)], statistics=statistics, convergence=convergence)


def judge(posterior: xr.Dataset, *, diverging: xr.DataArray, gate: Sequence[str]) -> xr.Dataset:
    """Hold draws against the gate: R-hat <= 1.01, bulk and tail ESS >= 400, divergences <= 0.5 %.

    Parameters
    ----------
    posterior : Dataset
        Draws over (chain, draw).
    diverging : DataArray of bool
        Divergent transitions over (chain, draw).
    gate : sequence of str
        Variables that must pass, each in every element.

    References
    ----------
    Vehtari et al., "Rank-normalization, folding, and localization: an improved R-hat", Bayesian
    Analysis 16(2), 2021, doi:10.1214/20-BA1221.
    """
    judged = posterior[list(gate)]
    # A chain that never moves has no variance: NaN, which must fail below and not warn here.
    with np.errstate(invalid="ignore", divide="ignore"):
        measures = {
            "r_hat": rhat(judged, method="rank"),  # type: ignore[no-untyped-call]
            "ess_bulk": ess(judged, method="bulk"),  # type: ignore[no-untyped-call]
            "ess_tail": ess(judged, method="tail"),  # type: ignore[no-untyped-call]
        }
    table = xr.Dataset(
        {name: ("parameter", np.array([value for _, value in _elements(found)])) for name, found in measures.items()},
        coords={"parameter": np.array([label for label, _ in _elements(measures["r_hat"])], dtype=object)},
    )
    share = float(diverging.mean())
    passed = (
        bool((table["r_hat"] <= MAX_R_HAT).all())
        and bool((table["ess_bulk"] >= MIN_ESS).all())
        and bool((table["ess_tail"] >= MIN_ESS).all())
        and share <= MAX_DIVERGENCE_SHARE
    )
    table.attrs = {
        "passed": int(passed),
        "divergences": int(diverging.sum()),
        "divergence_share": share,
        "draws": int(posterior.sizes["draw"]),
        "chains": int(posterior.sizes["chain"]),
        "attempts": 1,
    }
    return table


def _elements(found: xr.Dataset) -> Iterator[tuple[str, float]]:
    for name, values in found.data_vars.items():
        if values.ndim == 0:
            yield str(name), float(values)
            continue
        for index in np.ndindex(values.shape):
            labels = [
                str(values[dim].values[i]) if dim in values.coords else str(i)
                for dim, i in zip(values.dims, index, strict=True)
            ]
            yield f"{name}[{', '.join(labels)}]", float(values.values[index])


@contextmanager
def _showing(label: str, *, total: int, shown: bool) -> Iterator[Callable[[list[Any]], None] | None]:
    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda chains: bar.update(task, completed=sum(chain.finished_draws for chain in chains))
