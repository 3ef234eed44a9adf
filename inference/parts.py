"""Decoder layers, final norm and head of a model, found by structure and not by its name."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mfbayes.errors import InputError

# Of broken weights in a message.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Parts:
    """The pieces of a decoder that a logit lens needs.

    Attributes
    ----------
    layers : tuple of torch.nn.Module
        Decoder layers, first to last.
    norm : torch.nn.Module
        Final norm: what it makes of the last layer's residual stream is the head's input.
    head : torch.nn.Module
        Output embeddings.
    """

    layers: tuple[nn.Module, ...]
    norm: nn.Module
    head: nn.Module


def find_parts(model: Any, *, name: str) -> Parts:
    """Find the pieces by a dummy pass over a few tokens.

    Layers are the shallowest list of modules as long as the configuration says; the final norm is the leaf
    module whose output is the head's input.

    Raises
    ------
    InputError
        If the model is built in another way, so that a lens would show something else; or if its weights, or what
        it makes of a few tokens, are not finite.
    """
    head, decoder = model.get_output_embeddings(), model.get_decoder()
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = [
        (path.count("."), module)
        for path, module in decoder.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    if head is None or not lists:
        raise InputError(f"The {count} decoder layers or the output head of {name} were not found: it cannot be read.")
    layers = tuple(min(lists, key=lambda entry: entry[0])[1])
    norm = _find_norm(model, decoder, layers[-1], head)
    if norm is None:
        # Values that are not finite equal nothing, not even themselves.
        if broken := name_broken_weights(model):
            raise InputError(f"{name} has weights that are not finite: {broken}. Fetch or save it again.")
        raise InputError(
            f"No final norm stands between the last layer of {name} and its head, so its layers cannot be read."
        )
    return Parts(layers, norm, head)


def _find_norm(model: Any, decoder: nn.Module, last: nn.Module, head: nn.Module) -> nn.Module | None:
    outputs: list[tuple[nn.Module, torch.Tensor]] = []
    residual: list[torch.Tensor] = []
    arriving: list[torch.Tensor] = []

    def keep_output(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            outputs.append((module, output))

    hooks = [leaf.register_forward_hook(keep_output) for leaf in decoder.modules() if not list(leaf.children())]
    hooks.append(last.register_forward_hook(lambda module, args, output: residual.append(residual_stream(output))))
    hooks.append(head.register_forward_pre_hook(lambda module, args: arriving.append(args[0])))
    try:
        with torch.inference_mode():
            model(input_ids=torch.tensor([[1, 2, 3, 4, 5]], device=model.device), use_cache=False)
            hidden = arriving[-1]
            matches = [module for module, out in outputs if _is_same(out, hidden)]
            norm = matches[-1] if matches else None
            if norm is not None and _is_same(norm(residual[-1]), hidden):
                return norm
    finally:
        for hook in hooks:
            hook.remove()
    return None


def name_broken_weights(model: nn.Module) -> str:
    """Names of weights that hold NaN or infinite values, how many of how many; empty where all are finite.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    str
        Three of them at most, in the order of the model, and how many more there are.
    """
    counts = {name: int((~torch.isfinite(weights)).sum()) for name, weights in model.named_parameters()}
    broken = [f"{name} ({count} of {model.get_parameter(name).numel()})" for name, count in counts.items() if count]
    more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    return ", ".join(broken[:_NAMED]) + more


def _is_same(output: torch.Tensor, hidden: torch.Tensor) -> bool:
    # A half-precision model whose head is float32 hands it widened values.
    return output.shape == hidden.shape and torch.equal(output.to(hidden.dtype), hidden)


def residual_stream(output: Any) -> torch.Tensor:
    """The hidden states that a decoder layer gives back, alone or first in a tuple."""
    hidden: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
