"""Tiny Qwen2.5-VL: a vision transformer of 8-px patches, its merger and a decoder with multimodal positions."""

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    PaddleOCRVLProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from mfbayes.inference.embedded.family import Model, Prefix, Processor, Tokenizer
from mfbayes.inference.embedded.vocabulary import build_tokenizer as build_word_tokenizer

IMAGE_TOKEN: Final = "<|image_pad|>"  # noqa: S105
VIDEO_TOKEN: Final = "<|video_pad|>"  # noqa: S105
VISION_START: Final = "<|vision_start|>"
VISION_END: Final = "<|vision_end|>"
IMAGE_SIZE: Final = 96
PATCH_SIZE: Final = 8
MERGE: Final = 2
GRID: Final = IMAGE_SIZE // PATCH_SIZE
SIDE: Final = GRID // MERGE
WIDTH: Final = 64
N_LAYERS: Final = 8
VISION_WIDTH: Final = 96
N_HEADS: Final = 8
CHAT_TEMPLATE: Final = (
    "{% for m in messages %}{% if m.role == 'user' %}USER: {% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|> "
    "{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %} {% else %}ASSISTANT: {% if m.content is string %}"
    "{{ m.content }}{% else %}{{ m.content[0].text }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def wide_rows() -> int:
    """Five: the processor keeps the ratio as far as 16-px steps allow, 96 x 80 px for 800 x 600."""
    return 5


def build_tokenizer() -> Tokenizer:
    """Tokenizer with the family's vision tokens."""
    return build_word_tokenizer(
        extra={
            "image_token": IMAGE_TOKEN,
            "video_token": VIDEO_TOKEN,
            "vision_bos_token": VISION_START,
            "vision_eos_token": VISION_END,
        },
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: Tokenizer) -> Model:
    """Untrained model, its vision transformer started as a stack of 3 x 3 neighbourhoods."""
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 3,
            "hidden_size": VISION_WIDTH,
            "intermediate_size": 192,
            "num_heads": N_HEADS,
            "patch_size": PATCH_SIZE,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 1,
            "window_size": IMAGE_SIZE,
            "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [0, 1, 2],
            "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 160,
            "num_hidden_layers": N_LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO_TOKEN),
        vision_start_token_id=tokenizer.convert_tokens_to_ids(VISION_START),
        vision_end_token_id=tokenizer.convert_tokens_to_ids(VISION_END),
        tie_word_embeddings=False,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    look_at_neighbours(model.model.visual)
    return model


