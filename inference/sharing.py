"""Prompts that begin alike, bundled so that what they share is computed once."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from mfbayes.inference.encoding import Encoded

# Tokens after the shared ones that a bundle takes: every token of a packed row is compared with every other.
_MOST_TOKENS: Final = 512


class Bundle(NamedTuple):
    """Prompts whose first `n_shared` tokens are the same, the image among them if there is one.

    Attributes
    ----------
    entries : tuple of Encoded
    n_shared : int
        Each prompt has at least one more token.
    """

    entries: tuple[Encoded, ...]
    n_shared: int

    @property
    def n_tokens(self) -> int:
        """Tokens when the shared ones are written once."""
        return self.n_shared + sum(entry.length - self.n_shared for entry in self.entries)

    @property
    def signature(self) -> tuple[Any, ...]:
        """What must agree within a batch of bundles."""
        return (self.entries[0].signature, self.n_shared)


def bundle(encoded: Iterable[Encoded], *, image_token: int | None) -> Iterator[Bundle]:
    """Bundle prompts: those about one image, and texts of like length.

    Where prompts part before the image ends, or it is unknown where it ends, each prompt stays alone.

    Parameters
    ----------
    encoded : iterable of Encoded
        Prompts about one image hold the same tensors.
    image_token : int or None
        Id of the tokens that stand for the image.
    """
    groups: dict[int | None, list[Encoded]] = {}
    for entry in encoded:
        groups.setdefault(id(entry.image) if entry.image else None, []).append(entry)
    for key, group in groups.items():
        shared = count_shared([entry.sequences for entry in group])
        if key is not None and (image_token is None or _reaches(group, image_token, shared)):
            yield from (Bundle((entry,), 0) for entry in group)
        else:
            yield from _cut(sorted(group, key=lambda entry: entry.length), shared)


def count_shared(prompts: Sequence[dict[str, list[Any]]]) -> int:
    """Tokens with which all prompts begin, leaving each at least one of its own.

    Examples
    --------
    >>> count_shared([{"input_ids": [1, 5, 7]}, {"input_ids": [1, 5, 8, 9]}])
    2
    >>> count_shared([{"input_ids": [1, 5]}, {"input_ids": [1, 5, 8]}])
    1
    """
    first, *others = prompts
    most = min(len(prompt["input_ids"]) for prompt in prompts) - 1
    for index in range(most if others else 0):
        for name, values in first.items():
            if any(prompt[name][index] != values[index] for prompt in others):
                return index
    return most if others else 0


def _reaches(group: Sequence[Encoded], image_token: int, shared: int) -> bool:
    """Whether the image goes on after the shared tokens."""
    return len(group) > 1 and any(image_token in entry.sequences["input_ids"][shared:] for entry in group)


def _cut(entries: Sequence[Encoded], shared: int) -> Iterator[Bundle]:
    limit = max(_MOST_TOKENS, shared)
    row: list[Encoded] = []
    n_tokens = 0
    for entry in entries:
        if row and n_tokens + entry.length - shared > limit:
            yield Bundle(tuple(row), shared)
            row, n_tokens = [], 0
        row.append(entry)
        n_tokens += entry.length - shared
    if row:
        yield Bundle(tuple(row), shared)
