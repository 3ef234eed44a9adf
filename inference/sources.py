"""Where a model's files are: an embedded model, a folder, or a repository of the Hugging Face hub."""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mfbayes.errors import InputError
from mfbayes.storage import hash_content, hash_file, read_json

EMBEDDED: Final = "embedded"
LOCAL: Final = "local"
HUB: Final = "hub"

_WEIGHTS: Final = Path(__file__).parent / "embedded" / "weights"
# Two names and a slash; the hub itself forbids "--" and "..", which makes "org--name" unambiguous.
_HUB_ID: Final = re.compile(r"^(?!.*(--|\.\.))[\w.-]{1,96}/[\w.-]{1,96}$")
_WANTED: Final = ("*.json", "*.jinja", "*.txt", "*.model", "*.py", "*.safetensors")
_UNWANTED: Final = ("original/*", "consolidated*", "onnx/*")
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_ONLY_PICKLES: Final = (
    "{name} has no safetensors weights, only pickled ones, which can run code when they are read and are not loaded. "
    "Where you trust them, load it with transformers and save it with `model.save_pretrained(folder)`, processor and "
    "all; then pass that folder."
)
_PROSE: Final = {"README.md", "LICENSE", ".gitattributes", ".gitignore"}


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model's files on this machine.

    Attributes
    ----------
    name : str
        What the model is called in trials and reports.
    folder : Path
        Holds config, weights and processor.
    kind : str
        "embedded", "local" or "hub".
    content_hash : str
        SHA-256 over weights, configuration, tokenizer and processor, 64 hexadecimal digits.
    revision : str
        Commit of a hub repository, else empty.
    """

    name: str
    folder: Path
    kind: str
    content_hash: str
    revision: str = ""

    @property
    def folder_name(self) -> str:
        """A safe file name that no other model has."""
        return folder_name(self.name)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """Where a model is, before its files are read: hashing tens of GB takes minutes.

    Attributes
    ----------
    name : str
        What the user called it: the name of an embedded model, a path, or a hub id.
    folder : Path
        Holds config, weights and processor.
    kind : str
        "embedded", "local" or "hub".
    """

    name: str
    folder: Path
    kind: str

    @property
    def results_pattern(self) -> str:
        """Glob pattern of the folders that hold results of this model, or of others whose folder is called the same."""
        return f"{_stem(self.folder)}@*" if self.kind == LOCAL else folder_name(self.name)

    def identify(self) -> ModelSource:
        """The same with its name in results and its hash, for which every file is read that is no blob of the hub."""
        content = hash_folder(self.folder)
        # "@" is in no hub id and no embedded name; the hash tells folders of one name apart.
        name = f"{_stem(self.folder)}@{content[:8]}" if self.kind == LOCAL else self.name
        return ModelSource(name, self.folder, self.kind, content, self.folder.name if self.kind == HUB else "")


def _stem(folder: Path) -> str:
    return re.sub(r"[^\w.-]+", "-", folder.resolve().name).strip(".-") or "model"


def folder_name(name: str) -> str:
    """File name of a model's results: hub ids become one name that no other id gives.

    Examples
    --------
    >>> folder_name("llava-hf/llava-1.5-7b-hf")
    'llava-hf--llava-1.5-7b-hf'
    """
    return name.replace("/", "--")


def embedded_models() -> dict[str, Path]:
    """Names and folders of the models that the package ships."""
    folders = sorted(_WEIGHTS.iterdir()) if _WEIGHTS.is_dir() else []
    return {folder.name: folder for folder in folders if (folder / "config.json").is_file()}


def find_model(name: str) -> ModelSource:
    """Find a model as `locate_model` does, and read its files to know their hash.

    Raises
    ------
    InputError
        As `locate_model` does.
    """
    return locate_model(name).identify()


def locate_model(name: str) -> ModelFolder:
    """Find a model by name, path or hub id, fetching it from the hub only if it is not here yet.

    Raises
    ------
    InputError
        If there is no such model, it cannot be fetched, or it is not one that can be asked about images.
    """
    embedded = embedded_models()
    path = Path(name).expanduser()
    if name in embedded:
        found = ModelFolder(name, embedded[name], EMBEDDED)
    elif path.is_dir():
        found = ModelFolder(name, path, LOCAL)
    elif path.exists():
        raise InputError(f"Expected a model's folder at {name}, but it is a file. Name the folder that holds it.")
    elif _HUB_ID.match(name) and not name.startswith((".", "/")):
        found = ModelFolder(name, _hub_folder(name), HUB)
    else:
        raise InputError(f"There is no model {name!r}. {_suggest(name, embedded)}")
    check_folder(found.folder, name)
    return found


def _suggest(name: str, embedded: Iterable[str]) -> str:
    known = list(embedded)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    near = f"Did you mean {nearest[0]}? " if nearest else ""
    listing = f"Embedded models: {', '.join(known)}. " if known else ""
    return f"{near}{listing}A folder or a hub id such as org/name also names a model."


def _hub_folder(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(_WANTED), local_files_only=True))
        if not missing_files(folder):
            return folder
    except (LocalEntryNotFoundError, OSError):
        pass
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(_WANTED), ignore_patterns=list(_UNWANTED)))
    except GatedRepoError as error:
        raise InputError(
            f"{name} asks for its licence to be accepted: do so on its page on the hub, then log in "
            "with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(f"The hub has no model {name!r}. {_suggest(name, embedded_models())}") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{name} is not on this machine and cannot be fetched from the hub: {_why_not(error)}. "
            f"Fetch it where there is a network with `hf download {name}` and copy it to {_cache(constants)}, "
            "or pass the path of a folder that holds it."
        ) from error
    if any(file.endswith(".safetensors") for file in missing_files(folder)) and _has_only_pickles(name, folder.name):
        raise InputError(_ONLY_PICKLES.format(name=name))
    return folder


def _why_not(error: BaseException) -> str:
    """Why the hub gave nothing, in words."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    # What the library raises may only say that nothing is here; what it was raised for says why.
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status is not None:
            return f"it answered with status {status}"
        if isinstance(cause, OSError) and cause.strerror and not isinstance(cause, ConnectionError):
            return cause.strerror
        cause = cause.__cause__
    return "it cannot be reached"