@torch.no_grad()
def look_at_neighbours(vision: Model, *, sharpness: tuple[float, float] = (8.0, 6.0)) -> None:
    """Start the vision transformer with head j attending to the patch in direction j.

    Query and key biases of the two fastest rotary frequencies of each axis are set so that their product
    peaks at an offset of one patch: the class stays as it is, but its heads begin as a 3 x 3 convolution,
    without which shapes are learned several times more slowly.

    Parameters
    ----------
    vision : nn.Module
        Vision transformer of a Qwen2.5-VL model.
    sharpness : (float, float)
        Height of the peak, in logits, for the fastest and the second frequency.
    """
    width, n_heads, depth = vision.config.hidden_size, vision.config.num_heads, len(vision.blocks)
    size = width // n_heads
    frequencies = vision.rotary_pos_emb.inv_freq
    n_frequencies = len(frequencies)
    directions = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
    patches = vision.patch_embed.proj.weight
    patches.normal_(0, patches[0].numel() ** -0.5)
    for block in vision.blocks:
        weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
        weight[: 2 * width].normal_(0, 0.03)
        weight[2 * width :].normal_(0, width**-0.5)
        bias.zero_()
        for head in range(n_heads):
            for index, height in enumerate(sharpness):
                length = math.sqrt(height * math.sqrt(size))
                for start, offset in zip((0, n_frequencies), directions[head % len(directions)], strict=True):
                    turn = offset * float(frequencies[index])
                    place = head * size + start + index
                    bias[width + place] = length
                    bias[place] = length * math.cos(turn)
                    bias[place + size // 2] = length * math.sin(turn)
        block.attn.proj.weight.normal_(0, (2 * width * depth) ** -0.5)
        block.attn.proj.bias.zero_()
        for layer in (block.mlp.gate_proj, block.mlp.up_proj):
            layer.weight.normal_(0, width**-0.5)
            layer.bias.zero_()
        block.mlp.down_proj.weight.normal_(0, (vision.config.intermediate_size * depth) ** -0.5)
        block.mlp.down_proj.bias.zero_()
    first = vision.merger.mlp[0]
    first.weight.normal_(0, first.in_features**-0.5)
    first.bias.zero_()


def build_processor(tokenizer: Tokenizer) -> Processor:
    """Processor that gives every image about 96 x 96 px of area.

    Qwen's own processor also asks for a video processor, which needs torchvision; this one makes the same
    inputs of images and texts, and has no videos.
    """
    images = Qwen2VLImageProcessorPil(
        patch_size=PATCH_SIZE,
        temporal_patch_size=1,
        merge_size=MERGE,
        size={"shortest_edge": IMAGE_SIZE**2, "longest_edge": IMAGE_SIZE**2},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return PaddleOCRVLProcessor(  # type: ignore[no-untyped-call]
        image_processor=images, tokenizer=tokenizer, chat_template=CHAT_TEMPLATE
    )


def build_heads(n_labels: int) -> nn.ModuleDict:
    """Linear heads on the merger's hidden layer and on single patches."""
    heads = {"coarse": nn.Linear(MERGE**2 * VISION_WIDTH, n_labels), "fine": nn.Linear(VISION_WIDTH, n_labels)}
    for head in heads.values():
        nn.init.constant_(head.bias, -2.5)
    return nn.ModuleDict(heads)


def score_cells(model: Model, heads: nn.ModuleDict, pixels: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """Logits of 6 x 6 merged tokens and of 12 x 12 patches."""
    patches = _see(model.model.visual, pixels, rows)
    first, activation, _ = projector(model)
    fine: Tensor = heads["fine"](patches)
    n_labels = fine.shape[-1]
    by_row = fine.view(-1, SIDE, SIDE, MERGE, MERGE, n_labels).transpose(2, 3).reshape(-1, GRID**2, n_labels)
    return {"coarse": heads["coarse"](activation(first(_merge(patches)))), "fine": by_row}


def encode(model: Model, pixels: Tensor, rows: Tensor) -> Tensor:
    """Normalised patches, four to a token: (n, 36, 384)."""
    return _merge(_see(model.model.visual, pixels, rows))


def _merge(patches: Tensor) -> Tensor:
    return patches.view(-1, SIDE**2, MERGE**2 * VISION_WIDTH)


def _see(vision: Model, pixels: Tensor, rows: Tensor) -> Tensor:
    """Vision transformer over a batch of equal grids, up to and with the merger's norm: (n, 144, 96).

    The model's own forward loops over images; this one takes a whole batch and hides the rows below an
    image from its attention, which gives the same numbers.
    """
    n_images = len(pixels)
    blocks = pixels.reshape(n_images, 3, SIDE, MERGE, PATCH_SIZE, SIDE, MERGE, PATCH_SIZE)
    patches = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(n_images, GRID**2, -1)
    hidden = patches @ vision.patch_embed.proj.weight.reshape(VISION_WIDTH, -1).T
    axis = torch.arange(GRID).view(SIDE, MERGE)
    y = axis[:, None, :, None].expand(SIDE, SIDE, MERGE, MERGE).reshape(-1)
    x = axis[None, :, None, :].expand(SIDE, SIDE, MERGE, MERGE).reshape(-1)
    frequencies = vision.rotary_pos_emb.inv_freq
    angles = torch.cat([y[:, None] * frequencies, x[:, None] * frequencies], dim=-1).repeat(1, 2)
    cosine, sine = angles.cos(), angles.sin()
    seen = None
    if int(rows.min()) < SIDE:
        seen = (torch.arange(GRID**2) < rows[:, None] * (MERGE**2 * SIDE))[:, None, None]
    for block in vision.blocks:
        shape = (n_images, GRID**2, 3, N_HEADS, VISION_WIDTH // N_HEADS)
        query, key, value = block.attn.qkv(block.norm1(hidden)).view(shape).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = (part * cosine + _rotate(part) * sine for part in (query, key))
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=seen)
        hidden = hidden + block.attn.proj(mixed.transpose(1, 2).reshape(n_images, GRID**2, VISION_WIDTH))
        hidden = hidden + block.mlp(block.norm2(hidden))
    normalised: Tensor = vision.merger.ln_q(hidden)
    return normalised


def _rotate(values: Tensor) -> Tensor:
    half = values.shape[-1] // 2
    return torch.cat([-values[..., half:], values[..., :half]], dim=-1)


def vision_tower(model: Model) -> nn.Module:
    """The vision transformer, merger included."""
    tower: nn.Module = model.model.visual
    return tower


def projector(model: Model) -> tuple[nn.Linear, nn.Module, nn.Linear]:
    """Both layers of the merger."""
    first, activation, last = model.model.visual.merger.mlp
    return first, activation, last


def vision_parameters(model: Model) -> list[nn.Parameter]:
    """Weights of the vision transformer, and of the merger but for its last layer."""
    last = "merger.mlp.2."
    return [weight for name, weight in model.model.visual.named_parameters() if not name.startswith(last)]


def lay_prefix(tokenizer: Tokenizer) -> Prefix:
    """Start, role, image and its two marks; image tokens share a time and count rows and columns."""
    before = tokenizer(f"USER: {VISION_START}").input_ids
    after = [tokenizer.convert_tokens_to_ids(VISION_END)]
    n_before, n_image = len(before), SIDE**2
    positions = torch.zeros(3, n_before + n_image + 1, dtype=torch.int64)
    positions[:, :n_before] = torch.arange(n_before)
    cells = torch.arange(SIDE)
    positions[:, n_before : n_before + n_image] = n_before
    positions[1, n_before : n_before + n_image] += cells.repeat_interleave(SIDE)
    positions[2, n_before : n_before + n_image] += cells.repeat(SIDE)
    positions[:, -1] = n_before + SIDE
    return Prefix(before, after, positions, n_before + SIDE + 1)
