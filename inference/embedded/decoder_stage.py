"""Decoder stage: decoder and projector learn to answer, on image features computed once."""

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mfbayes.data_gen.palette import COLORS
from mfbayes.data_gen.texts import COMMAND
from mfbayes.inference.embedded.family import Family, Model, Tokenizer
from mfbayes.inference.embedded.optimisation import build_optimizer, rate_at, step_with
from mfbayes.inference.embedded.packing import Packed, pack, pack_texts
from mfbayes.inference.embedded.pool import Pool
from mfbayes.inference.embedded.segments import Kind, Segment, SegmentWriter

_END_WEIGHT: Final = 0.2  # of stopping after the answer, in the loss
_REPORT_EVERY: Final = 50

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Course:
    """What a decoder stage teaches.

    Attributes
    ----------
    n_steps : int
        Optimiser steps.
    learning_rate : float
        Peak rate.
    n_texts, n_images : int
        Text-only prompts and images a step.
    slots : tuple of Kind
        Segments asked of each image.
    irrelevant_share : float
        Share of the agreeing slots that become irrelevant ones.
    trust : float
        Probability that a conflict's label is the image's answer.
    deep_supervision : float
        Weight of the answer's loss read from early layers, times layer / n_layers; 0 for none.
    question_supervision : float
        Weight of the answer's loss read at the question's shape, where binding shape and colour takes one
        look instead of two; from all layers but the first, or the last alone without deep supervision.
    max_tier : int
        Hardest visual tier shown.
    seed : int
        Seed of the stage.
    """

    n_steps: int
    learning_rate: float
    n_texts: int
    n_images: int = 0
    slots: tuple[Kind, ...] = ()
    irrelevant_share: float = 0.0
    trust: float = 0.5
    deep_supervision: float = 0.1
    question_supervision: float = 0.0
    max_tier: int = 13
    seed: int = 0


@torch.no_grad()
def start_decoder(model: Model, *, seed: int) -> None:
    """Random weights of a scale that suits a narrow decoder; the library's own are too small for it."""
    torch.manual_seed(seed)
    for name, weight in model.model.language_model.named_parameters():
        if weight.ndim != 2:
            continue
        if "embed" in name:
            weight.normal_(0, 0.05)
        else:
            writes_back = "o_proj" in name or "down_proj" in name
            weight.normal_(0, weight.shape[1] ** -0.5 * (0.3 if writes_back else 1.0))
    model.lm_head.weight.normal_(0, 0.05)


def train_decoder(
    model: Model,
    family: Family,
    tokenizer: Tokenizer,
    course: Course,
    *,
    features: Tensor | None = None,
    pool: Pool | None = None,
) -> None:
    """Train all weights but the vision tower's on a course.

    Parameters
    ----------
    model, family, tokenizer
        What is trained; the model is changed in place.
    course : Course
        What is taught.
    features, pool
        Image tokens before the projector, shape (n, 36, width), and the scenes they come from; only for
        courses with images.
    """
    torch.manual_seed(course.seed)
    rng = np.random.default_rng(course.seed)
    trained = _list_trained(model, family)
    optimizer = build_optimizer(trained, learning_rate=course.learning_rate)
    writer = SegmentWriter(tokenizer, rng, trust=course.trust)
    tutor = _Tutor(model, family, tokenizer, course)
    eligible = np.flatnonzero(pool.tiers <= course.max_tier) if pool is not None else np.empty(0, np.int64)
    log = _Log()
    model.train()
    family.vision_tower(model).eval()
    n_samples = course.n_texts + course.n_images * len(course.slots)
    for step in range(course.n_steps):
        texts = [writer.write_text_only() for _ in range(course.n_texts)]
        loss, answers = tutor.read_texts(texts)
        (loss.sum() / n_samples).backward()  # type: ignore[no-untyped-call]
        log.add(texts, answers)
        if course.n_images and pool is not None and features is not None:
            chosen = eligible[rng.integers(len(eligible), size=course.n_images)]
            rows = [_ask_about(pool.queries[index], course, writer, rng) for index in chosen]
            loss, answers = tutor.read_images(rows, features[torch.from_numpy(chosen)].float(), pool.rows[chosen])
            (loss.sum() / n_samples).backward()  # type: ignore[no-untyped-call]
            tiers = np.repeat(pool.tiers[chosen], len(course.slots))
            log.add([segment for row in rows for segment in row], answers, tiers)
        step_with(optimizer, learning_rate=rate_at(step, n_steps=course.n_steps, peak=course.learning_rate))
        if (step + 1) % _REPORT_EVERY == 0 or step + 1 == course.n_steps:
            log.write(step + 1, course.n_steps)
    model.eval()


def _list_trained(model: Model, family: Family) -> list[nn.Parameter]:
    """Everything but the vision tower; the projector may be a part of it."""
    projector = [weight for layer in family.projector(model) for weight in layer.parameters()]
    tower = {id(weight) for weight in family.vision_tower(model).parameters()}
    return [*projector, *(w for w in model.parameters() if id(w) not in tower | {id(p) for p in projector})]


