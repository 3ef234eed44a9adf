"""Files are whole or absent, whatever goes wrong while they are written."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mfbayes.errors import InputError
from mfbayes.storage import hash_content, make_folder, read_json, replacing, write_json, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    with pytest.raises(RuntimeError, match="midway"), replacing(file) as temporary:
        temporary.write_text("new")
        raise RuntimeError("midway")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")
    code = (
        "import sys; from pathlib import Path; from mfbayes.storage import write_text\n"
        "write_text(Path(sys.argv[1]), 'x' * 10_000)"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run([sys.executable, "-c", code, str(file)], preexec_fn=limit, capture_output=True, check=False)
    assert done.returncode != 0
    assert b"File too large" in done.stderr
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a file stands in its way"):
        make_folder(tmp_path / "file" / "folder")


def test_json_round_trip_and_damage(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"b": [1, 2.5, "ü"], "a": None})
    assert read_json(file) == {"b": [1, 2.5, "ü"], "a": None}
    file.write_text("{")
    with pytest.raises(InputError, match="JSON"):
        read_json(file)


def test_hashes_keep_boundaries() -> None:
    assert hash_content("ab", "c") != hash_content("a", "bc")
    assert hash_content("a") == hash_content(b"a")
