"""Answers that begin alike: their probabilities add up, and agree with those of a model followed token by token."""

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfbayes.errors import InputError
from mfbayes.inference.answers import is_complete, normalize_answer, spellings, tokenize_answers
from mfbayes.inference.asking import Asker, answer_nlls
from mfbayes.inference.branches import Path as TokenPath
from mfbayes.inference.branches import find_branches
from mfbayes.inference.loading import LoadedModel, load_model
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.sources import embedded_models, find_model
from tests.inference.conftest import byte_tokenizer

N_VOCABULARY = 5
PATHS = st.lists(st.integers(0, N_VOCABULARY - 1), min_size=1, max_size=3).map(tuple)
ANSWERS = st.lists(st.sets(PATHS, min_size=1, max_size=3), min_size=2, max_size=4)


@cache
def logits_after(prefix: TokenPath) -> torch.Tensor:
    """A model that says something else after every beginning."""
    rng = np.random.default_rng([7, *prefix])
    return torch.tensor(rng.standard_normal((2, N_VOCABULARY)))


@cache
def chances() -> torch.Tensor:
    """Probability of every three tokens, shape (5, 5, 5, 2), token by token."""
    table = torch.ones((N_VOCABULARY,) * 3 + (2,), dtype=torch.float64)
    for whole in product(range(N_VOCABULARY), repeat=3):
        for i in range(3):
            table[whole] *= torch.softmax(logits_after(whole[:i]), dim=-1)[:, whole[i]]
    return table


def follow(path: TokenPath) -> torch.Tensor:
    """Probability of every three tokens that begin like a path, summed."""
    return chances()[path].reshape(-1, 2).sum(dim=0)


def owner(whole: TokenPath, spelt: list[set[TokenPath]]) -> int | None:
    """Which answer three tokens are: by the longest beginning that is a spelling or leads to spellings of one alone."""
    for length in (3, 2, 1):
        path = whole[:length]
        ends = {i for i, paths in enumerate(spelt) if path in paths}
        leads = {i for i, paths in enumerate(spelt) if any(other[:length] == path for other in paths)}
        if len(leads) == 1 and (length == 1 or _is_shared(path[:-1], spelt)):
            return min(leads)
        if len(leads) > 1:
            return min(ends) if len(ends) == 1 else None
    return None


def _is_shared(path: TokenPath, spelt: list[set[TokenPath]]) -> bool:
    return sum(any(other[: len(path)] == path for other in paths) for paths in spelt) > 1


@settings(deadline=None, max_examples=60)
@given(ANSWERS)
def test_probabilities_agree_with_following_every_token(spelt: list[set[TokenPath]]) -> None:
    branches = find_branches(spelt)
    root = logits_after(())
    refined = branches.refine(root, lambda prefix, rows: logits_after(prefix)[rows])
    torch.testing.assert_close(refined.logsumexp(dim=-1), root.logsumexp(dim=-1))
    shares = torch.softmax(refined, dim=-1)
    found = [shares[:, list(own)].sum(dim=-1) for own in branches.indices(N_VOCABULARY)]
    wanted = [torch.zeros(2, dtype=torch.float64) for _ in spelt]
    for whole in product(range(N_VOCABULARY), repeat=3):
        answer = owner(whole, spelt)
        if answer is not None:
            wanted[answer] += follow(whole)
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted))


def refuse_to_ask(prefix: TokenPath, rows: list[int]) -> torch.Tensor:
    raise AssertionError(f"asked on after {prefix} in {rows}")


def test_nothing_is_asked_on_where_first_tokens_differ() -> None:
    branches = find_branches([{(1,), (2, 3)}, {(4, 3)}])
    assert branches.prefixes == ()
    logits = logits_after(())
    assert torch.equal(branches.refine(logits, refuse_to_ask), logits)
    assert branches.indices(N_VOCABULARY) == ((1, 2), (4,))


def test_an_answer_may_be_the_beginning_of_another() -> None:
    """3 and 38, digit by digit: 3 owns all that does not go on with 8."""
    branches = find_branches([{(3,)}, {(3, 4)}])
    refined = branches.refine(logits_after(()), lambda prefix, rows: logits_after(prefix)[rows])
    three, thirty_eight = (list(own) for own in branches.indices(N_VOCABULARY))
    shares = torch.softmax(refined, dim=-1)
    torch.testing.assert_close((shares[:, three] + shares[:, thirty_eight])[:, 0], follow((3,)))
    torch.testing.assert_close(shares[:, thirty_eight[0]], follow((3, 4)))


