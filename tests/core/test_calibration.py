"""Calibration: intervals cover as often as they say, also where groups and models differ a lot."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

import mfbayes
from mfbayes.calibration.measures import CI_PROB, describe_ranks, judge_ranks, measure_coverage, rank_truth
from mfbayes.calibration.page import describe
from mfbayes.calibration.studies import SEED, Study, list_studies, simulate_study
from mfbayes.convergence import Sample
from mfbayes.design import Design
from mfbayes.marginal.fast import approximate

REPLICATES = 12


def test_the_grid_spans_what_is_promised() -> None:
    studies = list_studies()
    assert len({(s.n_groups, s.group_sd, s.group_model_sd, s.n_models) for s in studies}) == len(studies) == 81
    assert {s.n_groups for s in studies} == {40, 120, 400}
    assert {s.group_model_sd for s in studies} == {0.0, 0.5, 1.5}
    assert {s.n_models for s in studies} == {2, 4, 8}


@pytest.mark.parametrize(
    ("number", "group_sd", "group_model_sd", "tilt"), [(0, 0.3, 0.0, 0.0), (1, 0.8, 0.5, -1.0), (2, 1.5, 1.5, 1.0)]
)
def test_fast_intervals_cover(number: int, group_sd: float, group_model_sd: float, tilt: float) -> None:
    """`make calibrate` on three small studies: each within .95 +- (.02 + 3 Monte Carlo errors)."""
    study = Study(n_groups=40, n_models=4, group_sd=group_sd, group_model_sd=group_model_sd, tilt=tilt)
    found = measure_coverage(study, number=9000 + number, replicates=16)
    for name, n in (("b", 16 * 4), ("difference", 16 * 3)):
        error = max(found[f"{name}_error"], (CI_PROB * (1 - CI_PROB) / n) ** 0.5)
        assert abs(found[name] - CI_PROB) < 0.02 + 3 * error
    assert found["failures"] == 0


@pytest.mark.parametrize(("number", "replicate"), [(51, 7), (78, 8)])
def test_modes_are_found_where_the_first_curvature_is_of_none(number: int, replicate: int) -> None:
    """Of the grid's 3,240 fits these two once ended where they began."""
    rng = np.random.default_rng([SEED, number, replicate])
    design, truth = simulate_study(list_studies()[number], rng=rng)
    drawn = approximate(design, seed=replicate, draws=500)
    assert drawn.passed
    points = drawn.posterior["balance_point"].stack(sample=("chain", "draw"))
    assert bool((np.abs(points.mean("sample") - truth["balance_point"]) < 4 * points.std("sample")).all())


def test_coverage_of_intervals_half_as_wide_is_found_out() -> None:
    def halve(design: Design, seed: int) -> Sample:
        drawn = approximate(design, seed=seed, draws=300)
        points = drawn.posterior["balance_point"]
        centre = points.mean(("chain", "draw"))
        return Sample(
            posterior=drawn.posterior.assign(balance_point=centre + (points - centre) / 2),
            statistics=drawn.statistics,
            convergence=drawn.convergence,
        )

    study = Study(n_groups=30, n_models=4, group_sd=0.8, group_model_sd=0.5, tilt=0.0)
    found = measure_coverage(study, number=9100, replicates=24, fit=halve)
    assert abs(found["b"] - CI_PROB) > 0.02 + 3 * found["b_error"]


def test_ranks_lie_where_the_truth_lies() -> None:
    study = Study(n_groups=30, n_models=3, group_sd=None, group_model_sd=None, tilt=0.0)
    ranks = rank_truth(study, number=9200, replicate=0, fit=lambda design, seed: approximate(design, seed=seed))
    assert ranks.pop("passed")
    design, truth = simulate_study(study, rng=np.random.default_rng([20_261_122, 9200, 0]))
    draws = approximate(design, seed=0).posterior["balance_point"].stack(sample=("chain", "draw")).to_numpy()
    below = (draws < truth["balance_point"][:, None]).mean(axis=1)
    np.testing.assert_allclose(np.array(ranks["balance_point"]) / 399, below, atol=0.06)
    assert all(0 <= rank <= 399 for values in ranks.values() for rank in values)


def test_models_that_lapse_do_so_at_their_rate() -> None:
    study = Study(n_groups=400, n_models=6, group_sd=0.0, group_model_sd=0.0, tilt=0.0, lapses=True)
    design, truth = simulate_study(study, rng=np.random.default_rng([SEED, 9400, 0]))
    own = design.trial_subject
    p = expit(truth["slope"][own] * (truth["balance_point"][own] - design.uncertainty))
    lapsing = truth["lapse"][own] + (1 - 2 * truth["lapse"][own]) * p
    # Where the curve alone says image.
    rare = p < 0.02
    texts, error = design.is_text[rare].sum(), (lapsing * (1 - lapsing))[rare].sum() ** 0.5
    assert abs(texts - lapsing[rare].sum()) < 4 * error
    assert abs(texts - p[rare].sum()) > 10 * error


