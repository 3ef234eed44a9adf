"""The wheel holds what the checkout holds: hand-listed packages drop files silently."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("data_gen", "inference", "reports")


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def _installed_name(name: str) -> str | None:
    top = name.split("/")[0]
    if top == "mfbayes" and not (ROOT / name).is_symlink():
        return name
    return f"mfbayes/{name}" if top in STAGES else None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in _tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    code = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    return next((source / "dist").glob("*.whl"))


def test_every_tracked_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    expected = {installed for name in _tracked() if (installed := _installed_name(name))}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected
    tops = {name.split("/")[0] for name in found}
    assert tops == {"mfbayes"}, "a top-level module of another name would overwrite other projects' files"


def test_the_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import mfbayes, mfbayes.data_gen.texts as texts, mfbayes.reports, mfbayes.inference\n"
        "print(mfbayes.__file__, texts.__file__)"
    )
    # -S keeps the editable install of the checkout out; the modules named need nothing else.
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(path.startswith(str(tmp_path)) for path in done.stdout.split())
