"""Vision stage: the vision tower learns to say which colours, shapes and pairs each image cell shows."""

import logging
import time
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.shapes import SHAPES
from mfbayes.inference.embedded.family import Family, Model
from mfbayes.inference.embedded.optimisation import build_optimizer, rate_at, step_with
from mfbayes.inference.embedded.pool import N_PAIRS, N_ROWS, Pool

N_LABELS: Final = len(COLORS) + len(SHAPES) + N_PAIRS
_N_SINGLE: Final = len(COLORS) + len(SHAPES)
_BATCH: Final = 64
_FINE_WEIGHT: Final = 0.5
_REPORT_EVERY: Final = 50

logger = logging.getLogger(__name__)


def train_vision(model: Model, family: Family, pool: Pool, *, n_steps: int, learning_rate: float, seed: int) -> None:
    """Train a model's vision tower on the cells of a pool's images, mirrored at random.

    Every shape is its own mirror image, so mirroring doubles the pool.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    heads = family.build_heads(N_LABELS)
    parameters = [*family.vision_parameters(model), *heads.parameters()]
    optimizer = build_optimizer(parameters, learning_rate=learning_rate)
    positive_weight = torch.tensor([1.0] * len(COLORS) + [2.0] * (len(SHAPES) + N_PAIRS))
    began, losses = time.monotonic(), []
    model.train()
    for step in range(n_steps):
        chosen = rng.integers(len(pool), size=_BATCH)
        pixels, targets = _assemble(pool, chosen, mirrored=bool(rng.integers(2)))
        rows = torch.from_numpy(pool.rows[chosen].astype(np.int64))
        scores = family.score_cells(model, heads, pixels, rows)
        loss = torch.zeros(())
        for name, logits in scores.items():
            shown = _list_shown(rows, logits.shape[1])
            part = binary_cross_entropy_with_logits(logits[shown], targets[name][shown], pos_weight=positive_weight)
            loss = loss + part * N_LABELS * (1.0 if name == "coarse" else _FINE_WEIGHT)
        loss.backward()  # type: ignore[no-untyped-call]
        step_with(optimizer, learning_rate=rate_at(step, n_steps=n_steps, peak=learning_rate))
        losses.append(loss.item())
        if (step + 1) % _REPORT_EVERY == 0 or step + 1 == n_steps:
            easy = torch.from_numpy((pool.tiers[chosen] >= 1) & (pool.tiers[chosen] <= 4))
            logger.info(
                "vision %d/%d %.0f s loss %.3f F1 all: %s easy: %s",
                step + 1,
                n_steps,
                time.monotonic() - began,
                np.mean(losses[-_REPORT_EVERY:]),
                _describe_scores(scores["coarse"], targets["coarse"]),
                _describe_scores(scores["coarse"][easy], targets["coarse"][easy]),
            )
    model.eval()


def _assemble(pool: Pool, chosen: NDArray[np.int64], *, mirrored: bool) -> tuple[Tensor, dict[str, Tensor]]:
    images, cells = pool.images[chosen], {"fine": pool.fine[chosen], "coarse": pool.coarse[chosen]}
    if mirrored:
        images = images[:, :, ::-1]
        cells = {name: _mirror(values) for name, values in cells.items()}
    return scale_pixels(images), {name: list_labels(values) for name, values in cells.items()}


def _mirror(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    side = round(cells.shape[1] ** 0.5)
    return cells.reshape(len(cells), side, side, -1)[:, :, ::-1].reshape(cells.shape)


def scale_pixels(images: NDArray[np.uint8]) -> Tensor:
    """Pixels in [-1, 1], channels first, as the processors make them."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return (tensor.float() / 127.5 - 1).contiguous()


def list_labels(pairs: NDArray[np.bool_]) -> Tensor:
    """Labels of cells: 6 colours, 8 shapes and 48 pairs, each 0 or 1; shape (n, cells, 62)."""
    shown = torch.from_numpy(pairs).float()
    by_shape = shown.view(*shown.shape[:2], len(SHAPES), len(COLORS))
    return torch.cat([by_shape.amax(2), by_shape.amax(3), shown], dim=-1)


def _list_shown(rows: Tensor, n_cells: int) -> Tensor:
    """Which cells belong to the images, not to the padding below; shape (n, cells)."""
    return torch.arange(n_cells) < rows[:, None] * (n_cells // N_ROWS)


def _describe_scores(logits: Tensor, targets: Tensor) -> str:
    with torch.no_grad():
        named = (logits > 0).float()
        parts = {
            "colour": slice(0, len(COLORS)),
            "shape": slice(len(COLORS), _N_SINGLE),
            "pair": slice(_N_SINGLE, N_LABELS),
        }
        return " ".join(f"{name} {_f1(named[..., part], targets[..., part]):.3f}" for name, part in parts.items())


def _f1(named: Tensor, true: Tensor) -> float:
    return float(2 * (named * true).sum() / (named.sum() + true.sum() + 1e-9))
