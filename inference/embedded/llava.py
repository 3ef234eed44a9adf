"""Tiny LLaVA: a convolutional LeViT stem, a two-layer projector and a Llama decoder."""

from typing import Final

import torch
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    LevitConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from mfbayes.inference.embedded.family import Model, Prefix, Processor, Tokenizer
from mfbayes.inference.embedded.vocabulary import build_tokenizer as build_word_tokenizer

IMAGE_TOKEN: Final = "<image>"  # noqa: S105
IMAGE_SIZE: Final = 96
PATCH_SIZE: Final = 16
N_IMAGE_TOKENS: Final = (IMAGE_SIZE // PATCH_SIZE) ** 2
STEM_WIDTH: Final = 128
WIDTH: Final = 64
N_LAYERS: Final = 8
CHAT_TEMPLATE: Final = (
    "{% for m in messages %}{% if m.role == 'user' %}USER: {% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<image>\n{% else %}{{ c.text }}{% endif %}{% endfor %}"
    "{% endif %} {% else %}ASSISTANT: {% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}"
    "{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def wide_rows() -> int:
    """All: every image is squeezed into a square."""
    return IMAGE_SIZE // PATCH_SIZE


def build_tokenizer() -> Tokenizer:
    """Tokenizer with the image token and LLaVA's roles."""
    return build_word_tokenizer(extra={"image_token": IMAGE_TOKEN}, chat_template=CHAT_TEMPLATE)


def build_model(tokenizer: Tokenizer) -> Model:
    """Untrained model: 36 image tokens, 8 decoder layers of width 64."""
    # The tower's own attention stages are left empty: its output is the stem's 6 x 6 map.
    vision = LevitConfig(
        image_size=IMAGE_SIZE,
        hidden_sizes=(STEM_WIDTH, 16),
        num_attention_heads=(4,),
        depths=(0,),
        key_dim=(16,),
        mlp_ratio=(2,),
        attention_ratio=(2,),
    )
    vision.hidden_size = STEM_WIDTH
    vision.output_hidden_states = True
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=160,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
            vision_feature_layer=-2,  # the stem; an index of 0 is not accepted
            vision_feature_select_strategy="full",
            image_seq_length=N_IMAGE_TOKENS,
            tie_word_embeddings=False,
        )
    )


def build_processor(tokenizer: Tokenizer) -> Processor:
    """Processor that squeezes any image into 96 x 96 px."""
    images = CLIPImageProcessorPil(
        do_resize=True,
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH_SIZE,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        num_additional_image_tokens=0,
    )


def build_heads(n_labels: int) -> nn.ModuleDict:
    """One hidden layer between a cell's features and what the cell shows."""
    last = nn.Linear(192, n_labels)
    nn.init.constant_(last.bias, -2.5)
    return nn.ModuleDict({"coarse": nn.Sequential(nn.Linear(STEM_WIDTH, 192), nn.GELU(), last)})


def score_cells(model: Model, heads: nn.ModuleDict, pixels: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """Logits of the 6 x 6 cells."""
    return {"coarse": heads["coarse"](encode(model, pixels, rows))}


def encode(model: Model, pixels: Tensor, rows: Tensor) -> Tensor:
    """Features of the stem, (n, 36, 128); every image fills all rows."""
    features: Tensor = model.model.vision_tower.patch_embeddings(pixels)
    return features


def vision_tower(model: Model) -> nn.Module:
    """The LeViT tower."""
    tower: nn.Module = model.model.vision_tower
    return tower


def projector(model: Model) -> tuple[nn.Linear, nn.Module, nn.Linear]:
    """Both layers of the multimodal projector."""
    layers = model.model.multi_modal_projector
    return layers.linear_1, layers.act, layers.linear_2


def vision_parameters(model: Model) -> list[nn.Parameter]:
    """Weights of the stem."""
    return list(model.model.vision_tower.patch_embeddings.parameters())


def lay_prefix(tokenizer: Tokenizer) -> Prefix:
    """Start, role and image; positions count up through the image."""
    before = tokenizer(f"USER: {IMAGE_TOKEN}").input_ids[:-1]
    length = len(before) + N_IMAGE_TOKENS
    return Prefix(before, [], torch.arange(length)[None], length)
