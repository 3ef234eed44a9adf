"""Logit lens: what each decoder layer would answer, read through the model's own final norm and head."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mfbayes.inference.parts import Parts, residual_stream


@contextmanager
def reading(parts: Parts, positions: torch.Tensor, *, layers: bool) -> Iterator[None]:
    """While open, the model's logits are those of one position a row, and of every layer there if asked.

    The head's input is replaced on its way in, so that whatever the model does to its logits (scaling,
    soft caps) is done to every layer's. The last layer's row is the model's own answer.

    Parameters
    ----------
    parts : Parts
        Of the model that is run.
    positions : torch.Tensor, shape (n_prompts,)
        Index of the token after which the answer comes.
    layers : bool
        Whether logits have shape (n_prompts, n_layers, n_vocabulary), first to last layer, or
        (n_prompts, 1, n_vocabulary).
    """
    rows = torch.arange(len(positions), device=positions.device)
    residuals: list[torch.Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        residuals.append(residual_stream(output)[rows, positions])

    def replace(module: nn.Module, args: Any) -> tuple[torch.Tensor, ...]:
        hidden = args[0][rows, positions][:, None]
        if layers:
            earlier = parts.norm(torch.stack(residuals, dim=1))
            hidden = torch.cat([earlier.to(hidden.dtype), hidden], dim=1)
        return (hidden, *args[1:])

    hooks = [layer.register_forward_hook(keep) for layer in parts.layers[:-1] if layers]
    hooks.append(parts.head.register_forward_pre_hook(replace))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
