"""Alignment: image tokens begin as sums of the words for what they show.

A hidden layer learns to name the colours and shapes of each cell; the projector's last layer then turns
these names into the decoder's own embeddings of the words. Without this step binding shapes to colours
stands on a plateau for tens of thousands of samples.
"""

import logging
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.shapes import SHAPES
from mfbayes.inference.embedded.family import Family, Model, Tokenizer
from mfbayes.inference.embedded.pool import Pool
from mfbayes.inference.embedded.vision_stage import list_labels, scale_pixels

N_NAMES: Final = len(COLORS) + len(SHAPES)
_BATCH: Final = 2048  # cells
_PEAK_RATE: Final = 3e-3
_CHUNK: Final = 128  # images

logger = logging.getLogger(__name__)


@torch.no_grad()
def encode_pool(model: Model, family: Family, pool: Pool) -> Tensor:
    """Image tokens of a pool before the projector: (n, 36, width), half precision."""
    model.eval()
    parts = []
    for start in range(0, len(pool), _CHUNK):
        chosen = slice(start, start + _CHUNK)
        rows = torch.from_numpy(pool.rows[chosen].astype(np.int64))
        parts.append(family.encode(model, scale_pixels(pool.images[chosen]), rows).half())
    return torch.cat(parts)


def align(
    model: Model,
    family: Family,
    tokenizer: Tokenizer,
    features: Tensor,
    pool: Pool,
    *,
    n_steps: int,
    seed: int,
) -> None:
    """Fit the projector so that a cell's token is the sum of the words for its colours and shapes."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    names = list_labels(pool.coarse)[..., : len(COLORS) + len(SHAPES)]
    is_shown = np.arange(names.shape[1]) < pool.rows[:, None] * round(names.shape[1] ** 0.5)
    image_of, cell_of = (torch.from_numpy(part) for part in np.nonzero(is_shown))
    first, activation, last = family.projector(model)
    naming = nn.Linear(last.in_features, N_NAMES)
    layers = nn.Sequential(first, activation, naming)
    optimizer = torch.optim.Adam(layers.parameters(), lr=_PEAK_RATE)
    weights = torch.tensor([1.0] * len(COLORS) + [2.0] * len(SHAPES))
    for step in range(n_steps):
        chosen = torch.from_numpy(rng.integers(len(image_of), size=_BATCH))
        wanted = names[image_of[chosen], cell_of[chosen]]
        found = layers(features[image_of[chosen], cell_of[chosen]].float())
        loss = ((found - wanted) ** 2 * weights).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = _PEAK_RATE * max(0.02, 1 - step / n_steps)
        optimizer.step()
        if (step + 1) % 200 == 0 or step + 1 == n_steps:
            logger.info("alignment %d/%d squared error %.4f", step + 1, n_steps, loss.item())
    words = tokenizer.convert_tokens_to_ids([*COLORS, *SHAPES])
    with torch.no_grad():
        embeddings = model.get_input_embeddings().weight[words]
        last.weight.copy_(embeddings.T @ naming.weight)
        last.bias.copy_(embeddings.T @ naming.bias)
