import subprocess
import sys
from pathlib import Path

_CALLER = """
from study.called import get
from mfbayes.compiled import compiled

@compiled()
def double():
    return 2 * get()

print(double())
"""
_CALLED = """
from study import deepest
from mfbayes.compiled import compiled

@compiled(inline="always")
def get():
    return 10 + deepest.VALUE
"""


def _run(folder: Path) -> tuple[int, set[str]]:
    """What the caller prints, and the functions that numba has kept of it."""
    command = [sys.executable, "-c", "import study.caller"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return int(ran.stdout), {file.name for file in folder.rglob("caller.*.nbi")}


def test_kept_code_follows_all_that_it_is_made_of(tmp_path: Path) -> None:
    package = tmp_path / "study"
    package.mkdir()
    for name, text in {"__init__": "", "caller": _CALLER, "called": _CALLED, "deepest": "VALUE = 3"}.items():
        (package / f"{name}.py").write_text(text)
    found, kept = _run(tmp_path)
    assert (found, len(kept)) == (26, 1)
    assert _run(tmp_path) == (found, kept)
    # A constant two modules away, in a file that numba does not look at.
    (package / "deepest.py").write_text("VALUE = 5")
    changed, more = _run(tmp_path)
    assert changed == 30
    assert len(more - kept) == 1
