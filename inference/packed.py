"""Packed rows: shared tokens once, then every prompt's own, which see the shared ones and themselves alone."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from mfbayes.inference.encoding import blank_like
from mfbayes.inference.sharing import Bundle

# Filler at a row's end belongs to nobody.
_NOBODY = -1


class Layout:
    """Places of the tokens of packed rows.

    Parameters
    ----------
    bundles : sequence of Bundle
        A row each.

    Attributes
    ----------
    owners, order : torch.Tensor, shape (n_rows, n_columns)
        Prompt of each token within its bundle, from 1 on, 0 for shared tokens; and its index in that prompt.
    rows, columns : torch.Tensor, shape (n_prompts,)
        Where each prompt ends.
    """

    def __init__(self, bundles: Sequence[Bundle]) -> None:
        width = max(bundle.n_tokens for bundle in bundles)
        owners, order, rows, columns = [], [], [], []
        for row, (entries, shared) in enumerate(bundles):
            own, places = [0] * shared, list(range(shared))
            for number, entry in enumerate(entries, start=1):
                own += [number] * (entry.length - shared)
                places += range(shared, entry.length)
                rows.append(row)
                columns.append(len(own) - 1)
            owners.append(own + [_NOBODY] * (width - len(own)))
            order.append(places + [0] * (width - len(places)))
        self.owners, self.order = torch.tensor(owners), torch.tensor(order)
        self.rows, self.columns = torch.tensor(rows), torch.tensor(columns)
        self._bundles = bundles

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Put what holds for each prompt's tokens, shape (..., n_prompts, n_tokens), where they are packed."""
        packed = values.new_zeros((*values.shape[:-2], *self.owners.shape))
        prompt = 0
        for row, (entries, shared) in enumerate(self._bundles):
            packed[..., row, :shared] = values[..., prompt, :shared]
            start = shared
            for entry in entries:
                stop = start + entry.length - shared
                packed[..., row, start:stop] = values[..., prompt, shared : entry.length]
                start, prompt = stop, prompt + 1
        return packed

    def mask(self, *, window: int | None, image: torch.Tensor | None) -> torch.Tensor:
        """What each token may look at, shape (n_rows, 1, n_columns, n_columns).

        Parameters
        ----------
        window : int or None
            How many tokens back a layer sees.
        image : torch.Tensor or None, shape (n_rows, n_columns)
            Whether a token stands for the image, if such tokens see each other both ways.
        """
        seen, seeing = self.owners[:, None, :], self.owners[:, :, None]
        allowed = ((seen == 0) & (seeing != _NOBODY)) | (seen == seeing)
        index = torch.arange(self.owners.shape[1])
        allowed &= index[:, None] >= index[None]
        if window is not None:
            near = self.order[:, :, None] - self.order[:, None, :] < window
            allowed &= near | (seeing == _NOBODY)
        if image is not None:
            blocks = _number_runs(image)
            allowed |= (blocks[:, :, None] == blocks[:, None, :]) & (blocks[:, :, None] > 0)
        return allowed[:, None]


def pack_sequences(bundles: Sequence[Bundle], *, pad_token: int) -> dict[str, torch.Tensor]:
    """Values a token, packed and filled up on the right; the attention mask is left to `Layout`."""
    packed: dict[str, torch.Tensor] = {}
    width = max(bundle.n_tokens for bundle in bundles)
    for name, example in bundles[0].entries[0].sequences.items():
        if name == "attention_mask":
            continue
        blank = pad_token if name == "input_ids" else blank_like(example[0])
        rows = []
        for entries, shared in bundles:
            row = list(entries[0].sequences[name][:shared])
            for entry in entries:
                row += entry.sequences[name][shared:]
            rows.append(row + [blank] * (width - len(row)))
        packed[name] = torch.tensor(rows)
    return packed


def attention_masks(
    mask: Callable[[int | None], torch.Tensor], config: Any, *, additive: torch.dtype | None
) -> torch.Tensor | dict[str, torch.Tensor]:
    """Masks as the decoder takes them: one, or one a kind of layer where layers differ.

    Parameters
    ----------
    mask : callable
        Given how many tokens back a layer sees, or None, what each token may look at.
    config
        Of the decoder.
    additive : torch.dtype or None
        Give numbers to add to attention scores rather than truth values.
    """
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    sliding = any("sliding" in kind for kind in kinds) or (not kinds and window is not None)
    full = _finish(mask(None), additive)
    if not sliding:
        return full
    narrow = _finish(mask(window), additive)
    if len(kinds) <= 1:
        return narrow
    return {kind: narrow if "sliding" in kind else full for kind in kinds}


def _number_runs(image: torch.Tensor) -> torch.Tensor:
    begins = image.clone()
    begins[:, 1:] &= ~image[:, :-1]
    return begins.cumsum(dim=1) * image


def _finish(mask: torch.Tensor, additive: torch.dtype | None) -> torch.Tensor:
    if additive is None:
        return mask
    return torch.zeros(mask.shape, dtype=additive).masked_fill(~mask, torch.finfo(additive).min)
