"""Coverage of the hazard model: the program that measures it, on a small study."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import binom

from mfbayes.switching import hidden_rates, rates
from mfbayes.switching.estimates import tell_calibration
from mfbayes.switching.fit import SwitchingFit, fit_switching
from mfbayes.switching.rates import QUANTITIES, STUDIES, Study, describe, main, measure, sum_up
from mfbayes.switching.recovery import compare_with_truth, describe_errors

HIDDEN = ("--hidden-replicates", "0")
SMALL = Study(n_layers=(5, 4), n_groups=12, n_items=15)


type Measured = tuple[dict[str, Any], SwitchingFit]


@pytest.fixture(scope="module")
def measured() -> Measured:
    fits: list[SwitchingFit] = []

    def fit_and_keep(*args: Any, **kwargs: Any) -> SwitchingFit:
        fits.append(fit_switching(*args, **kwargs))
        return fits[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "STUDIES", {"small": SMALL})
        patch.setattr(rates, "fit_switching", fit_and_keep)
        return measure("small", 3), fits[0]


@pytest.fixture(scope="module")
def row(measured: Measured) -> dict[str, Any]:
    return measured[0]


def test_a_study_tells_what_is_covered_and_what_it_took(row: dict[str, Any]) -> None:
    assert set(row["coverage"]) == set(QUANTITIES)
    # Of 14 intervals of 95 % one in ten thousand studies covers fewer, were they independent.
    assert row["coverage"]["level"] >= binom.ppf(1e-4, 14, 0.95) / 14
    assert row["passed"] == (row["max_r_hat"] <= 1.01 and row["min_ess"] >= 400)
    assert row["cpu_seconds"] > 0


@pytest.mark.parametrize(("off", "covered"), [(0.0, 1.0), (50.0, 0.0)])
def test_what_is_in_the_middle_is_covered_and_what_is_far_is_not(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, off: float, covered: float
) -> None:
    posterior = measured[1].posterior.median(("chain", "draw"))
    own = {"level": posterior["level"], **{name: posterior[name] for name in ("group_sd", "group_model_sd")}}
    own |= {str(term): posterior["effect"].sel(term=term, drop=True) for term in posterior["term"].to_numpy()}
    truth = xr.Dataset(own) + off
    monkeypatch.setattr(rates, "STUDIES", {"small": SMALL})
    monkeypatch.setattr(rates, "fit_switching", lambda *_, **__: measured[1])
    monkeypatch.setattr(rates, "simulate_switching", lambda **_: (None, {}, truth))
    found = measure("small", 3)
    assert found["coverage"] == dict.fromkeys(QUANTITIES, covered)
    # Means are near medians; what is off by 50 is so in every parameter and side.
    for name, by_side in found["recovery"].items():
        for errors in by_side.values():
            if not name.startswith("mean of"):
                assert errors["bias"] == pytest.approx(-off, abs=0.3)
                assert np.sqrt(errors["mse"]) == pytest.approx(off, abs=0.3)


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
    marks = "<!-- coverage -->\nstale\n<!-- end of coverage -->\n<!-- recovery -->\n<!-- end of recovery -->"
    page.write_text(f"before\n{marks}\nafter\n")
    written = out.read_text()
    told = tmp_path / "measured.json"
    places = ("--out", str(out), "--page", str(page), "--measured", str(told))
    monkeypatch.setattr("sys.argv", ["rates", *places, "--replicates", "1", *HIDDEN])
    main()
    assert out.read_text() == written
    assert page.read_text().startswith("before\n<!-- coverage -->\n| truth and fit")
    assert page.read_text().endswith("\n<!-- end of recovery -->\nafter\n")
    assert "| mean of distance | text | 6 | " in page.read_text(), "of the studies with effects of groups and a known b"
    assert "stale" not in page.read_text()
    measured = json.loads(told.read_text())
    assert measured["coverage"]["distance"] == [pytest.approx(row["coverage"]["distance"], abs=1e-4), 0.0, 6]
    assert measured["bias"]["distance"][1:] == [0.0, 6]


def test_bias_is_that_of_the_worse_side_and_errors_are_between_data_sets(row: dict[str, Any]) -> None:
    def with_bias(text: float, image: float, coverage: float) -> dict[str, Any]:
        recovery = {term: {"text": {"z": text}, "image": {"z": image}} for term in ("x", "distance")}
        return row | {"study": "10 groups", "coverage": dict.fromkeys(QUANTITIES, coverage), "recovery": recovery}

    found = sum_up([with_bias(0.1, -0.5, 1.0), with_bias(0.3, -0.7, 0.8)])
    assert found["bias"]["x"] == (-0.6, 0.1, 2)
    assert found["coverage"]["x"] == (0.9, 0.1, 2)


def test_fits_tell_what_the_page_tells() -> None:
    """Of all data sets that are kept, with as many as the tables have."""
    kept = Path(__file__).parents[2] / "docs" / "switching.jsonl"
    rows = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    expected = sum_up([row for row in rows if row["study"] in STUDIES])
    assert json.loads(rates.MEASURED.read_text(encoding="utf-8")) == json.loads(json.dumps(expected))
    told = tell_calibration()
    assert told["coverage_sets"].to_numpy().tolist() == [expected["coverage"][term][2] for term in ("x", "distance")]
    # As good as promised: within .02 and three Monte Carlo errors of what is nominal.
    assert bool((abs(told["coverage"] - 0.95) < 0.02 + 3 * told["coverage_error"]).all())


def test_errors_are_those_of_posterior_means_and_in_their_deviations() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([1.0, -1.0, np.nan])
    draws = truth + [0.5, -0.1, 0.0] + [0.2, 0.4, 1.0] * rng.standard_normal((40_000, 3))
    found = compare_with_truth(draws, truth)
    expected = {"bias": 0.2, "mse": 0.13, "z": (2.5 - 0.25) / 2, "z2": (2.5**2 + 0.25**2) / 2}
    assert found == {name: pytest.approx(value, abs=0.05) for name, value in expected.items()}
    assert np.isnan(compare_with_truth(draws, np.full(3, np.nan))["bias"])
    cells = describe_errors([expected, expected | {"bias": 0.4}])
    assert cells == ["0.300 (0.100)", f"{0.13**0.5:.3f}", "1.12 (0.00)", f"{expected['z2'] ** 0.5:.2f}"]


def test_draws_of_the_truth_itself_have_errors_of_one_deviation() -> None:
    """Truths drawn from the same normal as the draws: squared errors in deviations have mean one."""
    rng = np.random.default_rng(2)
    truth = rng.standard_normal(4000)
    found = compare_with_truth(rng.standard_normal((500, 4000)), truth)
    assert abs(found["z2"] - 1) < 4 * np.sqrt(2 / 4000)
    assert abs(found["z"]) < 4 / np.sqrt(4000)


def test_rows_of_the_hidden_model_become_tables() -> None:
    shares = {"hazards by layer": 0.8, "effects of x and distance": 0.9}
    row = {
        "study": "hidden, 40 groups of 20", "replicate": 0, "passed": True, "max_r_hat": 1.004,
        "coverage": {"as the model has them": shares, "widened": dict.fromkeys(shares, 0.95)},
        "recovery": {"x, text-to-image": {"bias": 0.1, "mse": 0.04, "z": 0.5, "z2": 1.0}},
    }  # fmt: skip
    lines = hidden_rates.describe([row, row]).splitlines()
    assert "| hidden, 40 groups of 20 | 2 | 0.800 (0.000) | 0.950 (0.000) | 0.900 (0.000) |" in lines[2]
    assert lines[-1] == "| hidden, 40 groups of 20 | x, text-to-image | 0.100 (0.000) | 0.200 | 0.50 (0.00) | 1.00 |"


@pytest.mark.slow
def test_a_hidden_study_tells_what_is_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    small = hidden_rates.HiddenStudy(n_layers=(5, 4), n_groups=12, n_items=25)
    monkeypatch.setattr(hidden_rates, "STUDIES", {"small": small})
    row = hidden_rates.measure("small", 0)
    before, after = row["coverage"].values()
    assert before.keys() == after.keys()
    # Wider intervals cover what narrower ones with the same middle do.
    assert all(after[name] >= share for name, share in before.items())
    assert len(row["recovery"]) == 4
