"""Collects a model's answers, entropies and layer traces on a dataset; goes on where it was stopped."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mfbayes._version import __version__
from mfbayes.datasets import Dataset, read_dataset, read_pixels
from mfbayes.errors import InputError
from mfbayes.inference.prompts import INPUTS, Plan, Prompt, plan_prompts
from mfbayes.inference.responses import PARTS_FOLDER, Response, parts_folder, read_parts, remove_parts, save_part
from mfbayes.inference.sources import ModelSource, find_model
from mfbayes.names import COLLECTED_FOLDER, TRACES_FILE, TRIALS_FILE
from mfbayes.storage import hash_content, hash_file, make_folder, read_json, write_json, write_with

COLLECTION_FILE: Final = "collection.json"
AUTO: Final = "auto"
DEFAULT_BATCH_SIZE: Final = 32
# Raised whenever the same model would be asked or read differently.
PROTOCOL_VERSION: Final = 2
_IMAGES_A_PART: Final = 16
_TEXTS_A_PART: Final = 128


def collect(
    dataset: Dataset | Path,
    model: str,
    *,
    out: Path,
    device: str = AUTO,
    dtype: str = AUTO,
    batch_size: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    progress: bool = True,
) -> Path:
    """Ask a model everything a dataset asks, and write trials and traces.

    Interrupted at any moment, the same call goes on where it stopped. A finished collection of the same
    content is given back without loading the model.

    Parameters
    ----------
    dataset : Dataset or Path
        A dataset or its folder.
    model : str
        Name of an embedded model, a folder, or a hub id.
    out : Path
        Results go to `out/collected/MODEL/`.
    device : str
        "auto", "cpu", "cuda" or "mps".
    dtype : str
        "auto" (float32 on a CPU, elsewhere the checkpoint's own), "float32", "bfloat16" or "float16".
    batch_size : int, optional
        Prompts a forward pass, 32 by default.
    limit : int, optional
        Ask only the first so many items of the manifest, conflict and control.
    overwrite : bool
        Replace a finished collection of other content, once the new one is finished.
    trust_remote_code : bool
        Let code run that the model's folder brings along.
    progress : bool
        Show progress and time left on stderr, if it is a terminal.

    Returns
    -------
    Path
        Folder with `trials.parquet`, `traces.nc` and `collection.json`.

    Raises
    ------
    InputError
        If dataset or model cannot be used, the model's logits are not finite, or a finished collection of
        other content stands there and `overwrite` is off.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"Expected a batch size of at least 1, but {batch_size} came. Change --batch-size.")
    source = find_model(model)
    asked = dataset if isinstance(dataset, Dataset) else read_dataset(dataset)
    plan = plan_prompts(asked.manifest, limit=limit)
    folder = make_folder(out / COLLECTED_FOLDER / source.folder_name)
    content = {"protocol": PROTOCOL_VERSION, "questions": plan.content_hash, "model": source.content_hash}
    if _is_finished(folder, content, dtype=dtype):
        remove_parts(folder)
        return folder
    _check_replaceable(folder, content, dtype=dtype, overwrite=overwrite)
    settings = {"device": device, "dtype": dtype, "batch_size": batch_size or DEFAULT_BATCH_SIZE}
    with _progress(progress) as bar:
        responses, record = _ask(plan, asked, source, folder, content, settings, trust_remote_code, bar)
    _finish(folder, plan, responses, source, {**record, "content": content, "limit": limit})
    return folder


def _ask(
    plan: Plan,
    dataset: Dataset,
    source: ModelSource,
    folder: Path,
    content: dict[str, Any],
    settings: dict[str, Any],
    trust_remote_code: bool,
    bar: Progress,
) -> tuple[dict[str, Response], dict[str, Any]]:
    """Responses to all prompts, old and new, and a record of how they were asked."""
    # Imported here, since torch takes seconds and a finished collection does without.
    from mfbayes.inference.asking import Asker, OverflowedError
    from mfbayes.inference.loading import load_model, silence_libraries
    from mfbayes.inference.selftest import check_model

    silence_libraries()
    started = time.perf_counter()
    task = bar.add_task(f"{source.name}: loading", total=len(plan.prompts))
    loaded = load_model(source, device=settings["device"], dtype=settings["dtype"], trust_remote_code=trust_remote_code)
    key = hash_content(*(str(value) for value in content.values()), loaded.dtype)
    parts = parts_folder(folder, key)
    asker = Asker(loaded, plan.answers, name=source.name, batch_size=settings["batch_size"])
    first = next(prompt for prompt in plan.prompts.values() if prompt.answers)
    checks = check_model(asker, loaded, answers=first.answers, batch_size=settings["batch_size"])
    responses = read_parts(parts, plan.prompts)
    ready = time.perf_counter()
    n_before = len(responses)
    bar.update(task, description=f"{source.name}: asking", completed=n_before)
    try:
        for ask in _stretches(plan, dataset, asker, done=set(responses), batch_size=settings["batch_size"]):
            new = ask()
            save_part(parts, new)
            responses |= {response.key: response for response in new}
            bar.update(task, completed=len(responses))
    except OverflowedError as error:
        raise InputError(
            f"{source.name} gave logits that are not finite for item {_item_of(plan, error.prompt)}. Ask it in a wider "
            "precision (--dtype float32), or fetch its weights again."
        ) from error
    seconds = time.perf_counter() - ready
    record = {
        "device": str(loaded.device),
        "dtype": loaded.dtype,
        "batch_size": settings["batch_size"],
        "checks": checks,
        "prompts": len(plan.prompts),
        "prompts_asked_by_last_call": len(plan.prompts) - n_before,
        "seconds_loading": round(ready - started, 2),
        "seconds_asking": round(seconds, 2),
    }
    return responses, record


