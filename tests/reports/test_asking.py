from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from mfbayes.reports.asking import tabulate_asking, tabulate_letters
from mfbayes.reports.evidence import read_evidence
from mfbayes.reports.page import render


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


def test_letters_are_told_by_model(build_tree: Callable[..., xr.DataTree]) -> None:
    tree = build_tree()
    assert tabulate_letters(read_evidence(tree)) is None
    assert "How the models were asked" not in render(tree)
    bias, agree = np.array([[0.5, -0.25, 0.0], [1.5, 0.0, 0.0]]), np.array([0.875, 1.0])
    both, own = ("model", "modality"), ("model",)
    # The second model has too few groups for an interval of a mean.
    few = np.where(np.arange(2) == 1, np.nan, 0.125)[:, None]
    tree["estimates/letters"] = xr.DataTree(
        xr.Dataset(
            {
                **{
                    f"position_bias{end}": (both, bias + off)
                    for end, off in (("", 0), ("_lower", -few), ("_upper", few))
                },
                **{
                    f"orders_agree{end}": (own, agree - off) for end, off in (("", 0), ("_lower", 0.1), ("_upper", 0.0))
                },
                "n_items": (own, np.array([1200, 8])),
            },
            {"model": ["<b>a", "z"], "modality": ["both", "text", "image"]},
        )
    )
    table = tabulate_letters(read_evidence(tree))
    assert table is not None
    assert [[cell.text.replace("\u00a0", " ") for cell in row] for row in table.rows] == [
        ["<b>a", "88 % [78 %, 88 %]", "0.50 [0.38, 0.62]", "−0.25 [−0.38, −0.12]", "0.00 [−0.12, 0.12]", "1,200"],
        ["z", "100 % [90 %, 100 %]", "1.50", "0.00", "0.00", "8"],
    ]
    html = render(tree)
    assert "How the models were asked" in html
    assert "&lt;b&gt;a" in html
