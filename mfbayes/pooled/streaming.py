"""Streaming: batches of checked trials from parquet files, never a whole table in memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.errors import InputError
from mfbayes.indices import COLUMNS
from mfbayes.pooled.batches import Batch, Group, Indices, Subject
from mfbayes.tables import Place
from mfbayes.trials import CORRECT, EXPECTED, check_trials
from mfbayes.uncertainty import relative_uncertainty
from mfbayes.values import list_choices, read_ids, read_numbers, read_truths, read_words

BATCH_ROWS: Final = 1 << 18
_NEEDED = (names.MODEL, names.GROUP, names.CHOICE)
_DECIDING = (names.TASK, names.CONDITION, *CORRECT)
_READ = (*_NEEDED, *_DECIDING, names.KIND)
_CODED = (names.MODEL, names.TASK, names.CONDITION, names.GROUP, names.CHOICE, names.KIND)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A parquet file of trials whose columns were found fit.

    Attributes
    ----------
    path : Path
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that dH is made of.
    columns : dict
        Columns to read, by name without outer spaces -> as the file spells it.
    row_groups : tuple of int
        Number of rows of each row group.
    """

    path: Path
    index: str
    columns: dict[str, str]
    row_groups: tuple[int, ...]


def find_sources(places: Iterable[Path], *, index: str = names.ENTROPY) -> tuple[Source, ...]:
    """Find the parquet files of trials at the given files and folders, and check their columns.

    Parameters
    ----------
    places : iterable of Path
        Parquet files, or folders that are searched for `*.parquet`.
    index : {"entropy", "margin", "max-probability", "nll"}
        Index of uncertainty that dH is made of; see `mfbayes.indices`.

    Raises
    ------
    InputError
        Where the index is unknown, there is no file, one is damaged, a column is missing or misspelt, or files
        differ in the columns that decide what is a subject and which subset is used.
    """
    if index not in names.INDICES:
        raise InputError(f"Expected index {list_choices(names.INDICES)}, got {index!r}.")
    files = list(dict.fromkeys(file for place in places for file in _list_files(place)))
    sources = tuple(source for source in (_inspect(file, index) for file in files) if source is not None)
    if not sources:
        raise InputError(f"Expected a row for each trial, but there is none in {', '.join(map(str, files))}.")
    first = sources[0]
    for source in sources[1:]:
        for column in _DECIDING:
            if (column in source.columns) != (column in first.columns):
                has, lacks = (source, first) if column in source.columns else (first, source)
                raise InputError(
                    f"{has.path} has the column {column!r}, {lacks.path} has not. Add it there, or drop it everywhere."
                )
    return sources


def stream(
    source: Source, *, row_groups: range | None = None, subset: str = names.BOTH_CORRECT, rows: int = BATCH_ROWS
) -> Iterator[Batch]:
    """Batches of the conflict trials of a file.

    Parameters
    ----------
    source : Source
    row_groups : range, optional
        Row groups to read; all by default.
    subset : {"both-correct", "all"}
        As in `mfbayes.selection.select_trials`: without the columns `text_correct` and `image_correct` all are used.
    rows : int
        Most rows of a batch.

    Raises
    ------
    InputError
        At the first value that cannot be used, naming its file, row and column.
    """
    wanted = range(len(source.row_groups)) if row_groups is None else row_groups
    start = sum(source.row_groups[: wanted.start])
    coded = [source.columns[name] for name in _CODED if name in source.columns]
    try:
        with pq.ParquetFile(source.path, read_dictionary=coded) as file:
            for table in file.iter_batches(rows, row_groups=list(wanted), columns=list(source.columns.values())):
                yield _read_batch(source, table, start, subset)
                start += table.num_rows
    except (OSError, pa.ArrowException) as error:
        raise _damaged(source.path, error) from error


def _list_files(place: Path) -> list[Path]:
    if not place.exists():
        raise InputError(f"Expected a parquet file or a folder of them at {place}, but there is nothing.")
    if not place.is_dir():
        return [place]
    found = sorted(file for file in place.rglob("*.parquet") if not file.name.startswith((".", "_")))
    if not found:
        raise InputError(f"Expected parquet files of trials in the folder {place}, but there is none (*.parquet).")
    return found


def _inspect(path: Path, index: str) -> Source | None:
    """Columns and row groups of a file, None if it has no row; its first row goes through every check of trials."""
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            row_groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
            head = next(file.iter_batches(1), None)
            spelt = list(file.schema_arrow.names)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    if head is None or head.num_rows == 0:
        return None
    try:
        check_trials(head.to_pandas())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    columns = {name.strip(): name for name in spelt}
    if absent := [name for name in COLUMNS[index] if name not in columns]:
        others = [repr(other) for other, pair in COLUMNS.items() if set(pair) <= set(columns)]
        raise InputError(
            f"{path}: the index {index!r} needs the columns {' and '.join(COLUMNS[index])}, but there is no "
            f"{' and no '.join(absent)}. Add {'it' if len(absent) == 1 else 'them'}"
            f"{f', or use the index {" or ".join(others)}' if others else ''}."
        )
    read = [name for name in (*_READ, *COLUMNS[index]) if name in columns]
    return Source(path=path, index=index, columns={name: columns[name] for name in read}, row_groups=row_groups)


