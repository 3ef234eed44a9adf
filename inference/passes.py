"""Forward passes: four ways to ask the same prompts, which differ in what they compute twice."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

import torch
from transformers import DynamicCache
from transformers.utils.generic import ModelOutput

from mfbayes.errors import InputError
from mfbayes.inference.encoding import Encoded, Encoder, ImageTensors, join_images
from mfbayes.inference.lens import Places, Readings, reading, split_readings
from mfbayes.inference.loading import LoadedModel
from mfbayes.inference.packed import Layout, attention_masks, pack_sequences
from mfbayes.inference.parts import Parts
from mfbayes.inference.sharing import Bundle
from mfbayes.inference.trail import Continued, Ground, Trail
from mfbayes.inference.work import Work, count_pixels

NAIVE: Final = "naive"
DEDUPLICATED: Final = "deduplicated"
CACHED: Final = "cached"
PACKED: Final = "packed"
PACKED_BLOCKS: Final = "packed-blocks"


class Passes:
    """A model's forward passes over bundles of prompts.

    Parameters
    ----------
    loaded : LoadedModel
    parts : Parts
        Of the same model.
    encoder : Encoder

    Attributes
    ----------
    n_layers : int
        Decoder layers.
    done : Work
        Of all passes so far.
    """

    def __init__(self, loaded: LoadedModel, parts: Parts, encoder: Encoder) -> None:
        self._model, self._device = loaded.model, loaded.device
        self._parts, self._encoder = parts, encoder
        self.n_layers = len(parts.layers)
        self.done = Work()
        # Wrappers hold the model without its head under one name; others are that model.
        self._core = getattr(loaded.model, "model", loaded.model)
        self.config = loaded.model.config.get_text_config(decoder=True)
        self.image_token = find_image_token(loaded)
        self._ways: Mapping[str, Callable[[Sequence[Bundle], bool, Any], Readings]] = {
            NAIVE: self._naive,
            DEDUPLICATED: self._deduplicated,
            CACHED: self._cached,
            PACKED: self._packed,
            PACKED_BLOCKS: self._packed_blocks,
        }

    @property
    def sees_apart(self) -> bool:
        """Whether images are seen in a step of its own, which prompts about them can share."""
        return hasattr(self._core, "get_image_features")

    def run(self, bundles: Sequence[Bundle], *, way: str, layers: bool) -> Readings:
        """Logits of all prompts of some bundles, in their order.

        Parameters
        ----------
        bundles : sequence of Bundle
            Of one signature.
        way : str
        layers : bool
            Whether to read the layers of prompts whose traces are wanted.
        """
        return self._run(bundles, way, layers, None)

    def start(self, bundles: Sequence[Bundle], *, way: str, layers: bool) -> tuple[Readings, Trail]:
        """Run as `run` does, and keep what it takes to go on."""
        cache = DynamicCache()
        readings = self._run(bundles, way, layers, cache)
        return readings, Trail(_entries(bundles), self._ground(bundles, way), cache, pad_token=self._encoder.pad_token)

    def follow(self, trail: Trail, continued: Sequence[Continued]) -> torch.Tensor:
        """Logits after prompts that go on with some tokens, shape (n_continued, n_vocabulary)."""
        if before := trail.missing(continued):
            self.follow(trail, before)
        n_before = trail.n_columns
        step = trail.lay_out(continued)
        inputs: dict[str, Any] = {name: tensor.to(self._device) for name, tensor in step.inputs.items()}
        inputs["attention_mask"] = self._masks(lambda window: step.mask(window=window))
        nothing = torch.zeros(len(continued), dtype=torch.bool)
        places = Places(*(tensor.to(self._device) for tensor in (step.rows, step.columns, nothing)))
        with torch.inference_mode():
            return self._read(inputs, places, n_before=n_before, cache=trail.cache).last

    def _run(self, bundles: Sequence[Bundle], way: str, layers: bool, cache: Any) -> Readings:
        forget_positions(self._model)
        with torch.inference_mode():
            return self._ways[way](bundles, layers, cache)

    def _naive(
        self, bundles: Sequence[Bundle], layers: bool, cache: Any, *, images: Sequence[ImageTensors] | None = None
    ) -> Readings:
        batch = _entries(bundles)
        inputs = self._encoder.pad(batch, device=self._device, dtype=self._model.dtype)
        ends = torch.tensor([entry.length - 1 for entry in batch])
        places = self._places(batch, torch.arange(len(batch)), ends, layers)
        seen = [entry.image for entry in batch] if images is None else images
        return self._read(inputs, places, images=seen, cache=cache)

    def _deduplicated(self, bundles: Sequence[Bundle], layers: bool, cache: Any) -> Readings:
        batch = _entries(bundles)
        if not batch[0].image or not self.sees_apart:
            return self._naive(bundles, layers, cache)
        unique = {id(entry.image): entry.image for entry in batch}
        number = {key: index for index, key in enumerate(unique)}
        owners = torch.tensor([number[id(entry.image)] for entry in batch], device=self._device)
        once = join_images(list(unique.values()), device=self._device, dtype=self._model.dtype)
        with _seeing_once(self._core, once, owners, n_images=len(unique)):
            return self._naive(bundles, layers, cache, images=list(unique.values()))

    def _cached(self, bundles: Sequence[Bundle], layers: bool, cache: Any) -> Readings:
        shared = bundles[0].n_shared
        if not shared:
            return self._naive(bundles, layers, cache)
        firsts = [_slice(entries[0], 0, shared) for entries, _ in bundles]
        kept: Any = DynamicCache(config=self._model.config) if cache is None else cache
        begin = self._encoder.pad(firsts, device=self._device, dtype=self._model.dtype)
        rows = torch.arange(len(bundles))
        # Nothing is read here; one place a row spares the head the others.
        places = self._places(firsts, rows, torch.zeros_like(rows), False)
        self._read(begin, places, images=[entry.image for entry in firsts], cache=kept)
        batch = _entries(bundles)
        counts = torch.tensor([len(entries) for entries, _ in bundles])
        kept.reorder_cache(rows.repeat_interleave(counts).to(self._device))
        rest = [_slice(entry, shared, entry.length) for entry in batch]
        padded = self._encoder.pad(rest, device=self._device, dtype=self._model.dtype)
        width = padded["input_ids"].shape[1]
        # Filler stands on the right, where no answer sees it: no mask is needed. Kinds of tokens tell of images.
        inputs = {name: tensor for name, tensor in padded.items() if name == "input_ids" or tensor.ndim > 2}
        inputs["position_ids"] = _window(self._positions(batch), shared, width).to(self._device)
        ends = torch.tensor([entry.length - 1 for entry in rest])
        places = self._places(batch, torch.arange(len(batch)), ends, layers)
        return self._read(inputs, places, n_before=shared, cache=kept)

    def _packed(self, bundles: Sequence[Bundle], layers: bool, cache: Any, *, blocks: bool = False) -> Readings:
        batch = _entries(bundles)
        layout = Layout(bundles)
        sequences = pack_sequences(bundles, pad_token=self._encoder.pad_token)
        image = sequences["input_ids"] == self.image_token if blocks and self.image_token is not None else None
        inputs: dict[str, Any] = {name: tensor.to(self._device) for name, tensor in sequences.items()}
        inputs["attention_mask"] = self._masks(lambda window: layout.mask(window=window, image=image))
        inputs["position_ids"] = layout.spread(self._positions(batch)).to(self._device)
        images = [entries[0].image for entries, _ in bundles]
        inputs |= join_images(images, device=self._device, dtype=self._model.dtype)
        places = self._places(batch, layout.rows, layout.columns, layers)
        return self._read(inputs, places, images=images, cache=cache)

    def _packed_blocks(self, bundles: Sequence[Bundle], layers: bool, cache: Any) -> Readings:
        return self._packed(bundles, layers, cache, blocks=True)

    def _masks(self, mask: Callable[[int | None], torch.Tensor]) -> Any:
        eager = getattr(self.config, "_attn_implementation", None) == "eager"
        return _move(attention_masks(mask, self.config, additive=self._model.dtype if eager else None), self._device)

    def _ground(self, bundles: Sequence[Bundle], way: str) -> Ground:
        batch = _entries(bundles)
        ends = torch.tensor([entry.length for entry in batch])
        numbers = torch.arange(len(batch))
        after = self._positions(batch)[..., numbers, ends - 1] + 1
        if way in (PACKED, PACKED_BLOCKS):
            layout = Layout(bundles)
            owners = layout.owners[layout.rows]
            own = torch.tensor([number for entries, _ in bundles for number in range(1, len(entries) + 1)])
            return Ground(layout.rows, (owners == 0) | (owners == own[:, None]), layout.order[layout.rows], after)
        # A cache's shared tokens and a prompt's own follow each other as in the prompt.
        columns = torch.arange(int(ends.max())).expand(len(batch), -1)
        return Ground(numbers, columns < ends[:, None], columns, after)

    def _positions(self, batch: Sequence[Encoded]) -> torch.Tensor:
        """Positions of each prompt's tokens, shape (n_prompts, n_tokens), or (3, n_prompts, n_tokens) in an image."""
        width = max(entry.length for entry in batch)
        find = getattr(self._core, "get_rope_index", None)
        if find is None or not batch[0].image:
            return torch.arange(width).expand(len(batch), -1)
        takes = inspect.signature(find).parameters
        # Where images lie and how large they are, but not their pixels.
        bare = [replace(entry, image={k: v for k, v in entry.image.items() if k in takes}) for entry in batch]
        inputs = self._encoder.pad(bare, device=torch.device("cpu"), dtype=torch.float32)
        positions: torch.Tensor = find(**{name: value for name, value in inputs.items() if name in takes})[0]
        return positions

    def _places(self, batch: Sequence[Encoded], rows: torch.Tensor, columns: torch.Tensor, layers: bool) -> Places:
        layered = torch.tensor([layers and bool(entry.prompt.answers) for entry in batch])
        return Places(*(tensor.to(self._device) for tensor in (rows, columns, layered)))

    def _read(
        self,
        inputs: Mapping[str, Any],
        places: Places,
        *,
        images: Sequence[ImageTensors] = (),
        n_before: int = 0,
        cache: Any = None,
    ) -> Readings:
        """One pass of the model; `images` are those it looks at, `n_before` the tokens that a cache holds."""
        n_rows, n_columns = inputs["input_ids"].shape
        self.done += Work(
            tokens=n_rows * n_columns,
            pairs=n_rows * n_columns * (n_before + n_columns),
            pixels=count_pixels(images),
            answers=len(places.rows),
            layers=(self.n_layers - 1) * int(places.layered.sum()),
        )
        with reading(self._parts, places):
            logits: torch.Tensor = self._model(**inputs, use_cache=cache is not None, past_key_values=cache).logits
        return split_readings(logits, places)


