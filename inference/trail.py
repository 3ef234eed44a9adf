"""Prompts that go on where a pass left them: a further token is computed without any before it being computed again."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from mfbayes.inference.encoding import Encoded, blank_like

# A prompt by its index in the pass, and the tokens it goes on with.
type Continued = tuple[int, tuple[int, ...]]


class Ground(NamedTuple):
    """Where a pass put the tokens of each prompt.

    Attributes
    ----------
    rows : torch.Tensor, shape (n_prompts,)
        Row of each prompt.
    seen : torch.Tensor of bool, shape (n_prompts, n_columns)
        Columns of that row that hold the prompt's tokens.
    order : torch.Tensor, shape (n_prompts, n_columns)
        Index in the prompt of each token that is its own.
    positions : torch.Tensor, shape (n_prompts,) or (3, n_prompts)
        Position of the token that comes next.
    """

    rows: torch.Tensor
    seen: torch.Tensor
    order: torch.Tensor
    positions: torch.Tensor


class Step(NamedTuple):
    """Tokens to append, a column each, beside filler where a row has fewer than another.

    Attributes
    ----------
    inputs : dict
        `input_ids`, `position_ids` and whatever else a token comes with.
    rows, columns : torch.Tensor, shape (n_continued,)
        Where each continued prompt's logits will be.
    seen : torch.Tensor of bool, shape (n_rows, n_new, n_columns + n_new)
        What each new token may look at.
    distance : torch.Tensor, shape (n_rows, n_new, n_columns + n_new)
        How many tokens back that is; 0 where it is not seen.
    """

    inputs: dict[str, torch.Tensor]
    rows: torch.Tensor
    columns: torch.Tensor
    seen: torch.Tensor
    distance: torch.Tensor

    def mask(self, *, window: int | None) -> torch.Tensor:
        """What each token may look at in layers that see `window` tokens back, shape (n_rows, 1, n_new, n_all)."""
        allowed = self.seen if window is None else self.seen & (self.distance < window)
        return allowed[:, None]


class Trail:
    """A pass's cache, and the tokens that its prompts went on with since.

    Parameters
    ----------
    batch : sequence of Encoded
        The prompts of the pass.
    ground : Ground
    cache
        Keys and values of the pass, as the model left them.
    pad_token : int
    """

    def __init__(self, batch: Sequence[Encoded], ground: Ground, cache: Any, *, pad_token: int) -> None:
        self.cache = cache
        self._batch, self._ground, self._pad_token = batch, ground, pad_token
        self.n_columns = ground.seen.shape[1]
        self._columns: dict[Continued, tuple[int, ...]] = {(prompt, ()): () for prompt in range(len(batch))}

    def missing(self, continued: Sequence[Continued]) -> list[Continued]:
        """What must be computed first: the same prompts without their last token."""
        before = dict.fromkeys((prompt, tokens[:-1]) for prompt, tokens in continued)
        return [entry for entry in before if entry not in self._columns]

    def lay_out(self, continued: Sequence[Continued]) -> Step:
        """Put the last token of each continued prompt into a column of its own."""
        n_rows = int(self._ground.rows.max()) + 1
        waiting: list[list[int]] = [[] for _ in range(n_rows)]
        for number, (prompt, _) in enumerate(continued):
            waiting[int(self._ground.rows[prompt])].append(number)
        n_new = max(map(len, waiting))
        places = {number: (row, column) for row, numbers in enumerate(waiting) for column, number in enumerate(numbers)}
        positions = self._ground.positions.new_zeros((*self._ground.positions.shape[:-1], n_rows, n_new))
        ids = torch.full((n_rows, n_new), self._pad_token)
        seen = torch.zeros(n_rows, n_new, self.n_columns + n_new, dtype=torch.bool)
        # Filler looks at itself, lest it look at nothing.
        seen[..., self.n_columns :] = torch.eye(n_new, dtype=torch.bool)
        distance = torch.zeros(seen.shape, dtype=torch.long)
        n_first = self._ground.seen.shape[1]
        for number, (prompt, tokens) in enumerate(continued):
            row, column = places[number]
            before = self._columns[prompt, tokens[:-1]]
            index = self._batch[prompt].length + len(before)
            ids[row, column] = tokens[-1]
            positions[..., row, column] = self._ground.positions[..., prompt] + len(before)
            seen[row, column, :n_first] = self._ground.seen[prompt]
            distance[row, column, :n_first] = index - self._ground.order[prompt]
            for back, earlier in enumerate(reversed(before), start=1):
                seen[row, column, earlier] = True
                distance[row, column, earlier] = back
            self._columns[prompt, tokens] = (*before, self.n_columns + column)
        self.n_columns += n_new
        rows, columns = torch.tensor([places[number] for number in range(len(continued))]).T
        inputs = {"input_ids": ids, "position_ids": positions, **self._repeated(continued, places, n_rows, n_new)}
        return Step(inputs, rows, columns, seen, distance)

    def _repeated(
        self, continued: Sequence[Continued], places: Mapping[int, tuple[int, int]], n_rows: int, n_new: int
    ) -> dict[str, torch.Tensor]:
        """What says more than a number a token, such as the parts of the image it looks at, as at the prompt's end."""
        found: dict[str, torch.Tensor] = {}
        for name, values in self._batch[0].sequences.items():
            if not isinstance(values[-1], list):
                continue
            rows = [[blank_like(values[-1])] * n_new for _ in range(n_rows)]
            for number, (prompt, _) in enumerate(continued):
                row, column = places[number]
                rows[row][column] = self._batch[prompt].sequences[name][-1]
            found[name] = torch.tensor(rows)
        return found
