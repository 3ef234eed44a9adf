"""`simulate`, through the command line: a folder to fit, its truth, and a study's size."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mfbayes.traces import read_traces
from mfbayes.trials import read_trials

type Run = Callable[..., Any]

SMALL = ("simulate", "--groups", 5, "--balance-points", "a=0.2,b=-0.3", "--layers", 6)


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_trials_traces_and_truth_are_written_and_can_be_read(run: Run, tmp_path: Path) -> None:
    done = run(*SMALL, "--out", tmp_path / "s")
    assert done.code == 0, done.err
    assert "420 trials of 2 models and 5 groups" in done.out
    assert set(content(tmp_path / "s")) == {"trials.parquet", "truth.json", "traces/a.nc", "traces/b.nc"}
    trials = read_trials(tmp_path / "s" / "trials.parquet")
    truth = json.loads((tmp_path / "s" / "truth.json").read_text(encoding="utf-8"))
    assert truth["trials"]["balance_point"] == {"a": 0.2, "b": -0.3}
    assert truth["trials"]["group_sd"] == 0.8
    assert set(truth["traces"]["hazard_intercept"]) == {"a", "b"}
    traces = read_traces(tmp_path / "s" / "traces" / "a.nc")
    assert traces.sizes == {"item": 210, "layer": 6}
    assert set(traces["item"].values) == set(trials.loc[trials["model"] == "a", "item"])


def test_the_same_command_changes_nothing_and_another_is_refused(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "s"
    run(*SMALL, "--out", out)
    before = content(out)
    (out / "traces" / "b.nc").unlink()
    assert run(*SMALL, "--out", out).code == 0
    after = content(out)
    assert after["trials.parquet"] == before["trials.parquet"] and after["truth.json"] == before["truth.json"]
    assert set(after) == set(before)
    refused = run(*SMALL, "--out", out, "--seed", 1)
    assert refused.code == 2 and "--overwrite" in refused.err
    assert content(out) == after
    replaced = run("simulate", "--groups", 5, "--models", 3, "--no-traces", "--out", out, "--overwrite")
    assert replaced.code == 0
    assert set(content(out)) == {"trials.parquet", "truth.json"}
    assert read_trials(out / "trials.parquet")["model"].nunique() == 3


def test_tasks_conditions_and_families_are_simulated(run: Run, tmp_path: Path) -> None:
    levels = ("--tasks", "color=0,shape=0.4", "--conditions", "plain=0,hint=-0.3", "--families", "a=R,b=S")
    done = run(*SMALL, *levels, "--out", tmp_path)
    assert done.code == 0, done.err
    trials = read_trials(tmp_path / "trials.parquet")
    assert len(trials) == 4 * 420
    assert set(trials.groupby("model")["family"].first().items()) == {("a", "R"), ("b", "S")}
    truth = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))["trials"]["balance_point"]
    assert truth["a / color / hint"] == pytest.approx(truth["a / color / plain"] - 0.3)
    # Traces are by item, and an item under two conditions would be one.
    assert not (tmp_path / "traces").exists()
    assert "--traces" not in done.out


def test_what_is_simulated_can_be_fitted_with_its_layers(run: Run, tmp_path: Path) -> None:
    """By the command that `simulate` itself tells."""
    out = tmp_path / "s"
    told = run("simulate", "--groups", 12, "--balance-points", "a=0.2,b=-0.3", "--layers", 8, "--out", out).out
    command = told.split("`")[1].removeprefix("python -m mfbayes ").split()
    (out / "traces" / "c.nc").write_bytes((out / "traces" / "b.nc").read_bytes())
    done = run(*command, "--method", "fast", "--no-checks")
    assert done.code == 0, done.err
    assert "Files of models without trials" in done.err and ": c.nc. Nothing" in done.err
    estimates = {file.stem for file in (out / "fit" / "estimates").iterdir()}
    assert {"balance_points", "oscillations", "contrasts", "hazard_by_depth", "switching_comparison"} <= estimates
    assert json.loads((out / "fit" / "run.json").read_text(encoding="utf-8"))["settings"]["traces"] == "traces"
    hazards = pd.read_csv(out / "fit" / "estimates" / "hazard_by_depth.csv")
    assert hazards["subject"].unique().tolist() == ["a", "b"]
    # Other traces are other content.
    (out / "traces" / "b.nc").unlink()
    other = run(*command, "--method", "fast", "--no-checks")
    assert other.code == 2 and "other trials or layer traces" in other.err
    assert "No layer traces of b" in other.err


def test_traces_that_cannot_be_used_are_told_before_the_fit(run: Run, tmp_path: Path) -> None:
    run(*SMALL, "--out", tmp_path / "s")
    trials = tmp_path / "s" / "trials.parquet"

    def refuse(file: Path, folder: Path) -> str:
        done = run("fit", "--trials", file, "--traces", folder, "--out", tmp_path / "fit")
        assert done.code == 2 and not (tmp_path / "fit" / "fit.nc").exists()
        return str(done.err)

    assert "there is none" in refuse(trials, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "a.nc, b.nc" in refuse(trials, tmp_path / "empty")
    read_trials(trials).drop(columns="item").to_csv(tmp_path / "plain.csv", index=False)
    assert "'item'" in refuse(tmp_path / "plain.csv", tmp_path / "s" / "traces")
    (tmp_path / "s" / "traces" / "a.nc").write_bytes(b"no netCDF")
    assert "a.nc is not a whole netCDF file" in refuse(trials, tmp_path / "s" / "traces")
    alone = run("fit", "--model", "llava-r40", "--traces", tmp_path, "--out", tmp_path / "fit")
    assert alone.code == 2 and "belongs to --trials" in alone.err


def test_a_users_own_trials_are_not_replaced(run: Run, tmp_path: Path) -> None:
    own = tmp_path / "trials.parquet"
    own.write_bytes(b"mine")
    refused = run(*SMALL, "--out", tmp_path)
    assert refused.code == 2 and "not from a simulation" in refused.err
    assert own.read_bytes() == b"mine"


def test_power_answers_how_many_groups(run: Run, tmp_path: Path) -> None:
    asked = ("simulate", "--power", "--image-tiers", 4, "--models", 2, "--replicates", 2, "--out", tmp_path / "p")
    done = run(*asked, "--groups", "10,40", "--width", 0.25)
    assert done.code == 0, done.err
    assert "Groups for a 95 % interval of +-0.25 for a balance point: " in done.out
    table = pd.read_csv(tmp_path / "p" / "power.csv")
    assert table["n_groups"].tolist() == [10, 40]
    assert table["balance_point_half_width"].is_monotonic_decreasing
    wide = run(*asked, "--groups", "10,40", "--width", 5)
    assert wide.out.count("below 10") == 2
    other = run(*asked, "--groups", "10,40", "--lapse", 0.1)
    assert other.code == 2 and "--overwrite" in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--groups", "10,20"), "Several belong to --power"),
        (("--groups", "many"), "Expected --groups as a number"),
        (("--groups", "0"), "n_groups to be at least 1"),
        (("--models", "2", "--balance-points", "a=1"), "got both"),
        (("--models", "0"), "at least one model"),
        (("--balance-points", "a"), "got 'a' in it"),
        (("--balance-points", "a/b=1"), "Expected a name of letters"),
        (("--conditions", "plain=0,hint=far"), "got hint=far in it"),
        (("--conditions", "plain=0,hint=-0.3", "--traces"), "one condition at a time"),
        (("--tasks", "color"), "got 'color' in it"),
        (("--balance-points", "a=1,b=0", "--families", "a=R"), "families for exactly the models"),
        (("--balance-points", "a=1,A=2"), "twice"),
        (("--balance-points", "a=nan"), "finite balance points"),
        (("--layers", "2"), "at least 3 layers"),
        (("--slope", "-1"), "slopes above 0"),
        (("--power", "--width", "0"), "--width above 0"),
        (("--power", "--replicates", "1"), "at least 2 replicates"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    refused = run("simulate", "--out", tmp_path / "s", *arguments)
    assert refused.code == 2
    assert message in refused.err
    assert not content(tmp_path)
