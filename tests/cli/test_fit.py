"""`fit --trials` from a file of trials to a finished run folder, through the command line."""

import json
import re
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

from mfbayes.cli.analysis import _print_summary
from mfbayes.marginal import fast

type Run = Callable[..., Any]

COLUMNS = [
    *(
        "model",
        "task",
        "condition",
        "family",
        "mean",
        "median",
        "sd",
        "lower",
        "upper",
        "ci_prob",
        "index",
        "intercept_mean",
    ),
    *(
        "slope_mean",
        "slope_lower",
        "slope_upper",
        "n_trials",
        "n_text",
        "n_image",
        "n_other",
        "tfr",
        "status",
        "law",
        "converged",
    ),
]
TRUTH = {"reader": 0.8, "arbiter": 0.0, "viewer": -0.8}


def simulate_trials(seed: int, *, n_groups: int = 24, per_group: int = 10) -> pd.DataFrame:
    """Trials of three models whose balance points are `TRUTH`, with slope 2.5 and group effects."""
    rng = np.random.default_rng(seed)
    frames = []
    u = rng.normal(0, 0.5, n_groups)
    for model, b in TRUTH.items():
        group = np.repeat(np.arange(n_groups), per_group)
        H_text, H_image = rng.lognormal(-0.5, 0.9, (2, group.size))
        dH = 2 * (H_text - H_image) / (H_text + H_image)
        v = rng.normal(0, 0.5, n_groups)
        p = 1 / (1 + np.exp(-(2.5 * (b - dH) + (u + v)[group])))
        choice = np.where(rng.random(group.size) < p, "text", "image")
        choice[rng.random(group.size) < 0.05] = "other"
        frames.append(
            pd.DataFrame(
                {"model": model, "group": group, "H_text": H_text, "H_image": H_image, "choice": choice, "mine": 1}
            )
        )
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made once by a process of its own, as a user starts it."""
    folder = tmp_path_factory.mktemp("finished")
    simulate_trials(7).to_csv(folder / "trials.csv", index=False)
    command = [sys.executable, "-m", "mfbayes", "fit", "--trials", "trials.csv", "--out", "run", "--seed", "3"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Report: run/report.html" in done.stdout
    for model in TRUTH:
        assert model in done.stdout
    return folder


def test_balance_points_are_recovered_and_complete(finished: Path) -> None:
    table = pd.read_csv(finished / "run" / "balance_points.csv")
    assert list(table.columns) == COLUMNS
    assert list(table["status"]) == ["ok"] * 3
    estimated = {str(row["model"]): row for row in table.to_dict("records")}
    for model, b in TRUTH.items():
        row = estimated[model]
        # Four posterior sds: a miss by chance once in 16,000.
        assert abs(row["mean"] - b) < 4 * row["sd"]
        assert row["lower"] < row["median"] < row["upper"]
        assert row["n_text"] + row["n_image"] + row["n_other"] == 240
        assert row["tfr"] == pytest.approx(row["n_text"] / (row["n_text"] + row["n_image"]))
    assert estimated["viewer"]["upper"] < estimated["arbiter"]["lower"]
    assert estimated["arbiter"]["upper"] < estimated["reader"]["lower"]


def test_new_conflicts_are_predicted_from_the_run(finished: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "new.csv").write_text("name,H_text,H_image,dH\na,0.2,1.0,kept away\nb,1.0,0.5,\n")
    done = run("predict", finished / "run", "--conflicts", tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "p.csv")
    assert list(table["row"]) == [1, 2] * 3
    assert list(table["name"]) == ["a", "b"] * 3
    np.testing.assert_allclose(table["dH"], [2 * (0.2 - 1.0) / 1.2, 2 * (1.0 - 0.5) / 1.5] * 3)
    mean = table.pivot_table(index="model", columns="name", values="mean")
    assert (mean["a"] > mean["b"]).all()
    assert list(mean.sort_values("a").index) == ["viewer", "arbiter", "reader"]
    inside = table[["lower", "mean", "upper"]].to_numpy()
    assert (np.diff(inside, axis=1) > 0).all()
    assert (table["new_group_lower"] < table["lower"]).all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("H_text\n1\n", "H_image is missing"),
        ("H_text,H_image\n", "no rows"),
        ("H_text,H_image\n1,-1\n", "Line 2, column 'H_image'"),
        ("H_text,H_image\n1,1\n0,0\n", "both 0 in line 3"),
    ],
)
def test_conflicts_that_cannot_be_predicted_are_refused(
    finished: Path, tmp_path: Path, run: Run, text: str, told: str
) -> None:
    (tmp_path / "new.csv").write_text(text)
    done = run("predict", finished / "run", "--conflicts", tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert done.code == 2
    assert told in done.err
    assert not (tmp_path / "p.csv").exists()
    assert run("predict", tmp_path, "--conflicts", tmp_path / "new.csv").code == 2


def test_the_folder_holds_what_the_readme_says(finished: Path) -> None:
    run = finished / "run"
    assert {file.name for file in run.iterdir()} == {
        "report.html",
        "balance_points.csv",
        "fit.nc",
        "estimates",
        "trials.parquet",
        "run.json",
    }
    assert "mine" in pd.read_parquet(run / "trials.parquet").columns
    with xr.open_datatree(run / "fit.nc", engine="h5netcdf") as tree:
        assert tree["posterior"]["balance_point"].dims == ("chain", "draw", "subject")
    record = json.loads((run / "run.json").read_text())
    assert record["command"] == "mfbayes fit --trials trials.csv --out run --seed 3"
    assert record["settings"]["seed"] == 3
    assert set(record["seconds"]) == {"fit", "report"}
    assert str(finished) not in (run / "run.json").read_text()
    page = (run / "report.html").read_text(encoding="utf-8")
    for model in TRUTH:
        assert model in page


def test_one_group_locates_no_balance_point(tmp_path: Path, run: Run) -> None:
    simulate_trials(7, n_groups=1, per_group=120).to_csv(tmp_path / "trials.csv", index=False)
    done = run("fit", "--trials", tmp_path / "trials.csv", "--out", tmp_path / "run", "--method", "fast")
    assert done.code == 0
    assert done.out.count("law unknown") == len(TRUTH)
    assert "no balance point is located" in done.out
    assert "Note: All trials are used, also items that a model cannot answer from one modality alone" in done.out
    table = pd.read_csv(tmp_path / "run" / "balance_points.csv")
    assert list(table["law"]) == ["unknown"] * len(TRUTH)
    # What the next fit does not have is not left behind.
    assert (tmp_path / "run" / "estimates" / "sensitivity.csv").exists()
    arguments = ("--method", "fast", "--no-checks", "--overwrite")
    assert run("fit", "--trials", tmp_path / "trials.csv", "--out", tmp_path / "run", *arguments).code == 0
    assert not (tmp_path / "run" / "estimates" / "sensitivity.csv").exists()


def test_the_same_content_is_reused_and_other_content_kept(finished: Path, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    fit = (folder / "run" / "fit.nc").read_bytes()
    again = run("fit", "--trials", folder / "trials.csv", "--out", folder / "run", "--seed", 3)
    assert again.code == 0
    assert "used again" in again.err
    other = run("fit", "--trials", folder / "trials.csv", "--out", folder / "run", "--seed", 4)
    assert other.code == 2
    assert "seed 3 there, 4 asked" in other.err
    arguments = ("--seed", 3, "--no-checks", "--baseline", "hint")
    other = run("fit", "--trials", folder / "trials.csv", "--out", folder / "run", *arguments)
    assert "(baseline none there, hint asked, checks on there, off asked)" in other.err
    simulate_trials(8).to_csv(folder / "trials.csv", index=False)
    changed = run("fit", "--trials", folder / "trials.csv", "--out", folder / "run", "--seed", 3)
    assert changed.code == 2
    assert "--overwrite" in changed.err
    assert (folder / "run" / "fit.nc").read_bytes() == fit


def test_a_fit_that_knows_no_option_is_not_taken_for_one_without(finished: Path, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "old"))
    file = folder / "run" / "fit.nc"
    with xr.open_datatree(file, engine="h5netcdf") as opened:
        tree = opened.load()
    assert (tree.attrs["asked_lapse"], tree.attrs["asked_outcomes"]) == (0, 0)
    del tree.attrs["asked_lapse"], tree.attrs["asked_outcomes"]
    tree.to_netcdf(file, engine="h5netcdf")
    outcome = run("fit", "--trials", folder / "trials.csv", "--out", folder / "run", "--seed", 3)
    assert outcome.code == 2
    assert "does not say whether it had lapse and outcomes" in outcome.err
    assert "--overwrite" in outcome.err
    wanted = run("fit", "--trials", folder / "trials.csv", "--out", finished / "run", "--seed", 3, "--outcomes")
    assert wanted.code == 2
    assert "outcomes off there, on asked" in wanted.err


def test_the_report_is_built_again(finished: Path, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(finished / "run", tmp_path / "run"))
    (folder / "report.html").unlink()
    assert run("report", folder).code == 0
    first = (folder / "report.html").read_text(encoding="utf-8")
    assert run("report", folder).code == 0
    second = (folder / "report.html").read_text(encoding="utf-8")
    minute = re.compile(r"<time[^>]*>[^<]*</time>")
    assert len(minute.findall(first)) == 1
    assert minute.sub("", second) == minute.sub("", first)
    for model in TRUTH:
        assert model in first


def test_nobodys_files_are_replaced_unasked(tmp_path: Path, run: Run) -> None:
    own = tmp_path / "mine" / "trials.parquet"
    own.parent.mkdir()
    simulate_trials(7).to_parquet(own)
    before = own.read_bytes()
    outcome = run("fit", "--trials", own, "--out", own.parent)
    assert outcome.code == 2
    assert "--overwrite" in outcome.err
    assert own.read_bytes() == before


def test_a_damaged_fit_says_how_to_go_on(finished: Path, tmp_path: Path, run: Run) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "damaged"))
    file = folder / "run" / "fit.nc"
    file.write_bytes(file.read_bytes()[:5000])
    outcome = run("fit", "--trials", folder / "trials.csv", "--out", folder / "run", "--seed", 3)
    assert outcome.code == 2
    assert "--overwrite" in outcome.err


def test_an_interrupted_command_says_how_to_go_on(
    finished: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mfbayes.fitting.fit", interrupt)
    stopped = run("fit", "--trials", finished / "trials.csv", "--out", tmp_path / "run")
    assert stopped.code == 130
    assert "the same command goes on" in stopped.err


@pytest.mark.parametrize("command", [["report", "run"], ["fit", "--trials", "trials.csv", "--out", "fresh"]])
def test_a_full_disk_leaves_the_old_run(finished: Path, tmp_path: Path, command: list[str]) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "full"))
    before = {file.name: file.read_bytes() for file in (folder / "run").rglob("*.*") if file.is_file()}
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        f"sys.argv = ['mfbayes', *{command!r}]\n"
        "from mfbayes.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "disk is full or a size limit" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "fresh" / "fit.nc").exists()
    assert {file.name: file.read_bytes() for file in (folder / "run").rglob("*.*") if file.is_file()} == before


def test_a_fast_fit_that_is_not_weighed_says_so(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_trials(7).to_csv(tmp_path / "trials.csv", index=False)
    options = ("fit", "--trials", tmp_path / "trials.csv", "--method", "fast", "--no-checks")
    words = "The draws of this fast fit were not weighed by the likelihood"
    assert words not in run(*options, "--out", tmp_path / "weighed").out
    monkeypatch.setattr(fast, "count_affordable", lambda *_: 0)
    assert f"Note: {words}" in run(*options, "--out", tmp_path / "plain").out
    assert words not in (tmp_path / "weighed" / "report.html").read_text(encoding="utf-8")
    assert words in (tmp_path / "plain" / "report.html").read_text(encoding="utf-8")


def test_a_check_that_fails_is_named_and_tried_again(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit is written first, with everything else."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("all points failed")

    simulate_trials(7).to_csv(tmp_path / "trials.csv", index=False)
    command = ("fit", "--trials", tmp_path / "trials.csv", "--out", tmp_path / "run", "--method", "fast")
    with monkeypatch.context() as broken:
        broken.setattr("mfbayes.finishing.judge_monotonicity", fail)
        outcome = run(*command)
    assert outcome.code == 1
    assert "Whether P(text) falls all along could not be told (RuntimeError: all points failed)" in outcome.err
    for name in ("fit.nc", "balance_points.csv", "report.html", "run.json", "estimates/halves.csv"):
        assert (tmp_path / "run" / name).exists()
    assert "all points failed" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "run" / "estimates" / "monotone.csv").exists()
    outcome = run(*command)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "estimates" / "monotone.csv").exists()
    assert "used again" in run(*command).err


def test_a_fast_fit_that_fails_says_why(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_trials(7).to_csv(tmp_path / "trials.csv", index=False)
    monkeypatch.setattr(fast, "_MIN_NODES", 1000)
    found = run("fit", "--trials", tmp_path / "trials.csv", "--method", "fast", "--out", tmp_path / "run")
    assert found.code == 3
    assert "too coarse" in found.err
    assert "--method nuts --overwrite" in found.err
    assert "sampler" not in found.err


def test_letters_asked_in_both_orders_are_reported(tmp_path: Path, run: Run) -> None:
    trials = simulate_trials(7)
    trials["position_bias_both"] = np.where(trials["model"] == "reader", 0.75, 0.25)
    trials = trials.assign(position_bias_text_only=-0.5, position_bias_image_only=0.0, orders_agree=True)
    trials.to_csv(tmp_path / "trials.csv", index=False)
    options = ("--method", "fast", "--no-checks", "--index", "entropy")
    assert run("fit", "--trials", tmp_path / "trials.csv", "--out", tmp_path / "run", *options).code == 0
    table = pd.read_csv(tmp_path / "run" / "estimates" / "letters.csv").set_index(["model", "modality"])
    assert table["position_bias"].loc[[("reader", "both"), ("viewer", "both"), ("viewer", "text")]].tolist() == [
        0.75,
        0.25,
        -0.5,
    ]
    assert (table["orders_agree"] == 1).all()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Letters in both orders" in page
    assert "0.75 [0.75, 0.75]" in page


def test_the_terminal_shows_no_nonsense_of_a_failed_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = ("mean", "median", "sd", "lower", "upper", "intercept_mean", "slope_mean", "slope_lower", "slope_upper")
    columns = {name: ("subject", np.array([1e233, 0.5])) for name in measured}
    columns |= {name: ("subject", np.array([3, 4])) for name in ("n_trials", "n_text", "n_image", "n_other")}
    columns |= {"status": ("subject", np.array(["not-converged"] * 2)), "law": ("subject", np.array(["falls"] * 2))}
    parts = {name: ("subject", ["a", "b"]) for name in ("model", "task", "condition", "family")}
    points = xr.Dataset(columns | {"tfr": ("subject", np.array([np.nan, 0.25]))}, parts, {"ci_prob": 0.95})
    convergence = xr.Dataset(attrs={"method": "fast", "passed": 0, "weighed": 0})
    tree = xr.DataTree.from_dict({"/estimates/balance_points": points, "/estimates/convergence": convergence})
    tree.attrs |= {"status": "not-converged", "index": "nll"}
    _print_summary(tree, tmp_path)
    printed = capsys.readouterr().out
    assert printed.startswith("Balance points (dH by negative log-likelihood at which")
    assert "a  – [–, –]  TFR –  3 trials  not-converged" in printed
    assert "b  +0.50 [+0.50, +0.50]  TFR 0.25  4 trials  not-converged" in printed
