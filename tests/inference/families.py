"""Small random models of real classes, with prompts about images made by hand where a processor needs files."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

from mfbayes.inference.encoding import Encoded, Encoder, ImageTensors
from mfbayes.inference.loading import DTYPES, LoadedModel, _widen_head
from mfbayes.inference.parts import find_parts
from mfbayes.inference.passes import Passes
from mfbayes.inference.prompts import Prompt

IMAGE_TOKEN = 300
N_VOCABULARY = 320
SUFFIXES = (9, 17, 13, 6)
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": N_VOCABULARY,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
QWEN_IDS = {"video_token_id": 301, "vision_start_token_id": 302, "vision_end_token_id": 303}
PINPOINTS = [[32, 64], [64, 32], [64, 64]]


@dataclass(frozen=True)
class Family:
    """How to build a small model of a class, and an image as its processor would give it.

    `n_tokens` stand for the image; `image(generator)` gives one image's tensors; `marks` names sequences that say
    which tokens those are, `blanks` sequences of zeros; `cross` is whether tokens name the tiles they look at.
    """

    config: Callable[[], Any]
    n_tokens: int
    image: Callable[[torch.Generator], ImageTensors]
    marks: tuple[str, ...] = ()
    blanks: tuple[str, ...] = ()
    cross: bool = False


def _config(kind: str, **settings: Any) -> Any:
    return CONFIG_MAPPING[kind](**settings)


def _clip() -> Any:
    return _config("clip_vision_model", **{**VISION, "num_hidden_layers": 3}, projection_dim=32)


def _siglip() -> Any:
    return _config("siglip_vision_model", **{**VISION, "num_hidden_layers": 3})


def _image_ids() -> dict[str, int]:
    return {"image_token_id": IMAGE_TOKEN, "image_token_index": IMAGE_TOKEN}


def _pixels(*shape: int, **more: Any) -> Callable[[torch.Generator], ImageTensors]:
    def image(generator: torch.Generator) -> ImageTensors:
        return {"pixel_values": torch.randn(1, *shape, generator=generator)} | {
            name: torch.tensor(value) for name, value in more.items()
        }

    return image


def _patches(generator: torch.Generator) -> ImageTensors:
    return {"pixel_values": torch.randn(24, 384, generator=generator), "image_grid_thw": torch.tensor([[1, 4, 6]])}


def _qwen(kind: str, text: dict[str, Any], vision: dict[str, Any]) -> Family:
    shared = {"num_heads": 2, "patch_size": 8, "spatial_merge_size": 2, "temporal_patch_size": 2}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3], **text.pop("rope", {})}

    def config() -> Any:
        return _config(
            kind,
            vision_config=shared | vision,
            text_config={**TEXT, **text, "rope_parameters": rope},
            image_token_id=IMAGE_TOKEN,
            **QWEN_IDS,
        )

    return Family(config, 6, _patches, marks=("mm_token_type_ids",))


def _mllama() -> Any:
    text = {**TEXT, "num_hidden_layers": 5, "cross_attention_layers": [1, 3]}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4}
    vision = {
        **{name: VISION[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers")},
        **{"num_global_layers": 1, "attention_heads": 2, "image_size": 32, "patch_size": 8, "max_num_tiles": 2},
        **{"intermediate_layers_indices": [0, 1], "vision_output_dim": 96},
        "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
    }
    return _config("mllama", vision_config=vision, text_config=text, **_image_ids())


def _gemma3() -> Any:
    kinds = ["sliding_attention", "full_attention"] * 2
    text = {**TEXT, "head_dim": 16, "sliding_window": 9, "layer_types": kinds, "query_pre_attn_scalar": 16}
    return _config("gemma3", vision_config=_siglip(), text_config=text, mm_tokens_per_image=4, **_image_ids())


def _onevision() -> Any:
    return _config(
        "llava_onevision",
        vision_config=_siglip(),
        text_config=_config("qwen2", **TEXT),
        video_token_index=301,
        video_token_id=301,
        image_grid_pinpoints=PINPOINTS,
        **_image_ids(),
    )


def _idefics(kind: str) -> Family:
    def config() -> Any:
        return _config(
            kind,
            vision_config=VISION,
            text_config=_config("llama", **TEXT),
            image_token_id=IMAGE_TOKEN,
            scale_factor=2,
        )

    return Family(config, 4, _pixels(1, 3, 32, 32))


def _internvl() -> Any:
    vision = _config("internvl_vision", **{**VISION, "image_size": [32, 32], "patch_size": [8, 8]})
    return _config(
        "internvl",
        vision_config=vision,
        text_config=_config("qwen2", **TEXT),
        image_token_id=IMAGE_TOKEN,
        image_seq_length=4,
        downsample_ratio=0.5,
    )


FAMILIES: dict[str, Family] = {
    "llava": Family(
        lambda: _config("llava", vision_config=_clip(), text_config=_config("llama", **TEXT), **_image_ids()),
        16,
        _pixels(3, 32, 32),
    ),
    "llava_next": Family(
        lambda: _config(
            "llava_next",
            vision_config=_clip(),
            text_config=_config("llama", **TEXT),
            image_grid_pinpoints=PINPOINTS,
            **_image_ids(),
        ),
        88,
        _pixels(5, 3, 32, 32, image_sizes=[[64, 64]]),
    ),
    "llava_onevision": Family(_onevision, 88, _pixels(5, 3, 32, 32, image_sizes=[[64, 64]], batch_num_images=[1])),
    "qwen2_vl": _qwen("qwen2_vl", {}, {"depth": 2, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}),
    "qwen2_5_vl": _qwen(
        "qwen2_5_vl",
        {},
        {
            **{"depth": 2, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 64},
            **{"window_size": 32, "fullatt_block_indexes": [1]},
        },
    ),
    "qwen3_vl": _qwen(
        "qwen3_vl",
        {"head_dim": 16, "rope": {"mrope_interleaved": True}},
        {
            **{"depth": 3, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 64},
            **{"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64},
        },
    ),
    "internvl": Family(_internvl, 4, _pixels(3, 32, 32)),
    "idefics3": _idefics("idefics3"),
    "smolvlm": _idefics("smolvlm"),
    "gemma3": Family(_gemma3, 4, _pixels(3, 32, 32), marks=("token_type_ids",)),
    "paligemma": Family(
        lambda: _config(
            "paligemma",
            vision_config=_siglip(),
            text_config=_config("gemma", **{**TEXT, "head_dim": 16}),
            projection_dim=64,
            **_image_ids(),
        ),
        16,
        _pixels(3, 32, 32),
        blanks=("token_type_ids",),
    ),
    "mllama": Family(
        _mllama,
        1,
        _pixels(1, 2, 3, 32, 32, aspect_ratio_ids=[[1]], aspect_ratio_mask=[[[1, 0]]]),
        cross=True,
    ),
    "mistral3": Family(
        lambda: _config(
            "mistral3",
            vision_config=_config("pixtral", **{name: VISION[name] for name in VISION}, head_dim=16),
            text_config=_config("mistral", **{**TEXT, "head_dim": 16}),
            spatial_merge_size=2,
            **_image_ids(),
        ),
        4,
        _pixels(3, 32, 32, image_sizes=[[32, 32]]),
    ),
}


def spread(model: Any, *, gain: float) -> None:
    """Spread untrained weights, norms and gates too, so that no error can hide behind ones and zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "attn_gate" in path or "mlp_gate" in path:
                parameter.fill_(0.7)
            elif parameter.ndim >= 2:
                parameter.mul_(gain).add_(0.05 * noise)
            else:
                parameter.add_((0.2 if "norm" in path else 0.05) * noise)


