"""What a model is asked: unique prompts, and which of them each item of a dataset needs."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pandas as pd

from mfbayes.errors import InputError
from mfbayes.names import CONFLICT, D_TEXT, GROUP, ITEM, KIND, TASK
from mfbayes.storage import hash_content

TEXT_ONLY: Final = "text_only"
IMAGE_ONLY: Final = "image_only"
BOTH: Final = "both"
INPUTS: Final = (TEXT_ONLY, IMAGE_ONLY, BOTH)


class Prompt(NamedTuple):
    """One thing to ask.

    Attributes
    ----------
    text : str
        The user's words.
    pixels : str
        Hash of the image's pixels; empty for text alone.
    answers : tuple of str
        Text and image answer whose traces are wanted, or empty where no traces are.
    """

    text: str
    pixels: str = ""
    answers: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name of the prompt's result, the same wherever it is asked."""
        return hash_content(self.text, self.pixels, *self.answers)[:32]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a dataset's items need.

    Attributes
    ----------
    items : pandas.DataFrame
        The items, in the manifest's order, with the keys of their prompts in columns `text_only`,
        `image_only` and `both`.
    prompts : dict
        Prompts by key: texts first, then image by image.
    images : dict
        Relative path of an image by the hash of its pixels.
    answers : tuple of str
        Every designed answer, sorted.
    """

    items: pd.DataFrame
    prompts: dict[str, Prompt]
    images: dict[str, str]
    answers: tuple[str, ...]

    @property
    def content_hash(self) -> str:
        """SHA-256 of everything asked, for whom, and in which order."""
        return hash_content(self.items.to_csv(index=False))


def plan_prompts(manifest: pd.DataFrame, *, limit: int | None = None) -> Plan:
    """Unique prompts of the first `limit` items: a text or an image that items share is asked once.

    A control takes its text alone from the conflict item of the same image and text tier, since its own
    text does not speak of the object asked about.

    Raises
    ------
    InputError
        If `limit` is below 1, or a control has no conflict item to take its text from.
    """
    if limit is not None and limit < 1:
        raise InputError(f"Expected a limit of at least 1 item, but {limit} came. Change --limit.")
    conflicts = manifest[manifest[KIND] == CONFLICT]
    speaking = dict(zip(_places(conflicts), _texts(conflicts), strict=True))
    chosen = manifest.head(len(manifest) if limit is None else limit).reset_index(drop=True)
    texts: dict[str, Prompt] = {}
    by_image: dict[str, dict[str, Prompt]] = {}
    keys: list[tuple[str, str, str]] = []
    for place, text, row in zip(_places(chosen), _texts(chosen), chosen.to_dict("records"), strict=True):
        if place not in speaking:
            raise InputError(
                f"Control {row[ITEM]} has no conflict item of the same image and text tier, whose entropies it takes. "
                "Generate the dataset again."
            )
        pixels = str(row["pixels_sha256"])
        both = Prompt(text, pixels, (str(row["text_answer"]), str(row["image_answer"])))
        image_only = Prompt(f"{row['question']} {row['command']}", pixels)
        text_only = Prompt(speaking[place])
        asked = (text_only.key, image_only.key, both.key)
        texts[asked[0]] = text_only
        by_image.setdefault(pixels, {}).update({asked[1]: image_only, asked[2]: both})
        keys.append(asked)
    prompts = texts | {key: prompt for shared in by_image.values() for key, prompt in shared.items()}
    items = pd.concat([chosen, pd.DataFrame(keys, columns=pd.Index(INPUTS))], axis="columns")
    images = dict(zip(chosen["pixels_sha256"].astype(str), chosen["image"].astype(str), strict=True))
    answers = tuple(sorted({str(answer) for name in ("text_answer", "image_answer") for answer in chosen[name]}))
    return Plan(items, prompts, images, answers)


def _places(items: pd.DataFrame) -> list[tuple[Any, ...]]:
    """What tells the conflict items apart that a control can belong to."""
    # The designed answers tell the orders of a multiple choice apart, which are letters there.
    columns = [TASK, GROUP, "image", D_TEXT, "text_answer", "image_answer"]
    return list(items[columns].itertuples(index=False, name=None))


def _texts(items: pd.DataFrame) -> list[str]:
    parts = items[["description", "question", "command"]].astype(str)
    return [" ".join(words) for words in parts.itertuples(index=False, name=None)]


def conversation(prompt: Prompt) -> list[dict[str, Any]]:
    """Messages of a prompt for a chat template: one turn of the user, the image first."""
    content: list[dict[str, str]] = [{"type": "image"}] if prompt.pixels else []
    return [{"role": "user", "content": [*content, {"type": "text", "text": prompt.text}]}]