def _stretches(
    plan: Plan, dataset: Dataset, asker: Any, *, done: set[str], batch_size: int
) -> Iterator[Callable[[], list[Response]]]:
    """Calls that each ask a stretch of what is still to ask: texts first, then a few images at a time."""
    from PIL import Image

    def ask_about(pixels: list[str]) -> list[Response]:
        files = ((dataset.image_path(plan.images[name]), about[name]) for name in pixels)
        responses: list[Response] = asker.ask_images(
            (Image.fromarray(read_pixels(file)), prompts) for file, prompts in files
        )
        return responses

    left = [prompt for key, prompt in plan.prompts.items() if key not in done]
    texts = [prompt for prompt in left if not prompt.pixels]
    for chunk in _chunks(texts, max(_TEXTS_A_PART, batch_size)):
        yield partial(asker.ask_texts, chunk)
    about: dict[str, list[Prompt]] = {}
    for prompt in left:
        if prompt.pixels:
            about.setdefault(prompt.pixels, []).append(prompt)
    for pixels in _chunks(list(about), max(_IMAGES_A_PART, batch_size // 4)):
        yield partial(ask_about, pixels)


def _chunks[T](entries: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


def _item_of(plan: Plan, prompt: Prompt) -> str:
    used = plan.items[list(INPUTS)].isin([prompt.key]).any(axis="columns")
    return str(plan.items.loc[used, "item"].iloc[0])


def _finish(
    folder: Path, plan: Plan, responses: dict[str, Response], source: ModelSource, record: dict[str, Any]
) -> None:
    """Put trials and traces in place, then the record that says they belong together."""
    from mfbayes.inference.tables import bound_noise, build_trials, write_item_traces

    staged = make_folder(folder / PARTS_FOLDER / "finished")
    # A model that batches would change is asked one prompt at a time: what they would do to it is no noise.
    sensitivity = record["checks"]["batch_sensitivity"] if record["batch_size"] > 1 else None
    noise = bound_noise(responses.values(), batch_sensitivity=sensitivity, dtype=record["dtype"])
    trials = build_trials(plan, responses, model=source.name, logit_noise=noise)
    write_with(staged / TRIALS_FILE, lambda path: trials.to_parquet(path, index=False))
    write_item_traces(staged / TRACES_FILE, plan, responses)
    files = {name: hash_file(staged / name) for name in (TRIALS_FILE, TRACES_FILE)}
    for name in files:
        (staged / name).replace(folder / name)
    write_json(
        folder / COLLECTION_FILE,
        {
            **record,
            "model": source.name,
            "kind": source.kind,
            "revision": source.revision,
            "n_items": len(plan.items),
            "files": files,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {"mfbayes": __version__, **{name: _version(name) for name in ("torch", "transformers")}},
        },
    )
    remove_parts(folder)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _record(folder: Path) -> dict[str, Any] | None:
    """Record of a finished collection whose files are the ones it was written for."""
    file = folder / COLLECTION_FILE
    if not file.is_file():
        return None
    record: dict[str, Any] = read_json(file)
    for name, expected in record.get("files", {}).items():
        if not (folder / name).is_file() or hash_file(folder / name) != expected:
            return None
    return record


def _is_finished(folder: Path, content: dict[str, Any], *, dtype: str) -> bool:
    """Whether this very collection is there; "auto" takes whatever precision it was made in."""
    record = _record(folder)
    return record is not None and record.get("content") == content and dtype in (AUTO, record.get("dtype"))


def is_collected(folder: Path, dataset: Dataset) -> bool:
    """Whether a folder holds a finished collection of every item of a dataset, whatever the model's weights.

    One by another version of this program does not count: its columns differ.
    """
    record = _record(folder)
    if record is None:
        return False
    content: dict[str, Any] = record.get("content", {})
    wanted = {"protocol": PROTOCOL_VERSION, "questions": plan_prompts(dataset.manifest).content_hash}
    return {name: content.get(name) for name in wanted} == wanted


def _check_replaceable(folder: Path, content: dict[str, Any], *, dtype: str, overwrite: bool) -> None:
    record = _record(folder)
    if overwrite or record is None:
        return
    there = record.get("content", {})
    words = {"questions": "other items", "model": "other weights", "protocol": "another version of this program"}
    differing = [words[name] for name in words if there.get(name) != content[name]]
    reasons = " and ".join(differing) or f"dtype {record.get('dtype')} instead of {dtype}"
    raise InputError(
        f"{folder} holds a finished collection of {record.get('model')} with {reasons}. Pass --overwrite to replace "
        "it once the new one is finished, or choose another --out."
    )


def _progress(shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (shown and console.is_terminal),
    )
