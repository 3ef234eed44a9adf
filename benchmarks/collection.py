"""Ways of asking against each other: how exact they are in every family, how fast, and what they compute.

    python -m benchmarks.collection --seed 1              a LLaVA with 576 image tokens on a CPU, and 13 small families
    python -m benchmarks.collection --quick --seed 1
    python -m benchmarks.collection --real --seed 1       real sizes in bfloat16 on a GPU

All models are random ones of the real classes. The prompts are those of a study: each image alone with a question,
and with three texts before the question; each text alone.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

from benchmarks.record import Record, write_record
from mfbayes.inference.cost import Rates, measure_rates
from mfbayes.inference.encoding import Encoded, Encoder, ImageTensors
from mfbayes.inference.loading import LoadedModel
from mfbayes.inference.parts import find_parts
from mfbayes.inference.passes import CACHED, DEDUPLICATED, NAIVE, PACKED, PACKED_BLOCKS, Passes
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.sharing import Bundle, bundle
from mfbayes.inference.work import least_work, work_alone
from tests.inference.families import FAMILIES, build, prompts_about, spread

_WAYS = (NAIVE, DEDUPLICATED, CACHED, PACKED, PACKED_BLOCKS)
_PACKAGES = ("torch", "transformers")
_IMAGE_TOKEN = 32000
_GENERATED = 3
# Of random weights: attention looks somewhere, so that a wrong mask shows.
_GAIN = 3.0
# Dense bfloat16 operations a second, by the makers' data sheets.
_PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}

_REAL_LLAVA: tuple[dict[str, Any], dict[str, Any]] = (
    {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
)


class Sizes(NamedTuple):
    """Tokens of each part of a prompt, and how many images are asked about, a few a pass."""

    header: int = 35
    text: int = 50
    question: int = 25
    n_texts: int = 3
    n_images: int = 8
    images_a_pass: int = 2


class Subject(NamedTuple):
    """A model with what one image is to it."""

    name: str
    model: Any
    image: Callable[[torch.Generator], ImageTensors]
    n_tokens: int
    marks: tuple[str, ...] = ()


class Workload(NamedTuple):
    """Every prompt of a study once; an item is a text, an image and both."""

    texts: list[Encoded]
    images: list[list[Encoded]]

    @property
    def items(self) -> Iterator[tuple[Encoded, Encoded, Encoded]]:
        """The three prompts of each item."""
        for alone, *both in self.images:
            yield from ((text, alone, conflict) for text, conflict in zip(self.texts, both, strict=True))


def make_workload(subject: Subject, sizes: Sizes, *, seed: int) -> Workload:
    """Prompts of random tokens about random images."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int) -> list[int]:
        found: list[int] = torch.randint(5, 30000, (n,), generator=generator).tolist()
        return found

    header, question = [1, *draw(sizes.header - 1)], draw(sizes.question)
    texts = [draw(sizes.text) for _ in range(sizes.n_texts)]

    def encode(ids: list[int], image: ImageTensors, *, layered: bool) -> Encoded:
        sequences: dict[str, list[Any]] = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        for mark in subject.marks:
            sequences[mark] = [int(token == _IMAGE_TOKEN) for token in ids]
        return Encoded(Prompt("", "image" if image else "", ("a", "b") if layered else ()), sequences, image)

    images = []
    for _ in range(sizes.n_images):
        tensors = subject.image(generator)
        seen = header + [_IMAGE_TOKEN] * subject.n_tokens
        both = [encode(seen + text + question, tensors, layered=True) for text in texts]
        images.append([encode(seen + question, tensors, layered=False), *both])
    return Workload([encode(header + text + question, {}, layered=False) for text in texts], images)


def in_batches(workload: Workload, sizes: Sizes, *, image_token: int | None) -> Iterator[list[Bundle]]:
    """Every prompt once, bundled with those that begin alike."""
    starts = range(0, len(workload.images), sizes.images_a_pass)
    chunks = [workload.images[start : start + sizes.images_a_pass] for start in starts]
    for prompts in (workload.texts, *([entry for image in chunk for entry in image] for chunk in chunks)):
        yield list(bundle(prompts, image_token=image_token))


