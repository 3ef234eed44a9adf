"""Coverage of the hazard model: the program that measures it, on a small study."""

import json
from pathlib import Path
from typing import Any

import pytest

from mfbayes.switching import rates
from mfbayes.switching.rates import QUANTITIES, STUDIES, Study, describe, main, measure

SMALL = Study(n_layers=(5, 4), n_groups=12, n_items=15)


@pytest.fixture(scope="module")
def row() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "STUDIES", {"small": SMALL})
        return measure("small", 3)


def test_a_study_tells_what_is_covered_and_what_it_took(row: dict[str, Any]) -> None:
    assert set(row["coverage"]) == set(QUANTITIES)
    assert all(0 <= share <= 1 for share in row["coverage"].values())
    # Some 40 intervals of 95 %: fewer than two thirds covered would be a fault.
    assert row["coverage"]["level"] > 0.66
    assert row["passed"] == (row["max_r_hat"] <= 1.01 and row["min_ess"] >= 400)
    assert row["cpu_seconds"] > 0


def test_rows_become_a_table(row: dict[str, Any]) -> None:
    other = row | {"coverage": {**row["coverage"], "x": row["coverage"]["x"] / 2}, "max_r_hat": 1.5}
    table = describe([row, other]).splitlines()
    assert len(table) == 3
    assert table[2].startswith("| small | 2 | ")
    assert f"{0.75 * row['coverage']['x']:.3f}" in table[2]
    assert "1.500" in table[2]


def test_what_is_measured_is_not_measured_again(
    row: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, page = tmp_path / "switching.jsonl", tmp_path / "switching.md"
    out.write_text("".join(json.dumps(row | {"study": name, "replicate": 0}) + "\n" for name in STUDIES))
    page.write_text("before\n<!-- coverage -->\nstale\n<!-- end of coverage -->\nafter\n")
    written = out.read_text()
    monkeypatch.setattr("sys.argv", ["rates", "--out", str(out), "--page", str(page), "--replicates", "1"])
    main()
    assert out.read_text() == written
    assert page.read_text().startswith("before\n<!-- coverage -->\n| truth and fit")
    assert page.read_text().endswith("\n<!-- end of coverage -->\nafter\n")
    assert "stale" not in page.read_text()
