"""Effective draws of balance points a CPU second: one contender, in a process of its own.

    python -m benchmarks.sampling trials.csv mfbayes-nuts --draws 1000 --seed 1

All contenders get the same trials, chains, warm-up and draws. CPU time is that of all threads and
counts the warm-up; compiling is told apart.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import nutpie
import pandas as pd
import pymc as pm
import xarray as xr
from arviz_stats import ess, rhat  # type: ignore[attr-defined]
from nutpie.sample import CompiledModel

from benchmarks import graphs
from benchmarks.machine import Elapsed, clocked
from benchmarks.record import write_record
from mfbayes import names
from mfbayes import sampling as sampling_defaults
from mfbayes.design import Design, lay_out
from mfbayes.following import following_model
from mfbayes.marginal.posterior import compile_posterior
from mfbayes.selection import select_trials
from mfbayes.trials import read_trials

CHAINS = 4
# Each at its own default; nutpie's and numpyro's are these.
_PEERS_ACCEPT, _PEERS_ADAPTATION = 0.8, "diag"


class Effort(NamedTuple):
    """Warm-up steps and draws a chain, and the seed."""

    tune: int
    draws: int
    seed: int


class Drawn(NamedTuple):
    """Draws of balance points over (chain, draw, model), what they cost and how many diverged."""

    balance_point: xr.DataArray
    compiling: Elapsed
    sampling: Elapsed
    divergences: int
    target_accept: float


def sample_mfbayes(
    trials: pd.DataFrame,
    effort: Effort,
    *,
    build: Callable[[Design], pm.Model | CompiledModel],
    attempt: sampling_defaults.Effort,
) -> Drawn:
    """Sample a model of mfbayes as `mfbayes.sampling` does."""
    return _sample_graph(
        lambda: build(lay_out(select_trials(trials).trials)),
        ("balance_point",),
        effort,
        target_accept=attempt.target_accept,
        adaptation=attempt.adaptation,
        derive=lambda posterior: posterior["balance_point"],
    )


def sample_plain(trials: pd.DataFrame, effort: Effort) -> Drawn:
    """Sample the explicit PyMC graph by nutpie, which PyMC itself takes where it is installed."""
    return _sample_graph(
        lambda: graphs.plain_graph(trials),
        ("balance_point",),
        effort,
        target_accept=_PEERS_ACCEPT,
        derive=lambda posterior: posterior["balance_point"],
    )


def sample_bambi(trials: pd.DataFrame, effort: Effort, *, with_cells: bool) -> Drawn:
    """Sample bambi's graph by nutpie."""
    return _sample_graph(
        lambda: graphs.bambi_graph(trials, with_cells=with_cells),
        graphs.BAMBI_VARIABLES,
        effort,
        target_accept=_PEERS_ACCEPT,
        derive=lambda posterior: graphs.bambi_balance_points(posterior, trials),
    )