def in_item_batches(workload: Workload, sizes: Sizes) -> Iterator[list[Bundle]]:
    """The three prompts of every item, batched and padded, as a script without sharing has them."""
    kinds = list(zip(*workload.items, strict=True))
    size = sizes.images_a_pass * (1 + sizes.n_texts)
    for prompts in kinds:
        for start in range(0, len(prompts), size):
            yield [Bundle((entry,), 0) for entry in prompts[start : start + size]]


def ask(passes: Passes, batches: Iterable[Sequence[Bundle]], *, way: str, layers: bool = True) -> None:
    """Ask batches in one of the ways."""
    for bundles in batches:
        passes.run(bundles, way=way, layers=layers)


def generate_items(passes: Passes, model: Any, encoder: Encoder, workload: Workload) -> None:
    """Three calls of `generate` an item, one prompt at a time, scores and all hidden states of the conflict kept."""
    for item in workload.items:
        for number, entry in enumerate(item):
            inputs: Any = encoder.pad([entry], device=model.device, dtype=model.dtype)
            model.generate(
                **inputs,
                max_new_tokens=_GENERATED,
                min_new_tokens=_GENERATED,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
                output_hidden_states=number == 2,
            )


def compare_at_size(subject: Subject, sizes: Sizes, *, seed: int) -> Record:
    """Largest difference of any layer's logits from single prompts, over the logits' size, by way of asking."""
    passes, _ = make_passes(subject)
    workload = make_workload(subject, sizes, seed=seed)
    batches = list(in_batches(workload, sizes, image_token=passes.image_token))
    every = [entry for bundles in batches for entries, _ in bundles for entry in entries]
    alone = {id(entry): passes.run([Bundle((entry,), 0)], way=NAIVE, layers=True) for entry in every}
    size = max(float(own.last.abs().max()) for own in alone.values())
    contenders = {
        "naive batches": (list(in_item_batches(workload, sizes)), NAIVE),
        "each prompt once": (batches, NAIVE),
        **{way: (batches, way) for way in _WAYS[1:]},
    }
    differences = {}
    for name, (asked, way) in contenders.items():
        worst = 0.0
        for bundles in asked:
            found = passes.run(bundles, way=way, layers=True)
            own = [alone[id(entry)] for entries, _ in bundles for entry in entries]
            pairs = [(found.last, torch.cat([one.last for one in own]))]
            if layered := [one.earlier for one in own if len(one.earlier)]:
                pairs.append((found.earlier, torch.cat(layered)))
            worst = max(worst, *(float((ours - its).abs().max()) for ours, its in pairs))
        differences[name] = worst / size
    return {
        "benchmark": "collection-agreement",
        "contender": subject.name,
        "n_image_tokens": subject.n_tokens,
        "dtype": str(subject.model.dtype).removeprefix("torch."),
        "prompts": len(every),
        "logits_size": round(size, 3),
        "differences": differences,
        "seed": seed,
    }


def make_passes(subject: Subject) -> tuple[Passes, Encoder]:
    """Forward passes over a model, and what lays out its prompts."""
    processor = SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0, eos_token_id=2))
    encoder = Encoder(processor)
    dtype = str(subject.model.dtype).removeprefix("torch.")
    loaded = LoadedModel(subject.model, processor, subject.model.device, dtype)
    return Passes(loaded, find_parts(subject.model, name=subject.name), encoder), encoder


