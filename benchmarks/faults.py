"""Collections killed, in narrow precisions and on a cluster: what of the files changes, and what it costs.

    python -m benchmarks.faults kills --seed 1        20 collections killed while they run, each gone on with
    python -m benchmarks.faults precision --seed 1    error of narrow precisions over all prompts, and as audits tell it
    python -m benchmarks.faults ray --seed 1          Ray with two workers against two parts without an engine

Each prints JSON lines. The model is an embedded one, asked about a few groups of the colour task on a CPU.
"""

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.record import Record, write_record
from mfbayes.data_gen.generation import generate
from mfbayes.datasets import read_dataset
from mfbayes.inference.audit import WIDE, measure_errors
from mfbayes.inference.collection import COLLECTION_FILE, collect
from mfbayes.inference.prompts import plan_prompts
from mfbayes.inference.responses import Response
from mfbayes.inference.shards import ANSWERS_FOLDER, read_content, read_shards
from mfbayes.names import COLLECTED_FOLDER, CONFLICT, KIND, TRACES_FILE, TRIALS_FILE
from mfbayes.storage import hash_file

_MODEL = "llava-r50"
_PRECISIONS = ("bfloat16", "float16")
# So many collections are begun a kill that is wanted: some finish before their moment comes.
_TRIES = 4
# A process that has answered nothing by then never will.
_PATIENCE_SECONDS = 600.0


class Extent(NamedTuple):
    """Groups of the colour task that are asked about in each measurement, and kills."""

    groups: dict[str, int]
    n_kills: int


# Where seconds are compared, asking should weigh something beside loading.
FULL = Extent({"kills": 4, "precision": 20, "ray": 12}, n_kills=20)
QUICK = Extent({"kills": 1, "precision": 1, "ray": 1}, n_kills=2)
# Ray gives up on slow machines before its processes have started.
_PATIENCE_OF_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "200000",
    "RAY_raylet_start_wait_time_s": "240",
}


def count_kills(folder: Path, *, kills: int, seed: int) -> Iterator[Record]:
    """Kill collections at moments between their first shard and their end, and compare what they end with.

    Only a kill counts that came before the collection was finished; collections are begun until there are enough.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mfbayes.inference.worker", "mfbayes.inference.tables"])
    seconds = 0.0
    # The first one waits for the libraries.
    for name in ("first", "undisturbed"):
        process = _start(context, folder, folder / name)
        _wait_for_shard(folder / name, process)
        started = time.perf_counter()
        process.join()
        seconds = time.perf_counter() - started
    expected = _hashes(folder / "undisturbed")
    rng = np.random.default_rng(seed)
    answered: list[float] = []
    tries = equal = 0
    while len(answered) < kills and tries < _TRIES * kills:
        out = folder / str(tries)
        tries += 1
        process = _start(context, folder, out)
        # Before the first shard there is nothing to lose.
        _wait_for_shard(out, process)
        process.join(rng.uniform(0, seconds))
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL or (_place(out) / COLLECTION_FILE).is_file():
            continue
        place = collect(folder / "data", _MODEL, out=out, progress=False)
        record = json.loads((place / COLLECTION_FILE).read_text())
        answered.append(1 - record["prompts_asked_by_last_call"] / record["prompts"])
        equal += _hashes(out) == expected
    yield {
        "contender": "mfbayes",
        "prompts": json.loads((_place(folder / "undisturbed") / COLLECTION_FILE).read_text())["prompts"],
        "kills_wanted": kills,
        "collections_begun": tries,
        "killed_while_running": len(answered),
        "equal_to_undisturbed": int(equal),
        "share_answered_when_killed": [round(share, 3) for share in sorted(answered)],
        "seconds_after_first_shard": round(seconds, 2),
    }


def measure_precision(folder: Path, *, seed: int) -> Iterator[Record]:
    """Errors of H and dH of whole collections in narrow precisions, and those that their own audits tell."""
    plan = plan_prompts(read_dataset(folder / "data").manifest)
    items = plan.items[plan.items[KIND] == CONFLICT]
    given = {}
    for dtype in (WIDE, *_PRECISIONS):
        place = collect(folder / "data", _MODEL, out=folder / dtype, dtype=dtype, progress=False)
        given[dtype] = _answers(place, dtype, set(plan.prompts))
        if dtype == WIDE:
            continue
        record = json.loads((place / COLLECTION_FILE).read_text())
        yield {
            "contender": dtype,
            "errors": measure_errors(items, given[dtype], given[WIDE], dtype=dtype),
            "audit": record["audit"],
            "way": record["checks"]["way"],
        }


def compare_engines(folder: Path, *, seed: int) -> Iterator[Record]:
    """Seconds from an idle cluster, or from two new processes, to finished files."""
    for name, value in _PATIENCE_OF_RAY.items():
        os.environ.setdefault(name, value)
    import ray
    from ray.cluster_utils import Cluster

    started, clock = time.perf_counter(), _Clock()
    context = multiprocessing.get_context("spawn")
    parts = [_start(context, folder, folder / "parts", shard=f"{number}/2") for number in (1, 2)]
    for process in parts:
        process.join()
    yield _engine_record("two parts, no engine", folder / "parts", time.perf_counter() - started, clock.stop())
    node = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
    started, clock = time.perf_counter(), _Clock()
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    starting = time.perf_counter() - started
    started = time.perf_counter()
    collect(folder / "data", _MODEL, out=folder / "ray", engine="ray", address=cluster.address, progress=False)
    on_ray, cpu = time.perf_counter() - started, clock.stop()
    ray.shutdown()
    cluster.shutdown()
    equal = _hashes(folder / "ray") == _hashes(folder / "parts")
    yield _engine_record("ray, two workers", folder / "ray", on_ray, cpu, starting) | {"equal": equal}


class _Clock:
    """Processor seconds of this process and all below it, dead ones too, which no load on the machine changes much."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._own = time.process_time()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            self._look()

    def _look(self) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._seen[process.pid] = times.user + times.system

    def stop(self) -> float:
        """Seconds since it was made."""
        self._over.set()
        self._thread.join()
        self._look()
        return sum(self._seen.values()) + time.process_time() - self._own


