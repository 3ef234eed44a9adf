"""Optimiser and learning-rate schedule that all stages share."""

import math
from collections.abc import Iterable
from typing import Final

from torch import nn
from torch.optim import AdamW, Optimizer

WARM_UP: Final = 100  # steps
_FLOOR: Final = 0.03  # of the peak rate
_MAX_NORM: Final = 1.0


def build_optimizer(parameters: Iterable[nn.Parameter], *, learning_rate: float) -> Optimizer:
    """AdamW whose weight decay spares biases, norms and other vectors."""
    listed = list(parameters)
    return AdamW(
        [
            {"params": [weight for weight in listed if weight.ndim > 1], "weight_decay": 0.05},
            {"params": [weight for weight in listed if weight.ndim < 2], "weight_decay": 0.0},
        ],
        lr=learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )


def rate_at(step: int, *, n_steps: int, peak: float) -> float:
    """Learning rate of a step: a short linear rise, then half a cosine down to 3 % of the peak.

    Examples
    --------
    >>> rate_at(0, n_steps=1000, peak=1.0), round(rate_at(999, n_steps=1000, peak=1.0), 3)
    (0.01, 0.03)
    """
    fall = 0.5 * (1 + math.cos(math.pi * step / n_steps))
    return peak * min(1.0, (step + 1) / WARM_UP) * (_FLOOR + (1 - _FLOOR) * fall)


def step_with(optimizer: Optimizer, *, learning_rate: float) -> None:
    """Clip the gradients, take one step at a rate and forget the gradients."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        nn.utils.clip_grad_norm_(group["params"], _MAX_NORM)
    optimizer.step()
    optimizer.zero_grad()
