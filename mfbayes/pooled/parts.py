"""Parts: pieces of large tables worked on one by one, by several processes, and never twice.

A part is a run of row groups of one file and is named by what is in it: the bytes of the file, which row groups,
which subset and which index of uncertainty. So a part that is finished is used again after an interruption, in a
folder that moved, or beside new files, and never for a file that changed.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mfbayes.errors import InputError
from mfbayes.pooled.bins import Compression, compress, load_compression, merge, no_trials, save_compression
from mfbayes.pooled.optimum import Coefficients
from mfbayes.pooled.scores import load_scores, merge_scores, save_scores, score
from mfbayes.pooled.streaming import Source, stream
from mfbayes.storage import hash_content, hash_file

PART_ROWS: Final = 1 << 20
# Part of every name: raise it whenever the same trials would give other numbers.
_FORMAT: Final = "2"
_MERGED_AT_ONCE: Final = 16

type Mapper = Callable[[Callable[[Part], Any], Sequence[Part]], Iterable[Any]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """Row groups of one file.

    Attributes
    ----------
    source : Source
    row_groups : range
    subset : {"both-correct", "all"}
    key : str
        Hash of the file's bytes, the row groups, the subset and the index of uncertainty.
    """

    source: Source
    row_groups: range
    subset: str
    key: str


def divide(sources: Sequence[Source], *, subset: str, part_rows: int = PART_ROWS) -> tuple[Part, ...]:
    """Divide files into parts of about `part_rows` rows, the same whoever divides them, in an order of their own.

    Raises
    ------
    InputError
        Where two files have the same content: copies would pass for independent trials.
    """
    seen: dict[str, Path] = {}
    parts = []
    for source in sources:
        content = hash_file(source.path)
        if content in seen:
            raise InputError(
                f"The files {seen[content]} and {source.path} are copies of each other. Remove one: copied trials "
                "would make intervals too narrow."
            )
        seen[content] = source.path
        ends = np.cumsum((0, *source.row_groups))
        # A part ends with the row group that fills it.
        last = np.flatnonzero(np.diff(ends // part_rows)) + 1
        bounds = sorted({0, *last.tolist(), len(source.row_groups)})
        for start, stop in pairwise(bounds):
            key = hash_content(_FORMAT, content, f"{start}-{stop}", subset, source.index)
            parts.append(Part(source=source, row_groups=range(start, stop), subset=subset, key=key))
    return tuple(sorted(parts, key=lambda part: part.key))


@contextmanager
def working(processes: int) -> Iterator[Mapper]:
    """A `map` over parts in some processes; results come in order, so that sums do not depend on who is quick."""
    if processes == 1:
        yield map
        return
    # Threads of the libraries beneath do not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def compress_parts(
    parts: Sequence[Part], folder: Path, *, mapper: Mapper = map, tell: Callable[[int], None] | None = None
) -> Compression:
    """Compress every part that `folder` does not have yet, and merge all.

    Parameters
    ----------
    parts : sequence of Part
    folder : Path
        Where finished parts are kept.
    mapper : callable
        Applies a function to every part, see `working`.
    tell : callable, optional
        Told the number of finished parts.

    Raises
    ------
    InputError
        At the first value that cannot be used.
    """
    merged = no_trials()
    for number, done in enumerate(mapper(partial(_compress_part, folder=folder), parts), start=1):
        merged = merge(merged, done)
        if tell:
            tell(number)
    return merged


def score_parts(
    coefficients: Coefficients,
    parts: Sequence[Part],
    folder: Path,
    *,
    mapper: Mapper = map,
    tell: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Scores of all parts at the given coefficients; otherwise as `compress_parts`."""
    merged: list[pd.DataFrame] = []
    work = partial(_score_part, coefficients=coefficients, folder=folder)
    for number, done in enumerate(mapper(work, parts), start=1):
        merged.append(done)
        if len(merged) == _MERGED_AT_ONCE:
            merged = [merge_scores(merged)]
        if tell:
            tell(number)
    return merge_scores(merged)


def _compress_part(part: Part, *, folder: Path) -> Compression:
    file = folder / f"{part.key}.nc"
    if file.exists():
        try:
            return load_compression(file)
        except InputError:
            # A damaged part is made again like an absent one.
            file.unlink()
    batches = stream(part.source, row_groups=part.row_groups, subset=part.subset)
    done = reduce(merge, map(compress, batches), no_trials())
    save_compression(done, file)
    return done


def _score_part(part: Part, *, coefficients: Coefficients, folder: Path) -> pd.DataFrame:
    lines = hash_content(*map("\0".join, coefficients.subjects), coefficients.lines.tobytes())
    file = folder / f"{part.key}-{lines[:16]}.parquet"
    if file.exists():
        try:
            return load_scores(file)
        except InputError:
            file.unlink()
    batches = stream(part.source, row_groups=part.row_groups, subset=part.subset)
    done = merge_scores(score(batch, coefficients) for batch in batches)
    save_scores(done, file)
    return done
