"""The rooms of the house: who may import whom, and the page that describes them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ("data_gen", "inference", "reports")
PARTS = ("calibration", "cli", "estimates", "imports", "laws", "marginal", "pooled", "switching", "vacillation")
# Programs stand above the stages and may use all of them.
PROGRAMS = {"mfbayes/cli", "inference/embedded"}
HEAVY = ("torch", "pymc", "arviz", "nutpie", "transformers", "PIL", "scipy", "pandas", "numba", "xarray", "rich")


def _modules() -> list[Path]:
    rooms = [*(ROOT / "mfbayes").glob("*.py")]
    rooms += [file for part in PARTS for file in (ROOT / "mfbayes" / part).glob("*.py")]
    return rooms + [file for stage in STAGES for file in (ROOT / stage).rglob("*.py")]


def _imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _room(name: str) -> str:
    parts = name.split(".")
    if parts[0] != "mfbayes":
        return ""
    return parts[1] if len(parts) > 1 and parts[1] in (*STAGES, "cli") else "core"


@pytest.mark.parametrize("file", _modules(), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_flow_from_the_core_outwards(file: Path) -> None:
    place = file.relative_to(ROOT).as_posix()
    if any(place.startswith(program) for program in PROGRAMS) or place == "mfbayes/__init__.py":
        return
    home = place.split("/")[0] if place.split("/")[0] in STAGES else "core"
    allowed = {"", "core", home}
    if place == "mfbayes/__main__.py":
        allowed |= {"cli"}
    strangers = {name for name in _imports(file) if _room(name) not in allowed}
    assert not strangers


def test_the_command_line_starts_light() -> None:
    code = f"import sys, mfbayes, mfbayes.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_architecture_page_names_every_room() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 90, "one page"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    folders = {line.split("/")[0] for line in listed.stdout.splitlines() if "/" in line and not line.startswith(".")}
    for folder in folders:
        assert f"{folder}/" in page, folder
    for file in _modules():
        if file.name != "__init__.py" and file.parent == ROOT / "mfbayes" and not file.stem.startswith("_"):
            assert f"`{file.stem}`" in page, f"{file.stem} is not on the page"


def test_every_part_of_the_core_is_listed_packaged_and_described() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    found = {
        folder.parent.name for folder in (ROOT / "mfbayes").glob("*/__init__.py") if not folder.parent.is_symlink()
    }
    assert found == set(PARTS)
    packages = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for part in PARTS:
        assert f"`{part}/`" in page
        assert f'"mfbayes.{part}"' in packages
