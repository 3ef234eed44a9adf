"""Files of JSON lines, read line by line with a bound on a line's length."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mfbayes.errors import InputError

LONGEST_LINE = 64 * 2**20


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a file of JSON lines with the number of their line, from 1.

    Raises
    ------
    InputError
        Where a line is no JSON object, no UTF-8, or longer than 64 MiB; names file and line.
    """
    with path.open("rb") as handle:
        number = 0
        while line := handle.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise InputError(f"Line {number} of {path} has more than {LONGEST_LINE:,} bytes. Is it a sample log?")
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"Expected JSON in line {number} of {path}. Is the file whole?") from error
            if not isinstance(row, dict):
                raise InputError(f"Expected a JSON object in line {number} of {path}, got {type(row).__name__}.")
            yield number, row
