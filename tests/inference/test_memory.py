"""Memory is told from headers: nothing of the weights is read."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mfbayes.errors import InputError
from mfbayes.inference import memory
from mfbayes.inference.loading import load_model
from mfbayes.inference.memory import check_memory, estimate_need, free_memory
from mfbayes.inference.sources import find_model


def test_need_is_that_of_the_loaded_weights(model_folders: dict[str, Path]) -> None:
    for folder in model_folders.values():
        for dtype in ("float32", "bfloat16"):
            model = load_model(find_model(str(folder)), device="cpu", dtype=dtype).model
            held = sum(p.numel() * p.element_size() for p in model.parameters())
            need = estimate_need(folder, dtype)
            assert need.n_bytes == pytest.approx(held, rel=0.15)


def test_weights_in_several_files_count_once(model_folders: dict[str, Path], tmp_path: Path) -> None:
    whole = estimate_need(model_folders["llava"], "float32")
    weights = load_file(model_folders["llava"] / "model.safetensors")
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, chosen in parts.items():
        save_file({name: weights[name] for name in chosen}, tmp_path / file)
    save_file(weights, tmp_path / "consolidated.safetensors")
    index = {"weight_map": {name: file for file, chosen in parts.items() for name in chosen}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert estimate_need(tmp_path, "float32") == whole


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_model(str(model_folders["llava"]))
    need = estimate_need(source.folder, "float32").n_bytes
    monkeypatch.setattr(memory, "free_memory", lambda device: need - 1)
    with pytest.raises(
        InputError, match=r"G parameters, which take .* GB in float32, but cpu has .* GB free.*bfloat16"
    ):
        load_model(source, device="cpu", dtype="float32")
    check_memory(source, device=torch.device("cpu"), dtype="bfloat16")


def test_a_control_group_limits_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    own = (
        next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), None)
        if Path("/proc/self/cgroup").is_file()
        else None
    )
    if own is None:
        pytest.skip("no control groups of version 2 here")
    folder = tmp_path / own.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"max": "1000", "current": "900", "stat": "anon 1\ninactive_file 50\n"}.items():
        (folder / f"memory.{name}").write_text(text)
    assert free_memory(torch.device("cpu")) == 150
    (folder / "memory.max").write_text("max")
    assert free_memory(torch.device("cpu")) > 150


def test_damaged_weights_are_told(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(InputError, match="damaged or cut short"):
        estimate_need(tmp_path, "float32")
