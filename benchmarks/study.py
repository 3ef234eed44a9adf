"""The README's first command, run again where only the fit is still to be made: dataset and answers are there.

    python -m benchmarks.study --seed 1

Times are those of whole processes, from start to end, imports and files included. A first run, which is not timed,
collects, fits and leaves the kernels that later runs find.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import write_record
from mfbayes.storage import read_json

_QUICK_GROUPS, _GROUPS, _RUNS = 4, 20, 3
_KEPT = ("data", "collected")


def main() -> None:
    """Measure with the models of layers and without; the median of three runs each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--quick", action="store_true", help="few groups, two models, one run")
    options = parser.parse_args()
    groups = _QUICK_GROUPS if options.quick else _GROUPS
    models = ("llava-r40", "llava-r60") if options.quick else ("all",)
    with tempfile.TemporaryDirectory(prefix="mfbayes-study-") as scratch:
        first = Path(scratch) / "first"
        command = [sys.executable, "-m", "mfbayes", "fit", "--groups", str(groups), "--seed", str(options.seed)]
        command += [word for model in models for word in ("--model", model)]
        _run([*command, "--out", str(first)])
        for contender, extra in (("trials", ["--no-switching"]), ("trials and layers", [])):
            found = []
            for number in range(1 if options.quick else _RUNS):
                again = Path(scratch) / f"{number}-{len(extra)}"
                for name in _KEPT:
                    shutil.copytree(first / name, again / name)
                found.append((_run([*command, *extra, "--out", str(again)]), read_json(again / "run.json")["seconds"]))
            wall, seconds = sorted(found, key=lambda each: each[0])[len(found) // 2]
            write_record(
                {
                    "benchmark": "study",
                    "contender": contender,
                    "seed": options.seed,
                    "n_groups": groups,
                    "models": list(models),
                    "wall_s": round(wall, 1),
                    "runs": [round(each[0], 1) for each in found],
                    "fit_s": round(seconds["fit"], 1),
                    "switching_s": round(seconds.get("switching", 0.0), 1),
                },
                packages=("pymc", "nutpie", "arviz"),
            )


def _run(command: list[str]) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
