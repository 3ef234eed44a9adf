"""Coverage of the hazard model: the program that measures it, on a small study."""

import json
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from scipy.stats import binom

from mfbayes.switching import rates
from mfbayes.switching.fit import SwitchingFit, fit_switching
from mfbayes.switching.rates import QUANTITIES, STUDIES, Study, describe, main, measure

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
    found = measure("small", 3)["coverage"]
    assert found == dict.fromkeys(QUANTITIES, covered)


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