def compare_speed(subject: Subject, sizes: Sizes, *, repeats: int, seed: int) -> Iterator[Record]:
    """Seconds of each way, in rounds so that what else the machine does meets all of them, and operations."""
    device = subject.model.device
    passes, encoder = make_passes(subject)
    workload = make_workload(subject, sizes, seed=seed)
    small = make_workload(subject, sizes._replace(header=8, text=6, question=6), seed=seed)
    rates = measure_rates(passes, text=small.texts[0], about=small.images[0][1])
    floor = rates.price(least_work(_bundles(workload, passes.image_token), n_layers=passes.n_layers))

    def ask_once(way: str, *, layers: bool = True) -> Callable[[], None]:
        return lambda: ask(passes, in_batches(workload, sizes, image_token=passes.image_token), way=way, layers=layers)

    contenders: dict[str, Callable[[], None]] = {
        "three generate calls an item": lambda: generate_items(passes, subject.model, encoder, workload),
        "naive batches": lambda: ask(passes, in_item_batches(workload, sizes), way=NAIVE),
        "each prompt once": ask_once(NAIVE),
        "each prompt once, no lens": ask_once(NAIVE, layers=False),
        **{way: ask_once(way) for way in (DEDUPLICATED, CACHED, PACKED)},
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats + 1):
        for name, run in contenders.items():
            _finish(device)
            started = time.perf_counter()
            run()
            _finish(device)
            seconds[name].append(time.perf_counter() - started)
    naive = np.array(seconds["naive batches"][1:])
    peak = next((peak for name, peak in _PEAKS.items() if name in _device_name(device)), None)
    for name, run in contenders.items():
        # The first round warms up.
        taken = np.array(seconds[name][1:])
        spent = _count(run)
        yield {
            "benchmark": "collection-speed",
            "contender": name,
            "model": subject.name,
            "device": _device_name(device),
            "dtype": str(subject.model.dtype).removeprefix("torch."),
            "n_image_tokens": subject.n_tokens,
            "n_items": sum(1 for _ in workload.items),
            "seconds": round(float(np.median(taken)), 3),
            "speedup": round(float(np.median(naive / taken)), 2),
            "flops": spent,
            "flops_over_floor": round(spent / floor, 4),
            "share_of_peak": round(spent / float(np.median(taken)) / peak, 3) if peak else None,
            "seed": seed,
        }


def count_real(sizes: Sizes, *, seed: int) -> Record:
    """Operations of packed rows over the floor for LLaVA-1.5-7B, counted by torch without a weight in memory."""
    subject = _llava("LLaVA-1.5-7B, counted", *_REAL_LLAVA, pixels=336, device="meta")
    decoder, text = subject.model.get_decoder(), subject.model.config.text_config
    lengths = np.array([64.0, 128.0, 256.0])
    counts = [
        _count(lambda n=int(n): decoder(inputs_embeds=torch.empty(1, n, text.hidden_size, device="meta")))
        for n in lengths
    ]  # type: ignore[misc]
    _, token, pair = np.linalg.solve(np.vander(lengths, 3, increasing=True), counts)
    pixels = torch.empty(1, 3, 336, 336, device="meta")
    tower = _count(lambda: subject.model.get_image_features(pixel_values=pixels))
    rates = Rates(float(token), float(pair), tower / pixels.numel(), 2.0 * text.hidden_size * text.vocab_size)
    workload = make_workload(subject, sizes, seed=seed)
    bundles = _bundles(workload, _IMAGE_TOKEN)
    least = least_work(bundles, n_layers=text.num_hidden_layers)
    tokens = [found.n_tokens for found in bundles]
    packed = replace(least, tokens=sum(tokens), pairs=sum(n**2 for n in tokens))
    alone = work_alone([entry for item in workload.items for entry in item], n_layers=text.num_hidden_layers)
    floor = rates.price(least)
    return {
        "benchmark": "collection-floor",
        "contender": subject.name,
        "n_image_tokens": subject.n_tokens,
        "packed_over_floor": round(rates.price(packed) / floor, 4),
        "naive_over_floor": round(rates.price(alone) / floor, 4),
        "lens_over_plain": round(rates.reading * least.layers / rates.price(alone), 4),
        "seed": seed,
    }


def compare_logits(name: str, *, seed: int) -> Record:
    """Largest difference of any layer's logits from single prompts, over the logits' size, by way."""
    _, passes = build(name)
    prompts = prompts_about(name, seed=seed) + prompts_about(name, seed=seed + 1)
    alone = [passes.run([Bundle((entry,), 0)], way=NAIVE, layers=True) for entry in prompts]
    size = max(float(one.last.abs().max()) for one in alone)
    differences: dict[str, float | None] = {}
    bundles = list(bundle(prompts, image_token=passes.image_token))
    numbers = {id(entry): number for number, entry in enumerate(prompts)}
    order = [numbers[id(entry)] for entries, _ in bundles for entry in entries]
    for way in _WAYS:
        try:
            found = passes.run(bundles, way=way, layers=True)
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError):
            differences[way] = None
            continue
        pairs = [(found.last, torch.cat([alone[i].last for i in order]))]
        pairs.append((found.earlier, torch.cat([alone[i].earlier for i in order])))
        differences[way] = max(float((ours - own).abs().max()) for ours, own in pairs) / size
    return {"benchmark": "collection-exactness", "contender": name, "differences": differences, "seed": seed}