def test_ranks_are_judged() -> None:
    even = list(range(400))
    assert judge_ranks(even) == (0.0, 1.0)
    assert judge_ranks([0] * 50 + even)[1] < 1e-6


def test_ranks_that_lie_too_near_the_middle_show_as_a_narrow_spread() -> None:
    rng = np.random.default_rng(3)
    uniform = rng.integers(0, 400, (400, 4))
    shift, shift_error, spread, spread_error = describe_ranks(uniform.tolist())
    assert abs(shift) < 4 * shift_error
    assert abs(spread - 1) < 4 * spread_error
    assert shift_error == pytest.approx(1 / 12**0.5 / 40, rel=0.15)
    narrow = 200 + (uniform - 200) * 2 // 3
    assert describe_ranks(narrow.tolist())[2] < 1 - 4 * spread_error
    assert describe_ranks((399 - uniform // 2).tolist())[0] > 4 * shift_error


def test_the_page_names_every_study(tmp_path: Path) -> None:
    study = Study(n_groups=40, n_models=2, group_sd=0.8, group_model_sd=0.5, tilt=0.0)
    found = measure_coverage(study, number=9300, replicates=2)
    line = json.dumps({"key": "fast-0", "kind": "fast", **asdict(study), **found})
    path = tmp_path / "calibration.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    page = describe(path)
    assert "| 40 | 0.8 | 0.5 | 2 | +0 |" in page
    assert f"{found['b']:.3f}" in page


def test_the_page_shows_a_lack_of_coverage_that_no_single_study_shows(tmp_path: Path) -> None:
    """Ten studies, each within the allowed bound, whose mean is 4 Monte Carlo errors below .95."""
    study = asdict(Study(n_groups=40, n_models=2, group_sd=0.8, group_model_sd=0.5, tilt=0.0))
    found = {"b": 0.91, "b_error": 0.03, "difference": 0.95, "difference_error": 0.03, "failures": 0, "replicates": 40}
    more = {"kind": "fast", **study, **found, "tfr_lowest": 0.1, "tfr_highest": 0.9}
    rows = [{"key": f"fast-{i}", **more, "n_groups": groups} for groups in (40, 400) for i in range(10)]
    path = tmp_path / "calibration.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    page = describe(path)
    assert "| 40 | 10 | 0.910 (0.009) | 0.950 (0.009) |" in page
    assert "| all | 20 | 0.910 (0.007) | 0.950 (0.007) |" in page


def test_the_page_compares_widths_by_k_hat(tmp_path: Path) -> None:
    rows = [
        {"key": f"tiers-{i}", "kind": "tiers", "b": ratio, "difference": 1.0, "k_hat": k}
        for i, (ratio, k) in enumerate([(0.9, 0.5), (1.0, 0.6), (0.8, 0.9), (0.8, 0.8), (0.7, float("nan"))])
    ]
    path = tmp_path / "calibration.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    page = describe(path)
    assert "| up to .7 | 2 | 0.949 (0.053) | 1.000 (0.000) |" in page
    assert "| .7 to 1 | 2 | 0.800 (0.000) | 1.000 (0.000) |" in page
    assert "not weighed |" not in page


@pytest.mark.slow
@pytest.mark.parametrize(("group_sd", "cell_sd"), [(0.8, 0.5), (0.5, 1.3)])
def test_intervals_cover_balance_points_and_their_differences(
    simulate: Callable[..., pd.DataFrame], group_sd: float, cell_sd: float
) -> None:
    """Nominal .9: 48 balance points (expected 43, binomial sd 2.1) and 36 differences (32, sd 1.8)."""
    rng = np.random.default_rng(31)
    covered, covered_differences = 0, 0
    errors: list[float] = []
    for seed in range(REPLICATES):
        truth = {f"m{i}": float(rng.normal(-0.1, 0.4)) for i in range(4)}
        trials = simulate(seed=100 + seed, balance_points=truth, n_groups=20, group_sd=group_sd, cell_sd=cell_sd)
        tree = mfbayes.fit(trials, seed=seed, ci_prob=0.9)
        assert tree.attrs["status"] == "ok"
        table = mfbayes.balance_points(tree).set_index("model")
        true = pd.Series(truth)[table.index]
        covered += int(((table["lower"] < true) & (true < table["upper"])).sum())
        errors.extend((table["mean"] - true) / table["sd"])
        draws = tree["posterior"]["balance_point"]
        for other in ("m1", "m2", "m3"):
            difference = draws.sel(subject=other) - draws.sel(subject="m0")
            lower, upper = np.quantile(difference, [0.05, 0.95])
            covered_differences += int(lower < truth[other] - truth["m0"] < upper)
    assert covered >= 36
    assert covered_differences >= 26
    # Models share the groups, so their errors go together: a mean within 3 / sqrt(12), not 3 / sqrt(48).
    assert abs(np.mean(errors)) < 3 / REPLICATES**0.5
