"""Files that are either whole or absent: atomic writes, and hashes that say what is in them."""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mfbayes.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place once the block ends without an error.

    What stood at `path` before stays untouched until then, also on a full disk or a kill.
    """
    make_folder(path.parent)
    # Containers that share a disk can share process numbers, too.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write bytes, atomically.

    Libraries that write files of their own (HDF5) end a full disk in a crash; given bytes, the error is an OSError.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, atomically."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def make_folder(path: Path) -> Path:
    """Make a folder and its parents.

    Raises
    ------
    InputError
        Where a file stands in the way or the place cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"Expected a folder at {path}, but a file stands in its way. Choose another output path."
        ) from error
    except PermissionError as error:
        raise InputError(f"The folder {path} cannot be made: no permission. Choose another output path.") from error
    return path


def hash_content(*parts: str | bytes) -> str:
    """SHA-256 of the parts and their boundaries, as 64 hexadecimal digits.

    Examples
    --------
    >>> hash_content("ab", "c") == hash_content("a", "bc")
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_with[T](path: Path, write: Callable[[Path], T]) -> T:
    """Let `write` fill a temporary path, then put it at `path`; returns what `write` returned."""
    with replacing(path) as temporary:
        return write(temporary)


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises
    ------
    InputError
        If it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}). Delete it, or restore it.") from error
