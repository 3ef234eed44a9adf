"""Collects a model's answers, entropies and layer traces on a dataset; goes on where it was stopped."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mfbayes._version import __version__
from mfbayes.datasets import Dataset, read_dataset
from mfbayes.errors import InputError
from mfbayes.inference.engines import HERE, open_engine
from mfbayes.inference.jobs import Job
from mfbayes.inference.orders import ask_both_orders, average_orders, write_averaged_traces
from mfbayes.inference.prompts import Plan, plan_prompts
from mfbayes.inference.rounds import Round, precision_begun
from mfbayes.inference.shards import Answers, Facts, sweep
from mfbayes.inference.sources import ModelFolder, locate_model
from mfbayes.inference.units import WHOLE, parse_share
from mfbayes.names import AUTO, COLLECTED_FOLDER, TRACES_FILE, TRIALS_FILE
from mfbayes.storage import hash_content, hash_file, make_folder, read_json, replacing, write_json

COLLECTION_FILE: Final = "collection.json"
DEFAULT_BATCH_SIZE: Final = 32
# Raised whenever the same model would be asked or read differently.
PROTOCOL_VERSION: Final = 4


def collect(
    dataset: Dataset | Path,
    model: str,
    *,
    out: Path,
    device: str = AUTO,
    dtype: str = AUTO,
    batch_size: int | None = None,
    limit: int | None = None,
    letters: bool = False,
    shard: str | None = None,
    engine: str = HERE,
    address: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    progress: bool = True,
) -> Path:
    """Ask a model everything a dataset asks, and write trials and traces.

    Interrupted at any moment, the same call goes on where it stopped and ends with the same files. A finished
    collection of the same content is given back without loading the model. Answers are kept by their content:
    no prompt is asked twice of one model in one precision, whatever dataset it comes from.

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
        "auto" (that of the answers that are there; else float32 on a CPU and elsewhere the checkpoint's own),
        "float32", "bfloat16" or "float16". Of a narrow one, a sample is asked again in float32.
    batch_size : int, optional
        Prompts a forward pass, 32 by default; halved where memory runs out.
    limit : int, optional
        Ask only the first so many items of the manifest, conflict and control.
    shard : str, optional
        Ask only one part of the prompts, such as "2/8". The part that finds all others answered writes trials
        and traces; so does a call without `shard`, which asks whatever is left.
    engine : {"here", "ray"}
        Where to ask: in this process, or by workers on a Ray cluster.
    address : str, optional
        Of the cluster; without one, Ray uses this machine alone.
    workers : int, optional
        How many models Ray loads; by default one a GPU or, where there is none, one a node.
    overwrite : bool
        Replace a finished collection of other content, once the new one is finished; and try an audit again for
        which there was no memory.
    trust_remote_code : bool
        Let code run that the model's folder brings along.
    progress : bool
        Show progress and time left on stderr, if it is a terminal.

    Returns
    -------
    Path
        Folder with `trials.parquet`, `traces.nc` and `collection.json`; after a part, perhaps not yet.

    Raises
    ------
    InputError
        If dataset, model, part or engine cannot be used, the model's logits are not finite, or a finished
        collection of other content stands there and `overwrite` is off.
    """
    if batch_size is not None and batch_size < 1:
        raise InputError(f"Expected a batch size of at least 1, but {batch_size} came. Change --batch-size.")
    share = WHOLE if shard is None else parse_share(shard)
    opened = open_engine(engine, address=address, workers=workers)
    place = locate_model(model)
    if engine == HERE and not any((out / COLLECTED_FOLDER).glob(place.results_pattern)):
        # Nothing can be there to be given back: the model will be loaded.
        _check_before_reading(place, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    source = place.identify()
    asked = dataset if isinstance(dataset, Dataset) else read_dataset(dataset)
    words = asked.manifest
    if letters:
        asked = replace(asked, manifest=ask_both_orders(words))
    # Both orders of an item are neighbours.
    plan = _plan(asked, limit=limit and limit * (2 if letters else 1))
    folder = make_folder(out / COLLECTED_FOLDER / source.folder_name)
    content = {
        "protocol": PROTOCOL_VERSION,
        "questions": plan.content_hash,
        "answers": hash_content(*plan.answers),
        "model": source.content_hash,
    }
    if _is_finished(folder, content, dtype=dtype, audited=overwrite):
        return folder
    _check_replaceable(folder, content, dtype=dtype, overwrite=overwrite)
    with opened as runner, _progress(progress) as bar:
        job = Job(
            source=source,
            plan=plan,
            dataset=asked,
            protocol=PROTOCOL_VERSION,
            device=device,
            dtype=runner.precision(source, device=device, dtype=dtype),
            batch_size=batch_size or DEFAULT_BATCH_SIZE,
            trust_remote_code=trust_remote_code,
        )
        say = partial(bar.console.print, markup=False, highlight=False, soft_wrap=True)
        if dtype == AUTO:
            job = replace(job, dtype=precision_begun(job, folder, say=say))
        show = _showing(bar, source.name)
        asking = Round(job=job, folder=folder, engine=runner, share=share, say=say, on_progress=show)
        answers, n_asked = asking.answer(list(plan.prompts.values()))
        if n_asked:
            say(f"{source.name}: {describe_asking(summarise_facts(answers.facts))}")
        audit = asking.audit(answers)
        left = len(plan.prompts) - len(answers.responses)
        if left:
            say(f"{source.name}: part {share} is asked; {left} of {len(plan.prompts)} prompts are left to other parts.")
            return folder
    settings = {
        "content": content,
        "limit": limit,
        "letters": letters,
        "engine": engine,
        "batch_size": job.batch_size,
        "dtype": job.dtype,
    }
    counts = {"prompts": len(plan.prompts), "prompts_asked_by_last_call": n_asked}
    _finish(folder, job, answers, words, {**settings, **counts, **summarise_facts(answers.facts), "audit": audit})
    return folder


def _check_before_reading(place: ModelFolder, *, device: str, dtype: str, trust_remote_code: bool) -> None:
    from mfbayes.inference.loading import check_before_reading

    check_before_reading(place, device=device, dtype=dtype, trust_remote_code=trust_remote_code)


def _plan(dataset: Dataset, *, limit: int | None) -> Plan:
    """Prompts of the first items, judged by all designed answers, so that more items leave them as they are."""
    if dataset.manifest.empty:
        raise InputError(f"The dataset {dataset.path} has no items. Generate it again.")
    whole = plan_prompts(dataset.manifest)
    return whole if limit is None else replace(plan_prompts(dataset.manifest, limit=limit), answers=whole.answers)


def summarise_facts(facts: Sequence[Facts]) -> dict[str, Any]:
    """How all shards were asked, where workers differ: the largest difference found, the smallest batch.

    `device` lists all kinds of devices; `seconds_asking` and `flops` add up over workers; `seconds_loading` is the
    longest.
    """
    found = [fact["checks"] for fact in facts]
    checks = {name: _at_worst([its[name] for its in found if name in its]) for its in found for name in its}
    counts = [fact["flops"] for fact in facts]
    flops = {name: sum(count[name] for count in counts) for name in counts[0]} if all(counts) else None
    return {
        "device": ", ".join(sorted({str(fact["device"]) for fact in facts})),
        "checks": checks,
        "flops": flops,
        "smallest_batch_size": min(int(fact["batch_size"]) for fact in facts),
        "seconds_loading": max(float(fact["seconds_loading"]) for fact in facts),
        "seconds_asking": round(sum(float(fact["seconds"]) for fact in facts), 2),
    }


def _at_worst(values: Sequence[Any]) -> Any:
    """The largest number, true only if all are, and every text there is."""
    if all(isinstance(value, bool) for value in values):
        return all(values)
    if all(isinstance(value, int | float) for value in values):
        return max(values)
    return ", ".join(sorted(map(str, set(values))))


def describe_asking(facts: Facts) -> str:
    """One line on how prompts were asked and why, and what it took beside the least that it could.

    Examples
    --------
    >>> flops = {"spent": 2.08e12, "floor": 2e12, "alone": 9e12, "lens": 2.08e10}
    >>> describe_asking({"checks": {"way_reason": "packed: 2e-06 off single prompts"}, "flops": flops})
    'packed: 2e-06 off single prompts. 2.08 TFLOP: 1.04 of the least, each prompt alone 4.50; lens 1.0 %.'
    """
    flops, reason = facts["flops"], facts["checks"]["way_reason"]
    if not flops:
        return f"{reason}."
    floor = flops["floor"] or 1.0
    return (
        f"{reason}. {_flop(flops['spent'])}: {flops['spent'] / floor:.2f} of the least, "
        f"each prompt alone {flops['alone'] / floor:.2f}; lens {flops['lens'] / (flops['spent'] or 1.0):.1%}."
    ).replace("%.", " %.")


def _flop(amount: float) -> str:
    prefix = min(int(math.log10(max(amount, 1)) // 3), 6)
    return f"{amount / 1000**prefix:.3g} {' kMGTPE'[prefix].strip()}FLOP"


def _finish(folder: Path, job: Job, answers: Answers, words: pd.DataFrame, record: dict[str, Any]) -> None:
    """Put trials and traces in place, then the record that says they belong together."""
    from mfbayes.inference.tables import bound_noise, build_trials, write_item_traces

    plan, source, responses = job.plan, job.source, answers.responses
    # A model that batches would change is asked one prompt at a time: what they would do to it is no noise.
    sensitivity = record["checks"]["batch_sensitivity"] if record["batch_size"] > 1 else None
    noise = bound_noise(responses.values(), batch_sensitivity=sensitivity, dtype=record["dtype"])
    table = build_trials(plan, responses, model=source.name, logit_noise=noise)
    write = write_item_traces
    if record["letters"]:
        table, write = average_orders(table, words), write_averaged_traces
    with replacing(folder / TRACES_FILE) as traces, replacing(folder / TRIALS_FILE) as trials:
        table.to_parquet(trials, index=False)
        write(traces, plan, responses)
        files = {TRIALS_FILE: hash_file(trials), TRACES_FILE: hash_file(traces)}
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
    sweep(folder)


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


def _is_finished(folder: Path, content: dict[str, Any], *, dtype: str, audited: bool) -> bool:
    """Whether this very collection is there; "auto" takes whatever precision it was made in.

    With `audited`, one whose precision could not be measured is not finished.
    """
    record = _record(folder)
    if record is None or (audited and "skipped" in (record.get("audit") or {})):
        return False
    return record.get("content") == content and dtype in (AUTO, record.get("dtype"))


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


def how_asked(folder: Path) -> dict[str, Any]:
    """What a reader of results should know of a finished collection: precision and its error, device, way and cost."""
    record: dict[str, Any] = read_json(folder / COLLECTION_FILE)
    told = {name: record.get(name) for name in ("dtype", "device", "flops", "audit")}
    return {**told, "way": record.get("checks", {}).get("way")}


def _check_replaceable(folder: Path, content: dict[str, Any], *, dtype: str, overwrite: bool) -> None:
    record = _record(folder)
    if overwrite or record is None:
        return
    there = record.get("content", {})
    words = {
        "questions": "other items",
        "answers": "other designed answers",
        "model": "other weights",
        "protocol": "another version of this program",
    }
    differing = [words[name] for name in words if there.get(name) != content[name]]
    reasons = " and ".join(differing) or f"dtype {record.get('dtype')} instead of {dtype}"
    raise InputError(
        f"{folder} holds a finished collection of {record.get('model')} with {reasons}. Pass --overwrite to replace "
        "it once the new one is finished (what it answered is not asked again), or choose another --out."
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


def _showing(bar: Progress, name: str) -> Callable[[str, int, int], None]:
    tasks: dict[str, TaskID] = {}

    def show(label: str, done: int, total: int) -> None:
        if label not in tasks:
            tasks[label] = bar.add_task(f"{name}: {label}", total=total)
        bar.update(tasks[label], completed=done)

    return show
