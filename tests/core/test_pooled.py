"""The pooled model: bins that merge exactly, the exact optimum, and intervals that know their groups."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes.errors import InputError
from mfbayes.estimates.draws import Floats
from mfbayes.pooled.batches import Batch, Group, Subject, take_batch
from mfbayes.pooled.bins import Compression, compress, load_compression, merge, no_trials, save_compression
from mfbayes.pooled.estimate import estimate_pooled
from mfbayes.pooled.optimum import Coefficients, fit_bins, judge_existence
from mfbayes.pooled.parts import compress_parts, divide
from mfbayes.pooled.pooling import pool, tabulate_pairs
from mfbayes.pooled.scores import merge_scores, score
from mfbayes.pooled.streaming import find_sources, stream
from mfbayes.selection import select_trials
from mfbayes.trials import check_trials

SEEN = ("count", "mean", "moment", "n_text", "text_mean", "text_low", "text_high", "image_low", "image_high", "n_other")


def simulate(
    n: int,
    *,
    balance_points: list[float],
    n_groups: int = 100,
    seed: int = 0,
    slope: float = 2.0,
    group_sd: float = 0.8,
) -> Batch:
    """Trials of models that share groups, with symmetric dH."""
    rng = np.random.default_rng(seed)
    n_models = len(balance_points)
    subject, group = rng.integers(0, n_models, n), rng.integers(0, n_groups, n)
    u = group_sd * rng.standard_normal(n_groups)
    v = 0.4 * rng.standard_normal((n_models, n_groups))
    dH = 2 * np.tanh(rng.standard_normal(n) / 2)
    eta = slope * (np.array(balance_points)[subject] - dH) + u[group] + v[subject, group]
    return Batch(
        subjects=tuple(Subject(f"m{i}", "task", "") for i in range(n_models)),
        groups=tuple(Group("task", f"g{i}") for i in range(n_groups)),
        subject=subject,
        group=group,
        uncertainty=dH,
        is_text=rng.random(n) < expit(eta),
        n_other=np.zeros(n_models, dtype=np.int64),
    )


def take(batch: Batch, kept: NDArray[Any]) -> Batch:
    return Batch(
        subjects=batch.subjects,
        groups=batch.groups,
        subject=batch.subject[kept],
        group=batch.group[kept],
        uncertainty=batch.uncertainty[kept],
        is_text=batch.is_text[kept],
        n_other=np.zeros_like(batch.n_other),
    )


def one_subject(dH: list[float], is_text: list[int], group: list[int] | None = None) -> Batch:
    groups = list(range(len(dH))) if group is None else group
    return Batch(
        subjects=(Subject("m", "task", ""),),
        groups=tuple(Group("task", str(g)) for g in range(max(groups) + 1)),
        subject=np.zeros(len(dH), dtype=np.int64),
        group=np.array(groups, dtype=np.int64),
        uncertainty=np.array(dH, dtype=np.float64),
        is_text=np.array(is_text, dtype=bool),
        n_other=np.zeros(1, dtype=np.int64),
    )


def estimate(batch: Batch, ci_prob: float = 0.95) -> xr.Dataset:
    return estimate_pooled(compress(batch), lambda coefficients: score(batch, coefficients), ci_prob=ci_prob)


def solve(dH: Floats, is_text: NDArray[Any]) -> Floats:
    """Newton's method on every trial, as a peer."""
    X, theta = np.column_stack([np.ones(dH.size), dH]), np.zeros(2)
    for _ in range(40):
        p = expit(X @ theta)
        theta = theta + np.linalg.solve(X.T @ (X * (p * (1 - p))[:, None]), X.T @ (is_text - p))
    return theta


def assert_same(one: Compression, other: Compression) -> None:
    assert one.subjects == other.subjects
    for name in SEEN:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-10, atol=1e-10, err_msg=name)


@given(
    dH=st.lists(st.floats(-2, 2), min_size=1, max_size=60),
    seed=st.integers(0, 2**32 - 1),
    n_parts=st.integers(1, 7),
)
@settings(max_examples=60, deadline=None)
def test_parts_merge_to_the_whole_in_any_order(dH: list[float], seed: int, n_parts: int) -> None:
    rng = np.random.default_rng(seed)
    n = len(dH)
    batch = Batch(
        subjects=(Subject("b", "task", ""), Subject("a", "task", "")),
        groups=(Group("task", "g"),),
        subject=rng.integers(0, 2, n),
        group=np.zeros(n, dtype=np.int64),
        uncertainty=np.array(dH),
        is_text=rng.random(n) < 0.5,
        n_other=np.zeros(2, dtype=np.int64),
    )
    part = rng.integers(0, n_parts, n)
    merged = no_trials()
    for i in rng.permutation(n_parts):
        merged = merge(merged, compress(take(batch, part == i)))
    assert_same(merged, compress(batch))
    assert merged.subjects[0].model == "a"


