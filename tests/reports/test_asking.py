from typing import Any

from mfbayes.reports.asking import tabulate_asking


def facts(**more: Any) -> dict[str, Any]:
    return {"dtype": "float32", "device": "cpu", "way": "packed", "flops": {"spent": 2.1e9, "floor": 2e9}, **more}


def cells(run: dict[str, Any]) -> list[list[str]]:
    table = tabulate_asking(run)
    assert table is not None
    return [[cell.text for cell in row] for row in table.rows]


def test_without_asking_there_is_no_table() -> None:
    assert tabulate_asking({}) is None
    assert tabulate_asking({"asked": {}}) is None


def test_wide_precision_has_no_errors_to_tell() -> None:
    assert cells({"asked": {"b": facts(), "a": facts(audit=None)}}) == [
        ["a", "float32", "cpu", "packed", "1.05"],
        ["b", "float32", "cpu", "packed", "1.05"],
    ]


def test_audits_of_narrow_precisions_are_told() -> None:
    audit = {
        "H": {"median": 0.0012345, "p95": 0.02, "largest": 0.5},
        "dH": {"median": None, "p95": None, "largest": None},
        "answers_changed": 0.03125,
    }
    asked = {"half": facts(dtype="bfloat16", audit=audit), "poor": facts(dtype="float16", audit={"skipped": "no room"})}
    assert cells({"asked": asked}) == [
        ["half", "bfloat16", "cpu", "packed", "1.05", "0.0012, 0.02", "–", "3\u00a0%"],
        ["poor", "float16", "cpu", "packed", "1.05", *["not measured"] * 3],
    ]


def test_old_records_have_gaps() -> None:
    assert cells({"asked": {"old": {"dtype": None}}}) == [["old", "–", "–", "–", "–"]]
