"""Amounts of work, by the things that cost: what was done, what each prompt alone would take, and the least."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import astuple, dataclass

from mfbayes.inference.encoding import Encoded, ImageTensors
from mfbayes.inference.sharing import Bundle


@dataclass(frozen=True, slots=True)
class Work:
    """How much of each thing that costs.

    Attributes
    ----------
    tokens : float
        That go through the decoder.
    pairs : float
        Of a token and one that it is compared with.
    pixels : float
        Entries of image tensors that go through the vision tower.
    answers : float
        Readings of the last layer by the head.
    layers : float
        Readings of the layers before it.
    """

    tokens: float = 0
    pairs: float = 0
    pixels: float = 0
    answers: float = 0
    layers: float = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(one + another for one, another in zip(astuple(self), astuple(other), strict=True)))


def count_pixels(images: Iterable[ImageTensors]) -> int:
    """Entries of images' tensors, whole numbers such as sizes left out."""
    return sum(tensor.numel() for image in images for tensor in image.values() if tensor.is_floating_point())


def work_alone(prompts: Sequence[Encoded], *, n_layers: int) -> Work:
    """Each prompt in a pass of its own, with its image, as dense attention has it."""
    lengths = [entry.length for entry in prompts]
    return Work(
        tokens=sum(lengths),
        pairs=sum(length**2 for length in lengths),
        pixels=count_pixels(entry.image for entry in prompts),
        answers=len(prompts),
        layers=_lens_readings(prompts, n_layers),
    )


def least_work(bundles: Sequence[Bundle], *, n_layers: int) -> Work:
    """Each image once, each beginning once, each prompt's own tokens once, and no comparison with later tokens."""
    seen: set[Hashable] = set()
    tokens = pairs = pixels = 0
    for entries, shared in bundles:
        # Texts and images are alive, so that equal ids are the same image; all texts begin alike.
        beginning = id(entries[0].image) if entries[0].image else None
        if beginning not in seen:
            seen.add(beginning)
            tokens += shared
            pairs += shared * (shared + 1) // 2
            pixels += count_pixels([entries[0].image])
        for entry in entries:
            own = entry.length - shared
            tokens += own
            pairs += own * shared + own * (own + 1) // 2
    prompts = [entry for entries, _ in bundles for entry in entries]
    return Work(tokens, pairs, pixels, len(prompts), _lens_readings(prompts, n_layers))


def _lens_readings(prompts: Sequence[Encoded], n_layers: int) -> int:
    return (n_layers - 1) * sum(bool(entry.prompt.answers) for entry in prompts)
