import torch
from hypothesis import given
from hypothesis import strategies as st

from mfbayes.inference.encoding import Encoded
from mfbayes.inference.packed import Layout, pack_sequences
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.sharing import bundle, count_shared

IMAGE = 9
tokens = st.lists(st.integers(1, 4), min_size=1, max_size=6)


def entry(ids: list[int], image: dict[str, torch.Tensor] | None = None) -> Encoded:
    return Encoded(Prompt(str(ids)), {"input_ids": ids, "attention_mask": [1] * len(ids)}, image or {})


@given(st.lists(tokens, min_size=1, max_size=5), tokens)
def test_shared_tokens_are_the_longest_common_beginning(endings: list[list[int]], start: list[int]) -> None:
    prompts = [start + ending for ending in endings]
    n = count_shared([{"input_ids": prompt} for prompt in prompts])
    assert all(prompt[:n] == prompts[0][:n] and len(prompt) > n for prompt in prompts)
    if len(prompts) == 1:
        assert n == 0
    else:
        further = {tuple(prompt[: n + 1]) for prompt in prompts}
        assert len(further) > 1 or min(len(prompt) for prompt in prompts) == n + 1


@given(st.lists(tokens, min_size=1, max_size=6), tokens)
def test_packed_rows_hold_every_prompt_and_nobody_elses(endings: list[list[int]], start: list[int]) -> None:
    """Reading, for the last token of each prompt, what it may see gives that prompt back, in its order."""
    image = {"pixel_values": torch.zeros(1)}
    entries = [entry([*start, IMAGE, *ending], image) for ending in endings]
    bundles = list(bundle(entries, image_token=IMAGE))
    layout = Layout(bundles)
    ids = pack_sequences(bundles, pad_token=0)["input_ids"]
    mask = layout.mask(window=None, image=None)[:, 0]
    assert mask.any(dim=-1).all()
    asked = [one for found in bundles for one in found.entries]
    for one, row, column in zip(asked, layout.rows.tolist(), layout.columns.tolist(), strict=True):
        seen = mask[row, column]
        assert ids[row][seen].tolist() == one.sequences["input_ids"]
        assert layout.order[row][seen].tolist() == list(range(one.length))
        narrow = layout.mask(window=2, image=None)[row, 0, column]
        assert ids[row][narrow].tolist() == one.sequences["input_ids"][-2:]


def test_prompts_that_part_before_the_image_ends_are_not_shared() -> None:
    image = {"pixel_values": torch.zeros(1)}
    late = [entry([1, 5, IMAGE, IMAGE, 2], image), entry([1, 6, IMAGE, IMAGE, 2], image)]
    assert [found.n_shared for found in bundle(late, image_token=IMAGE)] == [0, 0]
    assert [found.n_shared for found in bundle(late, image_token=None)] == [0, 0]
    early = [entry([1, IMAGE, IMAGE, 2], image), entry([1, IMAGE, IMAGE, 3, 4], image)]
    assert [found.n_shared for found in bundle(early, image_token=IMAGE)] == [3]


def test_other_images_and_texts_are_bundles_of_their_own() -> None:
    one, other = {"pixel_values": torch.zeros(1)}, {"pixel_values": torch.ones(1)}
    mixed = [entry([1, IMAGE, n], image) for n in (2, 3) for image in (one, other)] + [entry([1, 7]), entry([1, 8])]
    found = list(bundle(mixed, image_token=IMAGE))
    assert [(len(entries), shared) for entries, shared in found] == [(2, 2), (2, 2), (2, 1)]
    assert all(len({id(one.image) for one in entries}) == 1 for entries, _ in found[:2])


def test_rows_do_not_grow_without_end() -> None:
    many = [entry([1, *range(10, 60), n]) for n in range(100, 200)]
    found = list(bundle(many, image_token=None))
    assert sum(len(entries) for entries, _ in found) == 100
    longer = [entry([1, *range(10 + n, 60 + n)]) for n in range(100)]
    rows = list(bundle(longer, image_token=None))
    assert len(rows) > 5
    assert max(row.n_tokens for row in rows) <= 600
