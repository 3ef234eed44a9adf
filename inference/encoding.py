"""Prompts as tensors: each image preprocessed once for all its prompts, and padded batches."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from mfbayes.errors import InputError
from mfbayes.inference.prompts import Prompt, conversation

type ImageTensors = dict[str, torch.Tensor]

_NOT_FOR_THE_MODEL: Final = {"num_crops", "rows", "cols", "labels"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A prompt as the model takes it.

    Attributes
    ----------
    prompt : Prompt
    sequences : dict
        Values of one entry a token, such as `input_ids` and `mm_token_type_ids`; or a nested list a token, such
        as which parts of the image it may look at.
    image : dict
        Tensors of its image, shared by all prompts about it; empty for text alone.
    """

    prompt: Prompt
    sequences: dict[str, list[Any]]
    image: ImageTensors

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.sequences["input_ids"])

    @property
    def signature(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Shapes that must agree within a batch."""
        return tuple(sorted((name, tuple(tensor.shape[1:])) for name, tensor in self.image.items()))

    def extended(self, tokens: Sequence[int]) -> "Encoded":
        """The same prompt with tokens of the answer after it."""
        # What a token may look at stays as it was at the prompt's end; kinds of tokens are those of text.
        more = {
            name: [values[-1] if isinstance(values[-1], list) else 0] * len(tokens)
            for name, values in self.sequences.items()
        }
        more |= {"input_ids": list(tokens), "attention_mask": [1] * len(tokens)}
        longer = {name: values + more[name] for name, values in self.sequences.items()}
        return Encoded(self.prompt, longer, self.image)


class _PreparedImage:
    """Stands in for an image processor and gives back, as often as asked, one image's finished tensors."""

    def __init__(self, processor: Any, image: Image.Image) -> None:
        self._processor = processor
        self._image = image
        self.features: dict[str, Any] | None = None
        self.call: tuple[bool, tuple[Any, ...], dict[str, Any]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        nested = isinstance(images, (list, tuple)) and isinstance(images[0], (list, tuple))
        call = (nested, args, kwargs)
        if self.features is None or repr(call) != repr(self.call):
            self.prepare(call)
        assert self.features is not None  # noqa: S101
        return {name: _repeat(value, len(images)) for name, value in self.features.items()}

    def prepare(self, call: tuple[bool, tuple[Any, ...], dict[str, Any]]) -> None:
        """Make the image's tensors as a call would: nested in a list of its own or not, and with its arguments."""
        nested, args, kwargs = self.call = call
        single = [[self._image]] if nested else [self._image]
        self.features = dict(self._processor(single, *args, **{**kwargs, "return_tensors": "pt"}))


def _repeat(value: Any, times: int) -> Any:
    return torch.cat([value] * times) if isinstance(value, torch.Tensor) else list(value) * times


class Encoder:
    """Turns prompts into tensors with a model's own processor and chat template.

    Parameters
    ----------
    processor
        As loaded by `AutoProcessor`.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        # Fast tokenizers are not made for two threads at a time.
        self._lock = threading.Lock()
        self._images = getattr(processor, "image_processor", None)
        self._call: tuple[bool, tuple[Any, ...], dict[str, Any]] | None = None

    @property
    def pad_token(self) -> int:
        """Id that fills rows; it is masked, so any will do."""
        tokenizer = self._tokenizer
        return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)

    def render(self, prompt: Prompt) -> str:
        """A prompt in the words of the chat template, up to where the answer begins."""
        rendered: str = self._processor.apply_chat_template(
            conversation(prompt), add_generation_prompt=True, tokenize=False
        )
        return rendered

    def encode_texts(self, prompts: Sequence[Prompt]) -> list[Encoded]:
        """Encode prompts without an image."""
        with self._lock:
            return self._encode(prompts, self._processor(**self._texts(prompts)), {})

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, without marks that are no words."""
        with self._lock:
            return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def encode_image(self, prompts: Sequence[Prompt], image: Image.Image) -> list[Encoded]:
        """Encode all prompts about one image, which is preprocessed once."""
        prepared = _PreparedImage(self._images, image)
        if self._call is not None and self._is_stateless:
            # As the processor will ask for it, which the first image told; beside other images, outside the lock.
            prepared.prepare(self._call)
        with self._lock:
            self._processor.image_processor = prepared
            try:
                output = self._processor(images=[[image]] * len(prompts), **self._texts(prompts))
            finally:
                self._processor.image_processor = self._images
            self._call = prepared.call
        features = prepared.features or {}
        tensors = {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}
        kept = {name: value for name, value in tensors.items() if name in output and name not in _NOT_FOR_THE_MODEL}
        return self._encode(prompts, output, kept)

    @property
    def _is_stateless(self) -> bool:
        """Whether two images may be prepared at once: nobody knows what foreign code keeps."""
        return type(self._images).__module__.startswith("transformers.")

    def _texts(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        rendered = [self.render(prompt) for prompt in prompts]
        arguments: dict[str, Any] = {"text": rendered, "padding": False}
        bos = self._tokenizer.bos_token
        # A template that writes the first token itself must not get a second one.
        if bos is not None and rendered[0].startswith(bos):
            arguments["add_special_tokens"] = False
        return arguments

    def _encode(self, prompts: Sequence[Prompt], output: Any, image: ImageTensors) -> list[Encoded]:
        rows = {name: values for name, values in output.items() if name not in image}
        lengths = [len(ids) for ids in rows["input_ids"]]
        kept = {name: found for name, values in rows.items() if (found := _by_token(values, lengths)) is not None}
        return [
            Encoded(prompt, {name: values[index] for name, values in kept.items()}, image)
            for index, prompt in enumerate(prompts)
        ]

    def pad(self, batch: Sequence[Encoded], *, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Tensors of a batch, padded on the right, pixels in the model's precision."""
        width = max(entry.length for entry in batch)
        fill = {"input_ids": self.pad_token}
        tensors: dict[str, torch.Tensor] = {}
        for name in batch[0].sequences:
            rows = [entry.sequences[name] for entry in batch]
            blank = fill.get(name, blank_like(rows[0][0]))
            padded = [row + [blank] * (width - len(row)) for row in rows]
            tensors[name] = torch.tensor(padded, device=device)
        return tensors | join_images([entry.image for entry in batch], device=device, dtype=dtype)


def join_images(images: Sequence[ImageTensors], *, device: torch.device, dtype: torch.dtype) -> ImageTensors:
    """Tensors of several images as the model takes them, pixels in its precision."""
    joined: ImageTensors = {}
    for name in images[0]:
        try:
            tensor = torch.cat([image[name] for image in images]).to(device)
        except RuntimeError as error:
            raise InputError(f"Images of these sizes cannot be asked in one batch ({error}).") from error
        joined[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return joined


def blank_like(value: Any) -> Any:
    """Zero in the shape of a token's value."""
    return [blank_like(entry) for entry in value] if isinstance(value, list) else 0


def _by_token(values: Any, lengths: Sequence[int]) -> list[list[Any]] | None:
    """A processor's output as a list a prompt with an entry a token, or None if it is nothing of the kind."""
    if isinstance(values, np.ndarray | torch.Tensor):
        # Only what says more than a number a token comes as one array, as long as the longest prompt.
        if values.ndim < 3 or tuple(values.shape[:2]) != (len(lengths), max(lengths)):
            return None
        return [row[:length] for row, length in zip(values.tolist(), lengths, strict=True)]
    if not isinstance(values, list) or [len(row) for row in values if isinstance(row, list)] != list(lengths):
        return None
    return [list(row) for row in values]
