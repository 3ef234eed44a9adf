"""Stretches of a plan that are asked in one go, and the parts into which many machines divide them."""

import re
from collections.abc import Container, Iterator, Sequence
from typing import Final, NamedTuple

from mfbayes.errors import InputError
from mfbayes.inference.prompts import Plan, Prompt
from mfbayes.storage import hash_content

_IMAGES: Final = 16
_TEXTS: Final = 128
_SHARE: Final = re.compile(r"^\s*(\d{1,6})\s*/\s*(\d{1,6})\s*$")


class Unit(NamedTuple):
    """Prompts that are asked together and kept together: texts, or images with all prompts about each.

    Which prompts share a batch moves the last digits of their logits. Units are cut from the whole plan and
    never from what is left of it, so that an interrupted collection ends like one that was not.
    """

    prompts: tuple[Prompt, ...]

    @property
    def key(self) -> str:
        """Name of the unit, by the content of its prompts."""
        return hash_content(*(prompt.key for prompt in self.prompts))[:24]

    def without(self, answered: Container[str]) -> "Unit":
        """What is left of the unit once some of its prompts are answered."""
        return Unit(tuple(prompt for prompt in self.prompts if prompt.key not in answered))


class Share(NamedTuple):
    """The `number`-th of `total` parts, from 1 on."""

    number: int
    total: int

    def of(self, units: Sequence[Unit]) -> list[Unit]:
        """The units of this part: every `total`-th in the order of their keys, which no machine's order changes."""
        mine = {unit.key for unit in sorted(units, key=lambda unit: unit.key)[self.number - 1 :: self.total]}
        return [unit for unit in units if unit.key in mine]

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


WHOLE: Final = Share(1, 1)


def parse_share(text: str) -> Share:
    """Read a part such as "2/8".

    Raises
    ------
    InputError
        If it is none, or out of range.

    Examples
    --------
    >>> parse_share("2/8")
    Share(number=2, total=8)
    """
    match = _SHARE.match(text)
    share = Share(*(int(number) for number in match.groups())) if match else Share(0, 0)
    if not 1 <= share.number <= share.total:
        raise InputError(
            f"Expected a part such as 2/8, the second of eight, but {text!r} came. Change --shard: parts count from 1."
        )
    return share


def divide(plan: Plan, prompts: Sequence[Prompt], *, batch_size: int) -> list[Unit]:
    """Cut prompts of a plan into units, in the plan's order: texts first, then a few images at a time.

    Parameters
    ----------
    plan : Plan
        Its images stay together: no image is in two units.
    prompts : sequence of Prompt
        All of the plan's, or some.
    batch_size : int
        Units hold at least so many texts, or a quarter as many images.
    """
    texts = [prompt for prompt in prompts if not prompt.pixels]
    about: dict[str, list[Prompt]] = {pixels: [] for pixels in plan.images}
    for prompt in prompts:
        if prompt.pixels:
            about[prompt.pixels].append(prompt)
    images = [shared for shared in about.values() if shared]
    units = [Unit(tuple(chunk)) for chunk in _chunks(texts, max(_TEXTS, batch_size))]
    return units + [
        Unit(tuple(prompt for shared in chunk for prompt in shared))
        for chunk in _chunks(images, max(_IMAGES, batch_size // 4))
    ]


def _chunks[T](entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