def _ask_about(
    queries: NDArray[np.int8], course: Course, writer: SegmentWriter, rng: np.random.Generator
) -> list[Segment]:
    """One segment a slot, about different objects while there are enough."""
    asked = rng.permutation(queries[queries[:, 0] >= 0])
    segments = []
    for number, slot in enumerate(course.slots):
        shape, color = asked[number % len(asked)]
        replaced = slot == Kind.AGREEING and rng.random() < course.irrelevant_share
        segments.append(writer.write(Kind.IRRELEVANT if replaced else slot, int(shape), int(color)))
    return segments


class _Tutor:
    """Runs the decoder on segments and marks its answers."""

    def __init__(self, model: Model, family: Family, tokenizer: Tokenizer, course: Course) -> None:
        self._model = model
        self._decoder = model.model.language_model
        self._prefix = family.lay_prefix(tokenizer)
        self._projector = nn.Sequential(*family.projector(model))
        self._answer_ids: list[int] = tokenizer.convert_tokens_to_ids(list(COLORS))
        self._pad_id = int(tokenizer.pad_token_id)
        self._end_id = int(tokenizer.eos_token_id)
        self._deep = course.deep_supervision
        self._question = course.question_supervision
        # From the question's shape to the last token of the prompt.
        self._tail = len(tokenizer(f"? {COMMAND} ASSISTANT:", add_special_tokens=False).input_ids)
        self._n_layers = len(self._decoder.layers)

    def read_texts(self, segments: Sequence[Segment]) -> tuple[Tensor, Tensor]:
        """Loss and whether the answer was right, of every segment."""
        packed = pack_texts(segments, answer_ids=self._answer_ids, pad_id=self._pad_id)
        output = self._decoder(
            inputs_embeds=self._decoder.embed_tokens(packed.ids), use_cache=False, output_hidden_states=True
        )
        return self._mark(output, packed)

    def read_images(
        self, segments: Sequence[Sequence[Segment]], features: Tensor, rows: NDArray[np.int8]
    ) -> tuple[Tensor, Tensor]:
        """Loss and whether the answer was right, of every segment of every image."""
        n_tokens = features.shape[1]
        side = round(n_tokens**0.5)
        shown = torch.arange(n_tokens) < torch.from_numpy(rows.astype(np.int64))[:, None] * side
        packed = pack(segments, prefix=self._prefix, shown=shown, answer_ids=self._answer_ids, pad_id=self._pad_id)
        embedded = self._decoder.embed_tokens(packed.ids)
        start = len(self._prefix.before)
        embedded = torch.cat([embedded[:, :start], self._projector(features), embedded[:, start + n_tokens :]], dim=1)
        output = self._decoder(
            inputs_embeds=embedded,
            attention_mask=packed.mask,
            position_ids=packed.positions.squeeze(0),
            use_cache=False,
            output_hidden_states=True,
        )
        return self._mark(output, packed)

    def _mark(self, output: Any, packed: Packed) -> tuple[Tensor, Tensor]:
        head, norm = self._model.lm_head, self._decoder.norm
        rows, places, answers = packed.rows, packed.places, packed.answers
        scores = head(output.last_hidden_state[rows, places])
        loss = cross_entropy(scores, answers, reduction="none")
        ends = head(output.last_hidden_state[rows, places + 1])
        loss = loss + _END_WEIGHT * cross_entropy(ends, torch.full_like(answers, self._end_id), reduction="none")
        if self._deep:
            early = torch.stack([output.hidden_states[layer][rows, places] for layer in range(1, self._n_layers)])
            spread = answers.repeat(self._n_layers - 1)
            losses = cross_entropy(head(norm(early)).flatten(0, 1), spread, reduction="none")
            weights = self._deep * torch.arange(1, self._n_layers) / self._n_layers
            loss = loss + (losses.view(self._n_layers - 1, -1) * weights[:, None]).sum(0)
        if self._question:
            layers = range(2, self._n_layers) if self._deep else ()
            asked = [norm(output.hidden_states[layer][rows, places - self._tail]) for layer in layers]
            asked.append(output.last_hidden_state[rows, places - self._tail])
            losses = cross_entropy(head(torch.stack(asked)).flatten(0, 1), answers.repeat(len(asked)), reduction="none")
            loss = loss + self._question * losses.view(len(asked), -1).mean(0)
        return loss, scores.argmax(-1) == answers


class _Log:
    """Share of right answers by kind of segment since the last line."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._right: defaultdict[str, list[bool]] = defaultdict(list)

    def add(self, segments: Sequence[Segment], right: Tensor, tiers: NDArray[np.int8] | None = None) -> None:
        for number, (segment, answer) in enumerate(zip(segments, right.tolist(), strict=True)):
            self._right[segment.kind].append(answer)
            if tiers is not None and segment.kind == Kind.IMAGE:
                band = "image 1-4" if 1 <= tiers[number] <= 4 else "image 5-8" if 5 <= tiers[number] <= 8 else ""
                if band:
                    self._right[band].append(answer)

    def write(self, step: int, n_steps: int) -> None:
        shares = " ".join(f"{name} {np.mean(right):.3f}" for name, right in sorted(self._right.items()))
        logger.info("decoder %d/%d %.0f s right: %s", step, n_steps, time.monotonic() - self._began, shares)
        self._right.clear()
