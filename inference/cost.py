"""What asking costs in floating-point operations, beside the least that the same answers could cost."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from mfbayes.errors import InputError
from mfbayes.inference.encoding import Encoded, Encoder
from mfbayes.inference.memory import is_out_of_memory
from mfbayes.inference.passes import NAIVE, Passes
from mfbayes.inference.prompts import Prompt
from mfbayes.inference.sharing import Bundle
from mfbayes.inference.work import Work, count_pixels

_QUESTION: Final = "What is it?"
# Tokens that a text is made longer by to see what they cost.
_LONGER: Final = (0, 8, 24)


@dataclass(frozen=True, slots=True)
class Rates:
    """Floating-point operations of a model, a multiplication and an addition counted as two.

    Attributes
    ----------
    token, pair : float
        Of a token, and of a token compared with another, in all layers.
    pixel : float
        Of an entry of an image's tensors.
    reading : float
        Of the head, and what goes with it, where one layer is read.
    """

    token: float
    pair: float
    pixel: float
    reading: float

    def price(self, work: Work) -> float:
        """Operations of some work."""
        body = self.token * work.tokens + self.pair * work.pairs + self.pixel * work.pixels
        return body + self.reading * (work.answers + work.layers)


class Tally(NamedTuple):
    """Work of answering some prompts.

    Attributes
    ----------
    done : Work
        With filler and whatever was computed twice.
    least : Work
        Each image, shared beginning and prompt once.
    alone : Work
        Each prompt in a pass of its own.
    """

    done: Work
    least: Work
    alone: Work

    def flops(self, rates: Rates) -> dict[str, float]:
        """Floating-point operations: `spent`, the `floor`, `alone`, and of those spent the `lens`."""
        return {
            "spent": rates.price(self.done),
            "floor": rates.price(self.least),
            "alone": rates.price(self.alone),
            "lens": rates.reading * self.done.layers,
        }


def measure_rates(passes: Passes, *, text: Encoded, about: Encoded) -> Rates:
    """Rates of a model by torch's own count of a few small passes.

    What torch does not count (norms, activations; experts computed by fused kernels) is left out here too. An
    image of another size is taken to cost as much more as it has pixels.

    Parameters
    ----------
    passes : Passes
    text : Encoded
        A prompt without an image.
    about : Encoded
        A prompt about an image whose layers can be read.
    """
    longer = [text.extended(text.sequences["input_ids"][-1:] * n) for n in _LONGER]
    lengths = np.array([entry.length for entry in longer], dtype=np.float64)
    counts = np.array([_count(passes, entry) for entry in longer], dtype=np.float64)
    constant, token, pair = np.linalg.solve(np.vander(lengths, 3, increasing=True), counts)
    n_earlier, plain = passes.n_layers - 1, _count(passes, about)
    reading = (_count(passes, about, layers=True) - plain) / n_earlier if n_earlier else constant
    image = plain - constant - token * about.length - pair * about.length**2
    return Rates(float(token), float(pair), float(image / count_pixels([about.image])), float(reading))


def try_to_measure_rates(passes: Passes, encoder: Encoder, *, answers: tuple[str, ...]) -> Rates | None:
    """Rates from a text and a gray image, or None where a model cannot be counted: that is no reason not to ask it.

    `answers` are a text and an image answer.
    """
    (text,) = encoder.encode_texts([Prompt(_QUESTION)])
    (about,) = encoder.encode_image([Prompt(_QUESTION, "gray", answers)], Image.new("RGB", (224, 224), "gray"))
    try:
        return measure_rates(passes, text=text, about=about)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, InputError) as error:
        if is_out_of_memory(error):
            raise
        return None


def _count(passes: Passes, entry: Encoded, *, layers: bool = False) -> int:
    with FlopCounterMode(display=False) as counter:
        passes.run([Bundle((entry,), 0)], way=NAIVE, layers=layers)
    return int(counter.get_total_flops())
