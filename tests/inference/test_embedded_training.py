"""The training program: its data, its layout against the models' own forward pass, and a tiny whole run."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.shapes import SHAPES
from mfbayes.data_gen.texts import COMMAND, REFERENTS, describe, question
from mfbayes.errors import InputError
from mfbayes.inference.embedded import llava, qwen
from mfbayes.inference.embedded.labels import (
    CONSISTENCY,
    FREQUENCY,
    N_REFERENTS,
    draw_agreeing_thing,
    draw_text_label,
    label_probabilities,
)
from mfbayes.inference.embedded.packing import pack
from mfbayes.inference.embedded.pool import load_pool, render_pool
from mfbayes.inference.embedded.recipes import DECODERS, MODELS
from mfbayes.inference.embedded.segments import Kind, Segment, SegmentWriter
from mfbayes.inference.embedded.train import train
from mfbayes.inference.embedded.vision_stage import scale_pixels

FAMILIES = [llava, qwen]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer_knows_every_word_of_the_task(family: ModuleType) -> None:
    tokenizer = family.build_tokenizer()
    texts = [describe(shape, color, 0) for shape in SHAPES for color in COLORS]
    texts += [describe(shape, color, 1, helper="heart") for shape in SHAPES for color in COLORS]
    texts += [describe("square", color, 2, referent=thing) for color in COLORS for thing in REFERENTS[color]]
    texts += [f"USER: {question(shape)} {COMMAND} ASSISTANT:" for shape in SHAPES]
    assert tokenizer.unk_token_id not in {token for text in texts for token in tokenizer(text).input_ids}
    assert all(len(tokenizer(color, add_special_tokens=False).input_ids) == 1 for color in COLORS)
    assert tokenizer.unk_token_id in tokenizer("a gazebo").input_ids


def test_pool_matches_its_images_and_survives_a_file(tmp_path: Path) -> None:
    pool = render_pool(60, seed=3, wide_rows=5)
    pool.save(tmp_path / "pool.npz")
    again = load_pool(tmp_path / "pool.npz")
    for name in ("images", "fine", "coarse", "queries", "tiers", "rows"):
        np.testing.assert_array_equal(getattr(pool, name), getattr(again, name))
    assert set(pool.rows) == {5, 6}
    assert (pool.images[pool.rows == 5, 80:] == 255).all()
    assert not pool.coarse[pool.rows == 5].reshape(-1, 6, 6, 48)[:, 5].any()
    for index in np.flatnonzero(pool.tiers <= 4):
        asked = pool.queries[index][pool.queries[index, :, 0] >= 0]
        assert len(asked) == pool.tiers[index] + 1 == len(set(asked[:, 0]))  # every shape once
        shown = set(np.flatnonzero(pool.coarse[index].any(0)))
        assert shown == {int(shape) * 6 + int(color) for shape, color in asked}


def test_rare_colours_of_crowded_scenes_tell_nothing() -> None:
    """The scene's rarest visible colour is the target's no more often than any other."""
    pool = render_pool(700, seed=4)
    chance, hits = [], []
    for index in np.flatnonzero(pool.tiers >= 11):
        cells = pool.fine[index].reshape(-1, len(SHAPES), len(COLORS)).any(1).sum(0)
        present = np.flatnonzero(cells)
        hits.append(pool.queries[index, 0, 1] == present[cells[present].argmin()])
        chance.append(1 / len(present))
    spread = np.sqrt(np.mean(chance) * (1 - np.mean(chance)) / len(hits))
    assert np.mean(hits) < np.mean(chance) + 4 * spread


def test_scenes_without_the_targets_colour_elsewhere() -> None:
    pool = render_pool(60, seed=5, rare_share=1.0)
    for index in np.flatnonzero(pool.tiers >= 5):
        shape, color = (int(value) for value in pool.queries[index, 0])
        shown = pool.fine[index].reshape(-1, len(SHAPES), len(COLORS)).any(0)
        assert set(np.flatnonzero(shown[:, color])) <= {shape}
        assert shown.any(0).sum() <= 5


def test_agreeing_things_are_as_reliable_as_things_alone() -> None:
    rng = np.random.default_rng(0)
    n_draws = 40_000
    joint = np.zeros((6, N_REFERENTS, 6))
    for color in rng.integers(6, size=n_draws):
        said, rank = draw_agreeing_thing(rng, int(color))
        joint[said, rank, color] += 1
    expected = label_probabilities() * FREQUENCY[None, :, None] / 6
    expected = expected / expected.sum((0, 1)) / 6  # labels are drawn equally often
    error = np.sqrt(expected * (1 - expected) / n_draws)
    assert (np.abs(joint / n_draws - expected) < 5 * error + 1e-12).all()


def test_labels_follow_a_thing_as_often_as_its_rank_says() -> None:
    rng = np.random.default_rng(1)
    for rank in (0, N_REFERENTS - 1):
        share = np.mean([draw_text_label(rng, 2, 2, rank) == 2 for _ in range(4000)])
        p = CONSISTENCY[rank]
        assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / 4000)


@pytest.mark.parametrize("trust", [0.0, 0.4, 1.0])
def test_conflicts_follow_the_image_as_often_as_trust_says(trust: float) -> None:
    writer = SegmentWriter(llava.build_tokenizer(), np.random.default_rng(2), trust=trust)
    share = np.mean([writer.write(Kind.CONFLICT, 0, 3).answer == 3 for _ in range(4000)])
    # Labels of texts that fall on the image's answer by chance, and noise of the image's own.
    assert share >= trust - 0.006 - 5 * np.sqrt(0.25 / 4000)
    assert share <= trust + (1 - trust) * 0.12 + 5 * np.sqrt(0.25 / 4000)


def test_irrelevant_texts_speak_of_another_shape_and_never_change_the_answer() -> None:
    tokenizer = llava.build_tokenizer()
    writer = SegmentWriter(tokenizer, np.random.default_rng(3), trust=0.0)
    segments = [writer.write(Kind.IRRELEVANT, SHAPES.index("heart"), 1) for _ in range(300)]
    assert np.mean([segment.answer == 1 for segment in segments]) > 0.97
    ask = len(tokenizer(f"{question('heart')} {COMMAND} ASSISTANT:", add_special_tokens=False).input_ids)
    heart = tokenizer.convert_tokens_to_ids("heart")
    assert not any(heart in segment.tokens[:-ask] for segment in segments)


@pytest.mark.parametrize(("family", "height"), [(llava, 96), (qwen, 96), (qwen, 80)])
def test_packed_training_rows_give_the_models_own_logits(family: ModuleType, height: int) -> None:
    """Shared prefix, positions, hidden rows and the batched vision pass against processor and forward."""
    torch.manual_seed(0)
    tokenizer = family.build_tokenizer()
    model, processor = family.build_model(tokenizer).eval(), family.build_processor(tokenizer)
    pixels = np.random.default_rng(0).integers(0, 256, (height, 96, 3), dtype=np.uint8)
    image = np.full((1, 96, 96, 3), 255, np.uint8)
    image[0, :height] = pixels
    texts = [f"{describe('heart', 'blue', 0)} {question('square')} {COMMAND}", f"{question('heart')} {COMMAND}"]
    segments = [
        Segment(Kind.IMAGE, tuple(tokenizer(f"{text} ASSISTANT:", add_special_tokens=False).input_ids), 0)
        for text in texts
    ]
    prefix = family.lay_prefix(tokenizer)
    shown = torch.arange(36)[None] < height // 16 * 6
    packed = pack(
        [segments], prefix=prefix, shown=shown, answer_ids=tokenizer.convert_tokens_to_ids(list(COLORS)), pad_id=0
    )
    decoder = model.model.language_model
    with torch.inference_mode():
        features = family.encode(model, scale_pixels(image), torch.tensor([height // 16]))
        tokens = torch.nn.Sequential(*family.projector(model))(features)
        start = len(prefix.before)
        embedded = decoder.embed_tokens(packed.ids)
        embedded = torch.cat([embedded[:, :start], tokens, embedded[:, start + 36 :]], dim=1)
        hidden = decoder(
            inputs_embeds=embedded, attention_mask=packed.mask, position_ids=packed.positions.squeeze(0)
        ).last_hidden_state
        ours = model.lm_head(hidden[packed.rows, packed.places])
        for text, logits in zip(texts, ours, strict=True):
            content = [{"type": "image"}, {"type": "text", "text": text}]
            prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
            options = {"do_resize": False} if family is qwen else {}
            inputs = processor(images=Image.fromarray(pixels), text=prompt, return_tensors="pt", **options)
            if family is qwen:
                model.model.rope_deltas = None
            torch.testing.assert_close(model(**inputs).logits[0, -1], logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["llava-r40", "qwen-r50"])
def test_tiny_run_goes_through_every_stage_and_resumes(name: str, tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    train(models=[name], stages=None, out=out, work=work, scale=0.001)
    family = DECODERS[name].family
    checkpoints = sorted(file.name for file in work.glob("*.safetensors"))
    assert {f"{family}-vision.safetensors", f"{family}-words.safetensors", f"{name}.safetensors"} <= set(checkpoints)
    first = load_file(out / name / "model.safetensors")
    before = {file: file.stat().st_mtime_ns for file in work.iterdir()}
    (work / f"{name}.safetensors").unlink()
    train(models=[name], stages=None, out=out, work=work, scale=0.001)
    after = {file: file.stat().st_mtime_ns for file in work.iterdir()}
    assert {file.name for file in before if before[file] != after[file]} == {f"{name}.safetensors"}
    # The same recipe gives the same weights.
    again = load_file(out / name / "model.safetensors")
    assert all(torch.equal(first[key], again[key]) for key in first)
    parent = load_file(work / f"{DECODERS[name].parent}.safetensors")
    end = load_file(work / f"{name}.safetensors")
    frozen = [key for key in end if ("vision_tower" in key or "visual" in key) and "merger.mlp" not in key]
    assert frozen and all(torch.equal(parent[key], end[key]) for key in frozen)
    assert not torch.equal(parent["lm_head.weight"], end["lm_head.weight"])


def test_unknown_names_are_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="llava-r50"):
        train(models=["llava-r55"], stages=None, out=tmp_path / "out", work=tmp_path / "work", scale=1.0)
    assert not (tmp_path / "work").exists()


def test_every_recipe_leads_back_to_a_fresh_decoder() -> None:
    for name in MODELS:
        seen = []
        while name:
            assert name not in seen
            seen.append(name)
            assert DECODERS[name].family == DECODERS[seen[0]].family
            name = DECODERS[name].parent
