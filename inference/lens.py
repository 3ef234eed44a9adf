"""Logit lens: what each decoder layer would answer, read through the model's own final norm and head."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from mfbayes.errors import InputError
from mfbayes.inference.parts import Parts, residual_stream


@dataclass(frozen=True, slots=True)
class Places:
    """Where answers begin in a batch.

    Attributes
    ----------
    rows, columns : torch.Tensor, shape (n_prompts,)
        Row of the batch, and index of the token after which the answer comes.
    layered : torch.Tensor, shape (n_prompts,)
        Whether every layer is read there or the last one alone.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    layered: torch.Tensor


class Readings(NamedTuple):
    """Logits of the first answer token.

    Attributes
    ----------
    last : torch.Tensor, shape (n_prompts, n_vocabulary)
        The model's own.
    earlier : torch.Tensor, shape (n_layered, n_layers - 1, n_vocabulary)
        What the layers before the last would answer, of the prompts where all are read.
    """

    last: torch.Tensor
    earlier: torch.Tensor


@contextmanager
def reading(parts: Parts, places: Places) -> Iterator[None]:
    """While open, the model's logits are those of the places alone; `split_readings` tells them apart.

    The head's input is replaced on its way in, so that whatever the model does to its logits (scaling,
    soft caps) is done to every layer's. Layers keep the places alone: memory does not grow with the prompts.

    Parameters
    ----------
    parts : Parts
        Of the model that is run.
    places : Places
    """
    chosen = (places.rows[places.layered], places.columns[places.layered])
    residuals: list[torch.Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        residuals.append(_pick(residual_stream(output), *chosen))

    def replace(module: nn.Module, args: Any) -> tuple[torch.Tensor, ...]:
        hidden = _pick(args[0], places.rows, places.columns)
        if len(chosen[0]):
            if len(residuals) != len(parts.layers) - 1:
                raise InputError(
                    f"Only {len(residuals)} of {len(parts.layers) - 1} layers before the last ran once: this model "
                    "cannot be read layer by layer."
                )
            states = torch.stack([residual.to(hidden.device) for residual in residuals], dim=1)
            hidden = torch.cat([hidden, parts.norm(states).flatten(0, 1).to(hidden.dtype)])
        return (hidden[None], *args[1:])

    hooks = [layer.register_forward_hook(keep) for layer in parts.layers[:-1] if len(chosen[0])]
    hooks.append(parts.head.register_forward_pre_hook(replace))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def split_readings(logits: torch.Tensor, places: Places) -> Readings:
    """Tell apart what the model gave while it was read, shape (1, n_readings, n_vocabulary)."""
    n_prompts, n_layered = len(places.rows), int(places.layered.sum())
    last, earlier = logits[0, :n_prompts], logits[0, n_prompts:]
    return Readings(last, earlier.reshape(n_layered, -1, earlier.shape[-1]) if n_layered else earlier[:, None])


def _pick(hidden: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    return hidden[rows.to(hidden.device), columns.to(hidden.device)]