def sample_numpyro(trials: pd.DataFrame, effort: Effort) -> Drawn:
    """Sample by numpyro's NUTS, one chain after the other, in its default single precision."""
    import jax
    from numpyro.infer import MCMC, NUTS

    compiling = Elapsed()

    def listen(event: str, seconds: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiling.wall += seconds
            compiling.cpu += seconds

    jax.monitoring.register_event_duration_secs_listener(listen)
    sampler = MCMC(
        NUTS(graphs.numpyro_model, target_accept_prob=_PEERS_ACCEPT),
        num_warmup=effort.tune,
        num_samples=effort.draws,
        num_chains=CHAINS,
        chain_method="sequential",
        progress_bar=False,
    )
    data = (trials[names.DH].to_numpy(), trials["is_text"].to_numpy(), *graphs.code(trials))
    with clocked() as sampling:
        sampler.run(jax.random.PRNGKey(effort.seed), *data, extra_fields=("diverging",))
        drawn = np.asarray(sampler.get_samples(group_by_chain=True)["balance_point"], dtype=np.float64)
    # XLA compiles in the middle of the run, on one thread.
    sampling.wall, sampling.cpu = sampling.wall - compiling.wall, sampling.cpu - compiling.cpu
    return Drawn(
        balance_point=xr.DataArray(drawn, dims=("chain", "draw", names.MODEL)),
        compiling=compiling,
        sampling=sampling,
        divergences=int(np.sum(sampler.get_extra_fields()["diverging"])),
        target_accept=_PEERS_ACCEPT,
    )


CONTENDERS: dict[str, Callable[[pd.DataFrame, Effort], Drawn]] = {
    "mfbayes-nuts": lambda trials, effort: sample_mfbayes(
        trials, effort, build=compile_posterior, attempt=sampling_defaults.MARGINAL_ATTEMPTS[0]
    ),
    "mfbayes-reference": lambda trials, effort: sample_mfbayes(
        trials, effort, build=following_model, attempt=sampling_defaults.ATTEMPTS[0]
    ),
    "bambi": lambda trials, effort: sample_bambi(trials, effort, with_cells=False),
    "bambi-cells": lambda trials, effort: sample_bambi(trials, effort, with_cells=True),
    "pymc": sample_plain,
    "numpyro": sample_numpyro,
}


def _sample_graph(
    build: Callable[[], pm.Model | CompiledModel],
    variables: Sequence[str],
    effort: Effort,
    *,
    target_accept: float,
    derive: Callable[[xr.Dataset], xr.DataArray],
    adaptation: str = _PEERS_ADAPTATION,
) -> Drawn:
    with clocked() as compiling:
        built = build()
        compiled = (
            built if isinstance(built, CompiledModel) else nutpie.compile_pymc_model(built, var_names=list(variables))
        )
    with clocked() as sampling:
        drawn = nutpie.sample(
            compiled,
            chains=CHAINS,
            cores=min(CHAINS, os.cpu_count() or 1),
            tune=effort.tune,
            draws=effort.draws,
            target_accept=target_accept,
            adaptation=adaptation,
            seed=effort.seed,
            save_warmup=False,
            progress_bar=False,
        )
    balance_point = derive(drawn["posterior"].to_dataset())
    return Drawn(
        balance_point=balance_point.transpose("chain", "draw", ...),
        compiling=compiling,
        sampling=sampling,
        divergences=int(drawn["sample_stats"]["diverging"].sum()),
        target_accept=target_accept,
    )


def main() -> None:
    """Measure one contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--draws", type=int, required=True, help="draws a chain, and as many steps of warm-up")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    trials = read_trials(options.path)
    drawn = CONTENDERS[options.contender](trials, Effort(options.draws, options.draws, options.seed))
    effective = np.asarray(ess(drawn.balance_point, method="bulk"), dtype=np.float64)  # type: ignore[no-untyped-call]
    worst = np.asarray(rhat(drawn.balance_point, method="rank"), dtype=np.float64)  # type: ignore[no-untyped-call]
    write_record(
        {
            "benchmark": "sampling",
            "contender": options.contender,
            "n_trials": len(trials),
            "n_models": trials[names.MODEL].nunique(),
            "n_groups": trials[names.GROUP].nunique(),
            "seed": options.seed,
            "chains": CHAINS,
            "tune": options.draws,
            "draws": options.draws,
            "target_accept": drawn.target_accept,
            "compile_cpu_s": round(drawn.compiling.cpu, 2),
            "compile_wall_s": round(drawn.compiling.wall, 2),
            "sampling_cpu_s": round(drawn.sampling.cpu, 2),
            "sampling_wall_s": round(drawn.sampling.wall, 2),
            "ess": [round(value, 1) for value in effective],
            "ess_min_per_cpu_s": round(float(effective.min()) / drawn.sampling.cpu, 2),
            "ess_median_per_cpu_s": round(float(np.median(effective)) / drawn.sampling.cpu, 2),
            "r_hat_max": round(float(worst.max()), 4),
            "divergences": drawn.divergences,
            "balance_point": [round(float(value), 4) for value in drawn.balance_point.mean(("chain", "draw"))],
            "balance_point_sd": [round(float(value), 4) for value in drawn.balance_point.std(("chain", "draw"))],
        },
        packages=("pymc", "pytensor", "nutpie", "bambi", "numpyro", "jax"),
    )


if __name__ == "__main__":
    main()
