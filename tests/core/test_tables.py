"""Tables of a fit: what dH was made of stands in them, and what is no number does not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mfbayes import names
from mfbayes.estimates.balance import COLUMNS, balance_points, write_balance_points
from mfbayes.estimates.tables import write_tables

MEASURED = ("mean", "median", "sd", "lower", "upper", "intercept_mean", "slope_mean", "slope_lower", "slope_upper")


def plant_points(*, status: str = "ok", **columns: float) -> xr.DataTree:
    """A tree with the balance points of two subjects, the second as told."""
    found = {name: ("subject", np.array([0.25, columns.get(name, 0.5)])) for name in (*MEASURED, "tfr")}
    counts = {name: ("subject", np.array([2_000_000, 3])) for name in ("n_trials", "n_text", "n_image", "n_other")}
    words = {"status": ("subject", [status] * 2), "law": ("subject", ["falls"] * 2)}
    parts = {part: ("subject", ["a", "b"]) for part in ("model", "task", "condition", "family")}
    points = xr.Dataset(found | counts | words, {"subject": ["a", "b"]} | parts, {"ci_prob": 0.9})
    tree = xr.DataTree.from_dict({"/estimates/balance_points": points})
    tree.attrs = {"status": status}
    return tree


def write(tree: xr.DataTree, folder: Path) -> list[pd.DataFrame]:
    """Both tables of balance points, read again."""
    write_balance_points(tree, folder / "balance_points.csv")
    write_tables(tree, folder / "estimates")
    return [pd.read_csv(folder / name) for name in ("balance_points.csv", "estimates/balance_points.csv")]


@pytest.mark.parametrize("index", names.INDICES)
def test_tables_of_balance_points_name_the_index(tmp_path: Path, index: str) -> None:
    tree = plant_points()
    tree.attrs["index"] = index
    for table in write(tree, tmp_path):
        assert table["index"].tolist() == [index] * 2
    assert list(balance_points(tree)) == list(COLUMNS)


@pytest.mark.parametrize("nonsense", [np.inf, -np.inf, np.nan, 1e233, -2e6])
def test_what_is_no_number_is_blank_and_counts_stay(tmp_path: Path, nonsense: float) -> None:
    tree = plant_points(status="not-converged", **dict.fromkeys(MEASURED, nonsense))
    for table, file in zip(write(tree, tmp_path), ("balance_points.csv", "estimates/balance_points.csv"), strict=True):
        assert table.loc[1, list(MEASURED)].isna().all()
        assert (table.loc[0, list(MEASURED)] == 0.25).all()
        assert table["n_trials"].tolist() == [2_000_000, 3]
        text = (tmp_path / file).read_text(encoding="utf-8").replace("index", "")
        assert not {word for word in ("nan", "inf", "e+") if word in text}
    assert np.isnan(balance_points(tree)["mean"][1])


def test_large_numbers_that_make_sense_stay(tmp_path: Path) -> None:
    tree = plant_points(mean=-999_999.0)
    assert write(tree, tmp_path)[1]["mean"].tolist() == [0.25, -999_999.0]