def _engine_record(name: str, out: Path, seconds: float, cpu: float, starting: float = 0.0) -> Record:
    record = json.loads((_place(out) / COLLECTION_FILE).read_text())
    return {
        "contender": name,
        "prompts": record["prompts"],
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "seconds_starting_cluster": round(starting, 2),
        "seconds_loading": record["seconds_loading"],
        "seconds_asking": record["seconds_asking"],
    }


def _start(context: Any, folder: Path, out: Path, **options: Any) -> BaseProcess:
    options = {"out": out, "progress": False, **options}
    process: BaseProcess = context.Process(target=collect, args=(folder / "data", _MODEL), kwargs=options)
    process.start()
    return process


def _wait_for_shard(out: Path, process: BaseProcess) -> None:
    """Return once a collection has kept its first answers.

    Raises
    ------
    RuntimeError
        If it ends, or takes ten minutes, without any.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    while not list(out.glob(f"{COLLECTED_FOLDER}/*/{ANSWERS_FOLDER}/*/*.parquet")):
        if not process.is_alive() or time.monotonic() > until:
            process.kill()
            raise RuntimeError(f"The collection in {out} kept no answers (exit code {process.exitcode}).")
        time.sleep(0.002)


def _answers(place: Path, dtype: str, wanted: set[str]) -> dict[str, Response]:
    """A collection's answers in one precision: a narrow one has some in float32 beside them."""
    for folder in (place / ANSWERS_FOLDER).iterdir():
        if (read_content(folder) or {}).get("dtype") == dtype:
            return read_shards(folder, wanted).responses
    raise RuntimeError(f"No answers in {dtype} lie in {place}.")


def _place(out: Path) -> Path:
    return out / COLLECTED_FOLDER / _MODEL


def _hashes(out: Path) -> list[str]:
    return [hash_file(_place(out) / name) for name in (TRIALS_FILE, TRACES_FILE)]


def main() -> None:
    """Take the measurement that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "precision", "ray"])
    parser.add_argument("--quick", action="store_true", help="one group and two kills")
    parser.add_argument("--seed", type=int, default=1, help="of the dataset and of the moments of kills")
    options = parser.parse_args()
    extent = QUICK if options.quick else FULL
    groups = extent.groups[options.what]
    measures: dict[str, Callable[..., Iterator[Record]]] = {
        "kills": partial(count_kills, kills=extent.n_kills),
        "precision": measure_precision,
        "ray": compare_engines,
    }
    packages = ("torch", "transformers", *(("ray",) if options.what == "ray" else ()))
    label = {"benchmark": f"faults-{options.what}", "model": _MODEL, "groups": groups, "seed": options.seed}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "data", n_groups=groups, seed=options.seed)
        for record in measures[options.what](folder, seed=options.seed):
            write_record(label | record, packages=packages)


if __name__ == "__main__":
    main()
