"""The hazard model of switching at size, without and with effects of groups.

    python -m benchmarks.switching --seed 1
    python -m benchmarks.switching --quick --seed 1
    python -m benchmarks.switching --gradient --seed 1

Traces are simulated from the model: they commit first after three layers or so, and read neither answer in 3 % of the
layers after that.
"""

import argparse

import numpy as np

from benchmarks.machine import clocked
from benchmarks.record import Record, write_record
from mfbayes.switching.fit import fit_switching
from mfbayes.switching.layout import lay_out_pairs
from mfbayes.switching.likelihood import SwitchingLikelihood
from mfbayes.switching.pairs import pair_layers
from mfbayes.switching.pilot import estimate_roughly
from mfbayes.switching.priors import SwitchingPriors
from mfbayes.switching.simulation import simulate_switching
from mfbayes.switching.structure import build_structure
from mfbayes.switching.terms import DEFAULT_TERMS, find_x
from mfbayes.trajectories import Trajectories

_ITEMS = 25
_REPEATS = 9


def time_gradient(trajectories: Trajectories, points: dict[str, float], *, groups: bool) -> Record:
    """Milliseconds of value and gradient at the pilot's estimates, and those of laying the pairs out."""
    with clocked() as laying:
        pairs = pair_layers(trajectories)
        layout = lay_out_pairs(pairs, find_x(pairs.trajectories, points), terms=DEFAULT_TERMS, groups=groups)
    with clocked() as piloting:
        structure = build_structure(layout, SwitchingPriors())
        pilot = estimate_roughly(structure)
    likelihood = SwitchingLikelihood(layout, effects=pilot.effects, scores=pilot.scores)
    table, slopes = structure.tabulate(pilot.parameters)
    scales = structure.scales_of_groups(pilot.spread)
    likelihood.evaluate(table, slopes, scales)
    with clocked() as elapsed:
        for _ in range(_REPEATS):
            likelihood.evaluate(table, slopes, scales)
    return {
        "benchmark": "switching-gradient",
        "contender": _name(groups),
        "pairs": len(pairs),
        "rows": sum(rows.place.size for rows in layout.rows),
        "gaps": layout.gaps.layer.size,
        "laying_seconds": round(laying.wall, 2),
        "pilot_seconds": round(piloting.wall, 2),
        "wall_ms": round(1e3 * elapsed.wall / _REPEATS, 3),
        "cpu_ms": round(1e3 * elapsed.cpu / _REPEATS, 3),
    }


def time_fit(trajectories: Trajectories, points: dict[str, float], *, groups: bool, seed: int) -> Record:
    """Seconds of a whole fit, compiling the graph included, and what its draws are worth."""
    with clocked() as elapsed:
        fit = fit_switching(trajectories, points, groups=groups, seed=seed)
    convergence = fit.sample.convergence
    return {
        "benchmark": "switching-fit",
        "contender": _name(groups),
        "wall_s": round(elapsed.wall, 1),
        "cpu_s": round(elapsed.cpu, 1),
        "passed": bool(fit.sample.passed),
        "attempts": int(convergence.attrs["attempts"]),
        "max_r_hat": round(float(convergence["r_hat"].max()), 4),
        "min_ess": round(float(min(convergence["ess_bulk"].min(), convergence["ess_tail"].min()))),
        "divergences": int(convergence.attrs["divergences"]),
        "gradients_per_draw": round(float(fit.sample.statistics["n_steps"].mean()), 1),
    }


def _name(groups: bool) -> str:
    return "with effects of groups" if groups else "without effects of groups"


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--models", type=int, default=6)
    parser.add_argument("--traces", type=int, default=10_000, help="of each model")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="3 models, 1,000 traces, 12 layers")
    parser.add_argument("--gradient", action="store_true", help="no fits")
    parser.add_argument("--groups", choices=("on", "off", "both"), default="both")
    chosen = parser.parse_args()
    n_models, n_traces, n_layers = (3, 1000, 12) if chosen.quick else (chosen.models, chosen.traces, chosen.layers)
    trajectories, points, _ = simulate_switching(
        n_layers=(n_layers,) * n_models,
        n_groups=max(n_traces // _ITEMS, 2),
        n_items=_ITEMS,
        rng=np.random.default_rng(chosen.seed),
    )
    size = {"n_models": n_models, "n_traces": n_traces, "n_layers": n_layers, "seed": chosen.seed}
    for groups in (False, True):
        if chosen.groups not in ("both", "on" if groups else "off"):
            continue
        write_record(size | time_gradient(trajectories, points, groups=groups))
        if not chosen.gradient:
            write_record(
                size | time_fit(trajectories, points, groups=groups, seed=chosen.seed), packages=["pymc", "nutpie"]
            )


if __name__ == "__main__":
    main()
