"""Small random models of real classes, saved as a user's would be, and a small dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PaddleOCRVLProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessor,
)

from mfbayes.data_gen.generation import generate
from mfbayes.datasets import Dataset

COLORS = ("red", "yellow", "blue", "green", "purple", "orange")
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "IMAGE_MARK\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TEXT_SIZE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}


def byte_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE: some colours are one token, others begin with a shared piece."""
    corpus = ["The square is red. What color is the square? blue yellow Please use one word to answer USER: ASSISTANT:"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>", *special]
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **dict(zip(("pad_token", "bos_token", "eos_token"), specials, strict=False)),
        additional_special_tokens=list(special),
        extra_special_tokens={"image_token": special[0]} if special else {},
    )


def roughen(model: Any) -> Any:
    """Spread untrained weights, norms and empty projectors too, so that no error can hide behind ones and zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.mul_(3.0).add_(0.05 * noise)
            else:
                parameter.add_((0.2 if "norm" in name else 0.05) * noise)
    return model.eval()


def text_size(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return {**TEXT_SIZE, "vocab_size": len(tokenizer), **ids}


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    return int(tokenizer.vocab[token])


def save_llava(folder: Path) -> None:
    tokenizer = byte_tokenizer("<image>")
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**text_size(tokenizer)),
        image_token_index=token_id(tokenizer, "<image>"),
    )
    roughen(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    images = CLIPImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)
    LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("IMAGE_MARK", "<image>"),
    ).save_pretrained(folder)


def save_qwen(folder: Path) -> None:
    marks = ("<|image_pad|>", "<|vision_start|>", "<|video_pad|>", "<|vision_end|>")
    tokenizer = byte_tokenizer(*marks)
    image, start, video, end = (token_id(tokenizer, mark) for mark in marks)
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "out_hidden_size": 32,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "intermediate_size": 64,
            "window_size": 32,
            "fullatt_block_indexes": [1],
        },
        text_config={**text_size(tokenizer), "rope_parameters": rope},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    roughen(Qwen2_5_VLForConditionalGeneration(config)).save_pretrained(folder)
    size = {"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
    # Qwen's own processor needs torchvision for videos; this one does the same to images without it.
    PaddleOCRVLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=8, merge_size=2, temporal_patch_size=2, size=size),
        tokenizer=tokenizer,
        chat_template=TEMPLATE.replace("IMAGE_MARK", "<|vision_start|><|image_pad|><|vision_end|>"),
    ).save_pretrained(folder)


def save_idefics(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    images = Idefics3ImageProcessor(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=True
    )
    processor = Idefics3Processor(
        image_processor=images,
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=TEMPLATE.replace("IMAGE_MARK", "<image>"),
    )
    torch.manual_seed(0)
    config = Idefics3Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        text_config=LlamaConfig(**text_size(tokenizer)),
        image_token_id=token_id(tokenizer, "<image>"),
        scale_factor=2,
    )
    roughen(Idefics3ForConditionalGeneration(config)).save_pretrained(folder)
    processor.save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {"llava": save_llava, "qwen": save_qwen, "idefics": save_idefics}


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of one small model a family."""
    root = tmp_path_factory.mktemp("models")
    for name, build in BUILDERS.items():
        build(root / name)
    return {name: root / name for name in BUILDERS}


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two groups of the colour task."""
    return generate(tmp_path_factory.mktemp("dataset"), n_groups=2, seed=5, workers=1)
