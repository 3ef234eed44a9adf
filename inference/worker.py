"""One loaded model at work: answers units, with smaller batches where memory runs out."""

import gc
import time
from typing import Any, Final

import torch
from PIL import Image

from mfbayes.datasets import read_pixels
from mfbayes.errors import InputError, TooLargeError
from mfbayes.inference.asking import Asker, OverflowedError
from mfbayes.inference.cost import try_to_measure_rates
from mfbayes.inference.jobs import Job
from mfbayes.inference.loading import load_model, silence_libraries
from mfbayes.inference.memory import is_out_of_memory
from mfbayes.inference.prompts import INPUTS, Plan, Prompt
from mfbayes.inference.responses import Response
from mfbayes.inference.selftest import check_model
from mfbayes.inference.shards import Facts, Shard
from mfbayes.inference.units import Unit
from mfbayes.names import AUTO

_REMEDY: Final = "Use a narrower precision (--dtype bfloat16) or a device with more memory."


class Worker:
    """A model, loaded and checked.

    Parameters
    ----------
    job : Job

    Raises
    ------
    InputError
        If the model cannot be loaded or fails its self-test.
    """

    def __init__(self, job: Job) -> None:
        silence_libraries()
        # What an earlier worker left in cycles must go before the next model comes.
        release_memory()
        started = time.perf_counter()
        self._job = job
        self._batch_size = job.batch_size
        # Its ten bits would be taken for the float32 that precisions are judged by.
        torch.backends.cudnn.allow_tf32 = False
        try:
            self._load()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise TooLargeError(
                f"Memory does not suffice to load {job.source.name} in {job.dtype} and ask it anything "
                f"({_first_line(error)}). {_REMEDY}"
            ) from error
        self._seconds_loading = round(time.perf_counter() - started, 2)

    def _load(self) -> None:
        job = self._job
        self._loaded = load_model(
            job.source, device=job.device, dtype=job.dtype, trust_remote_code=job.trust_remote_code
        )
        self._asker = self._make_asker()
        layered = sorted((prompt for prompt in job.plan.prompts.values() if prompt.answers), key=_length)
        self._checks: dict[str, Any] = dict(
            check_model(
                self._asker,
                self._loaded,
                answers=layered[0].answers,
                batch_size=job.batch_size,
                # The longest and the shortest: some layers see only so far.
                questions=(layered[-1].text, layered[0].text),
            )
        )
        self._rates = try_to_measure_rates(self._asker.passes, self._asker.encoder, answers=layered[0].answers)

    def answer(self, unit: Unit) -> Shard:
        """Ask all prompts of a unit.

        Memory that runs out halves the batches from here on, down to single prompts.

        Raises
        ------
        InputError
            If logits are not finite or an image cannot be read, naming an item; or if not even one prompt at a
            time fits into memory.
        """
        started = time.perf_counter()
        while True:
            self._asker.take_tally()
            try:
                responses = self._ask(unit)
                break
            except OverflowedError as error:
                raise InputError(
                    f"{self._job.source.name} gave logits that are not finite for item "
                    f"{item_of(self._job.plan, error.prompt)}. Ask it in a wider precision (--dtype float32), or fetch "
                    "its weights again."
                ) from error
            except (MemoryError, RuntimeError, InputError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = _first_line(error)
            # Only here, outside the handler, do the failed pass's tensors go.
            self._shrink(reason)
        return Shard(responses, self._facts(seconds=time.perf_counter() - started))

    def _make_asker(self, *, way: str = AUTO, goes_on: bool = False) -> Asker:
        answers, name = self._job.plan.answers, self._job.source.name
        return Asker(self._loaded, answers, name=name, batch_size=self._batch_size, way=way, goes_on=goes_on)

    def _ask(self, unit: Unit) -> list[Response]:
        texts = [prompt for prompt in unit.prompts if not prompt.pixels]
        about: dict[str, list[Prompt]] = {}
        for prompt in unit.prompts:
            if prompt.pixels:
                about.setdefault(prompt.pixels, []).append(prompt)
        responses = self._asker.ask_texts(texts) if texts else []
        if about:
            images = ((self._open_image(prompts[0]), prompts) for prompts in about.values())
            responses = responses + self._asker.ask_images(images)
        return responses

    def _open_image(self, prompt: Prompt) -> Image.Image:
        file = self._job.dataset.image_path(self._job.plan.images[prompt.pixels])
        try:
            return Image.fromarray(read_pixels(file))
        except InputError as error:
            raise InputError(
                f"Item {item_of(self._job.plan, prompt)} has no image that can be read: {error}"
            ) from error

    def _shrink(self, reason: str) -> None:
        if self._batch_size == 1:
            raise TooLargeError(
                f"Memory does not suffice for a single prompt to {self._job.source.name} on {self._loaded.device} "
                f"({reason}). {_REMEDY}"
            )
        self._batch_size //= 2
        release_memory()
        self._asker = self._make_asker(way=self._asker.way, goes_on=self._asker.goes_on)

    def _facts(self, *, seconds: float) -> Facts:
        return {
            "device": str(self._loaded.device),
            "dtype": self._loaded.dtype,
            "batch_size": self._batch_size,
            "checks": self._checks | {"way": self._asker.way},
            "flops": self._asker.take_tally().flops(self._rates) if self._rates else None,
            "seconds": round(seconds, 4),
            "seconds_loading": self._seconds_loading,
        }


def _length(prompt: Prompt) -> int:
    return len(prompt.text)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def release_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def item_of(plan: Plan, prompt: Prompt) -> str:
    """An item that needs a prompt."""
    used = plan.items[list(INPUTS)].isin([prompt.key]).any(axis="columns")
    return str(plan.items.loc[used, "item"].iloc[0])
