"""Collections killed, in narrow precisions and on a cluster: what of the files changes, and what it costs.

    python -m benchmarks.faults kills              20 collections killed at random moments, each gone on with
    python -m benchmarks.faults precision          error of narrow precisions, as the audit tells it
    python -m benchmarks.faults ray                Ray with two workers against two parts without an engine

Each prints a JSON line. The model is an embedded one, asked about a few groups of the colour task on a CPU.
"""

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import Record, write_record
from mfbayes.data_gen.generation import generate
from mfbayes.inference.collection import COLLECTION_FILE, collect
from mfbayes.names import COLLECTED_FOLDER, TRACES_FILE, TRIALS_FILE
from mfbayes.storage import hash_file

_MODEL = "llava-r50"
_PRECISIONS = ("bfloat16", "float16")
_SEED = 1


def main() -> None:
    """Take the measurement that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "precision", "ray"])
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "data", n_groups=arguments.groups, seed=_SEED)
        measures: dict[str, Callable[[Path], Record]] = {
            "kills": partial(count_kills, n_kills=arguments.kills),
            "precision": measure_precision,
            "ray": compare_engines,
        }
        measured = measures[arguments.what](Path(folder))
    label = {"benchmark": f"faults-{arguments.what}", "contender": "mfbayes", "model": _MODEL}
    write_record({**label, "groups": arguments.groups, **measured}, packages=("torch", "transformers", "ray"))


def count_kills(folder: Path, *, n_kills: int) -> Record:
    """Kill collections at moments between their first shard and their end, and compare what they end with."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mfbayes.inference.worker", "mfbayes.inference.tables"])
    seconds = 0.0
    # The first one waits for the libraries.
    for name in ("first", "undisturbed"):
        process = _start(context, folder, folder / name)
        _wait_for_shard(folder / name)
        started = time.perf_counter()
        process.join()
        seconds = time.perf_counter() - started
    expected = _hashes(folder / "undisturbed")
    rng = np.random.default_rng(_SEED)
    equal = 0
    answered: list[float] = []
    for number in range(n_kills):
        process = _start(context, folder, folder / str(number))
        # Before the first shard there is nothing to lose.
        _wait_for_shard(folder / str(number))
        process.join(rng.uniform(0, seconds))
        process.kill()
        process.join()
        place = collect(folder / "data", _MODEL, out=folder / str(number), progress=False)
        record = json.loads((place / COLLECTION_FILE).read_text())
        if process.exitcode == -signal.SIGKILL:
            answered.append(1 - record["prompts_asked_by_last_call"] / record["prompts"])
        equal += _hashes(folder / str(number)) == expected
    return {
        "kills": n_kills,
        "killed_while_running": len(answered),
        "equal_to_undisturbed": int(equal),
        "share_answered_when_killed": [round(share, 3) for share in sorted(answered)],
        "seconds_after_first_shard": round(seconds, 2),
    }


def measure_precision(folder: Path) -> Record:
    """Errors of H and dH that collections in narrow precisions report."""
    audits = {}
    for dtype in _PRECISIONS:
        place = collect(folder / "data", _MODEL, out=folder / dtype, dtype=dtype, progress=False)
        audits[dtype] = json.loads((place / COLLECTION_FILE).read_text())["audit"]
    return {"audits": audits}


def compare_engines(folder: Path) -> Record:
    """Seconds from an idle cluster, or from two new processes, to finished files."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    started = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    parts = [_start(context, folder, folder / "parts", shard=f"{number}/2") for number in (1, 2)]
    for process in parts:
        process.join()
    plain = time.perf_counter() - started
    node = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
    started = time.perf_counter()
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    starting = time.perf_counter() - started
    started = time.perf_counter()
    collect(folder / "data", _MODEL, out=folder / "ray", engine="ray", address=cluster.address, progress=False)
    on_ray = time.perf_counter() - started
    ray.shutdown()
    cluster.shutdown()
    return {
        "seconds_two_parts": round(plain, 2),
        "seconds_ray": round(on_ray, 2),
        "seconds_starting_cluster": round(starting, 2),
        "seconds_asking": {
            name: json.loads((_place(folder / name) / COLLECTION_FILE).read_text())["seconds_asking"]
            for name in ("parts", "ray")
        },
        "equal": _hashes(folder / "ray") == _hashes(folder / "parts"),
    }


def _start(context: Any, folder: Path, out: Path, **options: Any) -> BaseProcess:
    options = {"out": out, "progress": False, **options}
    process: BaseProcess = context.Process(target=collect, args=(folder / "data", _MODEL), kwargs=options)
    process.start()
    return process


def _wait_for_shard(out: Path) -> None:
    while not list(out.glob(f"{COLLECTED_FOLDER}/*/answers/*/*.parquet")):
        time.sleep(0.002)


def _place(out: Path) -> Path:
    return out / COLLECTED_FOLDER / _MODEL


def _hashes(out: Path) -> list[str]:
    return [hash_file(_place(out) / name) for name in (TRIALS_FILE, TRACES_FILE)]


if __name__ == "__main__":
    main()
