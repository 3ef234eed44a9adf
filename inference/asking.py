"""Asks a model: batched forward passes, reduced where they ran to what the study needs."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Final

import torch
from PIL import Image

from mfbayes.errors import InputError
from mfbayes.inference.answers import NOBODY, AnswerTokens, is_complete, normalize_answer, tokenize_answers
from mfbayes.inference.cost import Tally
from mfbayes.inference.encoding import Encoded, Encoder
from mfbayes.inference.lens import Readings
from mfbayes.inference.loading import LoadedModel
from mfbayes.inference.parts import find_parts
from mfbayes.inference.passes import NAIVE, PACKED, PACKED_BLOCKS, Passes
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.responses import Response
from mfbayes.inference.sharing import Bundle, bundle
from mfbayes.inference.trail import Continued, Trail
from mfbayes.inference.work import Work, least_work, work_alone
from mfbayes.names import AUTO, IMAGE, OTHER, STATE_CODES, TEXT

# Tokens of a longest word: whoever has not finished one by then is cut off.
MAX_TOKENS: Final = 8
# Images made ready while the device is busy with others.
_AHEAD: Final = 8
# Threads that do so; more than a few would take the processors that the model needs where there is no other device.
_WORKERS: Final = min(4, os.cpu_count() or 1)


class OverflowedError(InputError):
    """Logits that are NaN or infinite, with the prompt that gave them."""

    def __init__(self, prompt: Prompt) -> None:
        super().__init__(f"The model gave logits that are not finite for {prompt.text!r}.")
        self.prompt = prompt


class Asker:
    """A loaded model with the designed answers it is judged by.

    Parameters
    ----------
    loaded : LoadedModel
    answers : sequence of str
        Every designed answer.
    name : str
        What messages call the model.
    batch_size : int
        A forward pass takes as many tokens as so many of the longest prompts; 1 asks one prompt at a time.
    way : {"auto", "naive", "deduplicated", "cached", "packed", "packed-blocks"}
        How prompts share what they have in common. "auto" is naive until `check_model` has found the cheapest
        exact way.
    goes_on : bool
        Whether answers of several tokens go on from a pass's cache rather than from the beginning; `check_model`
        sets it where that is exact.

    Raises
    ------
    InputError
        If the model's layers cannot be read or its tokenizer cannot tell the answers apart.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        answers: Sequence[str],
        *,
        name: str,
        batch_size: int,
        way: str = AUTO,
        goes_on: bool = False,
    ) -> None:
        self.name = name
        self.wanted = way
        self.way = NAIVE if way == AUTO or batch_size == 1 else way
        self.goes_on = goes_on
        self.encoder = Encoder(loaded.processor)
        self._loaded = loaded
        self._batch_size = batch_size
        self.parts = find_parts(loaded.model, name=name)
        self.passes = Passes(loaded, self.parts, self.encoder)
        self._least, self._alone = Work(), Work()
        tokenizer = loaded.processor.tokenizer
        context = self.encoder.render(Prompt("Which?"))
        self.tokens: AnswerTokens = tokenize_answers(answers, tokenizer, context=context, continuing=True)
        self._owners = torch.empty(0, dtype=torch.long)
        self._ends = _end_tokens(loaded)

    def ask_texts(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Ask prompts without an image."""
        return self.ask([self.encoder.encode_texts(prompts)])

    def ask_images(self, images: Iterable[tuple[Image.Image, Sequence[Prompt]]]) -> list[Response]:
        """Ask prompts about images, each preprocessed once, ahead of the model and beside it."""
        return self.ask(self._encode_ahead(images))

    def ask(self, groups: Iterable[Sequence[Encoded]]) -> list[Response]:
        """Ask encoded prompts in batches, taking groups as they come: those about one image, or texts.

        Raises
        ------
        OverflowedError
            If logits are not finite.
        """
        responses: list[Response] = []
        for batch in self._batches(self._bundles(group) for group in groups):
            responses += self._ask_batch(batch)
        return responses

    def take_tally(self) -> Tally:
        """Work since this was last called, passes of the self-test included."""
        tally = Tally(self.passes.done, self._least, self._alone)
        self.passes.done = self._least = self._alone = Work()
        return tally

    def logits(self, batch: Sequence[Encoded], *, layers: bool, way: str = NAIVE) -> torch.Tensor:
        """Logits of the first answer token, shape (n_prompts, n_layers or 1, n_vocabulary).

        `layers` asks for those of every layer, where each prompt names its answers.
        """
        bundles = list(bundle(batch, image_token=self.passes.image_token))
        if way == NAIVE:
            bundles = list(_part(bundles))
        readings = self.passes.run(bundles, way=way, layers=layers)
        last = readings.last[:, None]
        found = torch.cat([readings.earlier, last], dim=1) if layers else last
        # Bundles are ordered by length within.
        order = [id(entry) for entries, _ in bundles for entry in entries]
        return found[[order.index(id(entry)) for entry in batch]]

    def _encode_ahead(self, images: Iterable[tuple[Image.Image, Sequence[Prompt]]]) -> Iterator[list[Encoded]]:
        """Encode images in threads of their own, a few ahead of those in use, and in their order."""
        source = iter(images)

        def encode_one(pair: tuple[Image.Image, Sequence[Prompt]]) -> list[Encoded]:
            return self.encoder.encode_image(pair[1], pair[0])

        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(_WORKERS) as workers:

            def encode() -> list[list[Encoded]]:
                return list(workers.map(encode_one, islice(source, _AHEAD)))

            ready: Future[list[list[Encoded]]] = reader.submit(encode)
            while some := ready.result():
                ready = reader.submit(encode)
                yield from some

    def _bundles(self, group: Sequence[Encoded]) -> list[Bundle]:
        """Bundles of prompts, which are taken note of."""
        bundles = list(bundle(group, image_token=self.passes.image_token))
        self._least += least_work(bundles, n_layers=self.passes.n_layers)
        self._alone += work_alone(group, n_layers=self.passes.n_layers)
        return bundles

    def _batches(self, groups: Iterable[Sequence[Bundle]]) -> Iterator[list[Bundle]]:
        """Bundles of one shape together, as many tokens a batch as `batch_size` of its longest prompts."""
        pending: dict[Any, list[Bundle]] = {}
        for bundles in groups:
            for found in sorted(self._fit(bundles), key=self._size):
                # Where every prompt is on its own, those whose layers are read are best kept from those without.
                apart = bool(found.entries[0].prompt.answers) if self.way == NAIVE else None
                batch = pending.setdefault((apart, found.signature), [])
                if batch and self._overflows([*batch, found]):
                    yield list(batch)
                    batch.clear()
                batch.append(found)
        yield from (batch for batch in pending.values() if batch)

    def _fit(self, bundles: Iterable[Bundle]) -> Iterator[Bundle]:
        """Bundles cut where one alone is more than a batch; every prompt on its own where nothing is shared."""
        for entries, shared in bundles:
            cut: list[Encoded] = []
            for entry in entries:
                if cut and (self.way == NAIVE or self._overflows([Bundle((*cut, entry), shared)])):
                    yield Bundle(tuple(cut), 0 if self.way == NAIVE else shared)
                    cut = []
                cut.append(entry)
            yield Bundle(tuple(cut), 0 if self.way == NAIVE else shared)

    def _overflows(self, batch: Sequence[Bundle]) -> bool:
        """Whether a batch has more tokens than it may."""
        longest = max(entry.length for entries, _ in batch for entry in entries)
        return len(batch) * max(map(self._size, batch)) > self._batch_size * longest

    def _size(self, found: Bundle) -> int:
        """Tokens that a pass holds for a bundle: only packed rows have the shared ones once."""
        packed = self.way in (PACKED, PACKED_BLOCKS)
        return found.n_tokens if packed else len(found.entries) * max(entry.length for entry in found.entries)

    def _ask_batch(self, bundles: Sequence[Bundle]) -> list[Response]:
        batch = [entry for entries, _ in bundles for entry in entries]
        readings, trail = self.start(bundles)
        self._check_finite(readings, batch)
        states, differences = self._traces(batch, readings)
        last = readings.last
        # The layers' logits are the largest thing in memory, and done with.
        del readings
        exact = last.cpu().double() if last.device.type == "mps" else last.double()
        refined = self._refine(exact, batch, trail)
        own = [list(ids) for ids in self.tokens.branches.indices(exact.shape[-1])]
        of_answers = torch.stack([refined[:, ids].amax(dim=-1) for ids in own], dim=-1)
        probabilities = torch.softmax(refined, dim=-1)
        sums = torch.stack([probabilities[:, ids].sum(dim=-1) for ids in own], dim=-1)
        top = last.argmax(dim=-1)
        spoken = self._spoken(batch, trail, top.tolist(), self._owners_of(top).tolist())
        fields = zip(
            [entry.prompt.key for entry in batch],
            entropy(exact).tolist(),
            margin_uncertainty(exact).tolist(),
            least_confidence(exact).tolist(),
            *zip(*spoken, strict=True),
            of_answers.tolist(),
            sums.tolist(),
            answer_nlls(refined, own).tolist(),
            states,
            differences,
            strict=True,
        )
        return [Response(*values) for values in fields]

    def start(self, bundles: Sequence[Bundle]) -> tuple[Readings, Trail | None]:
        """Ask bundles in one pass; with a trail where prompts can go on from it."""
        if self.goes_on:
            return self.passes.start(bundles, way=self.way, layers=True)
        return self.passes.run(bundles, way=self.way, layers=True), None

    def _owners_of(self, tokens: torch.Tensor) -> torch.Tensor:
        if not len(self._owners):
            n_vocabulary = len(self.parts.head.get_parameter("weight"))
            self._owners = self.tokens.owners(n_vocabulary).to(tokens.device)
        return self._owners[tokens]

    def _refine(self, logits: torch.Tensor, batch: Sequence[Encoded], trail: Trail | None) -> torch.Tensor:
        """Logits in which answers that begin alike are told apart by asking on, where there are such."""

        def ask_on(prefix: tuple[int, ...], rows: list[int]) -> torch.Tensor:
            found: list[torch.Tensor] = [logits.new_empty(0)] * len(rows)
            for asked, following in self._following(batch, trail, [(row, prefix) for row in rows]):
                for index, its_logits in zip(asked, following, strict=True):
                    found[index] = its_logits
            return torch.stack(found)

        return self.tokens.branches.refine(logits, ask_on)

    def _following(
        self, batch: Sequence[Encoded], trail: Trail | None, continued: Sequence[Continued]
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Indices of continued prompts asked together, and their logits of the next token, (n_asked, n_vocabulary)."""
        # At the least, each is one token more after all that is there.
        n_pairs = sum(batch[prompt].length + len(tokens) for prompt, tokens in continued)
        step = Work(len(continued), n_pairs, answers=len(continued))
        self._least, self._alone = self._least + step, self._alone + step
        for asked, last in self._ask_on(batch, trail, continued):
            self._check_finite(Readings(last, last[:0, None]), [batch[continued[index][0]] for index in asked])
            yield asked, last

    def _ask_on(
        self, batch: Sequence[Encoded], trail: Trail | None, continued: Sequence[Continued]
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        if trail is not None:
            yield list(range(len(continued))), self.passes.follow(trail, continued)
            return
        longer = [batch[prompt].extended(tokens) for prompt, tokens in continued]
        index = {id(entry): number for number, entry in enumerate(longer)}
        for bundles in self._batches([list(bundle(longer, image_token=self.passes.image_token))]):
            asked = [index[id(entry)] for entries, _ in bundles for entry in entries]
            yield asked, self.passes.run(bundles, way=self.way, layers=False).last

    def _traces(self, batch: Sequence[Encoded], readings: Readings) -> tuple[list[list[int]], list[list[float]]]:
        """States and logit differences, a list of layers a prompt, empty where no traces are wanted."""
        layered = [row for row, entry in enumerate(batch) if entry.prompt.answers]
        states: list[list[int]] = [[] for _ in batch]
        differences: list[list[float]] = [[] for _ in batch]
        if not layered:
            return states, differences
        pairs = [batch[row].prompt.answers for row in layered]
        # Apart, since copies of all layers' logits would be the largest thing in memory.
        reduced = [self._compare(logits, pairs) for logits in (readings.earlier, readings.last[layered][:, None])]
        codes, leads = (torch.cat(parts, dim=1).tolist() for parts in zip(*reduced, strict=True))
        for row, its_codes, its_leads in zip(layered, codes, leads, strict=True):
            states[row], differences[row] = its_codes, its_leads
        return states, differences

    def _compare(self, logits: torch.Tensor, pairs: Sequence[tuple[str, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
        """State of each prompt in each layer, and how far its text answer leads its image answer in logits."""
        tops = logits.argmax(dim=-1)
        codes = torch.full_like(tops, STATE_CODES[OTHER])
        leads = torch.empty(tops.shape, device=logits.device)
        for pair in dict.fromkeys(pairs):
            rows = torch.tensor([row for row, its in enumerate(pairs) if its == pair], device=logits.device)
            best = []
            # What begins another answer too still tells these two apart.
            for side, ids in zip((TEXT, IMAGE), self.tokens.tell_apart(*pair), strict=True):
                known = torch.tensor(ids, device=logits.device)
                best.append(logits[rows[:, None], :, known].amax(dim=1))
                codes[rows] = codes[rows].masked_fill(torch.isin(tops[rows], known), STATE_CODES[side])
            leads[rows] = (best[0] - best[1]).float()
        return codes, leads

    def _check_finite(self, readings: Readings, batch: Sequence[Encoded]) -> None:
        finite = torch.isfinite(readings.last).all(dim=-1)
        layered = [row for row, entry in enumerate(batch) if entry.prompt.answers]
        if layered and len(readings.earlier):
            finite[layered] &= torch.stack([torch.isfinite(logits).all() for logits in readings.earlier])
        broken = (~finite).tolist()
        if any(broken):
            raise OverflowedError(batch[broken.index(True)].prompt)

    def _spoken(
        self, batch: Sequence[Encoded], trail: Trail | None, top: list[int], owners: list[int]
    ) -> list[tuple[str, str]]:
        """Each prompt's own answer, and the designed answer it is, if any."""
        n_words = self.tokens.n_words
        spoken: list[tuple[str, str]] = []
        unfinished: list[int] = []
        for row, (token, owner) in enumerate(zip(top, owners, strict=True)):
            designed = self.tokens.answers[owner] if owner != NOBODY else ""
            if token in self.tokens.whole:
                spoken.append((normalize_answer(designed, n_words=n_words), designed))
            else:
                # A first token of an answer may go on as another word: "pur" is purple, pure or purplish.
                spoken.append(("", ""))
                unfinished.append(row)
        if unfinished:
            texts = self._continue(batch, trail, {row: top[row] for row in unfinished})
            named = {normalize_answer(answer, n_words=n_words): answer for answer in self.tokens.answers}
            for row, text in zip(unfinished, texts, strict=True):
                answer = normalize_answer(text, n_words=n_words)
                spoken[row] = (answer, named.get(answer, ""))
        return spoken

    def _continue(self, batch: Sequence[Encoded], trail: Trail | None, first: Mapping[int, int]) -> list[str]:
        """Greedy text of prompts, given their first tokens by row, on until its words are complete."""
        tokens: dict[int, tuple[int, ...]] = {row: (token,) for row, token in first.items()}
        for _ in range(MAX_TOKENS - 1):
            continued = [(row, ids) for row, ids in tokens.items() if not self._is_over(ids)]
            if not continued:
                break
            for asked, following in self._following(batch, trail, continued):
                for index, token in zip(asked, following.argmax(dim=-1).tolist(), strict=True):
                    row, ids = continued[index]
                    tokens[row] = (*ids, token)
        return [self.encoder.decode(ids) for ids in tokens.values()]

    def _is_over(self, ids: Sequence[int]) -> bool:
        return ids[-1] in self._ends or is_complete(self.encoder.decode(ids), n_words=self.tokens.n_words)


def _part(bundles: Iterable[Bundle]) -> Iterator[Bundle]:
    """Every prompt on its own."""
    return (Bundle((entry,), 0) for entries, _ in bundles for entry in entries)


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Shannon entropy in nats of softmax(logits) where they are, as `mfbayes.uncertainty.entropy` has it.

    Parameters
    ----------
    logits : torch.Tensor, shape (n_prompts, n_vocabulary)
        float64.
    """
    delta, weights = _weigh_others(logits)
    rest = weights.sum(dim=-1)
    return torch.log1p(rest) - (weights * delta).sum(dim=-1) / (1 + rest)


def margin_uncertainty(logits: torch.Tensor) -> torch.Tensor:
    """One minus the lead of the likeliest token, as `mfbayes.indices.margin_uncertainty` has it."""
    _, weights = _weigh_others(logits)
    rest = weights.sum(dim=-1)
    return (rest + weights.amax(dim=-1)) / (1 + rest)


def least_confidence(logits: torch.Tensor) -> torch.Tensor:
    """One minus the largest probability, as `mfbayes.indices.least_confidence` has it."""
    rest = _weigh_others(logits)[1].sum(dim=-1)
    return rest / (1 + rest)


def answer_nlls(logits: torch.Tensor, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
    """Negative log-probability of each answer, as `mfbayes.indices.answer_nll` has it; shape (n_prompts, n_answers).

    Parameters
    ----------
    logits : torch.Tensor, shape (n_prompts, n_vocabulary)
        float64.
    tokens : sequence of sequence of int
        For each answer the tokens that begin it, none of them in two answers.
    """
    own = torch.stack([logits[:, list(ids)].logsumexp(dim=-1) for ids in tokens], dim=-1)
    outside = logits.index_fill(-1, torch.tensor([i for ids in tokens for i in ids], device=logits.device), -torch.inf)
    terms = torch.cat([own, outside.logsumexp(dim=-1, keepdim=True)], dim=-1)
    # Sums of all the others, not one minus the answer's own share: nothing cancels near certainty.
    others = [terms[:, [j for j in range(terms.shape[1]) if j != i]].logsumexp(dim=-1) for i in range(len(tokens))]
    against = torch.stack(others, dim=-1) - own
    return torch.logaddexp(torch.zeros_like(against), against)


def _weigh_others(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and probabilities relative to the likeliest token, whose own place holds zero."""
    top = logits.argmax(dim=-1, keepdim=True)
    delta = logits - logits.gather(-1, top)
    return delta, delta.exp().scatter(-1, top, 0.0)


def _end_tokens(loaded: LoadedModel) -> frozenset[int]:
    ends = getattr(getattr(loaded.model, "generation_config", None), "eos_token_id", None)
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(token for token in [*listed, loaded.processor.tokenizer.eos_token_id] if token is not None)
