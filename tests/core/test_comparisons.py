"""Pairs, ranks, equivalence and conditions: answers that follow from the draws by counting."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mfbayes.errors import InputError
from mfbayes.estimates.comparisons import compare_pairs, judge_equivalence, rank_models
from mfbayes.estimates.conditions import MEAN_OF_MODELS, shift_of_conditions
from mfbayes.estimates.tables import remove_tables, tabulate, write_tables
from tests.core.trees import plant_tree


def test_pairs_are_differences_of_draws_not_of_intervals() -> None:
    """Two balance points that move together differ by a constant, however wide each of them is."""
    shared = np.linspace(-1, 1, 200)
    found = compare_pairs(plant_tree(balance_point=[shared, shared - 0.1, np.zeros(200)]))
    first = found.isel(subject=0, other_subject=1)
    assert float(first["difference"]) == pytest.approx(0.1)
    assert float(first["lower"]) == pytest.approx(0.1)
    assert float(first["upper"]) == pytest.approx(0.1)
    assert float(first["p_below"]) == 0.0
    assert float(found["p_below"].isel(subject=0, other_subject=2)) == 0.5
    np.testing.assert_allclose(found["difference"], -found["difference"].T.to_numpy())
    assert np.isnan(np.diag(found["p_below"])).all()


def test_what_is_on_no_common_scale_is_not_compared() -> None:
    draws = [[0.0, 0.1]] * 4
    tree = plant_tree(
        balance_point=draws,
        model=["a", "a", "b", "b"],
        task=["colour", "colour", "colour", "shape"],
        condition=["", "hint", "", ""],
    )
    compared = ~np.isnan(compare_pairs(tree)["difference"].to_numpy())
    expected = np.zeros((4, 4), dtype=bool)
    expected[0, 1] = expected[1, 0] = expected[0, 2] = expected[2, 0] = True
    np.testing.assert_array_equal(compared, expected)


def test_ranks_are_counted_draw_by_draw() -> None:
    found = rank_models(
        plant_tree(balance_point=[[0.3, 0.3, 0.3, 0.3], [0.1, 0.1, 0.1, 0.5], [-1.0, -1.0, -1.0, -1.0]])
    )
    np.testing.assert_allclose(found["p_rank"], np.array([[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0, 1]]))
    np.testing.assert_allclose(found["rank_mean"], [1.25, 1.75, 3])
    np.testing.assert_array_equal(found["rank_upper"], [2, 2, 3])
    apart = rank_models(plant_tree(balance_point=[[0.3], [0.1]], task=["s", "t"]))
    np.testing.assert_array_equal(apart["rank_mean"], [1, 1])
    assert np.isnan(apart["p_rank"].sel(rank=2)).all()


def test_equivalence_has_three_outcomes() -> None:
    tree = plant_tree(balance_point=[[-0.3, -0.05, 0.0, 0.2]])
    found = judge_equivalence(tree)
    assert [float(found[name][0]) for name in ("p_image", "p_equivalent", "p_text")] == [0.25, 0.5, 0.25]
    assert float(judge_equivalence(tree, zone=0.25)["p_equivalent"][0]) == 0.75
    with pytest.raises(InputError, match="zone"):
        judge_equivalence(tree, zone=-0.1)


def test_shifts_are_taken_against_the_baseline_within_models() -> None:
    wide = np.linspace(-1, 1, 50)
    tree = plant_tree(
        balance_point=[wide, wide + 0.2, -wide, 0.4 - wide, wide],
        model=["a", "a", "b", "b", "c"],
        condition=["default", "hint", "default", "hint", "hint"],
    )
    found = shift_of_conditions(tree)
    assert found is not None
    assert found["model"].to_numpy().tolist() == ["a", "b", MEAN_OF_MODELS]
    np.testing.assert_allclose(found["mean"], [0.2, 0.4, 0.3])
    np.testing.assert_allclose(found["upper"] - found["lower"], 0, atol=1e-12)
    other = shift_of_conditions(tree, baseline="hint")
    assert other is not None
    np.testing.assert_allclose(other["mean"], [-0.2, -0.4, -0.3])
    assert shift_of_conditions(plant_tree(balance_point=[[0.0, 1.0]])) is None
    with pytest.raises(InputError, match="default, hint"):
        shift_of_conditions(tree, baseline="none")


def test_tables_hold_every_number(tmp_path: Path) -> None:
    tree = plant_tree(balance_point=[[0.3, 0.2], [0.1, 0.1]])
    pairs = compare_pairs(tree)
    table = tabulate(pairs)
    assert list(table.columns[:2]) == ["subject", "other_subject"]
    assert len(table) == 2, "the diagonal is empty"
    assert (table["ci_prob"] == 0.95).all()
    tree["estimates/pairwise"] = type(tree)(dataset=pairs)
    assert write_tables(tree, tmp_path / "estimates") == ["pairwise"]
    again = pd.read_csv(tmp_path / "estimates" / "pairwise.csv")
    np.testing.assert_allclose(again["difference"], [0.15, -0.15])


def test_verdicts_stand_in_tables_and_stale_tables_go(tmp_path: Path) -> None:
    old, new = (plant_tree(balance_point=[[0.3, 0.2], [0.1, 0.1]]) for _ in range(2))
    for name in ("equivalence", "lapses"):
        old[f"estimates/{name}"] = type(old)(dataset=judge_equivalence(old, zone=0.25).assign_attrs(status="ok"))
    new["estimates/equivalence"] = type(new)(dataset=judge_equivalence(new, zone=0.25))
    write_tables(old, tmp_path)
    (tmp_path / "mine.csv").write_text("a user's own")
    table = pd.read_csv(tmp_path / "equivalence.csv")
    assert table["zone"].tolist() == [0.25] * 2
    assert table["status"].tolist() == ["ok"] * 2
    remove_tables(old, tmp_path)
    write_tables(new, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"equivalence.csv", "mine.csv"}
