"""Every way of asking against single prompts, in small random models of real classes."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mfbayes.inference import passes as passes_module
from mfbayes.inference.encoding import Encoded
from mfbayes.inference.lens import Readings
from mfbayes.inference.packed import Layout
from mfbayes.inference.passes import CACHED, DEDUPLICATED, NAIVE, PACKED, PACKED_BLOCKS, Passes
from mfbayes.inference.sharing import Bundle, bundle
from tests.inference.families import FAMILIES, build, prompts_about, texts

# What the self-test should find: the cheapest way that is exact.
CHEAPEST = {"gemma3": PACKED_BLOCKS, "paligemma": DEDUPLICATED}
_EXACT = 1e-5
_BUILT: dict[str, tuple[Any, Passes]] = {}


def built(name: str) -> tuple[Any, Passes]:
    if name not in _BUILT:
        _BUILT[name] = build(name)
    return _BUILT[name]


def difference(passes: Passes, prompts: Sequence[Encoded], way: str, *, layers: bool = True) -> float:
    """Largest difference of any layer's logits from those of single prompts."""
    bundles = list(bundle(prompts, image_token=passes.image_token))
    found = passes.run(bundles, way=way, layers=layers)
    asked = [entry for entries, _ in bundles for entry in entries]
    alone = [passes.run([Bundle((entry,), 0)], way=NAIVE, layers=layers) for entry in asked]
    own = Readings(torch.cat([one.last for one in alone]), torch.cat([one.earlier for one in alone]))
    assert found.last.shape == own.last.shape
    assert found.earlier.shape == own.earlier.shape
    pairs = [(found.last, own.last)] + ([(found.earlier, own.earlier)] if layers else [])
    return max(float((ours - theirs).abs().max()) for ours, theirs in pairs)


def scale(passes: Passes, prompts: Sequence[Encoded]) -> float:
    return float(passes.run([Bundle((prompts[0],), 0)], way=NAIVE, layers=False).last.abs().max())


@pytest.mark.parametrize("name", FAMILIES)
def test_cheapest_way_gives_the_logits_of_single_prompts_in_all_layers(name: str) -> None:
    _, passes = built(name)
    prompts = prompts_about(name, seed=1) + prompts_about(name, seed=2)
    limit = _EXACT * scale(passes, prompts)
    assert difference(passes, prompts, CHEAPEST.get(name, PACKED)) <= limit
    assert difference(passes, prompts, NAIVE) <= limit
    if name != "paligemma":
        assert difference(passes, prompts, CACHED) <= limit
        assert difference(passes, texts(name), PACKED, layers=False) <= limit
        assert difference(passes, texts(name), CACHED, layers=False) <= limit


@pytest.mark.parametrize("name", FAMILIES)
def test_last_layer_is_the_model_as_it_is_and_images_matter(name: str) -> None:
    model, passes = built(name)
    ours, other = (prompts_about(name, seed=seed)[0] for seed in (1, 2))
    read = [passes.run([Bundle((entry,), 0)], way=NAIVE, layers=True) for entry in (ours, other)]
    inputs = passes._encoder.pad([ours], device=torch.device("cpu"), dtype=torch.float32)
    passes_module.forget_positions(model)
    with torch.inference_mode():
        plain = model(**inputs).logits[0, -1]
    assert torch.equal(plain, read[0].last[0])
    assert float((read[0].last - read[1].last).abs().max()) > 1e-2
    # Earlier layers say other things: a norm forgotten or done twice would not show in the last one.
    assert read[0].earlier.shape == (1, len(passes._parts.layers) - 1, len(plain))


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "qwen3_vl", "mistral3", "llava_next"])
def test_images_are_seen_once_where_only_they_can_be_shared(name: str) -> None:
    _, passes = built(name)
    prompts = prompts_about(name, seed=1) + prompts_about(name, seed=2)
    seen: list[int] = []
    features = passes._core.get_image_features

    def count(*args: Any, **kwargs: Any) -> Any:
        seen.append(len(kwargs["image_grid_thw"] if "image_grid_thw" in kwargs else kwargs["pixel_values"]))
        return features(*args, **kwargs)

    count.__signature__ = passes_module.inspect.signature(features)  # type: ignore[attr-defined]
    passes._core.get_image_features = count
    try:
        bundles = list(bundle(prompts, image_token=passes.image_token))
        passes.run(bundles, way=DEDUPLICATED, layers=False)
    finally:
        vars(passes._core).pop("get_image_features", None)
    assert seen == [2]
    assert difference(passes, prompts, DEDUPLICATED) <= _EXACT * scale(passes, prompts)


