"""A million trials in the fast tier: time, memory, and the cost of one gradient.

python -m benchmarks.scale trials.parquet --seed 1
"""

import argparse
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.intervals import FAST, describe
from benchmarks.machine import clocked, peak_memory
from benchmarks.record import write_record
from mfbayes import names
from mfbayes.convergence import Sample
from mfbayes.design import Design, lay_out
from mfbayes.marginal.fast import approximate
from mfbayes.marginal.likelihood import MarginalLikelihood, marginal_likelihood, three_scales
from mfbayes.selection import select_trials
from mfbayes.trials import read_trials

type Floats = NDArray[np.float64]

_REPEATS = 3
_GRADIENTS = 20


class Gradient(NamedTuple):
    """Nanoseconds a trial of one evaluation of value and gradient, on the wall and of CPU time."""

    wall: float
    cpu: float


def time_gradients(design: Design, drawn: Sample) -> tuple[Gradient, Gradient]:
    """Cost of a gradient where modes of the effects are known already, and where they must be found.

    Modes are sought from those at the posterior mean. The first is the cost there, as for the last
    steps of an optimiser; the second that at draws of the posterior, the distance that a sampler goes.
    """
    posterior = drawn.posterior.stack(sample=("chain", "draw")).transpose("sample", ...)
    coefficients = np.stack([posterior["intercept"], posterior["slope"]], axis=2)
    sds = np.column_stack([posterior[name] for name in design.group_scales])
    mean = coefficients.mean(axis=0), three_scales(design, sds.mean(axis=0))
    draws = [(coefficients[i], three_scales(design, sds[i])) for i in range(_GRADIENTS)]
    likelihood = marginal_likelihood(design).started_at(*mean)
    return _time(likelihood, [mean] * _GRADIENTS), _time(likelihood, draws)


def _time(likelihood: MarginalLikelihood, points: list[tuple[Floats, Floats]]) -> Gradient:
    likelihood.evaluate(*points[0])
    with clocked() as elapsed:
        for point in points:
            likelihood.evaluate(*point)
    each = len(points) * likelihood.design.n_trials * 1e-9
    return Gradient(elapsed.wall / each, elapsed.cpu / each)


def main() -> None:
    """Measure and print a record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--kernels", default="", help="state of the kernels' cache, for the record")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    trials = read_trials(options.path)
    read_memory = peak_memory()
    with clocked() as laying_out:
        design = lay_out(select_trials(trials).trials)
    runs = []
    for _ in range(1 + _REPEATS):
        with clocked() as elapsed:
            drawn = approximate(design, seed=options.seed)
        runs.append(elapsed)
    settled, sought = time_gradients(design, drawn)
    write_record(
        {
            "benchmark": "scale",
            "contender": FAST,
            "kernels": options.kernels,
            "n_trials": design.n_trials,
            "n_models": design.n_subjects,
            "n_groups": trials[names.GROUP].nunique(),
            "seed": options.seed,
            "passed": drawn.passed,
            "layout_wall_s": round(laying_out.wall, 2),
            "first_wall_s": round(runs[0].wall, 2),
            "first_cpu_s": round(runs[0].cpu, 2),
            "wall_s": round(median(run.wall for run in runs[1:]), 2),
            "cpu_s": round(median(run.cpu for run in runs[1:]), 2),
            "gradient_cpu_ns_per_trial": round(settled.cpu, 2),
            "gradient_wall_ns_per_trial": round(settled.wall, 2),
            "seeking_gradient_cpu_ns_per_trial": round(sought.cpu, 2),
            "seeking_gradient_wall_ns_per_trial": round(sought.wall, 2),
            "read_memory_mib": round(read_memory),
        }
        | describe(drawn)
    )


if __name__ == "__main__":
    main()