def test_a_narrow_bin_far_from_zero_keeps_its_digits() -> None:
    """Sums of squares would lose these; squared deviations, merged, do not."""
    dH = 1.95 + 1e-9 * np.arange(1000)
    batch = one_subject(dH.tolist(), [0, 1] * 500)
    merged = no_trials()
    for i in range(10):
        merged = merge(merged, compress(take(batch, np.arange(1000) // 100 == i)))
    exact = float(((dH - dH.mean()) ** 2).sum())
    assert merged.moment.sum() == pytest.approx(exact, rel=1e-6)


def test_a_saved_compression_comes_back(tmp_path: Path) -> None:
    compression = compress(simulate(500, balance_points=[0.1, -0.3]))
    save_compression(compression, tmp_path / "part.nc")
    loaded = load_compression(tmp_path / "part.nc")
    assert_same(loaded, compression)
    assert loaded.n_undefined == 0
    (tmp_path / "cut.nc").write_bytes((tmp_path / "part.nc").read_bytes()[:-400])
    with pytest.raises(InputError, match="no whole compression"):
        load_compression(tmp_path / "cut.nc")


def test_bins_come_close_and_a_pass_makes_it_exact() -> None:
    batch = simulate(200_000, balance_points=[0.5, -0.2, 0.0], seed=3)
    found = estimate(batch)
    binned = fit_bins(compress(batch)).lines
    for i in range(3):
        own = batch.subject == i
        theta = solve(batch.uncertainty[own], batch.is_text[own])
        b = -theta[0] / theta[1]
        assert abs(-binned[i, 0] / binned[i, 1] - b) < 3e-6
        assert abs(float(found["balance_point"][i]) - b) < 1e-10
        assert float(found["marginal_slope"][i]) == pytest.approx(-theta[1], abs=1e-9)


@pytest.mark.parametrize(("centre", "width", "slope"), [(0.0, 2.0, 60.0), (1.23, 0.02, 2.0), (-1.9, 0.05, 30.0)])
def test_curves_too_steep_or_dH_too_narrow_for_bins_are_finished_on_the_trials(
    centre: float, width: float, slope: float
) -> None:
    rng = np.random.default_rng(5)
    dH = rng.uniform(centre - width, centre + width, 4000).clip(-2, 2)
    is_text = rng.random(4000) < expit(slope * (centre - dH))
    found = estimate(one_subject(dH.tolist(), is_text.tolist(), (np.arange(4000) % 50).tolist()))
    theta = solve(dH - centre, is_text)
    assert float(found["marginal_slope"][0]) == pytest.approx(-theta[1], rel=1e-5)
    assert float(found["balance_point"][0]) == pytest.approx(centre - theta[0] / theta[1], abs=1e-5)


@pytest.mark.parametrize(
    ("dH", "is_text", "status"),
    [
        ([-1, 0, 1], [1, 1, 1], "one-sided"),
        ([-1, 0, 1], [0, 0, 0], "one-sided"),
        ([-1, -0.5, 0.5, 1], [1, 1, 0, 0], "separable"),
        ([-1, -0.5, 0.5, 1], [0, 0, 1, 1], "separable"),
        ([-1, 0, 0, 1], [1, 1, 0, 0], "separable"),
        ([0.31, 0.32, 0.33, 0.34], [1, 1, 0, 0], "separable"),
        ([0.5, 0.5, 0.5], [1, 0, 1], "constant"),
        ([], [], "no-trials"),
    ],
)
def test_no_optimum_is_told_and_never_invented(dH: list[float], is_text: list[int], status: str) -> None:
    batch = one_subject(dH, is_text, [0] * len(dH)) if dH else take(one_subject([0.0], [1]), np.array([False]))
    assert judge_existence(compress(batch)) == [status]
    if dH:
        found = estimate(batch)
        assert found["status"].item() == status
        assert np.isnan(found["balance_point"].item())
        assert np.isnan(found["lower"].item())


@pytest.mark.parametrize(
    ("dH", "is_text", "group", "status"),
    [
        ([-1, 1, -1, 1, -0.5, 0.5], [1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0], "one-group"),
        ([-1, 1, -1, 1, -1, 1], [1, 0, 0, 1, 1, 0], [0, 0, 1, 1, 2, 2], "flat"),
    ],
)
def test_what_intervals_cannot_tell_has_a_status(
    dH: list[float], is_text: list[int], group: list[int], status: str
) -> None:
    found = estimate(one_subject(dH, is_text, group))
    assert found["status"].item() == status
    assert not np.isfinite(found["lower"].item())
    assert np.isfinite(found["balance_point"].item())


def test_differences_to_a_balance_point_that_may_be_anywhere_are_unbounded() -> None:
    batch = simulate(6000, balance_points=[0.1, -0.2, 0.0], seed=3)
    flat = batch.subject == 2
    noise = np.random.default_rng(5).random(flat.size) < 0.5
    found = estimate(replace(batch, is_text=np.where(flat, noise, batch.is_text)))
    assert found["status"].to_numpy().tolist() == ["ok", "ok", "flat"]
    lower, upper = (found[f"difference_{bound}"].to_numpy() for bound in ("lower", "upper"))
    for one, other in ((0, 2), (2, 1)):
        assert lower[one, other] == -np.inf
        assert upper[one, other] == np.inf
    assert np.isfinite([lower[0, 1], upper[0, 1]]).all()
    assert np.isnan(np.diag(lower)).all()


def test_a_curve_that_rises_and_a_balance_point_beyond_the_data_are_told() -> None:
    rising = simulate(5000, balance_points=[0.1], slope=-2.0, seed=2)
    assert estimate(rising)["status"].item() == "rises"
    beyond = simulate(20_000, balance_points=[1.0], slope=3.0, group_sd=0.1, seed=2)
    assert estimate(take(beyond, beyond.uncertainty < 0.2))["status"].item() == "outside"


def test_the_covariance_is_that_of_a_sandwich_written_out() -> None:
    """Groups dense, subjects stacked: the textbook formula, with its own delta method."""
    batch = simulate(6000, balance_points=[0.4, -0.3, 0.1], n_groups=30, seed=4)
    found = estimate(batch)
    scores, gradients, breads, scales = np.zeros((30, 6)), np.zeros((3, 6)), np.zeros((6, 6)), []
    for i in range(3):
        own = batch.subject == i
        dH, is_text = batch.uncertainty[own], batch.is_text[own]
        theta = solve(dH, is_text)
        X = np.column_stack([np.ones(dH.size), dH])
        p = expit(X @ theta)
        np.add.at(scores[:, 2 * i : 2 * i + 2], batch.group[own], X * (is_text - p)[:, None])
        breads[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = np.linalg.inv(X.T @ (X * (p * (1 - p))[:, None]))
        gradients[i, 2 * i : 2 * i + 2] = -1 / theta[1], theta[0] / theta[1] ** 2
        scales.append(np.sqrt(30 / 29 * (dH.size - 1) / (dH.size - 2)))
    expected = gradients @ breads @ scores.T @ scores @ breads @ gradients.T * np.outer(scales, scales)
    np.testing.assert_allclose(found["covariance"], expected, rtol=1e-5)
    difference_variance = expected[0, 0] + expected[1, 1] - 2 * expected[0, 1]
    assert float(found["difference_se"][0, 1]) == pytest.approx(np.sqrt(difference_variance), rel=1e-5)
    assert np.isnan(found["difference"][0, 0])


def test_fieller_bounds_are_where_the_line_could_be_zero() -> None:
    batch = simulate(3000, balance_points=[0.6], n_groups=25, slope=1.0, seed=6)
    found, plain = estimate(batch), estimate(batch, ci_prob=0.5)
    lower, upper, b = (found[name].item() for name in ("lower", "upper", "balance_point"))
    assert lower < plain["lower"].item() < b < plain["upper"].item() < upper
    # Fieller bounds the ratio; near zero noise in the slope it is the delta method.
    assert lower == pytest.approx(found["delta_lower"].item(), abs=0.1)
    assert (upper - b) > (b - lower)


def test_intervals_cover_balance_points_and_differences() -> None:
    """400 replicates of 40 groups at once, each a task of its own; within 4 Monte Carlo errors of .95."""
    n_tasks, truth, seed = 400, [0.3, -0.2], 11
    several = [simulate(2000, balance_points=truth, n_groups=40, seed=seed + task) for task in range(n_tasks)]
    batch = Batch(
        subjects=tuple(Subject(f"m{i}", str(task), "") for task in range(n_tasks) for i in range(2)),
        groups=tuple(Group(str(task), str(g)) for task in range(n_tasks) for g in range(40)),
        subject=np.concatenate([one.subject + 2 * task for task, one in enumerate(several)]),
        group=np.concatenate([one.group + 40 * task for task, one in enumerate(several)]),
        uncertainty=np.concatenate([one.uncertainty for one in several]),
        is_text=np.concatenate([one.is_text for one in several]),
        n_other=np.zeros(2 * n_tasks, dtype=np.int64),
    )
    found = estimate(batch).sortby(["task", "model"]).sortby("other_subject")
    found = found.sel(other_subject=found["subject"].to_numpy())
    first, second = np.arange(0, 2 * n_tasks, 2), np.arange(1, 2 * n_tasks, 2)
    error = 4 * np.sqrt(0.95 * 0.05 / n_tasks)
    for rows, b in ((first, truth[0]), (second, truth[1])):
        lower, upper = found["lower"].to_numpy()[rows], found["upper"].to_numpy()[rows]
        assert abs(float(((lower <= b) & (b <= upper)).mean()) - 0.95) < error
    low, high = (found[f"difference_{bound}"].to_numpy()[first, second] for bound in ("lower", "upper"))
    difference = truth[0] - truth[1]
    assert abs(float(((low <= difference) & (difference <= high)).mean()) - 0.95) < error
    # Models share groups; intervals that forget it would be much too wide.
    se = found["se"].to_numpy()
    apart = np.sqrt(se[first] ** 2 + se[second] ** 2)
    assert float((apart / found["difference_se"].to_numpy()[first, second]).mean()) > 1.15
    assert np.isnan(found["difference"].to_numpy()[0, 2])


def test_scores_add_up_over_parts() -> None:
    batch = simulate(3000, balance_points=[0.4, -0.3], n_groups=20)
    coefficients = Coefficients(subjects=batch.subjects, lines=np.array([[0.5, -1.0], [-0.4, -2.0]]))
    part = np.random.default_rng(0).integers(0, 4, 3000)
    merged = merge_scores(score(take(batch, part == i), coefficients) for i in (3, 1, 0, 2))
    whole = merge_scores([score(batch, coefficients)])
    pd.testing.assert_frame_equal(merged, whole, rtol=1e-10)
    p = expit(0.5 - batch.uncertainty[batch.subject == 0])
    own = merged[merged["model"] == "m0"]
    assert own["score_intercept"].sum() == pytest.approx((batch.is_text[batch.subject == 0] - p).sum())
    assert own["n_trials"].sum() == (batch.subject == 0).sum()


def write(folder: Path, frame: pd.DataFrame, name: str = "trials.parquet", rows: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / name, index=False, row_group_size=rows)
    return folder / name


def test_streamed_batches_are_the_selected_trials(tmp_path: Path, simulate_frame: pd.DataFrame) -> None:
    """The border of large tables gives what `check_trials` and `select_trials` give."""
    frame = simulate_frame
    file = write(tmp_path, frame.astype({"model": "category"}), rows=100)
    (source,) = find_sources([tmp_path])
    streamed = [compress(batch) for batch in stream(source, rows=70)]
    merged = no_trials()
    for compression in streamed:
        merged = merge(merged, compression)
    selection = select_trials(check_trials(frame))
    assert_same(merged, compress(take_batch(selection.trials)))
    assert merged.n_undefined == 1
    assert merged.n_other.sum() > 0
    assert {s.condition for s in merged.subjects} == {"plain", "short"}
    everything = pool(file, subset="all")
    assert everything.sizes["subject"] == 4
    assert int(everything["n_trials"].sum() + everything["n_other"].sum()) == (frame["kind"] == "conflict").sum() - 1
    assert "m0 / plain" in everything["subject"].to_numpy().tolist()


@pytest.fixture
def simulate_frame() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    n = 600
    frame = pd.DataFrame(
        {
            "model": rng.choice(["m0", "m1"], n),
            "condition": rng.choice(["plain", "short"], n),
            "group": rng.integers(0, 20, n),
            "kind": np.where(rng.random(n) < 0.1, "control", "conflict"),
            "H_text": rng.uniform(0.1, 2, n),
            "H_image": rng.uniform(0.1, 2, n),
            "choice": rng.choice(["Text", "text", "image", "other"], n, p=[0.3, 0.2, 0.4, 0.1]),
            "text_correct": rng.random(n) < 0.8,
            "image_correct": rng.integers(0, 2, n),
            "note": ["free text"] * n,
        }
    )
    row = frame.index[(frame["kind"] == "conflict") & frame["text_correct"] & (frame["image_correct"] == 1)][0]
    frame.loc[row, ["H_text", "H_image"]] = 0.0
    return frame


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("H_text", -0.5, ["row 152", "'H_text'", "-0.5", "many.parquet"]),
        ("H_image", np.nan, ["row 152", "'H_image'", "nothing"]),
        ("choice", "txet", ["row 152", "'choice'", "'txet'", "Is 'text' meant"]),
        ("model", " ", ["row 152", "'model'", "a name"]),
        ("group", None, ["row 152", "'group'", "nothing"]),
        ("text_correct", "maybe", ["row 152", "'text_correct'", "true or false"]),
    ],
)
def test_a_bad_value_is_named_with_file_row_and_column(
    tmp_path: Path, simulate_frame: pd.DataFrame, column: str, value: Any, words: list[str]
) -> None:
    frame = simulate_frame.astype({"group": str, "text_correct": str})
    frame.loc[151, column] = value
    with pytest.raises(InputError) as caught:
        pool(write(tmp_path, frame, "many.parquet", rows=100))
    for word in words:
        assert word in str(caught.value)


def test_files_that_cannot_be_pooled_are_refused(tmp_path: Path, simulate_frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="nothing"):
        find_sources([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"none \(\*\.parquet\)"):
        find_sources([tmp_path])
    file = write(tmp_path / "a", simulate_frame)
    write(tmp_path / "b", simulate_frame)
    with pytest.raises(InputError, match="copies of each other"):
        pool([tmp_path / "a", tmp_path / "b"])
    write(tmp_path / "b", simulate_frame.drop(columns="condition"))
    with pytest.raises(InputError, match="has the column 'condition'"):
        pool([tmp_path / "a", tmp_path / "b"])
    with pytest.raises(InputError, match="'H_image' is missing"):
        pool(write(tmp_path / "c", simulate_frame.drop(columns="H_image")))
    with pytest.raises(InputError, match="No conflict trial"):
        pool(write(tmp_path / "d", simulate_frame.assign(text_correct=False)))
    (tmp_path / "cut.parquet").write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match="not a whole parquet file"):
        pool(tmp_path / "cut.parquet")


MARGIN = ("margin_uncertainty_text", "margin_uncertainty_image")


@pytest.mark.parametrize("there", [True, False])
def test_another_index_is_pooled_as_it_is_fitted(tmp_path: Path, simulate_frame: pd.DataFrame, there: bool) -> None:
    """With entropies beside it or without any; controls need no value."""
    rng = np.random.default_rng(9)
    frame = simulate_frame.assign(**dict(zip(MARGIN, rng.uniform(0, 1, (2, len(simulate_frame))), strict=True)))
    frame.loc[frame["kind"] == "control", MARGIN[0]] = np.nan
    frame.loc[frame.index[frame["kind"] == "conflict"][:3], list(MARGIN)] = 0.0
    frame = frame if there else frame.drop(columns=["H_text", "H_image"])
    file = write(tmp_path, frame, rows=100)
    (source,) = find_sources([file], index="margin")
    merged = no_trials()
    for batch in stream(source, subset="all", rows=70):
        merged = merge(merged, compress(batch))
    selection = select_trials(check_trials(frame), subset="all", index="margin")
    assert_same(merged, compress(take_batch(selection.trials)))
    assert merged.n_undefined == 3
    found = pool(file, subset="all", index="margin")
    assert found.attrs["index"] == "margin"
    assert "3 rows left out: both margin uncertainties are zero" in found.attrs["notes"]
    frame.loc[frame.index[frame["kind"] == "conflict"][7], MARGIN[1]] = np.nan
    with pytest.raises(InputError, match=r"column 'margin_uncertainty_image': expected 1 - .* got nothing"):
        pool(write(tmp_path / "lacking", frame), subset="all", index="margin")


def test_an_index_that_is_absent_or_unknown_is_refused(tmp_path: Path, simulate_frame: pd.DataFrame) -> None:
    nll = simulate_frame.rename(columns={"H_text": "nll_text", "H_image": "nll_image"})
    file = write(tmp_path / "nll", nll)
    with pytest.raises(InputError, match=r"needs the columns H_text and H_image, .* or use the index 'nll'"):
        pool(file)
    with pytest.raises(
        InputError, match=r"trials.parquet: the index 'margin' needs the columns margin_uncertainty_text"
    ):
        pool(file, index="margin")
    with pytest.raises(InputError, match="Expected index entropy, margin, max-probability or nll, got 'gini'"):
        pool(file, index="gini")
    write(tmp_path / "nll", simulate_frame, "other.parquet")
    with pytest.raises(InputError, match=r"other.parquet: the index 'nll' needs .* or use the index 'entropy'"):
        pool(tmp_path / "nll", index="nll")


def test_parts_of_another_index_are_not_used(tmp_path: Path, simulate_frame: pd.DataFrame) -> None:
    frame = simulate_frame.assign(nll_text=simulate_frame["H_image"], nll_image=simulate_frame["H_text"])
    file, kept = write(tmp_path / "data", frame, rows=50), tmp_path / "parts"
    by_entropy = pool(file, folder=kept)
    by_nll = pool(file, folder=kept, index="nll")
    np.testing.assert_allclose(by_nll["balance_point"], -by_entropy["balance_point"], atol=1e-8)
    xr.testing.assert_identical(by_nll, pool(file, index="nll", processes=2, folder=tmp_path / "fresh"))
    keys = [
        {part.key for part in divide(find_sources([file], index=index), subset="all")} for index in ("entropy", "nll")
    ]
    assert not keys[0] & keys[1]


def test_pairs_are_tabulated_where_they_are_on_one_scale() -> None:
    found = estimate(simulate(6000, balance_points=[0.4, -0.3, 0.1], n_groups=30, seed=4)).assign_attrs(index="nll")
    pairs = tabulate_pairs(found)
    assert len(pairs) == 6
    row = pairs[(pairs["subject"] == "m0") & (pairs["other_subject"] == "m2")].iloc[0]
    for column in ("difference", "covariance"):
        assert row[column] == found[column].sel(subject="m0", other_subject="m2").item()
    for column in ("se", "lower", "upper"):
        assert row[column] == found[f"difference_{column}"].sel(subject="m0", other_subject="m2").item()
    assert row[["model", "index", "ci_prob"]].tolist() == ["m0", "nll", 0.95]
    alone = tabulate_pairs(found.isel(subject=[0], other_subject=[0]))
    assert alone.empty
    assert list(alone) == list(pairs)


def test_without_the_correct_columns_all_trials_are_used_and_a_note_says_so(
    tmp_path: Path, simulate_frame: pd.DataFrame
) -> None:
    found = pool(write(tmp_path, simulate_frame.drop(columns=["text_correct", "image_correct"])))
    assert found.attrs["subset"] == "all"
    assert "text_correct and image_correct are absent" in found.attrs["notes"]
    assert "1 row left out" in found.attrs["notes"]


def test_parts_of_several_files_and_processes_give_the_same_result(
    tmp_path: Path, simulate_frame: pd.DataFrame
) -> None:
    file = write(tmp_path / "whole", simulate_frame, rows=50)
    whole = pool(file)
    write(tmp_path / "split", simulate_frame[:200])
    write(tmp_path / "split", simulate_frame[200:], "rest.parquet")
    split = pool(tmp_path / "split", folder=tmp_path / "parts", processes=2)
    again = pool(tmp_path / "split", folder=tmp_path / "other")
    xr.testing.assert_identical(split, again)
    xr.testing.assert_allclose(split.drop_vars("compression_error"), whole.drop_vars("compression_error"), rtol=1e-7)
    parts = divide(find_sources([file]), subset="all", part_rows=120)
    assert [len(part.row_groups) for part in sorted(parts, key=lambda part: part.row_groups.start)] == [3, 2, 3, 2, 2]
    assert int(compress_parts(parts, tmp_path / "small").n_trials.sum()) == int(
        pool(file, subset="all")["n_trials"].sum()
    )
