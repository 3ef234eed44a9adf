import subprocess
import sys
from pathlib import Path

_CALLER = """
import numba as nb
import called
from mfbayes.compiled import made_from

@nb.njit(cache=True)
@made_from(called)
def double():
    return 2 * called.get()

print(double())
"""


def test_cached_code_follows_the_functions_that_it_calls(tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(_CALLER)
    for value in (3, 4):
        (tmp_path / "called.py").write_text(
            f"import numba as nb\n\n@nb.njit(cache=True)\ndef get():\n    return {value}\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", "import caller"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert ran.stdout.split() == [str(2 * value)]
    assert list(tmp_path.rglob("caller.*.nbi"))
