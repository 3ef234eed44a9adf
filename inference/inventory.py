"""Which models there are, and how much of them is collected; without loading any."""

from pathlib import Path
from typing import Final, NamedTuple

from mfbayes.errors import InputError
from mfbayes.inference.collection import COLLECTION_FILE
from mfbayes.inference.shards import ANSWERS_FOLDER
from mfbayes.inference.sources import EMBEDDED, embedded_models, folder_name
from mfbayes.names import COLLECTED_FOLDER, TRACES_FILE, TRIALS_FILE
from mfbayes.storage import read_json

COLLECTED: Final = "collected"
UNFINISHED: Final = "unfinished"
NOT_COLLECTED: Final = "not collected"


class Entry(NamedTuple):
    """A model and its state under one output folder.

    Attributes
    ----------
    name : str
        What to pass as a model's name.
    where : str
        "embedded", "local" or "hub".
    status : str
        "collected", "unfinished" or "not collected".
    n_items : int
        Items collected.
    folder : Path
        Where its results are or would be.
    """

    name: str
    where: str
    status: str
    n_items: int
    folder: Path


def list_models(out: Path) -> list[Entry]:
    """Every embedded model, then every other one collected under `out`."""
    collected = out / COLLECTED_FOLDER
    embedded = [_entry(name, EMBEDDED, collected / folder_name(name)) for name in embedded_models()]
    known = {entry.folder.name for entry in embedded}
    folders = sorted(path for path in collected.iterdir() if path.is_dir()) if collected.is_dir() else []
    others = [_entry(path.name, "", path) for path in folders if path.name not in known]
    return embedded + [entry for entry in others if entry.status != NOT_COLLECTED]


def _entry(name: str, where: str, folder: Path) -> Entry:
    file = folder / COLLECTION_FILE
    whole = file.is_file() and (folder / TRIALS_FILE).is_file() and (folder / TRACES_FILE).is_file()
    if whole:
        try:
            record = read_json(file)
        except InputError:
            record = None
        if isinstance(record, dict):
            return Entry(
                str(record.get("model", name)),
                str(record.get("kind", where)),
                COLLECTED,
                int(record.get("n_items", 0)),
                folder,
            )
    status = UNFINISHED if (folder / ANSWERS_FOLDER).is_dir() else NOT_COLLECTED
    # Only a hub id has "--" in its folder's name.
    return Entry(name.replace("--", "/"), where or ("hub" if "--" in name else "local"), status, 0, folder)
