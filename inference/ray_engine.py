"""Asking on a Ray cluster: a worker a GPU, units handed out one by one, nothing lost when a worker dies.

Plain actors and not Ray Data: a unit's answers come back and are kept the moment they are there, errors keep
their words, and the first answer comes sooner. All that a dead worker takes along is the unit it had.
"""

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Self

import ray
from ray.exceptions import RayActorError, RayTaskError

from mfbayes.errors import InputError
from mfbayes.inference.jobs import Job
from mfbayes.inference.shards import Shard
from mfbayes.inference.sources import LOCAL, ModelSource, check_folder, find_model
from mfbayes.inference.units import Unit

# A unit, or the loading, that brings down so many workers is itself at fault.
_MOST_DEATHS: Final = 3
_PATIENCE_SECONDS: Final = 30.0


class RemoteWorker:
    """A worker in a process of its own on some node; loads when told, so that its errors keep their kind."""

    def load(self, job: Job) -> None:
        """Load and check the model."""
        from mfbayes.inference.worker import Worker

        self._worker = Worker(replace(job, source=_find_here(job.source)))

    def answer(self, unit: Unit) -> Shard:
        """Ask all prompts of a unit."""
        return self._worker.answer(unit)


class OnRay:
    """A Ray cluster.

    Parameters
    ----------
    address : str, optional
        Of the cluster; without one, that of the environment, or a cluster of this machine alone.
    workers : int, optional
        How many models to load; by default one a GPU or, where the cluster has none, one a node.
    """

    def __init__(self, address: str | None = None, *, workers: int | None = None) -> None:
        self._address = address
        self._workers = workers
        self._is_mine = False

    def __enter__(self) -> Self:
        """Join the cluster, unless the program has joined one."""
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                ray.init(self._address, log_to_driver=False, logging_level="error")
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"No Ray cluster could be reached{f' at {self._address}' if self._address else ''} ({error}). "
                    "Start one with `ray start --head`, and check --address."
                ) from error
            self._is_mine = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_mine:
            ray.shutdown()

    def precision(self, source: ModelSource, *, device: str, dtype: str) -> str:
        """As on the workers' devices, which need not be on this machine."""
        import torch

        from mfbayes.inference.loading import choose_dtype

        return choose_dtype(dtype, torch.device(self._device(device)), source)

    def answer(self, job: Job, units: Sequence[Unit]) -> Iterator[Shard]:
        """Hand units to whichever worker is free; a dead worker's unit goes to another."""
        if units:
            device = self._device(job.device)
            options = self._options(device)
            crew = _Crew(replace(job, device=device), units, options)
            for _ in range(min(self._n_workers(device), len(units))):
                crew.hire()
            yield from crew.answer()

    def _device(self, device: str) -> str:
        if device != "auto":
            return device
        return "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "cpu"

    def _n_workers(self, device: str) -> int:
        if self._workers is not None:
            return self._workers
        return int(ray.cluster_resources().get("GPU", 0)) if device == "cuda" else len(_cpus())

    def _options(self, device: str) -> dict[str, Any]:
        """What a worker takes of its node: a GPU, or its share of the processors."""
        if device == "cuda":
            return {"num_gpus": 1}
        share = sum(_cpus()) // self._workers if self._workers else min(_cpus(), default=1)
        return {"num_cpus": max(1, min(share, *_cpus())), "scheduling_strategy": "SPREAD"}


class _Crew:
    """Workers and the units they have: loading, idle or busy with one."""

    def __init__(self, job: Job, units: Sequence[Unit], options: dict[str, Any]) -> None:
        self._job = job
        self._waiting = deque(units)
        self._options = options
        self._loading: dict[Any, Any] = {}
        self._busy: dict[Any, tuple[Any, Unit]] = {}
        self._idle: list[Any] = []
        self._deaths: Counter[str] = Counter()

    def hire(self) -> None:
        """Start a worker; the cluster places it when it has room."""
        actor = ray.remote(**self._options)(RemoteWorker).remote()
        self._loading[actor.load.remote(self._job)] = actor

    def answer(self) -> Iterator[Shard]:
        while self._waiting or self._busy:
            while self._waiting and self._idle:
                actor, unit = self._idle.pop(), self._waiting.popleft()
                self._busy[actor.answer.remote(unit)] = (actor, unit)
            done, _ = ray.wait([*self._busy, *self._loading], num_returns=1, timeout=_PATIENCE_SECONDS)
            for reference in done:
                shard = self._take(reference)
                if shard is not None:
                    yield shard
            if not (done or self._busy):
                self._check_room()

    def _take(self, reference: Any) -> Shard | None:
        """A shard, or None where a worker is ready now or has died."""
        actor, unit = self._busy.pop(reference, None) or (self._loading.pop(reference), None)
        try:
            shard: Shard | None = ray.get(reference)
        except RayActorError as error:
            self._replace(unit, error)
            return None
        except RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from error
            raise
        self._idle.append(actor)
        return shard

    def _replace(self, unit: Unit | None, error: Exception) -> None:
        key = unit.key if unit else ""
        self._deaths[key] += 1
        if self._deaths[key] == _MOST_DEATHS:
            doing = f"asking about {unit.prompts[0].text!r}" if unit else "loading the model"
            raise InputError(
                f"{_MOST_DEATHS} Ray workers died while {doing}: {str(error).splitlines()[0]} "
                "Too little memory is the usual reason: use a smaller --batch-size or fewer --workers. What was "
                "answered is kept."
            ) from error
        if unit is not None:
            self._waiting.appendleft(unit)
        self.hire()

    def _check_room(self) -> None:
        kind, needed = ("GPU", "num_gpus") if "num_gpus" in self._options else ("CPU", "num_cpus")
        there = ray.cluster_resources().get(kind, 0)
        if there < self._options[needed]:
            raise InputError(
                f"The Ray cluster has no node left with {self._options[needed]} {kind}. What was answered is kept: "
                "run the same command again once it has."
            )


def _cpus() -> list[int]:
    """Processors of each living node that has any."""
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return [count for count in nodes if count]


def _find_here(source: ModelSource) -> ModelSource:
    """The same model on this node.

    Raises
    ------
    InputError
        If it is not here, or not the same.
    """
    if source.kind == LOCAL:
        check_folder(source.folder, source.name)
        return source
    found = find_model(source.name)
    if found.content_hash != source.content_hash:
        raise InputError(
            f"A node of the cluster has other files of {source.name} than the machine that asks. Install the same "
            "version of mfbayes and fetch the same revision on every node."
        )
    return found
