"""All benchmarks: the same data for every contender, each in a process of its own.

    python benchmarks/run.py               everything, into benchmarks/results.jsonl and README.md
    python benchmarks/run.py --only scale  one of them; the others' results are kept
    python benchmarks/run.py --quick       small sizes, shown and not kept: a check of the programs

Kernels are compiled from nothing in a cache of the run's own, so that first calls are honest; only
--quick takes those that earlier runs left.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
PAGE = ROOT / "benchmarks" / "README.md"
BENCHMARKS = ("sampling", "intervals", "scale")
WHOLE = ("study", "switching", "hidden", "collection")
FAULTS = ("kills", "precision", "ray")
PEERS_IN_R = ("glmmTMB", "glmer")
SAMPLERS = ("mfbayes-nuts", "mfbayes-reference", "bambi", "bambi-cells", "pymc", "numpyro")
_LONGEST = 3600


@dataclass(frozen=True, kw_only=True)
class Size:
    """Models, groups and trials of one model in one group, a data set each; and draws a chain."""

    sampling: tuple[int, int, int]
    intervals: tuple[int, int, int]
    scale: tuple[int, int, int]
    draws: int


FULL = Size(sampling=(6, 40, 21), intervals=(6, 400, 25), scale=(6, 4000, 42), draws=500)
QUICK = Size(sampling=(3, 10, 10), intervals=(3, 20, 20), scale=(6, 200, 42), draws=100)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One process: a module of benchmarks, its arguments, and what to call it."""

    module: str
    arguments: tuple[str, ...]


def plan(size: Size, *, only: str | None, seed: int, folder: Path) -> Iterator[Step]:
    """Every step in order; a step that writes data stands before those that read it."""
    seeded = ("--seed", str(seed))
    for name in BENCHMARKS:
        if only not in (None, name):
            continue
        models, groups, repeats = map(str, getattr(size, name))
        path = str(folder / f"{name}.{'parquet' if name == 'scale' else 'csv'}")
        sizes = ("--models", models, "--groups", groups, "--repeats", repeats)
        yield Step(module="data", arguments=(*sizes, *seeded, path))
        if name == "sampling":
            for contender in SAMPLERS:
                yield Step(module=name, arguments=(path, contender, "--draws", str(size.draws), *seeded))
        elif name == "intervals":
            for kernels in ("compiled", "cached"):
                yield Step(module=name, arguments=(path, "mfbayes-fast", "--kernels", kernels, *seeded))
            if shutil.which("Rscript"):
                for contender in PEERS_IN_R:
                    yield Step(module=name, arguments=(path, contender, *seeded))
            else:
                _say("R is not there: lme4 and glmmTMB are left out. Debian: r-cran-lme4, r-cran-glmmtmb.")
        else:
            for kernels in ("compiled", "cached"):
                yield Step(module=name, arguments=(path, "--kernels", kernels, *seeded))
    for name in WHOLE:
        if only in (None, name):
            yield Step(module=name, arguments=(*seeded, *(("--quick",) if size is QUICK else ())))
    for what in FAULTS if only in (None, "faults") else ():
        if what == "ray" and importlib.util.find_spec("ray") is None:
            _say("Ray is not there: it is left out. Install it with: pip install 'mfbayes[ray]'.")
        else:
            yield Step(module="faults", arguments=(what, *seeded, *(("--quick",) if size is QUICK else ())))


def take(step: Step, kernels: Path | None) -> list[str] | None:
    """Run one step; the records it prints, or None where it failed.

    Kernels are kept in the folder `kernels`, or where they always are if it is None.
    """
    environment = dict(os.environ)
    if kernels:
        if "cached" not in step.arguments:
            shutil.rmtree(kernels, ignore_errors=True)
        environment["NUMBA_CACHE_DIR"] = str(kernels / "numba")
        environment["PYTENSOR_FLAGS"] = f"base_compiledir={kernels / 'pytensor'}"
    command = [sys.executable, "-m", f"benchmarks.{step.module}", *step.arguments]
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False, timeout=_LONGEST
        )
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode else [line for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> int:
    """Run what is asked for; 1 where a contender failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing kept")
    parser.add_argument("--only", choices=(*BENCHMARKS, *WHOLE, "faults"), help="one benchmark")
    parser.add_argument("--contender", choices=(*SAMPLERS, "mfbayes-fast", *PEERS_IN_R), help="one contender")
    parser.add_argument("--seed", type=int, default=20260)
    options = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory(prefix="mfbayes-bench-") as scratch:
        folder = Path(scratch)
        results, page = (folder / "results.jsonl", folder / "README.md") if options.quick else (RESULTS, PAGE)
        if options.quick:
            shutil.copy(PAGE, page)
        for step in plan(QUICK if options.quick else FULL, only=options.only, seed=options.seed, folder=folder):
            if options.contender and step.module != "data" and options.contender not in step.arguments:
                continue
            name = " ".join((step.module, *(word for word in step.arguments if not word.startswith(scratch))))
            _say(name)
            lines = take(step, None if options.quick else folder / "kernels")
            if lines is None:
                failed.append(name)
                _say(f"{name}: failed")
            for line in lines or []:
                _say(line)
                _keep(results, line)
        if results.exists():
            drawing = [sys.executable, "-m", "benchmarks.table", str(results), str(page)]
            subprocess.run(drawing, cwd=ROOT, check=True)  # noqa: S603
        if options.quick:
            print(page.read_text(encoding="utf-8"))
    if failed:
        _say(f"Failed: {'; '.join(failed)}")
    return 1 if failed else 0


def _keep(results: Path, line: str) -> None:
    """Put a record into the file in place of the older one of the same contender."""
    records = (
        [json.loads(each) for each in results.read_text(encoding="utf-8").splitlines()] if results.exists() else []
    )
    new = json.loads(line)
    kept = [*(record for record in records if _identify(record) != _identify(new)), new]
    text = "\n".join(json.dumps(record) for record in sorted(kept, key=_identify))
    results.write_text(text + "\n", encoding="utf-8")


def _identify(record: dict[str, object]) -> tuple[str, ...]:
    return tuple(str(record.get(name, "")) for name in ("benchmark", "contender", "kernels"))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
