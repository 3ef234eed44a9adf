"""Records: one JSON line a measurement, with everything needed to judge it."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, list_versions, peak_memory

type Record = dict[str, Any]

_ALWAYS = ("mfbayes", "numpy", "numba")


def write_record(measured: Record, *, packages: Sequence[str] = ()) -> None:
    """Print a measurement as the last line of a contender's output, labelled with the machine.

    Parameters
    ----------
    measured : dict
        At least `benchmark` and `contender`.
    packages : sequence of str
        Whose versions matter here, beside those of mfbayes, numpy and numba.
    """
    label = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "load": [round(value, 2) for value in os.getloadavg()],
        "peak_memory_mib": round(peak_memory()),
        "machine": describe_machine(),
        "versions": list_versions((*_ALWAYS, *packages)),
    }
    print(json.dumps(label | measured), flush=True)


def read_records(path: Path) -> list[Record]:
    """Records of a file, none where there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
