"""Which tokens begin which designed answer, and which word a model answered."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch

from mfbayes.errors import InputError

_WORD: Final = re.compile(r"\w+(?:['’-]\w+)*")
NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """First tokens of the designed answers.

    An answer can be spelt in several ways (case, leading space), each beginning with a token of its own.
    A token that begins two different answers belongs to neither.

    Attributes
    ----------
    answers : tuple of str
        The designed answers.
    tokens : tuple of tuple of int
        For each answer the ids that begin it and no other.
    shared : frozenset of int
        Ids that begin more than one.
    whole : frozenset of int
        Ids that are a whole answer, so that nothing need be decoded after them.
    """

    answers: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    shared: frozenset[int]
    whole: frozenset[int]

    def owners(self, n_vocabulary: int) -> torch.Tensor:
        """Index of the answer that each token begins, shape (n_vocabulary,), or -1."""
        table = torch.full((n_vocabulary,), NOBODY, dtype=torch.long)
        for index, ids in enumerate(self.tokens):
            table[list(ids)] = index
        return table

    @property
    def n_words(self) -> int:
        """Words in the longest answer."""
        return max(len(_WORD.findall(answer)) for answer in self.answers)


def tokenize_answers(answers: Iterable[str], tokenizer: Any, *, context: str) -> AnswerTokens:
    """Tokens that begin each answer when it follows `context`, the end of a prompt.

    Raises
    ------
    InputError
        If all spellings of an answer begin like another answer, or the tokenizer does not know it.
    """
    names = tuple(answers)
    before = tokenizer(context, add_special_tokens=False)["input_ids"]
    starts: dict[str, set[int]] = {}
    whole: set[int] = set()
    for answer in names:
        starts[answer] = set()
        for spelling in spellings(answer):
            ids = tokenizer(context + spelling, add_special_tokens=False)["input_ids"]
            after = ids[len(before) :]
            # Where the spelling melts into the prompt's last token, it cannot be an answer to that prompt.
            if ids[: len(before)] != before or not after or after[0] == tokenizer.unk_token_id:
                continue
            starts[answer].add(after[0])
            if len(after) == 1:
                whole.add(after[0])
    counts = [token for ids in starts.values() for token in ids]
    shared = frozenset(token for token in counts if counts.count(token) > 1)
    for answer, ids in starts.items():
        if not ids:
            raise InputError(f"The model's tokenizer does not know the answer {answer!r}, so it can never be given.")
        if not ids - shared:
            rivals = [other for other in names if other != answer and starts[other] & ids]
            raise InputError(
                f"The answers {answer!r} and {rivals[0]!r} begin with the same token in this model's tokenizer, so one "
                "token cannot tell them apart. Use answers whose first tokens differ."
            )
    tokens = tuple(tuple(sorted(starts[answer] - shared)) for answer in names)
    return AnswerTokens(names, tokens, shared, frozenset(whole - shared))


def spellings(answer: str) -> list[str]:
    """Every case of an answer, with and without a space before it.

    Examples
    --------
    >>> spellings("red")
    ['red', 'Red', 'RED', ' red', ' Red', ' RED']
    """
    cases = dict.fromkeys([answer, answer.lower(), answer.capitalize(), answer.title(), answer.upper()])
    return [space + case for space in ("", " ") for case in cases]


def normalize_answer(text: str, *, n_words: int = 1) -> str:
    """First words of decoded text in lower case, without punctuation.

    Examples
    --------
    >>> normalize_answer(" Red. It is"), normalize_answer("Light-blue!"), normalize_answer("...")
    ('red', 'light-blue', '')
    """
    return " ".join(_WORD.findall(text.lower())[:n_words])


def is_complete(text: str, *, n_words: int = 1) -> bool:
    """Whether decoded text has gone beyond its first words, so that they can no longer grow.

    Examples
    --------
    >>> is_complete(" Pur"), is_complete(" Purple."), is_complete(" light blue", n_words=2)
    (False, True, False)
    """
    words = list(_WORD.finditer(text))
    return len(words) > n_words or (len(words) == n_words and words[-1].end() < len(text))