def _damaged(path: Path, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return InputError(
        f"The file {path} is not a whole parquet file (damaged, cut short or another format): {reason}. "
        "Large tables are read from parquet only; write it again."
    )


def _read_batch(source: Source, table: pa.RecordBatch, start: int, subset: str) -> Batch:
    """Check the rows of a batch and turn them into arrays."""
    reader = _Reader(source, table, start)
    choice, choices = reader.codes(names.CHOICE, lambda values, place: read_words(values, names.CHOICES, place))
    kept = np.ones(table.num_rows, dtype=bool)
    if names.KIND in source.columns:
        kind, kinds = reader.codes(names.KIND, lambda values, place: read_words(values, names.KINDS, place))
        kept &= np.array(kinds)[kind] == names.CONFLICT
    is_control = ~kept
    text, image = (reader.numbers(name, may_miss=is_control) for name in COLUMNS[source.index])
    for name in CORRECT:
        if name in source.columns:
            truths = reader.truths(name, may_miss=is_control)
            if subset == names.BOTH_CORRECT and all(column in source.columns for column in CORRECT):
                kept &= truths
    subject, subjects = _combine(kept, *(reader.ids(part) for part in Subject._fields))
    group, groups = _combine(kept, *(reader.ids(part) for part in Group._fields))
    uncertainty = relative_uncertainty(text[kept], image[kept])
    chosen = np.array(choices)[choice[kept]]
    defined = ~np.isnan(uncertainty)
    is_other = chosen == names.OTHER
    fitted = defined & ~is_other
    return Batch(
        subjects=tuple(map(Subject._make, subjects)),
        groups=tuple(map(Group._make, groups)),
        subject=subject[fitted],
        group=group[fitted],
        uncertainty=uncertainty[fitted],
        is_text=chosen[fitted] == names.TEXT,
        n_other=np.bincount(subject[defined & is_other], minlength=len(subjects)).astype(np.int64),
        n_undefined=int((~defined).sum()),
    )


class _Reader:
    """Columns of one batch, checked; a categorical column is checked once for each different value."""

    def __init__(self, source: Source, table: pa.RecordBatch, start: int) -> None:
        self.source, self.table, self.start = source, table, start

    def place(self, position: int) -> str:
        return f"in {self.source.path}, row {self.start + position + 1}"

    def series(self, name: str) -> pd.Series:
        column = self.table.column(self.source.columns[name])
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        values: pd.Series = column.to_pandas().rename(name)
        return values

    def numbers(self, name: str, *, may_miss: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Values of the index of uncertainty; zero where they are missing and may be."""
        expected, upper = EXPECTED[self.source.index]
        values = self.series(name)
        spared = values.isna() & may_miss
        present = values.where(~spared, 0.0) if spared.any() else values
        return read_numbers(present, self.place, expected=expected, upper=upper).to_numpy(np.float64)

    def truths(self, name: str, *, may_miss: NDArray[np.bool_]) -> NDArray[np.bool_]:
        values = read_truths(self.series(name), self.place, may_miss=pd.Series(may_miss))
        return values.to_numpy(bool)

    def ids(self, name: str) -> tuple[Indices, list[str]]:
        if name not in self.source.columns:
            label = names.DEFAULT_TASK if name == names.TASK else ""
            return np.zeros(self.table.num_rows, dtype=np.int64), [label]
        return self.codes(name, read_ids)

    def codes(self, name: str, read: Callable[[pd.Series, Place], pd.Series]) -> tuple[Indices, list[str]]:
        column = self.table.column(self.source.columns[name])
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        if column.null_count == 0:
            try:
                values = read(column.dictionary.to_pandas().rename(name), self.place)
                return column.indices.to_numpy(zero_copy_only=False).astype(np.int64), values.tolist()
            except InputError:
                # A dictionary may hold values that no row has, and does not know where the others are.
                pass
        codes, labels = pd.factorize(read(self.series(name), self.place))
        return codes.astype(np.int64), labels.tolist()


def _combine(kept: NDArray[np.bool_], *parts: tuple[Indices, list[str]]) -> tuple[Indices, list[tuple[str, ...]]]:
    """Number the combinations of labels that kept rows have, and list them."""
    combined = np.zeros(int(kept.sum()), dtype=np.int64)
    different = []
    for codes, labels in parts:
        # Labels that differed in outer spaces only are one from here on.
        merged, unique = pd.factorize(np.array(labels, dtype=object))
        combined = combined * len(unique) + merged[codes[kept]]
        different.append(unique)
    numbers, present = pd.factorize(combined)
    columns: list[list[str]] = []
    for unique in reversed(different):
        present, position = np.divmod(present, len(unique))
        columns.append(unique[position].tolist())
    return numbers.astype(np.int64), list(zip(*reversed(columns), strict=True))
