"""Whether a model fits into memory, told from the headers of its weights before any of them is read."""

import math
from pathlib import Path
from typing import Final, NamedTuple

import psutil
import torch
from safetensors import SafetensorError, safe_open

from mfbayes.errors import InputError, TooLargeError
from mfbayes.inference.sources import ModelFolder, ModelSource, weight_files

_CGROUPS: Final = Path("/sys/fs/cgroup")
_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
# Names under which the output head is saved; where it is tied to the input embeddings it takes their shape.
_HEADS: Final = ("lm_head.weight", "embed_tokens.weight")


# What the libraries below call it when memory runs out; not all of them have an exception for it.
_OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed", "bad_alloc")


class Need(NamedTuple):
    """Memory that a model's weights take.

    Attributes
    ----------
    n_parameters : int
    n_bytes : int
        In the precision they are loaded in, with a head of float32 beside narrower ones.
    """

    n_parameters: int
    n_bytes: int


def estimate_need(folder: Path, dtype: str) -> Need:
    """Memory that the weights of a folder take, without reading them.

    Parameters
    ----------
    folder : Path
        With safetensors files.
    dtype : {"float32", "bfloat16", "float16"}

    Raises
    ------
    InputError
        If a file of weights is damaged.
    """
    sizes: dict[str, int] = {}
    for file in (folder / name for name in weight_files(folder)):
        try:
            with safe_open(file, framework="pt") as tensors:
                sizes |= {name: math.prod(tensors.get_slice(name).get_shape()) for name in list(tensors.keys())}
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} is damaged or cut short ({error}). Fetch or save it again.") from error
    n_parameters = sum(sizes.values())
    heads = [[size for name, size in sizes.items() if name.endswith(head)] for head in _HEADS]
    head = max(next((found for found in heads if found), [0]))
    return Need(n_parameters, n_parameters * _BYTES[dtype] + (0 if dtype == "float32" else head * 4))


def free_memory(device: torch.device) -> int:
    """Bytes that a device can still give, within the limits that a container or a batch system sets."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([int(psutil.virtual_memory().available), *_group_limits()])


def _group_limits() -> list[int]:
    """What is left to this process's control group and those above it (Linux, version 2)."""
    try:
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return []
    left = []
    folder = _CGROUPS / own.lstrip("/")
    for group in (folder, *folder.parents):
        if not group.is_relative_to(_CGROUPS):
            break
        try:
            limit = int((group / "memory.max").read_text())
            used = int((group / "memory.current").read_text())
            counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        # Files read earlier give way.
        left.append(limit - used + int(counts.get("inactive_file", 0)))
    return left


def check_memory(source: ModelSource | ModelFolder, *, device: torch.device, dtype: str) -> None:
    """Refuse a model whose weights do not fit into what is free.

    Raises
    ------
    TooLargeError
        With what is needed, what is there, and what to do.
    """
    need = estimate_need(source.folder, dtype)
    # Weights pass through the host's memory on their way to any device.
    for place in dict.fromkeys([torch.device("cpu"), device]):
        free = free_memory(place)
        if need.n_bytes > free:
            narrower = "a narrower precision (--dtype bfloat16), " if dtype == "float32" else ""
            raise TooLargeError(
                f"{source.name} has {need.n_parameters / 1e9:.2f} G parameters, which take {_gb(need.n_bytes)} in "
                f"{dtype}, but {place} has {_gb(free)} free. Use {narrower}a smaller model or a larger device."
            )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is memory that ran out."""
    if error is None:
        return False
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    told = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)
    return told or is_out_of_memory(error.__cause__)


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
