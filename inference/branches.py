"""Where answers that begin with the same token part, so that a model need be asked on only there."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Final

import torch

type Path = tuple[int, ...]

NEGLIGIBLE: Final = 1e-4
"""Probability of a shared beginning below which nothing is asked on: no answer's probability is off by more."""


@dataclass(frozen=True, slots=True)
class Branches:
    """Beginnings that answers share, and who owns what follows them.

    Spelt out in tokens, answers form a tree. Where two of them pass through a node, their probabilities part only after
    it: there the model is asked on, and nowhere else. `refine` puts what it says in place of the shared token, so
    that a longer vocabulary results in which every entry belongs to one answer or to none; its probabilities still sum
    to one, and all that is computed from logits and tokens can be computed from it.

    Where all answers have first tokens of their own as well, as where only "PURPLE" and "PINK" begin alike, a
    beginning that the model hardly ever takes is not asked on from.

    Attributes
    ----------
    prefixes : tuple of tuple of int
        The beginnings to ask on from, shorter ones first; none where no two answers begin alike.
    following : tuple of tuple of int
        For each of them the tokens after which answers go on.
    columns : tuple of tuple of (int, int)
        For each answer its entries: a beginning's number (-1: none) and a place in its tokens, which are those of
        `following` and after them one for all others together; for -1 the token itself.
    needed : tuple of bool
        For each beginning whether an answer that takes it has no first token of its own.
    """

    prefixes: tuple[Path, ...]
    following: tuple[Path, ...]
    columns: tuple[tuple[tuple[int, int], ...], ...]
    needed: tuple[bool, ...]

    def indices(self, n_vocabulary: int) -> tuple[tuple[int, ...], ...]:
        """For each answer its entries in refined logits."""
        starts = [n_vocabulary]
        for tokens in self.following:
            starts.append(starts[-1] + len(tokens) + 1)
        return tuple(
            tuple(place if block < 0 else starts[block] + place for block, place in entries) for entries in self.columns
        )

    def refine(self, logits: torch.Tensor, ask_on: Callable[[Path, list[int]], torch.Tensor]) -> torch.Tensor:
        """Logits in which shared beginnings are replaced by what follows them.

        Parameters
        ----------
        logits : torch.Tensor, shape (n_prompts, n_vocabulary)
            Of the first answer token, float64.
        ask_on : callable
            Given a beginning and rows of `logits`, the logits of the token after it, shape (n_rows, n_vocabulary).

        Returns
        -------
        torch.Tensor, shape (n_prompts, n_vocabulary + n_entries)
            With the same sum of exponentials as `logits`.
        """
        refined = logits.clone()
        total = logits.logsumexp(dim=-1)
        starts = [logits.shape[-1]]
        for prefix, tokens, needed in zip(self.prefixes, self.following, self.needed, strict=True):
            place = self._place(prefix, starts)
            taken = (refined[:, place] - total).exp()
            rows = torch.nonzero(torch.full_like(taken, needed, dtype=torch.bool) | (taken >= NEGLIGIBLE))[:, 0]
            # Unless asked on, what follows is one of all the other tokens.
            block = torch.full((len(logits), len(tokens) + 1), -torch.inf, dtype=logits.dtype, device=logits.device)
            block[:, -1] = 0.0
            if len(rows):
                shares = torch.log_softmax(ask_on(prefix, rows.tolist()).to(logits), dim=-1)
                known = torch.tensor(tokens, device=logits.device)
                others = shares.index_fill(-1, known, -torch.inf).logsumexp(dim=-1, keepdim=True)
                block[rows] = torch.cat([shares[:, known], others], dim=-1)
            block += refined[:, place, None]
            refined[:, place] = -torch.inf
            starts.append(refined.shape[-1] + block.shape[-1])
            refined = torch.cat([refined, block], dim=-1)
        return refined

    def _place(self, prefix: Path, starts: Sequence[int]) -> int:
        """Entry that a beginning replaces: its last token, among those that follow the beginning before it."""
        if len(prefix) == 1:
            return prefix[0]
        before = self.prefixes.index(prefix[:-1])
        return starts[before] + self.following[before].index(prefix[-1])


def find_branches(spelt: Sequence[Set[Path]]) -> Branches:
    """Branches of answers, each given by the tokens of its spellings.

    A spelling that is the beginning of another answer's owns whatever that answer does not go on with. A
    spelling that two answers share belongs to neither.

    Examples
    --------
    >>> find_branches([{(5, 1)}, {(5, 2)}, {(7,)}])
    Branches(prefixes=((5,),), following=((1, 2),), columns=(((0, 0),), ((0, 1),), ((-1, 7),)), needed=(True,))
    """
    own = [
        {path for path in paths if not any(path in other for j, other in enumerate(spelt) if j != i)}
        for i, paths in enumerate(spelt)
    ]
    passing: dict[Path, set[int]] = {}
    next_tokens: dict[Path, set[int]] = {}
    for answer, paths in enumerate(spelt):
        for path in paths:
            for length in range(1, len(path) + 1):
                passing.setdefault(path[:length], set()).add(answer)
                next_tokens.setdefault(path[: length - 1], set()).add(path[length - 1])
    shared = (path for path, answers in passing.items() if len(answers) > 1 and path in next_tokens)
    prefixes = tuple(sorted(shared, key=lambda path: (len(path), path)))
    following = tuple(tuple(sorted(next_tokens[prefix])) for prefix in prefixes)
    columns: list[list[tuple[int, int]]] = [[] for _ in spelt]
    for path, answers in passing.items():
        before = path[:-1]
        if len(answers) > 1 or (before and before not in prefixes):
            continue
        block = prefixes.index(before) if before else -1
        columns[min(answers)].append((block, following[block].index(path[-1]) if before else path[-1]))
    for block, prefix in enumerate(prefixes):
        for answer, paths in enumerate(own):
            if prefix in paths:
                columns[answer].append((block, len(following[block])))
    homeless = {answer for answer, entries in enumerate(columns) if all(block >= 0 for block, _ in entries)}
    needed = tuple(bool(passing[prefix] & homeless) for prefix in prefixes)
    return Branches(prefixes, following, tuple(tuple(sorted(entries)) for entries in columns), needed)
