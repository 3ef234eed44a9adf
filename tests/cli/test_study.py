"""The whole road, small: real images, two embedded models, a real fit and a page, through the command line."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.tables_page import check_folder, read_page

type Run = Callable[..., Any]

ARGUMENTS = ("fit", "--model", "llava-r40", "--model", "llava-r60", "--groups", "6", "--seed", "11", "--out", "runs")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    command = [sys.executable, "-m", "mfbayes", *ARGUMENTS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "runs"


def test_the_folder_keeps_its_contract(study: Path) -> None:
    trials = pd.read_parquet(study / "trials.parquet")
    assert set(trials["model"]) == {"llava-r40", "llava-r60"}
    assert len(trials) == 2 * 6 * 14 * 4
    for model in ("llava-r40", "llava-r60"):
        own = pd.read_parquet(study / "collected" / model / "trials.parquet")
        with xr.open_dataset(study / "collected" / model / "traces.nc", engine="h5netcdf") as traces:
            assert traces["state"].dims == ("item", "layer")
            assert set(traces["item"].values) == set(own["item"])
            # The last layer is the model's own answer: it says what the choice says.
            last = traces["state"].isel(layer=-1).to_series()
        codes = own.set_index("item")["choice"].map({"text": 1, "image": 0, "other": -1})
        assert (last.reindex(codes.index) == codes).all()
    record = json.loads((study / "run.json").read_text())
    assert {"dataset", "trials"} <= set(record["hashes"])
    stages = {"generate", "collect llava-r40", "collect llava-r60", "fit", "switching", "report"}
    assert stages <= set(record["seconds"])
    assert list(pd.read_csv(study / "balance_points.csv")["model"]) == ["llava-r40", "llava-r60"]


def test_trust_in_images_moves_the_balance_point(study: Path) -> None:
    """Trained to trust images in 40 and in 60 % of the conflicts: the second follows the text less."""
    with xr.open_datatree(study / "fit.nc", engine="h5netcdf") as tree:
        b = tree["posterior"]["balance_point"].load()
    assert float((b.sel(subject="llava-r40") > b.sel(subject="llava-r60")).mean()) > 0.95


def test_controls_take_dH_from_the_conflict_item_and_are_not_fitted(study: Path) -> None:
    trials = pd.read_parquet(study / "trials.parquet")
    keys = ["model", "group", "d_image", "d_text"]
    both = trials[trials["kind"] == "control"].merge(trials[trials["kind"] == "conflict"], on=keys)
    assert len(both) == 2 * 6 * 14
    np.testing.assert_array_equal(both["H_text_x"], both["H_text_y"])
    np.testing.assert_array_equal(both["H_image_x"], both["H_image_y"])
    conflict = trials[(trials["kind"] == "conflict") & trials["text_correct"] & trials["image_correct"]]
    assert pd.read_csv(study / "balance_points.csv")["n_trials"].sum() <= len(conflict)


def test_everything_is_reused(study: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)
    before = (study / "fit.nc").stat().st_mtime_ns
    again = run(*ARGUMENTS)
    assert again.code == 0
    assert (study / "fit.nc").stat().st_mtime_ns == before
    assert json.loads((study / "run.json").read_text())["reused"] == ["fit.nc"]


def test_a_run_killed_while_it_models_switching_keeps_its_fit(
    study: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "runs"
    for made in ("data", "collected"):
        shutil.copytree(study / made, copy / made)
    command = [sys.executable, "-m", "mfbayes", *ARGUMENTS]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert any("Modelling the switching" in line for line in running.stderr)
        running.kill()
    kept = (copy / "fit.nc").read_bytes()
    assert not (copy / "report.html").exists()
    monkeypatch.chdir(tmp_path)
    resumed = run(*ARGUMENTS)
    assert resumed.code == 0
    assert "used again" in resumed.err
    assert "Modelling the switching" in resumed.err
    assert (copy / "fit.nc").read_bytes() != kept
    seconds = json.loads((copy / "run.json").read_text())["seconds"]
    assert "switching" in seconds
    assert "fit" not in seconds
    for table in (study / "estimates").glob("*.csv"):
        found, undisturbed = (pd.read_csv(folder / table.name) for folder in (copy / "estimates", study / "estimates"))
        pd.testing.assert_frame_equal(found, undisturbed, rtol=1e-9)


def test_another_number_of_groups_needs_a_word(study: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)
    other = run(*ARGUMENTS[:-4], "--seed", 12, "--out", "runs")
    assert other.code == 2
    assert "seed" in other.err


def test_an_altered_image_is_named(study: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(study, tmp_path / "runs"))
    image = copy / "data" / "images" / "g0001-v03.png"
    image.write_bytes((copy / "data" / "images" / "g0001-v02.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    altered = run("collect", "--model", "llava-r40", "--out", "runs")
    assert altered.code == 2
    assert "g0001-v03.png" in altered.err
    image.unlink()
    missing = run("collect", "--model", "llava-r40", "--out", "runs")
    assert missing.code == 2
    assert "missing" in missing.err


def test_models_are_listed(study: Path, run: Run) -> None:
    listed = run("models", "--out", study)
    assert listed.code == 0
    rows = {line.split()[0]: line for line in listed.out.splitlines()[1:]}
    assert " collected " in rows["llava-r40"]
    assert "not collected" in rows["llava-r50"]


def test_every_column_that_was_written_is_on_the_page_of_tables(study: Path) -> None:
    files, faults = check_folder(read_page(), study)
    assert faults == []
    assert {"balance_points.csv", "estimates/sensitivity.csv", "estimates/missing_at_random.csv"} <= files