def test_rare_beginnings_are_not_asked_on_from_unless_an_answer_has_no_other() -> None:
    """Two prompts: the first hardly ever takes the shared beginning, the second mostly does."""
    root = torch.tensor([[0.0, 0.0, -20.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    asked: list[tuple[TokenPath, list[int]]] = []

    def ask_on(prefix: TokenPath, rows: list[int]) -> torch.Tensor:
        asked.append((prefix, rows))
        return torch.zeros((len(rows), 3), dtype=torch.float64)

    spare = find_branches([{(0,), (2, 0)}, {(1,), (2, 1)}])
    shares = torch.softmax(spare.refine(root, ask_on), dim=-1)
    assert asked == [((2,), [1])]
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(2, dtype=torch.float64))
    own = [shares[:, list(ids)].sum(dim=-1) for ids in spare.indices(3)]
    torch.testing.assert_close(own[0], own[1])
    assert float(own[0][1]) == pytest.approx((1 + np.exp(3) / 3) / (2 + np.exp(3)))
    needy = find_branches([{(2, 0)}, {(1,), (2, 1)}])
    needy.refine(root, ask_on)
    assert asked[1] == ((2,), [0, 1])


@pytest.fixture(scope="module")
def tiny(model_folders: dict[str, Path]) -> LoadedModel:
    return load_model(find_model(str(model_folders["llava"])), device="cpu")


def test_a_real_model_agrees_with_its_own_chain_of_tokens(tiny: LoadedModel) -> None:
    """Numbers of several digits and words in pieces, by a byte-level tokenizer; the chain is asked plainly."""
    answers = ["12", "13", "1", "light blue", "light green"]
    tokenizer = tiny.processor.tokenizer
    asker = Asker(tiny, ["red", "blue"], name="tiny", batch_size=4)
    prompt = Prompt("How many?")
    tokens = tokenize_answers(answers, tokenizer, context=asker.encoder.render(prompt), continuing=True)
    assert tokens.branches.prefixes
    (entry,) = asker.encoder.encode_texts([prompt])

    def read(prefix: TokenPath, rows: list[int] | None = None) -> torch.Tensor:
        return asker.logits([entry.extended(prefix)], layers=False)[:, -1].double()

    own = tokens.branches.indices(len(tokenizer))
    refined = tokens.branches.refine(read(()), read)
    nlls = answer_nlls(refined, own)[0]
    context = asker.encoder.render(prompt)
    before = tokenizer(context, add_special_tokens=False)["input_ids"]
    for answer in ("13", "light blue"):
        chance = 0.0
        seen: set[TokenPath] = set()
        for spelling in spellings(answer):
            path = tuple(tokenizer(context + spelling, add_special_tokens=False)["input_ids"][len(before) :])
            # The shortest beginning that no other answer has.
            short = next(path[:n] for n in range(1, len(path) + 1) if path[:n] not in tokens.branches.prefixes)
            if short in seen:
                continue
            seen.add(short)
            steps = [torch.log_softmax(read(short[:i]), dim=-1)[0, short[i]] for i in range(len(short))]
            chance += float(torch.stack(steps).sum().exp())
        assert float(nlls[answers.index(answer)]) == pytest.approx(-np.log(chance), abs=1e-4)


def test_byte_level_answers_need_continuing_and_say_so() -> None:
    tokenizer = byte_tokenizer()
    with pytest.raises(InputError, match="'12' and '13' begin with the same token"):
        tokenize_answers(["12", "13"], tokenizer, context="A:")
    tokens = tokenize_answers(["12", "13", "7"], tokenizer, context="A:", continuing=True)
    assert not tokens.whole
    with pytest.raises(InputError, match="layers cannot be read"):
        tokens.tell_apart("12", "13")
    ours, theirs = tokens.tell_apart("12", "7")
    assert set(ours).isdisjoint(theirs)


@pytest.mark.parametrize("pair", [("red", "Red"), ("1300", "1,300"), ("two", "2")])
def test_answers_that_share_all_tokens_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="share all their tokens"):
        tokenize_answers(pair, byte_tokenizer(), context="A:", continuing=True)


def test_yes_and_no_and_letters_have_first_tokens_of_their_own() -> None:
    tokenizer = byte_tokenizer()
    for answers in (["yes", "no"], ["A", "B"]):
        tokens = tokenize_answers(answers, tokenizer, context="USER: Which? ASSISTANT:")
        assert set(tokens.tokens[0]).isdisjoint(tokens.tokens[1])
    assert spellings("A") == ["A", " A"]


@pytest.mark.parametrize("name", sorted(embedded_models()))
def test_embedded_models_tell_their_colours_apart_at_once(name: str) -> None:
    """Their tokenizers hold each colour as one token, so nothing is asked on; what they do not know is refused."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_models()[name])
    colours = ["red", "yellow", "blue", "green", "purple", "orange"]
    tokens = tokenize_answers(colours, tokenizer, context="USER: Which? ASSISTANT:", continuing=True)
    assert tokens.branches.prefixes == ()
    assert tokens.branches.indices(len(tokenizer)) == tokens.tokens
    assert len(tokens.whole) == len(colours)
    with pytest.raises(InputError, match="does not know the answer 'yes'"):
        tokenize_answers(["yes", "red"], tokenizer, context="USER: Which? ASSISTANT:", continuing=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Three.", "3"),
        ("3.50", "3.5"),
        ("$1,300 in all", "1300"),
        ("12%", "12"),
        ("-4 degrees", "-4"),
        ("−4", "-4"),
        ("0.0", "0"),
        ("100", "100"),
        ("2nd", "2nd"),
        ("(B)", "b"),
        ("Twenty", "20"),
    ],
)
def test_numbers_have_one_way_of_writing(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


@given(st.integers(-10_000_000, 10_000_000), st.integers(0, 3))
def test_every_way_to_write_a_number_is_the_same_answer(number: int, decimals: int) -> None:
    value = number / 10**decimals
    written = {f"{value:,.{decimals}f}", f"{value:.{decimals}f}", f"{value:.{decimals + 2}f}"}
    assert len({normalize_answer(text) for text in written}) == 1
    for text in written:
        grown = [text[:n] for n in range(1, len(text) + 1) if text[n - 1].isdigit()]
        assert not any(is_complete(part) for part in grown)
        assert is_complete(text + " and")
    assert all(normalize_answer(each) == normalize_answer(str(number)) for each in spellings(str(number)))
