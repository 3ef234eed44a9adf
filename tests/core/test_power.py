"""Power: half-widths that shrink with the groups, an answer interpolated between them, and work kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mfbayes.power
from mfbayes.errors import InputError
from mfbayes.power import find_groups, measure_power, measure_study, summarise
from mfbayes.simulation import Scenario

SMALL = Scenario(models={"a": 0.2, "b": -0.2}, image_tiers=4)


def curve(sizes: list[int], half: list[float], error: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame({"n_groups": sizes, "difference_half_width": half, "difference_half_width_error": error})


def test_half_widths_shrink_as_the_root_of_the_groups_and_intervals_cover() -> None:
    table = measure_power(SMALL, groups=[30, 120], replicates=8)
    assert table["n_groups"].tolist() == [30, 120]
    assert table["failures"].sum() == 0
    for name in ("balance_point", "difference"):
        first, second = table[f"{name}_half_width"]
        errors = table[f"{name}_half_width_error"] / table[f"{name}_half_width"]
        # Four times the groups halve the interval, but for priors and the spread among replicates.
        assert np.log(first / second) == pytest.approx(np.log(2), abs=4 * np.hypot(*errors) + 0.1)
        # 16 intervals a size, 32 in all: below .75 comes by chance once in 10,000.
        assert table[f"{name}_coverage"].mean() > 0.75


def test_groups_are_interpolated_on_logarithmic_axes() -> None:
    sizes = [40, 160, 640]
    table = curve(sizes, [2 / size**0.5 for size in sizes])
    for width, n_groups in ((0.2, 100), (0.1, 400), (2 / 160**0.5, 160), (2 / 40**0.5, 40)):
        assert find_groups(table, width, estimate="difference").n_groups == pytest.approx(n_groups)
    assert find_groups(table, 0.5, estimate="difference").bound == "below 40"
    too_narrow = find_groups(table, 0.01, estimate="difference")
    assert too_narrow.bound == "above 640" and np.isnan(too_narrow.n_groups)
    with pytest.raises(InputError, match="width above 0"):
        find_groups(table, 0.0, estimate="difference")


def test_the_answers_error_is_the_spread_of_answers() -> None:
    rng, half = np.random.default_rng(5), np.array([0.2, 0.1])
    told = find_groups(curve([100, 400], list(half), error=0.002), 0.18, estimate="difference").error
    answers = [
        find_groups(
            curve([100, 400], list(half + 0.002 * rng.standard_normal(2))), 0.18, estimate="difference"
        ).n_groups
        for _ in range(400)
    ]
    assert told == pytest.approx(np.std(answers), rel=4 / 800**0.5)


def test_summary_has_the_error_of_a_mean() -> None:
    rows = [
        {"n_groups": 9, "replicate": i, "n_trials": 10, "failures": 0.0}
        | {f"{name}_{what}": value for name in ("balance_point", "difference") for what in ("half_width", "coverage")}
        for i, value in enumerate((0.1, 0.2, 0.3, 0.4))
    ]
    (row,) = summarise(rows).to_dict("records")
    assert row["difference_half_width"] == pytest.approx(0.25)
    assert row["difference_half_width_error"] == pytest.approx(np.std([0.1, 0.2, 0.3, 0.4], ddof=1) / 2)


def test_finished_replicates_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, fitted = tmp_path / "power.json", []

    def count(scenario: Scenario, replicate: int, **options: Any) -> Any:
        fitted.append((scenario.n_groups, replicate))
        if len(fitted) == 3:
            raise KeyboardInterrupt
        return measure_study(scenario, replicate, **options)

    monkeypatch.setattr(mfbayes.power, "measure_study", count)
    with pytest.raises(KeyboardInterrupt):
        measure_power(SMALL, groups=[8, 12], replicates=2, progress=kept)
    assert len(json.loads(kept.read_text(encoding="utf-8"))["rows"]) == 2
    table = measure_power(SMALL, groups=[8, 12], replicates=2, progress=kept)
    assert fitted == [(8, 0), (12, 0), (8, 1), (8, 1), (12, 1)]
    pd.testing.assert_frame_equal(measure_power(SMALL, groups=[12, 8], replicates=2, progress=kept), table)
    assert len(fitted) == 5
    with pytest.raises(InputError, match="another scenario"):
        measure_power(SMALL, groups=[8], replicates=2, progress=kept, seed=1)
    assert len(fitted) == 5
    measure_power(SMALL, groups=[8], replicates=2, progress=kept, seed=1, overwrite=True)
    assert len(fitted) == 7


@pytest.mark.parametrize(
    ("scenario", "options", "message"),
    [
        (SMALL, {"groups": [], "replicates": 2}, "groups from 2"),
        (SMALL, {"groups": [1], "replicates": 2}, "groups from 2"),
        (SMALL, {"groups": [8], "replicates": 1}, "at least 2 replicates"),
        (SMALL, {"groups": [8], "replicates": 2, "ci_prob": 1.0}, "ci_prob"),
        (Scenario(models=1), {"groups": [8], "replicates": 2}, "at least 2 models"),
        (Scenario(models=201), {"groups": [8], "replicates": 2}, "at most 200"),
    ],
)
def test_what_cannot_be_measured_is_refused(scenario: Scenario, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_power(scenario, **options)
