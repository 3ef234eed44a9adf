import json
import shutil
from pathlib import Path

import pytest

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
    with pytest.raises(InputError, match=r"hf download some-org/some-model.*cache"):
        find_model("some-org/some-model")


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
