"""Where units are answered: in this process, or by workers on a Ray cluster."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol, Self

from mfbayes.errors import InputError
from mfbayes.inference.jobs import Job
from mfbayes.inference.shards import Shard
from mfbayes.inference.sources import ModelSource
from mfbayes.inference.units import Unit

HERE: Final = "here"
RAY: Final = "ray"
ENGINES: Final = (HERE, RAY)


class Engine(AbstractContextManager["Engine"], Protocol):
    """Answers units, in whatever order they get done."""

    def precision(self, source: ModelSource, *, device: str, dtype: str) -> str:
        """Precision in which a model would be asked, without loading it."""
        ...

    def answer(self, job: Job, units: Sequence[Unit]) -> Iterator[Shard]:
        """Shards as they are answered; loads the model only if there is a unit."""
        ...


class Here:
    """Asking in this process, on one device."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def precision(self, source: ModelSource, *, device: str, dtype: str) -> str:
        """As on the device named, which must be there."""
        from mfbayes.inference.loading import choose_device, choose_dtype

        return choose_dtype(dtype, choose_device(device), source)

    def answer(self, job: Job, units: Sequence[Unit]) -> Iterator[Shard]:
        """One unit after another, in order."""
        from mfbayes.inference.worker import Worker

        if units:
            worker = Worker(job)
            for unit in units:
                yield worker.answer(unit)


def open_engine(name: str, *, address: str | None = None, workers: int | None = None) -> Engine:
    """The engine of a name.

    Parameters
    ----------
    name : {"here", "ray"}
    address : str, optional
        Of a Ray cluster; without one, a cluster of this machine alone is started.
    workers : int, optional
        How many workers Ray starts; by default one a GPU, or one a node where there are none.

    Raises
    ------
    InputError
        If there is no such engine, it is not installed, or an address is given to one that takes none.
    """
    if name not in ENGINES:
        raise InputError(f"There is no engine {name!r}. Use {' or '.join(ENGINES)}.")
    if workers is not None and workers < 1:
        raise InputError(f"Expected at least 1 worker, but {workers} came. Change --workers.")
    if name == HERE:
        if address is not None or workers is not None:
            raise InputError(
                f"An address or a number of workers is for a cluster. Add --engine {RAY}, or leave them out."
            )
        return Here()
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "The engine ray needs Ray, which is not installed. Install it with: pip install 'mfbayes[ray]'"
        ) from error
    from mfbayes.inference.ray_engine import OnRay

    engine: Engine = OnRay(address, workers=workers)
    return engine
