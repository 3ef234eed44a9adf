"""Time to balance points with intervals: the fast tier against R's mixed models, one contender a process.

    python -m benchmarks.intervals trials.csv glmmTMB --seed 1

Reading the table and loading libraries is not counted; laying the trials out is.
"""

import argparse
import shutil
import subprocess
from pathlib import Path
from statistics import median

import pandas as pd

from benchmarks.machine import Elapsed, clocked, peak_memory
from benchmarks.record import Record, write_record
from mfbayes import names
from mfbayes.convergence import Sample
from mfbayes.design import lay_out
from mfbayes.errors import InputError
from mfbayes.marginal.fast import approximate
from mfbayes.selection import select_trials
from mfbayes.trials import read_trials

FAST = "mfbayes-fast"
PACKAGES = {"glmer": "lme4", "glmmTMB": "glmmTMB"}
_REPEATS = 5


def measure_fast(trials: pd.DataFrame, *, seed: int) -> Record:
    """First and later calls of the fast tier, from checked trials to intervals."""
    runs: list[tuple[Elapsed, Elapsed]] = []
    for _ in range(1 + _REPEATS):
        with clocked() as laying_out:
            design = lay_out(select_trials(trials).trials)
        with clocked() as fitting:
            drawn = approximate(design, seed=seed)
            ends = drawn.posterior["balance_point"].quantile([0.025, 0.975], dim=("chain", "draw"))
        runs.append((laying_out, fitting))
    later = runs[1:]
    return {
        "first_wall_s": round(runs[0][0].wall + runs[0][1].wall, 3),
        "first_cpu_s": round(runs[0][0].cpu + runs[0][1].cpu, 3),
        "layout_wall_s": round(median(layout.wall for layout, _ in later), 3),
        "wall_s": round(median(layout.wall + fit.wall for layout, fit in later), 3),
        "cpu_s": round(median(layout.cpu + fit.cpu for layout, fit in later), 3),
        "interval_width": round(float((ends[1] - ends[0]).mean()), 4),
        "passed": drawn.passed,
    } | describe(drawn)


def describe(drawn: Sample) -> Record:
    """What the contenders must agree on."""
    posterior = drawn.posterior
    over = ("chain", "draw")
    return {
        "balance_point": [round(float(value), 4) for value in posterior["balance_point"].median(over)],
        "standard_error": [round(float(value), 4) for value in posterior["balance_point"].std(over)],
        "group_sd": round(float(posterior["group_sd"].median()), 4),
        "group_model_sd": round(float(posterior["group_model_sd"].median()), 4),
    }


def measure_peer(path: Path, contender: str) -> Record:
    """One fit by lme4 or glmmTMB, in an R process of its own.

    Raises
    ------
    InputError
        Where R or the package is absent.
    """
    program = shutil.which("Rscript")
    if program is None:
        raise InputError(f"Expected Rscript for {contender}, found none. Install R with {PACKAGES[contender]}.")
    script = Path(__file__).with_name("glmm.R")
    done = subprocess.run([program, str(script), str(path), contender], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise InputError(f"{contender} did not run. Is R's package {PACKAGES[contender]} there? R says: {done.stderr}")
    told: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        name, _, value = line.strip().partition(" ")
        told.setdefault(name, []).append(value)
    record: Record = {
        name: round(float(told[name][0]), 4)
        for name in ("wall_s", "cpu_s", "group_sd", "group_model_sd", "log_likelihood")
    }
    return record | {
        "balance_point": [round(float(value), 4) for value in told["balance_point"]],
        "standard_error": [round(float(value), 4) for value in told["standard_error"]],
        "versions": {"R": told["R"][0], PACKAGES[contender]: told["version"][0]},
        "peak_memory_mib": round(peak_memory(of_children=True)),
    }


def main() -> None:
    """Measure one contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("contender", choices=(FAST, *PACKAGES))
    parser.add_argument("--kernels", default="", help="state of the kernels' cache, for the record")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    trials = read_trials(options.path)
    if options.contender == FAST:
        measured = measure_fast(trials, seed=options.seed)
    else:
        measured = measure_peer(options.path, options.contender)
    write_record(
        {
            "benchmark": "intervals",
            "contender": options.contender,
            "kernels": options.kernels,
            "n_trials": len(trials),
            "n_models": trials[names.MODEL].nunique(),
            "n_groups": trials[names.GROUP].nunique(),
            "seed": options.seed,
        }
        | measured
    )


if __name__ == "__main__":
    main()
