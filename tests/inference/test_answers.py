from typing import Any

import pytest

from mfbayes.errors import InputError
from mfbayes.inference.answers import is_complete, normalize_answer, spellings, tokenize_answers


class PieceTokenizer:
    """Splits into listed pieces, longest first; all else is unknown."""

    unk_token_id = 0

    def __init__(self, *pieces: str) -> None:
        self._ids = {piece: index for index, piece in enumerate(pieces, start=1)}

    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, Any]:
        ids = []
        while text:
            piece = max((p for p in self._ids if text.startswith(p)), key=len, default=text[0])
            ids.append(self._ids.get(piece, 0))
            text = text[len(piece) :]
        return {"input_ids": ids}

    def __getitem__(self, piece: str) -> int:
        return self._ids[piece]


def test_every_case_and_leading_space_counts() -> None:
    tokenizer = PieceTokenizer("A:", "red", " red", "Red", " RED", "blue")
    tokens = tokenize_answers(["red", "blue"], tokenizer, context="A:")
    assert set(tokens.tokens[0]) == {tokenizer[piece] for piece in ("red", " red", "Red", " RED")}
    assert tokens.tokens[1] == (tokenizer["blue"],)
    assert tokens.whole == {*tokens.tokens[0], *tokens.tokens[1]}


def test_token_of_two_answers_belongs_to_neither() -> None:
    tokenizer = PieceTokenizer("A:", " p", "urple", "ink", "Purple", "Pink", "P")
    tokens = tokenize_answers(["purple", "pink"], tokenizer, context="A:")
    assert tokens.shared == {tokenizer[" p"], tokenizer["P"]} or tokens.shared == {tokenizer[" p"]}
    assert tokens.tokens == ((tokenizer["Purple"],), (tokenizer["Pink"],))
    owners = tokens.owners(20)
    assert owners[tokenizer[" p"]] == -1
    assert owners[tokenizer["Pink"]] == 1


def test_answers_that_only_share_tokens_are_refused() -> None:
    tokenizer = PieceTokenizer("A:", "light", " blue", " green")
    with pytest.raises(InputError, match=r"'light blue' and 'light green' begin with the same token"):
        tokenize_answers(["light blue", "light green"], tokenizer, context="A:")


def test_unknown_answer_is_refused() -> None:
    with pytest.raises(InputError, match="does not know the answer 'mauve'"):
        tokenize_answers(["red", "mauve"], PieceTokenizer("A:", "red"), context="A:")


def test_spelling_that_melts_into_the_prompt_is_no_answer() -> None:
    tokenizer = PieceTokenizer("A", ":", ":red", " red", "blue")
    tokens = tokenize_answers(["red", "blue"], tokenizer, context="A:")
    assert tokens.tokens[0] == (tokenizer[" red"],)


@pytest.mark.parametrize(
    ("text", "n_words", "expected"),
    [("Red.", 1, "red"), (" it is red", 1, "it"), ("Light Blue!", 2, "light blue"), ("", 1, ""), ("**Red**", 1, "red")],
)
def test_normalize_answer(text: str, n_words: int, expected: str) -> None:
    assert normalize_answer(text, n_words=n_words) == expected


def test_word_is_complete_only_when_something_follows() -> None:
    assert not is_complete("red")
    assert is_complete("red ")
    assert not is_complete("")
    assert not is_complete("light blue", n_words=2)


def test_spellings_are_distinct() -> None:
    assert len(spellings("light blue")) == len(set(spellings("light blue")))
    assert {"Light Blue", " light blue", "LIGHT BLUE"} <= set(spellings("light blue"))
