"""Collections killed at any moment end like those that were not."""

import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mfbayes.datasets import Dataset
from mfbayes.inference.collection import COLLECTION_FILE, collect
from mfbayes.storage import hash_file

FILES = ("trials.parquet", "traces.nc")
# With small batches there are many shards.
OPTIONS: dict[str, Any] = {"device": "cpu", "limit": 24, "batch_size": 2, "progress": False}


class Killed(BaseException):
    """As sudden as a test can be inside one process."""


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that have the libraries loaded when they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mfbayes.inference.worker", "mfbayes.inference.tables"])
    return context


def start(processes: ForkServerContext, dataset: Dataset, model: Path, out: Path, dtype: str) -> Any:
    options = {"out": out, "dtype": dtype, **OPTIONS}
    process = processes.Process(target=collect, args=(dataset.path, str(model)), kwargs=options)
    process.start()
    return process


def wait_for_shard(out: Path) -> None:
    """Before the first shard there is nothing to lose."""
    while not list(out.glob("collected/*/answers/*/*.parquet")):
        time.sleep(0.002)


def hash_results(folder: Path) -> dict[str, str]:
    return {name: hash_file(folder / name) for name in FILES}


@pytest.mark.parametrize(("dtype", "kills"), [("float32", 2), pytest.param("bfloat16", 20, marks=pytest.mark.slow)])
def test_killed_collections_end_as_if_they_had_not_been(
    dtype: str,
    kills: int,
    tmp_path: Path,
    dataset: Dataset,
    model_folders: dict[str, Path],
    processes: ForkServerContext,
) -> None:
    model, seconds = model_folders["llava"], 0.0
    # The first one waits for the libraries.
    for name in ("first", "undisturbed"):
        process = start(processes, dataset, model, tmp_path / name, dtype)
        wait_for_shard(tmp_path / name)
        started = time.perf_counter()
        process.join()
        assert process.exitcode == 0
        seconds = time.perf_counter() - started
    expected = hash_results(next((tmp_path / "undisturbed" / "collected").iterdir()))
    rng, landed, tries = np.random.default_rng(kills), 0, 0
    while landed < kills and tries < 4 * kills:
        out, moment = tmp_path / str(tries), rng.uniform(0, seconds)
        tries += 1
        process = start(processes, dataset, model, out, dtype)
        wait_for_shard(out)
        process.join(moment)
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL or list(out.glob(f"collected/*/{COLLECTION_FILE}")):
            # It was finished before its moment came.
            continue
        landed += 1
        folder = collect(dataset, str(model), out=out, dtype=dtype, **OPTIONS)
        assert (folder / COLLECTION_FILE).is_file()
        assert hash_results(folder) == expected, f"killed {moment:.2f} s after the first shard"
    assert landed == kills, f"{landed} of {tries} collections were killed while they ran"


# A narrow precision is audited, and the audit can be stopped too.
@pytest.mark.parametrize(("dtype", "step"), [("float32", 3), pytest.param("bfloat16", 1, marks=pytest.mark.slow)])
def test_stop_before_or_after_any_file_is_in_place_ends_the_same(
    dtype: str, step: int, tmp_path: Path, dataset: Dataset, model_folders: dict[str, Path]
) -> None:
    name, replace = str(model_folders["llava"]), Path.replace
    options = {**OPTIONS, "limit": 8, "dtype": dtype}
    expected = hash_results(collect(dataset, name, out=tmp_path / "whole", **options))

    @contextmanager
    def stopping_at(last: int) -> Iterator[None]:
        """Rename files as ever, and stop at the one of that number: before it if even, after it if odd."""
        count = -1

        def stopping(self: Path, target: Path) -> Path:
            nonlocal count
            count += 1
            if count == last // 2 and last % 2 == 0:
                raise Killed
            moved = replace(self, target)
            if count == last // 2:
                raise Killed
            return moved

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", stopping)
            yield

    stops = 0
    while True:
        out = tmp_path / str(stops)
        try:
            with stopping_at(stops):
                collect(dataset, name, out=out, **options)
        except Killed:
            stops += step
        else:
            break
        folder = collect(dataset, name, out=out, **options)
        assert hash_results(folder) == expected, f"stop {stops - step}"
    # A manifest, two shards, trials, traces and the record, in float32; each before and after.
    assert stops >= 2 * 6
