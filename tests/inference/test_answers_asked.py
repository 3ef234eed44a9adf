"""Answers that begin alike, asked of a model: a sequence's probability comes out, and layers say what they can."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mfbayes.errors import InputError
from mfbayes.inference.answers import spellings
from mfbayes.inference.asking import Asker
from mfbayes.inference.loading import load_model
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.sources import find_model


def test_answers_that_begin_alike_are_asked_on(model_folders: dict[str, Path]) -> None:
    loaded = load_model(find_model(str(model_folders["llava"])), device="cpu")
    asker = Asker(loaded, ["12", "13", "7"], name="tiny", batch_size=4)
    (response,) = asker.ask_texts([Prompt("How many?")])
    assert np.isfinite(response.nlls).all()
    np.testing.assert_allclose(np.exp(-np.array(response.nlls)), response.probabilities, rtol=1e-6)
    (entry,) = asker.encoder.encode_texts([Prompt("How many?")])
    tokenizer, context = loaded.processor.tokenizer, asker.encoder.render(Prompt("How many?"))
    n_before = len(tokenizer(context, add_special_tokens=False)["input_ids"])
    chance, seen = 0.0, set()
    for spelling in spellings("12"):
        path = tuple(tokenizer(context + spelling, add_special_tokens=False)["input_ids"][n_before:])
        short = next(path[:n] for n in range(1, len(path) + 1) if path[:n] not in asker.tokens.branches.prefixes)
        if short not in seen:
            seen.add(short)
            steps = [
                torch.log_softmax(asker.logits([entry.extended(short[:i])], layers=False)[0, -1].double(), -1)[short[i]]
                for i in range(len(short))
            ]
            chance += float(torch.stack(steps).sum().exp())
    assert response.probabilities[0] == pytest.approx(chance, abs=1e-4)
    with pytest.raises(InputError, match="layers cannot be read"):
        asker.ask_texts([Prompt("How many?", answers=("12", "13"))])
    (traced,) = asker.ask_texts([Prompt("How many?", answers=("12", "7"))])
    assert np.isfinite(traced.differences).all()
