"""Tables of `make bench` are drawn from records alone, and its claims can fail."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from benchmarks.run import FULL, QUICK, plan
from benchmarks.table import render

LABEL: dict[str, Any] = {
    "date": "2026-01-01",
    "load": [0.5, 0.5, 0.5],
    "machine": {"cpu": "a CPU", "cores": 2, "system": "Linux", "python": "3.12"},
    "versions": {},
    "seed": 7,
    "model": "tiny",
}


def kills(*, landed: int, equal: int) -> dict[str, Any]:
    return LABEL | {
        "benchmark": "faults-kills",
        "contender": "mfbayes",
        "prompts": 292,
        "kills_wanted": 20,
        "collections_begun": 26,
        "killed_while_running": landed,
        "equal_to_undisturbed": equal,
        "share_answered_when_killed": [0.04, 0.9],
        "seconds_after_first_shard": 2.0,
    }


def errors(*, items: int) -> dict[str, Any]:
    levels = {"median": 0.001, "p95": 0.002, "largest": 0.003}
    return {"items": items, "prompts": items, "H": levels, "H_relative": levels, "dH": levels, "answers_changed": 0.5}


def engine(contender: str, seconds: float, **more: Any) -> dict[str, Any]:
    figures = {
        "prompts": 2920,
        "seconds": seconds,
        "cpu_seconds": 2 * seconds,
        "seconds_loading": 2.0,
        "seconds_asking": 9.0,
    }
    label = {"benchmark": "faults-ray", "contender": contender, "seconds_starting_cluster": 12.0}
    return LABEL | label | figures | more


def test_kills_that_all_landed_and_changed_nothing_keep_both_claims() -> None:
    text = render([kills(landed=20, equal=20)])
    assert "| collections killed while they ran | 20 | ≥ 20: yes | ≥ 20: yes |" in text
    assert "bytes of an undisturbed one | 20 | ≥ 20: yes | ≥ 20: yes |" in text
    assert "| tiny | 292 | 26 | 20 | 20 | 4% to 90% | 2.0 |" in text


def test_kills_that_missed_or_changed_something_break_them() -> None:
    assert "killed while they ran | 18 | ≥ 20: no" in render([kills(landed=18, equal=18)])
    assert "undisturbed one | 19 | ≥ 20: no" in render([kills(landed=20, equal=19)])


def test_precision_has_a_row_of_all_items_and_one_of_the_audit() -> None:
    record = LABEL | {"benchmark": "faults-precision", "contender": "float16"}
    text = render([record | {"errors": errors(items=840), "audit": errors(items=13)}])
    cells = "1.0e-03 / 2.0e-03 / 3.0e-03"
    assert f"| float16, all | 840 | 840 | {cells} | {cells} | 0.1% / 0.2% / 0.3% | 50.0% |" in text
    assert "| float16, its audit | 13 |" in text


def test_overhead_of_ray_is_told_and_other_bytes_break_the_claim() -> None:
    records = [engine("ray, two workers", 31.5, equal=False), engine("two parts, no engine", 30.0)]
    text = render(records)
    assert "| ray, two workers | 31.5 | +1.5 | 63.0 | +3.0 | 0 | 12.0 | 2.0 | 9.0 | no |" in text
    assert "two parts without it | 0 | ≥ 1: no" in text
    assert "2 920 prompts by two processes, tiny".replace(" ", "\u202f", 1) in text
    for table in text.split("\n\n"):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, table


def test_no_overhead_is_told_of_a_busy_machine() -> None:
    busy = [engine("ray, two workers", 31.5, equal=True), engine("two parts, no engine", 90.0, load=[9.0, 9.0, 9.0])]
    text = render(busy)
    assert "| ray, two workers | 31.5 | - | 63.0 | -117.0 | 0 |" in text
    assert "| two parts, no engine | 90.0 | - | 180.0 | +0.0 | 9 |" in text


@pytest.mark.parametrize(("difference", "kept"), [(4e-7, "yes"), (2e-5, "no")])
def test_differences_at_full_size_stand_beside_the_seconds(difference: float, kept: str) -> None:
    speed = LABEL | {
        **{"benchmark": "collection-speed", "n_items": 24, "n_image_tokens": 576, "device": "cpu", "dtype": "float32"},
        **{"seconds": 2.0, "speedup": 4.8, "flops": 10**12, "flops_over_floor": 1.1, "share_of_peak": None},
    }
    agreement = LABEL | {
        **{"benchmark": "collection-agreement", "contender": "tiny", "dtype": "float32"},
        "differences": {"packed": difference},
    }
    names = ("packed", "each prompt once", "each prompt once, no lens")
    text = render([agreement, *(speed | {"contender": name} for name in names)])
    assert f"| packed | 2.00 | 4.80 | 1.000 | 1.100 | - | {difference:.0e} |" in text
    assert "| each prompt once, no lens | 2.00 | 4.80 | 1.000 | 1.100 | - | - |" in text
    assert f"over their size | {difference:.0e} | ≤ 1e-05: {kept}" in text


def test_faults_are_part_of_everything_and_seeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for only in (None, "faults"):
        steps = [step for step in plan(FULL, only=only, seed=9, folder=tmp_path) if step.module == "faults"]
        assert [step.arguments for step in steps] == [(what, "--seed", "9") for what in ("kills", "precision", "ray")]
    assert all("--quick" in step.arguments for step in plan(QUICK, only="faults", seed=9, folder=tmp_path))


def test_without_ray_the_rest_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    steps = list(plan(FULL, only="faults", seed=9, folder=tmp_path))
    assert [step.arguments[0] for step in steps] == ["kills", "precision"]
