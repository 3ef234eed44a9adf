"""Asks a model: batched forward passes, reduced where they ran to what the study needs."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import torch
from PIL import Image

from mfbayes.errors import InputError
from mfbayes.inference.answers import NOBODY, AnswerTokens, is_complete, normalize_answer, tokenize_answers
from mfbayes.inference.encoding import Encoded, Encoder
from mfbayes.inference.lens import reading
from mfbayes.inference.loading import LoadedModel
from mfbayes.inference.parts import find_parts
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.responses import Response
from mfbayes.names import IMAGE, OTHER, STATE_CODES, TEXT

# Tokens of a longest word: whoever has not finished one by then is cut off.
MAX_TOKENS: Final = 8


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
        Prompts a forward pass.

    Raises
    ------
    InputError
        If the model's layers cannot be read or its tokenizer cannot tell the answers apart.
    """

    def __init__(self, loaded: LoadedModel, answers: Sequence[str], *, name: str, batch_size: int) -> None:
        self.name = name
        self.encoder = Encoder(loaded.processor)
        self._loaded = loaded
        self._batch_size = batch_size
        self.parts = find_parts(loaded.model, name=name)
        tokenizer = loaded.processor.tokenizer
        context = self.encoder.render(Prompt("Which?"))
        self.tokens: AnswerTokens = tokenize_answers(answers, tokenizer, context=context, continuing=True)
        self._owners = torch.empty(0, dtype=torch.long)
        self._ends = _end_tokens(loaded)

    def ask_texts(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Ask prompts without an image."""
        return self.ask(self.encoder.encode_texts(prompts))

    def ask_images(self, images: Iterable[tuple[Image.Image, Sequence[Prompt]]]) -> list[Response]:
        """Ask prompts about images, each image preprocessed once for all of its prompts."""
        encoded = [entry for image, prompts in images for entry in self.encoder.encode_image(prompts, image)]
        return self.ask(encoded)

    def ask(self, encoded: Sequence[Encoded]) -> list[Response]:
        """Ask encoded prompts in batches.

        Raises
        ------
        OverflowedError
            If logits are not finite.
        """
        responses: list[Response] = []
        for batch in self.encoder.batches(encoded, size=self._batch_size):
            responses += self._ask_batch(batch)
        return responses

    def logits(self, batch: Sequence[Encoded], *, layers: bool) -> torch.Tensor:
        """Logits of the first answer token, shape (n_prompts, n_layers or 1, n_vocabulary)."""
        model, device = self._loaded.model, self._loaded.device
        inputs = self.encoder.pad(batch, device=device, dtype=model.dtype)
        positions = torch.tensor([entry.length - 1 for entry in batch], device=device)
        forget_positions(model)
        with torch.inference_mode(), reading(self.parts, positions, layers=layers):
            result: torch.Tensor = model(**inputs, use_cache=False).logits
        return result

    def _ask_batch(self, batch: Sequence[Encoded]) -> list[Response]:
        layers = bool(batch[0].prompt.answers)
        logits = self.logits(batch, layers=layers)
        self._check_finite(logits, batch)
        last = logits[:, -1]
        exact = last.cpu().double() if last.device.type == "mps" else last.double()
        refined = self._refine(exact, batch)
        own = [list(ids) for ids in self.tokens.branches.indices(exact.shape[-1])]
        of_answers = torch.stack([refined[:, ids].amax(dim=-1) for ids in own], dim=-1)
        probabilities = torch.softmax(refined, dim=-1)
        sums = torch.stack([probabilities[:, ids].sum(dim=-1) for ids in own], dim=-1)
        top = last.argmax(dim=-1)
        owners = self._owners_of(top)
        spoken = self._spoken(batch, top.tolist(), owners.tolist())
        states, differences = self._traces(batch, logits) if layers else ([[]] * len(batch), [[]] * len(batch))
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

    def _owners_of(self, tokens: torch.Tensor) -> torch.Tensor:
        if not len(self._owners):
            n_vocabulary = len(self.parts.head.get_parameter("weight"))
            self._owners = self.tokens.owners(n_vocabulary).to(tokens.device)
        return self._owners[tokens]

    def _refine(self, logits: torch.Tensor, batch: Sequence[Encoded]) -> torch.Tensor:
        """Logits in which answers that begin alike are told apart by asking on, where there are such."""

        def ask_on(prefix: tuple[int, ...], rows: list[int]) -> torch.Tensor:
            return self.logits([batch[row].extended(prefix) for row in rows], layers=False)[:, -1]

        return self.tokens.branches.refine(logits, ask_on)

    def _traces(self, batch: Sequence[Encoded], logits: torch.Tensor) -> tuple[list[list[int]], list[list[float]]]:
        """States and logit differences, a list of layers a prompt."""
        tops = logits.argmax(dim=-1)
        states = torch.full_like(tops, STATE_CODES[OTHER])
        differences = torch.empty(tops.shape, device=logits.device)
        for pair in {entry.prompt.answers for entry in batch}:
            rows = [row for row, entry in enumerate(batch) if entry.prompt.answers == pair]
            # What begins another answer too still tells these two apart.
            text, image = (torch.tensor(ids, device=logits.device) for ids in self.tokens.tell_apart(*pair))
            mine = tops[rows]
            codes = torch.full_like(mine, STATE_CODES[OTHER])
            codes[torch.isin(mine, image)] = STATE_CODES[IMAGE]
            codes[torch.isin(mine, text)] = STATE_CODES[TEXT]
            states[rows] = codes
            differences[rows] = (logits[rows][..., text].amax(dim=-1) - logits[rows][..., image].amax(dim=-1)).float()
        return states.tolist(), differences.tolist()

    def _check_finite(self, logits: torch.Tensor, batch: Sequence[Encoded]) -> None:
        finite = torch.isfinite(logits).flatten(1).all(dim=1)
        if bool(finite.all()):
            return
        raise OverflowedError(batch[int((~finite).nonzero()[0])].prompt)

    def _spoken(self, batch: Sequence[Encoded], top: list[int], owners: list[int]) -> list[tuple[str, str]]:
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
            texts = self._continue([batch[row] for row in unfinished], [top[row] for row in unfinished])
            named = {normalize_answer(answer, n_words=n_words): answer for answer in self.tokens.answers}
            for row, text in zip(unfinished, texts, strict=True):
                answer = normalize_answer(text, n_words=n_words)
                spoken[row] = (answer, named.get(answer, ""))
        return spoken

    def _continue(self, batch: Sequence[Encoded], first: Sequence[int]) -> list[str]:
        """Greedy text of each prompt from its first token on, until its words are complete."""
        decode = self._loaded.processor.tokenizer.decode
        tokens = [[token] for token in first]
        for _ in range(MAX_TOKENS - 1):
            open_rows = [row for row, ids in enumerate(tokens) if not self._is_over(ids, decode)]
            if not open_rows:
                break
            logits = self.logits([batch[row].extended(tokens[row]) for row in open_rows], layers=False)
            for row, token in zip(open_rows, logits[:, -1].argmax(dim=-1).tolist(), strict=True):
                tokens[row].append(token)
        return [str(decode(ids, skip_special_tokens=True)) for ids in tokens]

    def _is_over(self, ids: Sequence[int], decode: Any) -> bool:
        return ids[-1] in self._ends or is_complete(decode(ids, skip_special_tokens=True), n_words=self.tokens.n_words)


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


def forget_positions(model: Any) -> None:
    """Drop the positions that Qwen-VL models keep from one call to the next."""
    for module in (model, getattr(model, "model", None)):
        if getattr(module, "rope_deltas", None) is not None:
            module.rope_deltas = None  # type: ignore[union-attr]


def _end_tokens(loaded: LoadedModel) -> frozenset[int]:
    ends = getattr(getattr(loaded.model, "generation_config", None), "eos_token_id", None)
    listed = ends if isinstance(ends, list) else [ends]
    return frozenset(token for token in [*listed, loaded.processor.tokenizer.eos_token_id] if token is not None)
