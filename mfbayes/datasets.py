"""Conflict datasets on disk: a manifest of items, and the images it names, checked before use."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mfbayes.errors import InputError
from mfbayes.names import KINDS, MANIFEST_FILE
from mfbayes.storage import hash_content

REQUIRED: Final = (
    "item",
    "task",
    "kind",
    "group",
    "d_image",
    "d_text",
    "image",
    "pixels_sha256",
    "image_answer",
    "text_answer",
    "description",
    "question",
    "command",
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset folder.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : pandas.DataFrame
        A row an item, conflict or control: design variables, exact texts, designed answers, the image's
        path relative to the folder and the SHA-256 of its decoded pixels.
    """

    path: Path
    manifest: pd.DataFrame

    @property
    def content_hash(self) -> str:
        """SHA-256 of all that is asked: items, texts, answers and pixels; 64 hexadecimal digits."""
        return hash_content(self.manifest[list(REQUIRED)].to_csv(index=False))

    def image_path(self, relative: str) -> Path:
        """Where an image of the manifest lies."""
        return self.path / relative


def hash_pixels(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of decoded RGB pixels and their shape, whatever file they came from."""
    return hash_content(repr(pixels.shape), np.ascontiguousarray(pixels).tobytes())


def read_dataset(path: Path, *, verify_pixels: bool = True) -> Dataset:
    """Read a dataset folder and check that it is whole.

    Parameters
    ----------
    path : Path
        Folder with `manifest.parquet` and images.
    verify_pixels : bool
        Decode every image and compare its pixels with the manifest's hash; else only look whether it is there.

    Raises
    ------
    InputError
        If the folder or its manifest is missing or damaged, or an image is missing, altered or unreadable.
    """
    file = path / MANIFEST_FILE
    if not file.is_file():
        raise InputError(
            f"Expected a dataset at {path}, but it has no {MANIFEST_FILE}. Make one with "
            "`python -m mfbayes generate color`, or name another folder with --data."
        )
    try:
        manifest = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as parquet ({error}). Generate the dataset again.") from error
    missing = [name for name in REQUIRED if name not in manifest.columns]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}. Generate the dataset again.")
    if manifest.empty:
        raise InputError(f"{file} has no items. Generate the dataset again.")
    if manifest["item"].duplicated().any():
        twice = manifest.loc[manifest["item"].duplicated(), "item"].iloc[0]
        raise InputError(f"{file} lists item {twice} twice. Every item needs its own name.")
    unknown = set(manifest["kind"]) - set(KINDS)
    if unknown:
        raise InputError(f"{file} has kind {sorted(unknown)[0]!r}; expected {' or '.join(KINDS)}.")
    dataset = Dataset(path, manifest)
    images = manifest.drop_duplicates("image")[["item", "image", "pixels_sha256"]]
    _verify(dataset, images.itertuples(index=False, name=None), pixels=verify_pixels)
    return dataset


def _verify(dataset: Dataset, images: Iterable[tuple[str, str, str]], *, pixels: bool) -> None:
    root = dataset.path.resolve()
    remedy = "Generate the dataset again (the same seed gives the same images)."
    for item, relative, expected in images:
        file = dataset.image_path(relative)
        if not file.resolve().is_relative_to(root):
            raise InputError(f"The manifest of {dataset.path} names an image outside its folder: {relative!r}.")
        if not file.is_file():
            raise InputError(f"Image {relative} of the dataset {dataset.path} is missing. {remedy}")
        try:
            is_whole = not pixels or hash_pixels(read_pixels(file)) == expected
        except InputError as error:
            raise InputError(f"Item {item}: {error}") from error
        if not is_whole:
            raise InputError(f"Image {relative} of the dataset {dataset.path} was altered since it was made. {remedy}")


def read_pixels(file: Path) -> NDArray[np.uint8]:
    """Decoded RGB pixels of an image file, shape (height, width, 3).

    Raises
    ------
    InputError
        If the file is no image or is damaged.
    """
    # Imported here, since fitting and reports do without pillow.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} cannot be decoded as an image ({error}). Make or copy it again.") from error
