"""Sampling: NUTS by nutpie behind a convergence gate, with more care where the first try fails it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import nutpie
from nutpie.sample import CompiledModel
from rich.console import Console
from rich.progress import Progress

from mfbayes.convergence import CHAINS, Sample, judge

if TYPE_CHECKING:
    import pymc as pm


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long and how carefully one attempt samples, a chain.

    `adaptation` is nutpie's: "diag" learns the scale of every coordinate, "low_rank" also the few
    directions that matter most, which pays where there are few coordinates.
    """

    tune: int
    draws: int
    target_accept: float
    adaptation: Literal["diag", "low_rank"] = "diag"


MARGINAL_ATTEMPTS = (
    Effort(tune=400, draws=500, target_accept=0.8, adaptation="low_rank"),
    Effort(tune=1000, draws=1000, target_accept=0.95, adaptation="low_rank"),
    Effort(tune=2000, draws=2000, target_accept=0.99),
)
MANY_SUBJECTS = 40
"""With more, learning directions takes far longer than it saves."""
MANY_ATTEMPTS = (
    Effort(tune=600, draws=1500, target_accept=0.8),
    Effort(tune=1500, draws=3000, target_accept=0.9),
)
ATTEMPTS = (
    Effort(tune=400, draws=500, target_accept=0.9),
    Effort(tune=1000, draws=1000, target_accept=0.95),
    Effort(tune=2000, draws=2000, target_accept=0.99),
)
LAPSING_ATTEMPTS = (Effort(tune=500, draws=800, target_accept=0.8), *ATTEMPTS[1:])


def sample(
    model: pm.Model | CompiledModel,
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
    model : pymc.Model or nutpie's CompiledModel
        The model; a graph is compiled first.
    keep, gate : sequence of str
        Variables to keep, and those of them that must converge.
    seed : int
        The same seed gives the same draws on the same machine, on any number of cores.
    progress : bool
        Show a progress bar on stderr, where that is a terminal.
    attempts : sequence of Effort
        What to try, in order.
    """
    compiled = model if isinstance(model, CompiledModel) else nutpie.compile_pymc_model(model, var_names=list(keep))
    for number, effort in enumerate(attempts, start=1):
        total = CHAINS * (effort.tune + effort.draws)
        with _showing(f"sampling, attempt {number}", total=total, shown=progress) as bar:
            drawn = nutpie.sample(
                compiled,
                chains=CHAINS,
                cores=min(CHAINS, os.cpu_count() or 1),
                tune=effort.tune,
                draws=effort.draws,
                target_accept=effort.target_accept,
                adaptation=effort.adaptation,
                seed=seed + number - 1,
                save_warmup=False,
                progress_bar=False,
                progress_callback=None if bar is None else partial(_report, bar),
            )
        posterior = drawn["posterior"].to_dataset()
        statistics = drawn["sample_stats"].to_dataset()
        convergence = judge(posterior, diverging=statistics["diverging"], gate=gate)
        convergence.attrs["attempts"] = number
        if convergence.attrs["passed"]:
            break
    return Sample(posterior=posterior[list(keep)], statistics=statistics, convergence=convergence)


def _report(bar: Progress, chains: list[Any]) -> None:
    bar.update(bar.task_ids[0], completed=sum(chain.finished_draws for chain in chains))


@contextmanager
def count_steps(label: str, *, total: int, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr, where that is a terminal, that moves by one with every call."""
    with _showing(label, total=total, shown=shown) as bar:
        yield (lambda: None) if bar is None else (lambda: bar.advance(bar.task_ids[0]))


@contextmanager
def _showing(label: str, *, total: int, shown: bool) -> Iterator[Progress | None]:
    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        bar.add_task(label, total=total)
        yield bar
