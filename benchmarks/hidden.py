"""The hidden model of switching at size: cost of a gradient beside a peer's, and a whole fit.

    python -m benchmarks.hidden --seed 1
    python -m benchmarks.hidden --quick --seed 1
    python -m benchmarks.hidden --gradient --seed 1

The peer is dynamax (JAX), where it is installed: its forward filter over the same tables of log-densities and
hazards, batched over traces and compiled, differentiated in the same tables.
"""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import NamedTuple

import numpy as np

from benchmarks.machine import Elapsed, clocked, peak_memory
from benchmarks.record import Record, write_record
from mfbayes.switching.forward import evaluate
from mfbayes.switching.hidden_codes import Coded, encode
from mfbayes.switching.hidden_fit import fit_hidden
from mfbayes.switching.hidden_simulation import draw_truth, simulate_hidden
from mfbayes.switching.hidden_tables import Parameters, Tables, evaluate_parameters, tabulate
from mfbayes.trajectories import Trajectories

_REPEATS = 9


class Case(NamedTuple):
    """Simulated traces, and the parameters in the units of their codes."""

    trajectories: Trajectories
    points: dict[str, float]
    coded: Coded
    truth: Parameters


def make_case(*, n_models: int, n_traces: int, n_layers: int, seed: int) -> Case:
    """Simulate traces of models of one depth."""
    rng = np.random.default_rng(seed)
    depths = [n_layers] * n_models
    truth = draw_truth(depths, rng=rng)
    trajectories, points, _ = simulate_hidden(truth, n_layers=depths, n_traces=n_traces, rng=rng)
    coded = encode(trajectories, points)
    emission = truth.emission.copy()
    emission[:, :, :2] -= np.log(coded.unit)[:, None, None]
    own = Parameters(emission=emission, nu=truth.nu, hazard=truth.hazard, effect=truth.effect, start=truth.start)
    return Case(trajectories, points, coded, own)


def time_calls(call: Callable[[], object], *, repeats: int = _REPEATS) -> Elapsed:
    """Median seconds of a call, after one that is not counted."""
    call()
    runs = []
    for _ in range(repeats):
        with clocked() as elapsed:
            call()
        runs.append(elapsed)
    return Elapsed(median(run.wall for run in runs), median(run.cpu for run in runs))


def time_gradients(case: Case) -> list[Record]:
    """Value and gradient: in the parameters, in the tables, and in the tables by the peer."""
    tables = tabulate(case.truth, case.coded)
    ours = evaluate(case.coded.chains, emission=tables.emission, hazard=tables.hazard, start=tables.start)
    timed = {
        "mfbayes": (time_calls(lambda: evaluate_parameters(case.truth, case.coded)), ours.value),
        "mfbayes-tables": (
            time_calls(
                lambda: evaluate(case.coded.chains, emission=tables.emission, hazard=tables.hazard, start=tables.start)
            ),
            ours.value,
        ),
    }
    if find_spec("dynamax"):
        call = _differentiate_in_jax(case, tables)
        timed["dynamax"] = (time_calls(call), float(call()))
    return [
        {
            "benchmark": "hidden-gradient",
            "contender": name,
            "wall_ms": round(1e3 * elapsed.wall, 3),
            "cpu_ms": round(1e3 * elapsed.cpu, 3),
            "log_likelihood": value,
        }
        for name, (elapsed, value) in timed.items()
    ]


def _differentiate_in_jax(case: Case, tables: Tables) -> Callable[[], float]:
    """Compile the peer's value and gradient; the call returns the value."""
    import jax
    from dynamax.hidden_markov_model import hmm_filter  # type: ignore[import-not-found]
    from jax import numpy as jnp

    jax.config.update("jax_enable_x64", True)
    chains = case.coded.chains
    symbol = np.zeros((chains.n_chains, case.coded.deepest), dtype=np.int32)
    place = np.zeros(chains.n_chains, dtype=np.int32)
    done = 0
    for start, size, subject, own in zip(
        chains.block_start, chains.block_size, chains.block_subject, chains.block_bin, strict=True
    ):
        depth, rows = chains.n_layers[subject], chains.order[done : done + size]
        symbol[rows, :depth] = chains.symbol[start : start + depth * size].reshape(depth, size).T
        place[rows] = own
        done += size
    subject = case.trajectories.subject
    layers = np.arange(case.coded.deepest)

    def likelihood(emission, hazard, start):  # type: ignore[no-untyped-def]
        log_likelihoods = emission[subject[:, None], layers, symbol]
        h = jax.nn.sigmoid(hazard)[:, subject, :, place]
        leave_text, leave_image = h[:, 0], h[:, 1]
        matrices = jnp.stack(
            [jnp.stack([1 - leave_text, leave_text], -1), jnp.stack([leave_image, 1 - leave_image], -1)], -2
        )
        first = jax.nn.sigmoid(start[subject, place])
        initial = jnp.stack([first, 1 - first], -1)
        run = jax.vmap(lambda *each: hmm_filter(*each).marginal_loglik)
        return run(initial, matrices, log_likelihoods).sum()

    compiled = jax.jit(jax.value_and_grad(likelihood, argnums=(0, 1, 2)))
    inputs = [jnp.asarray(each) for each in (tables.emission, tables.hazard, tables.start)]

    def call() -> float:
        value, gradient = jax.block_until_ready(compiled(*inputs))
        return float(value) + 0.0 * float(gradient[0][0, 0, 0, 0])

    return call


def time_fit(case: Case, *, seed: int) -> Record:
    """A whole fit with its estimates, compiling included."""
    with clocked() as elapsed:
        tree = fit_hidden(case.trajectories, case.points, seed=seed)
    judged, statistics = tree["convergence"], tree["sample_stats"]
    return {
        "benchmark": "hidden-fit",
        "contender": "mfbayes",
        "wall_s": round(elapsed.wall, 1),
        "cpu_s": round(elapsed.cpu, 1),
        "passed": bool(judged.attrs["passed"]),
        "attempts": int(judged.attrs["attempts"]),
        "max_r_hat": round(float(judged["r_hat"].max()), 4),
        "min_ess": round(float(min(judged["ess_bulk"].min(), judged["ess_tail"].min()))),
        "divergences": int(judged.attrs["divergences"]),
        "gradients_per_draw": round(float(statistics["n_steps"].mean()), 1),
        "peak_memory_mib": round(peak_memory()),
    }


def main() -> None:
    """Measure and print records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=6)
    parser.add_argument("--traces", type=int, default=10_000)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="gradients only, of 2 models x 1000 traces x 12 layers")
    parser.add_argument("--gradient", action="store_true", help="gradients only")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    size = {"n_models": options.models, "n_traces": options.traces, "n_layers": options.layers}
    if options.quick:
        size = {"n_models": 2, "n_traces": 1000, "n_layers": 12}
    case = make_case(**size, seed=options.seed)
    for record in time_gradients(case):
        write_record(record | size | {"seed": options.seed}, packages=("jax", "dynamax"))
    if not (options.quick or options.gradient):
        write_record(time_fit(case, seed=options.seed) | size | {"seed": options.seed}, packages=("pymc", "nutpie"))


if __name__ == "__main__":
    main()
