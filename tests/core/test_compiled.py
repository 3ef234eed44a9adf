import os
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
_BITS = """
import numpy as np
from mfbayes.design import lay_out
from mfbayes.marginal.likelihood import marginal_likelihood
from mfbayes.selection import select_trials
from mfbayes.simulation import Scenario, simulate_trials

trials, _ = simulate_trials(Scenario(n_groups=10), rng=np.random.default_rng(0))
likelihood = marginal_likelihood(lay_out(select_trials(trials).trials))
coefficients = np.random.default_rng(1).normal(1, 0.5, (4, 2))
found = likelihood.evaluate(coefficients, [0.7, 0.5, 0.0])
print(found.value.hex(), *map(float.hex, [*found.coefficients.ravel(), *found.scales]))
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


def test_the_first_run_gives_the_bits_of_later_ones(tmp_path: Path) -> None:
    """Compiled in this process or kept from another, a kernel is the same machine code."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", _BITS]
    first, later = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == later
