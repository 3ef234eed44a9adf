"""Writes a dataset folder: PNG images and one manifest, the same for any number of workers."""

import json
import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mfbayes.data_gen.color_task import Group, design_groups, list_items
from mfbayes.data_gen.drawing import draw
from mfbayes.data_gen.scenes import VISUAL_TIERS
from mfbayes.datasets import Dataset, hash_pixels, read_dataset, read_pixels
from mfbayes.errors import InputError
from mfbayes.names import MANIFEST_FILE
from mfbayes.storage import hash_content, make_folder, read_json, replacing, write_json

IMAGE_FOLDER: Final = "images"
RECIPE_FILE: Final = "recipe.json"
MAX_GROUPS: Final = 10_000
# Raised whenever the same seed would give other pixels or texts.
DESIGN_VERSION: Final = 1


def generate(
    out: Path,
    *,
    n_groups: int,
    seed: int,
    uniform_size: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
    on_group: Callable[[int], None] | None = None,
) -> Dataset:
    """Make the colour task's dataset, or go on where an earlier call stopped.

    Parameters
    ----------
    out : Path
        Folder of the dataset. A finished dataset of the same recipe is checked and returned; after an
        interrupted call only the images that are missing or damaged are drawn.
    n_groups : int
        Number of groups, 1 to 10,000; each has 14 images, 42 conflict items and 14 controls.
    seed : int
        Seed, >= 0: the same seed gives the same pixels on any number of workers.
    uniform_size : bool
        Render every tier at 448 x 448 px, which frees difficulty from resolution.
    workers : int, optional
        Processes; as many as there are usable cores by default.
    overwrite : bool
        Replace a dataset of another recipe.
    on_group : callable, optional
        Called with the number of groups done after each group.

    Raises
    ------
    InputError
        If numbers are out of range, or another dataset stands in `out` and `overwrite` is off.
    """
    if not 1 <= n_groups <= MAX_GROUPS:
        raise InputError(f"Expected 1 to {MAX_GROUPS:,} groups, but {n_groups:,} were asked for. Change --groups.")
    if seed < 0:
        raise InputError(f"Expected a seed of 0 or more, but {seed} came. Change --seed.")
    recipe = {
        "task": "color",
        "n_groups": n_groups,
        "seed": seed,
        "uniform_size": uniform_size,
        "design_version": DESIGN_VERSION,
    }
    if _is_finished(out, recipe, overwrite=overwrite):
        with suppress(InputError):  # damaged: what is missing or altered is drawn again below
            return read_dataset(out)
    make_folder(out / IMAGE_FOLDER)
    manifest = out / MANIFEST_FILE
    manifest.unlink(missing_ok=True)
    write_json(out / RECIPE_FILE, recipe)
    groups = design_groups(n_groups, seed)
    render = partial(_render_group, out=out, recipe=recipe)
    rows: list[dict[str, Any]] = []
    n_workers = min(workers or len(_usable_cores()), n_groups)
    if n_workers == 1:
        for group in groups:
            rows += render(group)
            if on_group is not None:
                on_group(len(rows) // (4 * len(VISUAL_TIERS)))
    else:
        # "spawn" starts clean processes: forking one that has threads running can hang.
        with multiprocessing.get_context("spawn").Pool(n_workers) as pool:
            for done, items in enumerate(pool.imap(render, groups, chunksize=1), start=1):
                rows += items
                if on_group is not None:
                    on_group(done)
    with replacing(manifest) as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)
    _remove_strangers(out / IMAGE_FOLDER, {str(row["image"]) for row in rows})
    return read_dataset(out, verify_pixels=False)


def _remove_strangers(folder: Path, named: set[str]) -> None:
    """Delete the images of a dataset that was replaced."""
    for file in folder.glob("g*-v*.png"):
        if f"{folder.name}/{file.name}" not in named:
            file.unlink()


def _usable_cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _is_finished(out: Path, recipe: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether this very dataset stands finished in the folder."""
    recipe_file, manifest = out / RECIPE_FILE, out / MANIFEST_FILE
    if not recipe_file.exists():
        if manifest.exists() and not overwrite:
            raise InputError(
                f"{out} holds a dataset that was not generated here. Choose another folder, or pass --overwrite."
            )
        return False
    found = read_json(recipe_file)
    if found == recipe:
        return manifest.exists()
    if not overwrite:
        differing = ", ".join(
            f"{name} {found.get(name)} there, {value} asked"
            for name, value in recipe.items()
            if found.get(name) != value
        )
        raise InputError(
            f"{out} holds another dataset ({differing}). Ask for the same one, choose another folder, "
            "or pass --overwrite to replace it."
        )
    return False


def _render_group(group: Group, *, out: Path, recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """Draw and write the images of a group that are not there yet; give back its manifest rows."""
    rows: list[dict[str, Any]] = []
    for d_image in range(len(VISUAL_TIERS)):
        scene = group.scene(d_image, uniform_size=recipe["uniform_size"])
        name = f"{IMAGE_FOLDER}/{group.name}-v{d_image:02d}.png"
        origin = hash_content(json.dumps(_appearance(recipe), sort_keys=True), name)
        checksum = _finished_image(out / name, origin)
        if checksum is None:
            pixels = draw(scene)
            checksum = hash_pixels(pixels)
            notes = PngInfo()
            notes.add_text("origin", origin)
            notes.add_text("pixels_sha256", checksum)
            with replacing(out / name) as temporary:
                Image.fromarray(pixels).save(temporary, format="png", compress_level=3, pnginfo=notes)
        rows += [{**row, "image": name, "pixels_sha256": checksum} for row in list_items(group, d_image, scene)]
    return rows


def _appearance(recipe: dict[str, Any]) -> dict[str, Any]:
    """What of a recipe decides how an image looks: all but how many there are."""
    return {name: value for name, value in recipe.items() if name != "n_groups"}


def _finished_image(file: Path, origin: str) -> str | None:
    """Hash of the pixels of an image that an earlier call finished, or None if it must be drawn."""
    if not file.is_file():
        return None
    try:
        with Image.open(file) as image:
            notes = dict(image.info)
    except (OSError, SyntaxError):
        return None
    if notes.get("origin") != origin:
        return None
    try:
        checksum = hash_pixels(read_pixels(file))
    except InputError:
        return None
    return checksum if checksum == notes.get("pixels_sha256") else None