def small_llava(*, quick: bool) -> Subject:
    """A LLaVA-1.5 with CLIP's patches of 336 pixels, 576 tokens an image, in all else a few times smaller."""
    vision = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4}
    text = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8}
    pixels = 70 if quick else 336
    subject = _llava("llava, 576 tokens an image", vision, text, pixels=pixels)
    spread(subject.model, gain=_GAIN)
    return subject


def real_models() -> Iterator[Subject]:
    """LLaVA-1.5-7B and Qwen2.5-VL-7B as they are, with random weights, in bfloat16 on a GPU."""
    yield _llava("LLaVA-1.5-7B", *_REAL_LLAVA, pixels=336, dtype=torch.bfloat16, device="cuda")
    config = CONFIG_MAPPING["qwen2_5_vl"](
        text_config={
            **{"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "vocab_size": 152064},
            **{"num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768},
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        vision_config={"out_hidden_size": 3584},
        image_token_id=_IMAGE_TOKEN,
        video_token_id=151656,
        vision_start_token_id=151652,
        vision_end_token_id=151653,
    )

    def patches(generator: torch.Generator) -> ImageTensors:
        grid = torch.tensor([[1, 32, 32]])
        return {"pixel_values": torch.randn(1024, 1176, generator=generator), "image_grid_thw": grid}

    model = _random(config, dtype=torch.bfloat16, device="cuda")
    yield Subject("Qwen2.5-VL-7B", model, patches, 256, ("mm_token_type_ids",))


def _llava(
    name: str,
    vision: dict[str, Any],
    text: dict[str, Any],
    *,
    pixels: int,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Subject:
    config = CONFIG_MAPPING["llava"](
        vision_config=CONFIG_MAPPING["clip_vision_model"](**vision, image_size=pixels, patch_size=14),
        text_config=CONFIG_MAPPING["llama"](**text, vocab_size=32064, max_position_embeddings=4096),
        image_token_index=_IMAGE_TOKEN,
        image_token_id=_IMAGE_TOKEN,
    )

    def image(generator: torch.Generator) -> ImageTensors:
        return {"pixel_values": torch.randn(1, 3, pixels, pixels, generator=generator)}

    return Subject(name, _random(config, dtype=dtype, device=device), image, (pixels // 14) ** 2)


def _bundles(workload: Workload, image_token: int | None) -> list[Bundle]:
    groups = (workload.texts, *workload.images)
    return [found for group in groups for found in bundle(group, image_token=image_token)]


def _count(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run()
    return int(counter.get_total_flops())


def _random(config: Any, *, dtype: torch.dtype, device: str) -> Any:
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForImageTextToText.from_config(config, dtype=dtype).eval()


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def main() -> None:
    """Print a record of each family and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--real", action="store_true", help="models of real size on a GPU")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.real:
        sizes = Sizes(n_images=32, images_a_pass=16)
        for subject in real_models():
            agreement = compare_at_size(subject, sizes._replace(n_images=2), seed=options.seed)
            write_record(agreement, packages=_PACKAGES)
            for record in compare_speed(subject, sizes, repeats=3, seed=options.seed):
                write_record({**record, "kernels": subject.name}, packages=_PACKAGES)
        return
    for name in list(FAMILIES)[:: 6 if options.quick else 1]:
        write_record(compare_logits(name, seed=options.seed), packages=_PACKAGES)
    sizes = Sizes(n_images=2) if options.quick else Sizes()
    write_record(count_real(sizes, seed=options.seed), packages=_PACKAGES)
    subject = small_llava(quick=options.quick)
    write_record(compare_at_size(subject, sizes, seed=options.seed), packages=_PACKAGES)
    for record in compare_speed(subject, sizes, repeats=1 if options.quick else 3, seed=options.seed):
        write_record(record, packages=_PACKAGES)


if __name__ == "__main__":
    main()
