"""Tables as users bring them: CSV or parquet read without guessing, with the place of every row."""

import csv
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from pandas.errors import EmptyDataError, ParserError, ParserWarning

from mfbayes.errors import InputError

type Place = Callable[[int], str]
"""Says where row number i (from 0) of a table is, as its reader counts."""

_PARQUET_MAGIC = b"PAR1"
_MISSING = ["", "NA", "N/A", "NaN", "nan", "null", "None", "<NA>", "n/a", "NULL"]


def place_by_number(position: int) -> str:
    """Name a row of a table that has no lines: row 1 is the first."""
    return f"row {position + 1}"


def read_table(path: Path, *, as_text: frozenset[str]) -> tuple[pd.DataFrame, Place]:
    """Read a CSV or parquet file; in a CSV, the columns `as_text` stay exactly as they are written.

    Parameters
    ----------
    path : Path
        A parquet file (known by its first bytes) or a comma-separated UTF-8 file with a header.
    as_text : frozenset of str
        Columns whose values a CSV reader must not turn into numbers or missing values.

    Returns
    -------
    frame : DataFrame
        The rows, numbered from 0.
    place : callable
        Says where row i is: its line in a CSV, its number in a parquet file.

    Raises
    ------
    InputError
        Where the path is not a readable table.
    """
    if path.is_dir():
        raise InputError(f"Expected a CSV or parquet file of trials, but {path} is a folder. Name the file in it.")
    try:
        with path.open("rb") as handle:
            start = handle.read(4)
    except FileNotFoundError as error:
        raise InputError(f"Expected a CSV or parquet file of trials at {path}, but there is none.") from error
    except OSError as error:
        raise InputError(f"The file {path} cannot be read: {error.strerror or error}.") from error
    if not start:
        raise InputError(f"The file {path} is empty. Expected a header and a row for each trial.")
    if start == _PARQUET_MAGIC or path.suffix.lower() in {".parquet", ".pq"}:
        return _read_parquet(path), place_by_number
    return _read_csv(path, as_text=as_text)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path).reset_index(drop=True)
    # pyarrow raises whatever its layers raise on damaged bytes; all of it means the same to a user.
    except Exception as error:
        raise InputError(
            f"The file {path} is not a whole parquet file (damaged, cut short or another format): "
            f"{_first_line(error)}. Write it again."
        ) from error


def _read_csv(path: Path, *, as_text: frozenset[str]) -> tuple[pd.DataFrame, Place]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            header = [name.strip() for name in next(csv.reader(handle, skipinitialspace=True), [])]
        _check_header(header, path)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)
            frame = pd.read_csv(
                path,
                header=0,
                names=header,
                index_col=False,
                encoding="utf-8-sig",
                skipinitialspace=True,
                skip_blank_lines=False,
                keep_default_na=False,
                na_values={name: _MISSING for name in header if name not in as_text},
                dtype={name: "str" for name in header if name in as_text},
                low_memory=False,
            )
    except UnicodeDecodeError as error:
        raise InputError(f"The file {path} is neither parquet nor UTF-8 text. Save it as CSV in UTF-8.") from error
    except (ParserError, ParserWarning, EmptyDataError, csv.Error) as error:
        raise InputError(
            f"The file {path} is not a table of comma-separated values: {_first_line(error)}. "
            "Every row needs as many values as the header has names."
        ) from error
    blank = frame.isna() | (frame == "")
    frame = frame[~blank.all(axis="columns")]
    positions = frame.index.to_numpy()
    return frame.reset_index(drop=True), lambda position: f"line {_line(path, int(positions[position]))}"


def _check_header(header: list[str], path: Path) -> None:
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise InputError(f"The columns of {path} are separated by {name}. Save it with commas between them.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"Column {twice[0]!r} is in {path} more than once. Keep one of them.")


def _line(path: Path, position: int) -> int:
    """Line on which the record number `position` after the header starts: quoted fields may span lines."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, skipinitialspace=True)
        next(reader)
        for _ in range(position):
            next(reader)
        return reader.line_num + 1


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
