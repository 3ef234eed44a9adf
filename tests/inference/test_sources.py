import errno
import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from mfbayes.errors import InputError
from mfbayes.inference import sources
from mfbayes.inference.loading import load_model
from mfbayes.inference.sources import find_model, folder_name, hash_folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for two embedded models."""
    for name in ("llava-r40", "qwen-r50"):
        folder = tmp_path / "weights" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "llava"}))
        (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(sources, "_WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def copied(tmp_path: Path, model_folders: dict[str, Path]) -> Path:
    return Path(shutil.copytree(model_folders["llava"], tmp_path / "mine"))


def test_embedded_model_is_found_by_name(shipped: Path) -> None:
    source = find_model("llava-r40")
    assert (source.name, source.kind, source.folder) == ("llava-r40", "embedded", shipped / "llava-r40")
    assert source.folder_name == "llava-r40"


def test_misspelt_name_suggests_the_nearest(shipped: Path) -> None:
    with pytest.raises(InputError, match="Did you mean llava-r40"):
        find_model("lava-r40")


def test_folders_of_one_name_are_told_apart(copied: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(copied, tmp_path / "elsewhere" / "mine"))
    assert find_model(str(copied)).folder_name == find_model(str(other)).folder_name
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "note": 1}))
    assert find_model(str(copied)).folder_name != find_model(str(other)).folder_name
    assert find_model(str(other)).name.startswith("mine@")


def test_prose_does_not_change_a_model(copied: Path) -> None:
    before = hash_folder(copied)
    (copied / "README.md").write_text("A card.")
    assert hash_folder(copied) == before
    (copied / "model.safetensors").write_bytes(b"other")
    assert hash_folder(copied) != before


def test_hub_ids_become_safe_names_that_no_other_id_gives() -> None:
    assert folder_name("a/b-c") != folder_name("a-b/c")
    assert "/" not in folder_name("org/name")


def test_missing_hub_model_says_what_to_fetch(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"hub: HF_HUB_OFFLINE is set.*hf download some-org/some-model.*cache"):
        find_model("some-org/some-model")


class Answer:
    """What the hub answered."""

    status_code = 503


def unreachable() -> Exception:
    return LocalEntryNotFoundError("nothing here")


def busy() -> Exception:
    error = LocalEntryNotFoundError("nothing here")
    error.__cause__ = OSError("busy")
    error.__cause__.response = Answer()  # type: ignore[attr-defined]
    return error


def full() -> Exception:
    return OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        (unreachable, "it cannot be reached"),
        (busy, "it answered with status 503"),
        (full, "No space left on device"),
    ],
)
def test_reasons_of_the_hub_are_told_in_words(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], Exception], words: str
) -> None:
    def refuse(name: str, **options: object) -> str:
        raise fail()

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(InputError, match=f"cannot be fetched from the hub: {words}") as caught:
        find_model("some-org/some-model")
    assert "Error" not in str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """A hub with one repository, of which only what is asked for is fetched."""

    def fill(files: dict[str, str]) -> None:
        snapshot = tmp_path / "snapshots" / "abc123"

        def download(name: str, *, allow_patterns: list[str], local_files_only: bool = False, **options: object) -> str:
            if local_files_only:
                raise LocalEntryNotFoundError("nothing here")
            snapshot.mkdir(parents=True)
            for file, text in files.items():
                if any(fnmatch(file, pattern) for pattern in allow_patterns):
                    (snapshot / file).write_text(text)
            return str(snapshot)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda name, *, revision: list(files))

    return fill


def test_repository_with_pickled_weights_only_is_refused_as_such(hub: Callable[[dict[str, str]], None]) -> None:
    hub({"config.json": "{}", "pytorch_model-00001-of-00002.bin": "pickle", "pytorch_model.bin.index.json": "{}"})
    with pytest.raises(InputError, match=r"some-org/some-model has no safetensors .* not loaded.*save_pretrained"):
        find_model("some-org/some-model")


def test_repository_without_any_weights_is_not_called_pickled(hub: Callable[[dict[str, str]], None]) -> None:
    hub({"config.json": "{}"})
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        find_model("some-org/some-model")


def test_repository_with_both_is_taken(hub: Callable[[dict[str, str]], None]) -> None:
    hub({"config.json": "{}", "pytorch_model.bin": "pickle", "model.safetensors": "weights"})
    found = find_model("some-org/some-model")
    assert (found.kind, found.revision, found.name) == ("hub", "abc123", "some-org/some-model")


def test_file_instead_of_folder_is_refused(copied: Path) -> None:
    with pytest.raises(InputError, match="it is a file"):
        find_model(str(copied / "config.json"))


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json, model\.safetensors are missing"):
        find_model(str(tmp_path))


def test_pickled_weights_are_refused(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(InputError, match="only pickled ones"):
        find_model(str(copied))


def test_missing_shard_is_named(copied: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    (copied / "model.safetensors").rename(copied / "model-1.safetensors")
    with pytest.raises(InputError, match=r"model-2\.safetensors is missing"):
        find_model(str(copied))


def test_text_only_model_is_refused(copied: Path) -> None:
    (copied / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    with pytest.raises(InputError, match=r"not a model that answers questions about images \(LlamaForCausalLM\)"):
        load_model(find_model(str(copied)), device="cpu")


def test_foreign_code_is_not_run_unasked(copied: Path) -> None:
    (copied / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}))
    with pytest.raises(InputError, match="--trust-remote-code"):
        load_model(find_model(str(copied)), device="cpu")


def test_missing_chat_template_is_refused(copied: Path) -> None:
    (copied / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        load_model(find_model(str(copied)), device="cpu")


def test_truncated_weights_are_refused(copied: Path) -> None:
    weights = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="damaged or cut short"):
        load_model(find_model(str(copied)), device="cpu")


@pytest.mark.parametrize(("device", "dtype"), [("gpu", "auto"), ("cpu", "int8"), ("cuda:99", "auto")])
def test_unknown_device_or_dtype_is_refused(copied: Path, device: str, dtype: str) -> None:
    with pytest.raises(InputError, match=r"no (device|dtype)|has no cuda"):
        load_model(find_model(str(copied)), device=device, dtype=dtype)
