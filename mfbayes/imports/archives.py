"""Members of zip archives of others, read with bounds: no archive can fill memory."""

import importlib
import io
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from mfbayes.errors import InputError

LARGEST_MEMBER = 512 * 2**20
LARGEST_TOTAL = 64 * 2**30
# Python's own zipfile knows this method from 3.14 on.
_ZSTANDARD = 93
_LOCAL_HEADER = 30


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive for `read_member`.

    Raises
    ------
    InputError
        Where it is no zip archive, or would unpack to more than 64 GiB.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} cannot be read as a zip archive ({error}). Is the file whole?") from error
    total = sum(member.file_size for member in archive.infolist())
    if total > LARGEST_TOTAL:
        archive.close()
        raise InputError(f"{path} would unpack to {total / 2**30:,.0f} GiB. Is it an evaluation log?")
    return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Content of a member of at most 512 MiB, deflated, stored or compressed with Zstandard.

    Raises
    ------
    InputError
        Where it is larger than that or than the archive says, damaged, or compressed with Zstandard where the package
        zstandard is not installed.
    """
    member = archive.getinfo(name)
    place = f"{name} of {archive.filename}"
    if member.file_size > LARGEST_MEMBER:
        raise InputError(f"{place} has {member.file_size:,} bytes; expected at most {LARGEST_MEMBER:,}.")
    try:
        with _open_member(archive, member) as stream:
            # One byte more than the archive tells, to notice one that tells too little.
            content = stream.read(member.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise InputError(f"{place} is damaged ({error}). Copy the log again.") from error
    if len(content) != member.file_size:
        raise InputError(f"{place} has not the size that the archive tells. Copy the log again.")
    return content


def _open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> IO[bytes]:
    if member.compress_type != _ZSTANDARD or hasattr(zipfile, "ZIP_ZSTANDARD"):
        return archive.open(member)
    try:
        zstandard: Any = importlib.import_module("zstandard")
    except ModuleNotFoundError as error:
        raise InputError(
            f"{archive.filename} is compressed with Zstandard, which Python reads from 3.14 on or with the package "
            "zstandard: pip install 'mfbayes[inspect]'. `inspect log convert --to json` makes a log that needs neither."
        ) from error
    with Path(str(archive.filename)).open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile("no local header")
        file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), io.SEEK_CUR)
        compressed = file.read(member.compress_size)
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(compressed), read_across_frames=True)
        return io.BytesIO(reader.read(member.file_size + 1))
    except zstandard.ZstdError as error:
        raise zipfile.BadZipFile(str(error)) from error