def find_image_token(loaded: LoadedModel) -> int | None:
    """Id of the tokens that stand for an image, from the model's configuration or its processor."""
    for source in (loaded.model.config, loaded.processor):
        for name in ("image_token_id", "image_token_index"):
            token = getattr(source, name, None)
            if isinstance(token, int):
                return token
    return None


def forget_positions(model: Any) -> None:
    """Drop the positions that Qwen-VL models keep from one call to the next."""
    for module in (model, getattr(model, "model", None)):
        if getattr(module, "rope_deltas", None) is not None:
            module.rope_deltas = None  # type: ignore[union-attr]


@contextmanager
def _seeing_once(core: Any, once: Mapping[str, torch.Tensor], owners: torch.Tensor, *, n_images: int) -> Iterator[None]:
    """While open, the model looks at each image once and hands the result to every prompt about it."""
    see = core.get_image_features

    def see_once(*args: Any, **kwargs: Any) -> Any:
        names = [name for name in inspect.signature(see).parameters if name != "kwargs"]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        return _spread(see(**(given | {name: once[name] for name in given if name in once})), owners, n_images)

    core.get_image_features = see_once
    try:
        yield
    finally:
        del core.get_image_features


def _spread(value: Any, owners: torch.Tensor, n_images: int) -> Any:
    """A result for each image as one for each prompt."""
    if value is None:
        return None
    if isinstance(value, ModelOutput):
        # What goes into the decoder must be there; the tower's inner states are of no use further on.
        kept: dict[str, Any] = {"pooler_output": _spread(value["pooler_output"], owners, n_images)}
        with suppress(InputError):
            kept["last_hidden_state"] = _spread(value.get("last_hidden_state"), owners, n_images)
        if value.get("deepstack_features") is not None:
            # Qwen3-VL's decoder takes features from several depths of the tower.
            kept["deepstack_features"] = [_spread(depth, owners, n_images) for depth in value["deepstack_features"]]
        return type(value)(**kept)
    if isinstance(value, torch.Tensor) and len(value) == n_images:
        return value[owners]
    if isinstance(value, list | tuple) and len(value) == n_images:
        return type(value)(value[index] for index in owners.tolist())
    raise InputError("This model's image features cannot be told apart by image.")


def _entries(bundles: Sequence[Bundle]) -> list[Encoded]:
    return [entry for entries, _ in bundles for entry in entries]


def _slice(entry: Encoded, start: int, stop: int) -> Encoded:
    """Some of a prompt's tokens, with its image if they are its first."""
    sequences = {name: values[start:stop] for name, values in entry.sequences.items()}
    return Encoded(entry.prompt, sequences, {} if start else entry.image)


def _window(positions: torch.Tensor, start: int, width: int) -> torch.Tensor:
    return positions[..., start : start + width]


def _move(masks: torch.Tensor | dict[str, torch.Tensor], device: torch.device) -> Any:
    if isinstance(masks, torch.Tensor):
        return masks.to(device)
    return {kind: mask.to(device) for kind, mask in masks.items()}