def _has_only_pickles(name: str, revision: str) -> bool:
    """Whether a repository lists pickled weights and no others; False where it cannot be asked."""
    from huggingface_hub import list_repo_files

    try:
        files = list_repo_files(name, revision=revision)
    except Exception:
        # Versions of the library fail by the errors of different HTTP clients; the answer only betters a message.
        return False
    return any(file.endswith(_PICKLES) for file in files) and not any(file.endswith(".safetensors") for file in files)


def _cache(constants: Any) -> str:
    return str(constants.HF_HUB_CACHE)


def missing_files(folder: Path) -> list[str]:
    """Files without which a model cannot be loaded from safetensors alone."""
    return [name for name in ("config.json", *weight_files(folder)) if not (folder / name).is_file()]


def weight_files(folder: Path) -> list[str]:
    """Names of the files that a model's weights are read from, there or not.

    Raises
    ------
    InputError
        If their index is none.
    """
    file = folder / "model.safetensors.index.json"
    if not file.is_file():
        return ["model.safetensors"]
    index = read_json(file)
    files = index.get("weight_map") if isinstance(index, dict) else None
    names = set(files.values()) if isinstance(files, dict) else set()
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise InputError(f"{file} does not say which files beside it hold the weights. Fetch or save the model again.")
    return sorted(names)


def check_folder(folder: Path, name: str) -> None:
    """Refuse a folder that holds no safetensors model before anything is loaded.

    Raises
    ------
    InputError
        Saying which file is missing.
    """
    missing = missing_files(folder)
    if not missing:
        return
    if missing[-1].endswith(".safetensors") and any(file.name.endswith(_PICKLES) for file in folder.iterdir()):
        raise InputError(_ONLY_PICKLES.format(name=name))
    raise InputError(
        f"Expected a model with config.json and safetensors weights in {name}, but {', '.join(missing[:3])} "
        f"{'is' if len(missing) == 1 else 'are'} missing. Save it with save_pretrained, or fetch it again."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """A model's configuration as it is written."""
    config: dict[str, Any] = read_json(folder / "config.json")
    return config


def hash_folder(folder: Path) -> str:
    """SHA-256 over a model's files, prose excepted, by name and content.

    Files of the hub's cache are links to blobs that are named by their own hash: those are not read again.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _PROSE)
    entries = [
        (path.relative_to(folder).as_posix(), _file_hash(path)) for path in files if not _is_hidden(path, folder)
    ]
    return hash_content(json.dumps(entries))


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _file_hash(path: Path) -> str:
    if path.is_symlink():
        blob = path.resolve()
        if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name):
            return blob.name
    return hash_file(path)
