import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from mfbayes.inference.responses import Response
from mfbayes.inference.shards import Shard, answers_folder, open_answers, read_content, read_shards, save_shard, sweep

CONTENT: dict[str, Any] = {"protocol": 3, "model": "ab", "dtype": "float32", "answers": ["red", "blue"]}
FACTS = {"device": "cpu", "checks": {"lens_error": 1e-7}}


def respond(key: str) -> Response:
    third = 1 / 3
    # A float32 that is no short decimal, tiny and huge numbers, and an answer in another script.
    return Response(
        key, 1e-20, third, math.ulp(0.0), "rouge é", "red", [third, -1e30], [third, 0.0], [third, 745.2], [1, 0, -1],
        [0.10000000149011612, -3.4028234663852886e38, 0.0],
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return open_answers(tmp_path, CONTENT)


def test_answers_come_back_as_they_were(folder: Path) -> None:
    text = Response("t", 0.5, 0.5, 0.5, "", "", [1.0, 2.0], [0.1, 0.2], [2.3, 1.6], [], [])
    save_shard(folder, Shard([respond("a"), text], FACTS))
    found = read_shards(folder, {"a", "t"})
    assert found.responses == {"a": respond("a"), "t": text}
    assert found.facts == [FACTS]


def test_only_what_is_wanted_is_read(folder: Path) -> None:
    save_shard(folder, Shard([respond("a"), respond("b")], FACTS))
    save_shard(folder, Shard([respond("c")], FACTS))
    found = read_shards(folder, {"b", "z"})
    assert set(found.responses) == {"b"}
    assert len(found.facts) == 1


def test_other_content_has_another_folder(tmp_path: Path, folder: Path) -> None:
    assert read_content(folder) == CONTENT
    others: list[dict[str, Any]] = [
        {"dtype": "bfloat16"}, {"model": "cd"}, {"protocol": 4}, {"answers": ["blue", "red"]}
    ]  # fmt: skip
    folders = {folder} | {answers_folder(tmp_path, {**CONTENT, **other}) for other in others}
    assert len(folders) == 5


def test_manifest_that_is_lost_is_written_again(tmp_path: Path, folder: Path) -> None:
    save_shard(folder, Shard([respond("a")], FACTS))
    for damage in ("", "{", "[]"):
        (folder / "manifest.json").write_text(damage)
        assert open_answers(tmp_path, CONTENT) == folder
        assert json.loads((folder / "manifest.json").read_text()) == CONTENT
    assert set(read_shards(folder, {"a"}).responses) == {"a"}


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "misnamed", "swapped"])
def test_damaged_shards_are_told_removed_and_do_not_count(folder: Path, damage: str) -> None:
    whole = save_shard(folder, Shard([respond("a")], FACTS))
    file = save_shard(folder, Shard([respond("b")], FACTS))
    content = bytearray(file.read_bytes())
    if damage == "misnamed":
        file = file.rename(file.with_name("part-0.parquet"))
    elif damage == "swapped":
        file.write_bytes(whole.read_bytes())
    else:
        content[len(content) // 2] ^= 1
        file.write_bytes({"cut": bytes(content[:-1]), "emptied": b"", "flipped": bytes(content)}[damage])
    assert set(read_shards(folder, {"a", "b"}).responses) == {"a"}
    assert file.exists()
    told: list[str] = []
    assert set(read_shards(folder, {"a", "b"}, on_damage=told.append).responses) == {"a"}
    assert told == [f"Shard {file.name} is damaged or cut short: its prompts are asked again."]
    assert not file.exists()
    assert whole.exists()


def test_only_abandoned_halves_are_swept(folder: Path) -> None:
    shard = save_shard(folder, Shard([respond("a")], FACTS))
    fresh, abandoned = folder / ".a.1.part", folder / ".b.2.part"
    for file in (fresh, abandoned):
        file.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    assert set(read_shards(folder, {"a"}).responses) == {"a"}
    sweep(folder)
    assert (shard.exists(), fresh.exists(), abandoned.exists()) == (True, True, False)