def build(name: str, *, dtype: str = "float32", gain: float = 3.0) -> tuple[Any, Passes]:
    """A model of a family, weights spread by `gain`, and its passes."""
    torch.manual_seed(0)
    model: Any = AutoModelForImageTextToText.from_config(FAMILIES[name].config(), dtype=torch.float32).eval()
    spread(model, gain=gain)
    processor = SimpleNamespace(tokenizer=SimpleNamespace(pad_token_id=0, eos_token_id=2))
    if dtype != "float32":
        model = model.to(DTYPES[dtype])
        _widen_head(model)
    loaded = LoadedModel(model, processor, torch.device("cpu"), dtype)
    return model, Passes(loaded, find_parts(model, name=name), Encoder(processor))


def prompts_about(name: str, *, seed: int, layered: bool = True, text_first: bool = False) -> list[Encoded]:
    """Prompts of different lengths about one image; another seed is another image and asks the same."""
    family = FAMILIES[name]
    image = family.image(torch.Generator().manual_seed(seed))
    words = torch.Generator().manual_seed(5)
    start, seen = [1, 11, 12], [IMAGE_TOKEN] * family.n_tokens
    drawn = [torch.randint(5, 290, (n,), generator=words).tolist() for n in SUFFIXES]
    prompts = [start + own + seen + [13] if text_first else start + seen + own for own in drawn]
    return [_encode(family, ids, image, layered=layered) for ids in prompts]


def texts(name: str) -> list[Encoded]:
    """Prompts without an image that begin alike."""
    words = torch.Generator().manual_seed(6)
    family = FAMILIES[name]
    return [
        _encode(family, [1, 11, 12, *torch.randint(5, 290, (n,), generator=words).tolist()], {}, layered=False)
        for n in SUFFIXES
    ]


def _encode(family: Family, ids: list[int], image: ImageTensors, *, layered: bool) -> Encoded:
    sequences: dict[str, list[Any]] = {"input_ids": ids, "attention_mask": [1] * len(ids)}
    for mark in family.marks:
        sequences[mark] = [int(token == IMAGE_TOKEN) for token in ids]
    for blank in family.blanks:
        sequences[blank] = [0] * len(ids)
    if family.cross and image:
        sequences["cross_attention_mask"] = [[[1, 0]]] * len(ids)
    return Encoded(Prompt(str(len(ids)), "image" if image else "", ("a", "b") if layered else ()), sequences, image)