def test_prefix_models_cannot_share_and_are_found_out() -> None:
    """PaliGemma's prompts see themselves both ways, so that what follows the image changes what stands before."""
    _, passes = built("paligemma")
    prompts = prompts_about("paligemma", seed=1)
    for way in (PACKED, PACKED_BLOCKS, CACHED):
        assert difference(passes, prompts, way) > 1e-2


def test_images_seen_both_ways_need_a_mask_that_lets_them() -> None:
    _, passes = built("gemma3")
    assert difference(passes, prompts_about("gemma3", seed=1), PACKED) > 1e-2


def test_a_causal_image_needs_a_mask_that_does_not() -> None:
    _, passes = built("llava")
    assert difference(passes, prompts_about("llava", seed=1), PACKED_BLOCKS) > 1e-2


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_a_mask_that_leaks_between_prompts_shows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, passes = built(name)

    def leak(self: Layout, *, window: int | None, image: torch.Tensor | None) -> torch.Tensor:
        width = self.owners.shape[1]
        return torch.ones(len(self.owners), 1, width, width, dtype=torch.bool).tril()

    monkeypatch.setattr(Layout, "mask", leak)
    assert difference(passes, prompts_about(name, seed=1), PACKED) > 1e-2


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("way", [PACKED, CACHED])
def test_wrong_positions_show(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each prompt's own tokens a few places on from where the image ends."""
    _, passes = built(name)
    honest = Passes._positions

    def shift(self: Passes, batch: Sequence[Encoded]) -> torch.Tensor:
        positions = honest(self, batch).clone()
        shared = 3 + FAMILIES[name].n_tokens
        positions[..., shared:] += 17
        return positions

    monkeypatch.setattr(Passes, "_positions", shift)
    assert difference(passes, prompts_about(name, seed=1), way) > 1e-2


def test_positions_that_ignore_the_image_show_where_images_have_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _, passes = built("qwen2_5_vl")
    width = torch.arange(64)
    monkeypatch.setattr(
        Passes, "_positions", lambda self, batch: width[: max(e.length for e in batch)].expand(len(batch), -1)
    )
    assert difference(passes, prompts_about("qwen2_5_vl", seed=1), PACKED) > 1e-2


def test_stale_positions_are_forgotten_and_would_show() -> None:
    """Qwen-VL keeps positions from one call to the next, which a cache takes up if nobody says otherwise."""
    from transformers import DynamicCache

    model, passes = built("qwen2_5_vl")
    entry = prompts_about("qwen2_5_vl", seed=1)[0]
    own = passes.run([Bundle((entry,), 0)], way=NAIVE, layers=False).last[0]
    shared = entry.length - 5
    inputs = passes._encoder.pad([entry], device=torch.device("cpu"), dtype=torch.float32)
    begin = {k: v[:, :shared] if k in entry.sequences else v for k, v in inputs.items()}
    rest = inputs["input_ids"][:, shared:]
    found = []
    for stale in (0, 9):
        passes_module.forget_positions(model)
        cache = DynamicCache(config=model.config)
        with torch.inference_mode():
            model(**begin, past_key_values=cache, use_cache=True)
            model.model.rope_deltas = model.model.rope_deltas + stale
            found.append(model(input_ids=rest, past_key_values=cache, use_cache=True).logits[0, -1])
    assert float((found[0] - own).abs().max()) < 1e-4
    assert float((found[1] - own).abs().max()) > 1e-2
    # The same state left behind by somebody else does not reach a pass of ours.
    prompts = prompts_about("qwen2_5_vl", seed=1)
    model.model.rope_deltas = torch.tensor([[99]])
    for way in (NAIVE, PACKED, CACHED):
        assert difference(passes, prompts, way) <= 1e-4


@pytest.mark.parametrize("name", ["gemma3", "paligemma"])
def test_missing_kinds_of_tokens_show(name: str) -> None:
    _, passes = built(name)
    entry = prompts_about(name, seed=1)[0]
    bare = Encoded(entry.prompt, {k: v for k, v in entry.sequences.items() if k != "token_type_ids"}, entry.image)
    last = [passes.run([Bundle((one,), 0)], way=NAIVE, layers=False).last for one in (entry, bare)]
    # PaliGemma alone takes the lack of kinds for a prompt seen both ways, which is right; in a batch it is not.
    if name == "paligemma":
        shorter = prompts_about(name, seed=1)[3]
        lacking = [
            Encoded(one.prompt, {k: v for k, v in one.sequences.items() if k != "token_type_ids"}, one.image)
            for one in (shorter, entry)
        ]
        assert difference(passes, lacking, NAIVE, layers=False) > 1e-2
    else:
        assert float((last[0] - last[1]).abs().max()) > 1e-2


def test_an_ignored_image_gives_equal_logits() -> None:
    model, passes = build("llava")
    with torch.no_grad():
        for parameter in model.model.multi_modal_projector.parameters():
            parameter.zero_()
    one, other = (
        passes.run([Bundle((prompts_about("llava", seed=seed)[0],), 0)], way=PACKED, layers=False).last
        for seed in (1, 2)
    )
    assert torch.equal(one, other)


def test_layers_keep_the_places_alone() -> None:
    """What a layer's hook holds does not grow with the prompt."""
    from mfbayes.inference.lens import Places, reading

    model, passes = built("llava")
    sizes = []
    for length in (8, 64):
        ids = torch.arange(5, 5 + length)[None]
        ends, row = torch.tensor([length - 1]), torch.tensor([0])
        kept: list[torch.Size] = []
        norm = passes._parts.norm.register_forward_hook(lambda m, a, o, kept=kept: kept.append(a[0].shape))
        with torch.inference_mode(), reading(passes._parts, Places(row, ends, torch.tensor([True]))):
            model(input_ids=ids)
        norm.remove()
        sizes.append(kept[-1])
    assert sizes[0] == sizes[1] == (1, len(passes._parts.layers) - 1, 64)


def own_step(model: Any, passes: Passes, entry: Encoded, tokens: Sequence[int]) -> torch.Tensor:
    """Logits after a prompt and some tokens as the model itself computes them one by one, as `generate` does."""
    from transformers import DynamicCache

    passes_module.forget_positions(model)
    cache: Any = DynamicCache(config=model.config)
    inputs: Any = passes._encoder.pad([entry], device=torch.device("cpu"), dtype=torch.float32)
    with torch.inference_mode():
        logits = model(**inputs, past_key_values=cache, use_cache=True).logits
        more = {k: torch.tensor([[v[-1]]]) for k, v in entry.sequences.items() if isinstance(v[-1], list)}
        for token in tokens:
            logits = model(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True, **more).logits
    passes_module.forget_positions(model)
    last: torch.Tensor = logits[0, -1]
    return last


@pytest.mark.parametrize("name", sorted({*FAMILIES} - {"paligemma"}))
def test_prompts_go_on_as_the_model_itself_goes_on(name: str) -> None:
    model, passes = built(name)
    prompts = prompts_about(name, seed=1) + prompts_about(name, seed=2)
    bundles = list(bundle(prompts, image_token=passes.image_token))
    limit = _EXACT * scale(passes, prompts)
    continued = [(0, (7, 9)), (3, (8,)), (1, (7,)), (0, (5,)), (6, (11, 12, 13)), (0, (7, 4))]
    for way in (NAIVE, CHEAPEST.get(name, PACKED), CACHED):
        parted = [Bundle((entry,), 0) for entry in prompts] if way == NAIVE else bundles
        order = [entry for entries, _ in parted for entry in entries]
        readings, trail = passes.start(parted, way=way, layers=True)
        found = passes.follow(trail, continued)
        assert float((readings.last - passes.run(parted, way=way, layers=True).last).abs().max()) <= limit
        for (prompt, tokens), logits in zip(continued, found, strict=True):
            expected = own_step(model, passes, order[prompt], tokens)
            assert float((logits - expected).abs().max()) <= limit, (way, prompt, tokens)


def test_positions_of_ones_own_are_found_out() -> None:
    """PaliGemma counts positions from one, which nothing but its answers tells."""
    model, passes = built("paligemma")
    prompts = prompts_about("paligemma", seed=1)
    _, trail = passes.start([Bundle((entry,), 0) for entry in prompts], way=NAIVE, layers=False)
    found = passes.follow(trail, [(0, (7,))])[0]
    assert float((found - own_step(model, passes, prompts[0], (7,))).abs().max()) > 1e-2


def test_a_continued_prompt_sees_nobody_elses_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    from mfbayes.inference.trail import Step

    _, passes = built("llava")
    prompts = prompts_about("llava", seed=1)
    bundles = list(bundle(prompts, image_token=passes.image_token))
    honest = passes.follow(passes.start(bundles, way=PACKED, layers=False)[1], [(0, (7,)), (1, (9,))])
    monkeypatch.setattr(Step, "mask", lambda self, *, window: torch.ones_like(self.seen)[:, None])
    leaking = passes.follow(passes.start(bundles, way=PACKED, layers=False)[1], [(0, (7,)), (1, (9,))])
    assert float((honest - leaking).abs().max()) > 1e-2
