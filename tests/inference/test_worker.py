import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mfbayes.datasets import Dataset
from mfbayes.errors import InputError
from mfbayes.inference import worker
from mfbayes.inference.asking import Asker
from mfbayes.inference.jobs import Job
from mfbayes.inference.memory import is_out_of_memory
from mfbayes.inference.prompts import Prompt, plan_prompts
from mfbayes.inference.responses import Response
from mfbayes.inference.sources import find_model
from mfbayes.inference.units import divide
from mfbayes.inference.worker import Worker


@pytest.fixture(scope="module")
def job(dataset: Dataset, model_folders: dict[str, Path]) -> Job:
    plan = plan_prompts(dataset.manifest, limit=12)
    return Job(
        source=find_model(str(model_folders["llava"])),
        plan=plan,
        dataset=dataset,
        protocol=0,
        device="cpu",
        dtype="float32",
        batch_size=16,
        trust_remote_code=False,
    )


def out_of_memory_above(limit: int, error: Exception, patch: pytest.MonkeyPatch) -> list[int]:
    """Let batches of more than `limit` run out of memory; returns the sizes tried."""
    honest_init, honest_ask, tried = Asker.__init__, Asker.ask_images, list[int]()
    sizes: dict[int, int] = {}

    def init(self: Asker, *args: Any, batch_size: int, **kwargs: Any) -> None:
        sizes[id(self)] = batch_size
        honest_init(self, *args, batch_size=batch_size, **kwargs)

    def ask_images(self: Asker, images: Iterable[tuple[Image.Image, Sequence[Prompt]]]) -> list[Response]:
        tried.append(sizes[id(self)])
        if sizes[id(self)] > limit:
            raise error
        return honest_ask(self, images)

    patch.setattr(Asker, "__init__", init)
    patch.setattr(Asker, "ask_images", ask_images)
    return tried


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"
        ),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "cublas", "python"],
)
def test_memory_that_runs_out_halves_the_batch_and_goes_on(
    job: Job, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tried = out_of_memory_above(4, error, monkeypatch)
    units = divide(job.plan, list(job.plan.prompts.values()), batch_size=job.batch_size)
    small = Worker(job)
    shards = [small.answer(unit) for unit in units]
    assert tried == [16, 8, 4]
    assert [shard.facts["batch_size"] for shard in shards] == [16, 4]
    assert {response.key for shard in shards for response in shard.responses} == set(job.plan.prompts)
    assert small.answer(units[1]).facts["batch_size"] == 4


def test_memory_that_never_suffices_is_a_clear_error(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = out_of_memory_above(0, torch.OutOfMemoryError("CUDA out of memory."), monkeypatch)
    unit = divide(job.plan, list(job.plan.prompts.values()), batch_size=16)[-1]
    with pytest.raises(InputError, match=r"Memory does not suffice for a single prompt.*--dtype bfloat16"):
        Worker(job).answer(unit)
    assert tried == [16, 8, 4, 2, 1]


def test_model_that_does_not_fit_is_a_clear_error(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    monkeypatch.setattr(worker, "check_model", check)
    with pytest.raises(InputError, match=r"does not suffice to load llava@\w+ in float32.*9 GiB"):
        Worker(job)


def test_other_errors_are_not_taken_for_memory(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = out_of_memory_above(4, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), monkeypatch)
    unit = divide(job.plan, list(job.plan.prompts.values()), batch_size=16)[-1]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        Worker(job).answer(unit)
    assert tried == [16]


def test_memory_is_known_as_the_cause_of_another_error() -> None:
    wrapped = InputError("Images of these sizes cannot be asked in one batch.")
    assert not is_out_of_memory(wrapped)
    wrapped.__cause__ = torch.OutOfMemoryError("CUDA out of memory.")
    assert is_out_of_memory(wrapped)


def test_corrupt_image_is_named_with_its_item(job: Job, tmp_path: Path) -> None:
    copy = Dataset(Path(shutil.copytree(job.dataset.path, tmp_path / "data")), job.dataset.manifest)
    units = divide(job.plan, list(job.plan.prompts.values()), batch_size=16)
    relative = job.plan.images[units[-1].prompts[-1].pixels]
    file = copy.image_path(relative)
    file.write_bytes(file.read_bytes()[:60])
    item = job.plan.items.loc[job.plan.items["image"] == relative, "item"].iloc[0]
    with pytest.raises(InputError, match=rf"Item {item} has no image that can be read: .*{file.name}"):
        Worker(replace(job, dataset=copy)).answer(units[-1])
