"""`run.json`: what was run, with what, on which content and for how long."""

import importlib.metadata
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mfbayes._version import __version__
from mfbayes.names import RUN_FILE
from mfbayes.storage import write_json

PACKAGES: Final = ("arviz", "numpy", "nutpie", "pandas", "pillow", "pymc", "torch", "transformers", "xarray")


class Record:
    """Collects facts about a run while it goes on.

    Parameters
    ----------
    settings : dict
        What was asked for; paths relative to the working folder.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._started = time.time()
        self.hashes: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.reused: list[str] = []
        self.asked: dict[str, dict[str, Any]] = {}

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Measure the wall-clock seconds of a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - started, 3)

    def write(self, out: Path) -> None:
        """Write `run.json` into a run's folder."""
        write_json(
            out / RUN_FILE,
            {
                "command": describe_command(),
                "settings": self._settings,
                "versions": versions(),
                "hashes": self.hashes,
                "seconds": self.seconds,
                "reused": self.reused,
                "asked": self.asked,
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "total_seconds": round(time.time() - self._started, 3),
            },
        )


def versions() -> dict[str, str]:
    """Versions of Python, the platform's kind and the packages that decide the numbers."""
    found = {"mfbayes": __version__, "python": platform.python_version(), "system": platform.system()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe_command() -> str:
    """The command line as it was typed, with absolute paths made relative."""
    return shlex.join(["mfbayes", *(_relative_argument(argument) for argument in sys.argv[1:])])


def _relative_argument(argument: str) -> str:
    option, equals, value = argument.partition("=")
    if option.startswith("-") and equals:
        return f"{option}={relative(Path(value))}" if Path(value).is_absolute() else argument
    return relative(Path(argument)) if Path(argument).is_absolute() else argument


def relative(path: Path) -> str:
    """A path relative to the working folder; outside of it only the last name, which tells no one's home."""
    if not path.is_absolute():
        return path.as_posix()
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name
