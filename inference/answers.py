"""Which tokens begin which designed answer, and which word a model answered."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import torch

from mfbayes.errors import InputError
from mfbayes.inference.branches import Branches, find_branches

_NUMBER: Final = r"(?<![\w.,])[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)"
_WORD: Final = re.compile(rf"(?P<number>{_NUMBER})|\w+(?:['’-]\w+)*")
# A number that the end of the text may have cut short.
_OPEN_NUMBER: Final = re.compile(r"(?<!\w)\d[\d.,]*$")
_NUMBER_WORDS: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_DIGITS: Final = {word: str(number) for number, word in enumerate(_NUMBER_WORDS)}
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
    first : tuple of tuple of int
        For each answer all ids that begin it, shared ones too.
    branches : Branches
        Where answers that begin alike part, for those who can continue; empty where no two do.
    """

    answers: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    shared: frozenset[int]
    whole: frozenset[int]
    first: tuple[tuple[int, ...], ...]
    branches: Branches

    def owners(self, n_vocabulary: int) -> torch.Tensor:
        """Index of the answer that each token begins, shape (n_vocabulary,), or -1."""
        table = torch.full((n_vocabulary,), NOBODY, dtype=torch.long)
        for index, ids in enumerate(self.tokens):
            table[list(ids)] = index
        return table

    def tell_apart(self, one: str, other: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First tokens of either answer that do not begin the other, whatever else they begin.

        Raises
        ------
        InputError
            Where every first token of one of them begins the other too: no layer can be read for such a pair.
        """
        ids = [set(self.first[self.answers.index(answer)]) for answer in (one, other)]
        apart = tuple(sorted(ids[0] - ids[1])), tuple(sorted(ids[1] - ids[0]))
        if not all(apart):
            raise InputError(
                f"The answers {one!r} and {other!r} begin with the same token in this model's tokenizer, so its layers "
                "cannot be read for them. Use answers whose first tokens differ."
            )
        return apart

    @property
    def n_words(self) -> int:
        """Words in the longest answer."""
        return max(len(_words(answer)) for answer in self.answers)


def tokenize_answers(answers: Iterable[str], tokenizer: Any, *, context: str, continuing: bool = False) -> AnswerTokens:
    """Tokens that begin each answer when it follows `context`, the end of a prompt.

    Parameters
    ----------
    answers : iterable of str
        The designed answers.
    tokenizer
        Of the model.
    context : str
        The end of a prompt, in the words of the chat template.
    continuing : bool
        Whether answers that begin alike are told apart by continuing (`AnswerTokens.branches`); else every answer
        needs a first token of its own.

    Raises
    ------
    InputError
        If all spellings of an answer are, or without `continuing` begin like, those of another, or the tokenizer does
        not know it.
    """
    names = tuple(answers)
    spelt = {answer: _tokenize(answer, tokenizer, context) for answer in names}
    starts = {answer: {ids[0] for ids in paths} for answer, paths in spelt.items()}
    counts = Counter(token for ids in starts.values() for token in ids)
    shared = frozenset(token for token, n in counts.items() if n > 1)
    branches = find_branches([spelt[answer] for answer in names])
    for answer, own in zip(names, branches.columns, strict=True):
        rivals = [other for other in names if other != answer and starts[other] & starts[answer]]
        if not spelt[answer]:
            raise InputError(f"The model's tokenizer does not know the answer {answer!r}, so it can never be given.")
        if not own:
            raise InputError(
                f"The answers {answer!r} and {rivals[0]!r} share all their tokens in this model's tokenizer, so "
                "nothing can tell them apart. Word one of them differently."
            )
        if not continuing and not starts[answer] - shared:
            raise InputError(
                f"The answers {answer!r} and {rivals[0]!r} begin with the same token in this model's tokenizer, so one "
                "token cannot tell them apart. Use answers whose first tokens differ."
            )
    # A number may go on after any digit: "1" is a whole answer only where nothing follows.
    whole = {ids[0] for answer, paths in spelt.items() if not _is_number(answer) for ids in paths if len(ids) == 1}
    return AnswerTokens(
        answers=names,
        tokens=tuple(tuple(sorted(starts[answer] - shared)) for answer in names),
        shared=shared,
        whole=frozenset(whole - shared),
        first=tuple(tuple(sorted(starts[answer])) for answer in names),
        branches=branches,
    )


def _tokenize(answer: str, tokenizer: Any, context: str) -> set[tuple[int, ...]]:
    """Tokens of every spelling of an answer that can follow the context."""
    before = tokenizer(context, add_special_tokens=False)["input_ids"]
    paths = set()
    for spelling in spellings(answer):
        ids = tokenizer(context + spelling, add_special_tokens=False)["input_ids"]
        after = tuple(ids[len(before) :])
        # Where the spelling melts into the prompt's last token, it cannot be an answer to that prompt.
        if ids[: len(before)] == before and after and tokenizer.unk_token_id not in after:
            paths.add(after)
    return paths


def spellings(answer: str) -> list[str]:
    """Every case of an answer, with and without a space before it; numbers in digits and up to twenty in words.

    A single letter names an option and is spelt as it is: in lower case "a" would be an article.

    Examples
    --------
    >>> spellings("red")
    ['red', 'Red', 'RED', ' red', ' Red', ' RED']
    >>> spellings("B")
    ['B', ' B']
    >>> spellings("1300")
    ['1300', '1,300', ' 1300', ' 1,300']
    """
    cases = dict.fromkeys([answer])
    if len(answer) > 1 or not answer.isalpha():
        written = {answer: None, **dict.fromkeys(_write_number(answer))}
        cases = dict.fromkeys(
            case for word in written for case in (word, word.lower(), word.capitalize(), word.title(), word.upper())
        )
    return [space + case for space in ("", " ") for case in cases]


def _write_number(answer: str) -> list[str]:
    """Other ways to write an answer that is a number."""
    word = normalize_answer(answer, n_words=2)
    if not _is_number(word):
        return []
    number = Decimal(word)
    grouped = [f"{number:,}"] if abs(number) >= 1000 else []
    return [word, *grouped, *(name for name, digits in _DIGITS.items() if digits == word)]


def _is_number(answer: str) -> bool:
    found = _WORD.fullmatch(normalize_answer(answer, n_words=2))
    return found is not None and found["number"] is not None


def normalize_answer(text: str, *, n_words: int = 1) -> str:
    """First words of decoded text in lower case, without punctuation; numbers in one way of writing them.

    Examples
    --------
    >>> normalize_answer(" Red. It is"), normalize_answer("Light-blue!"), normalize_answer("...")
    ('red', 'light-blue', '')
    >>> normalize_answer("Two."), normalize_answer("1,300.50 people"), normalize_answer("$-4%")
    ('2', '1300.5', '-4')
    """
    return " ".join(_words(text)[:n_words])


def _words(text: str) -> list[str]:
    found = _WORD.finditer(text.lower())
    return [
        _canonical(match.group()) if match["number"] else _DIGITS.get(match.group(), match.group()) for match in found
    ]


def _canonical(number: str) -> str:
    value = Decimal(number.replace(",", "").replace("−", "-"))
    # Without an exponent, a trailing zero or a negative zero: 10 is no 1E+1.
    return f"{value.normalize() + 0:f}"


def is_complete(text: str, *, n_words: int = 1) -> bool:
    r"""Whether decoded text has gone beyond its first words, so that they can no longer grow.

    Examples
    --------
    >>> is_complete(" Pur"), is_complete(" Purple."), is_complete(" light blue", n_words=2)
    (False, True, False)
    >>> is_complete("3."), is_complete("1,3"), is_complete("3. "), is_complete("3.5 ")
    (False, False, True, True)
    >>> is_complete("caf\ufffd"), is_complete("caf\ufffd ")
    (False, True)
    """
    # A character whose bytes are not all there yet may be a letter.
    text = text.rstrip("\ufffd")
    number = _OPEN_NUMBER.search(text)
    if number:
        return len(_words(text[: number.start()])) >= n_words
    words = list(_WORD.finditer(text))
    return len(words) > n_words or (len(words) == n_words and words[-1].end() < len(text))
