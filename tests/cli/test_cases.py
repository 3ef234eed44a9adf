"""The case study: which image is chosen, what is stored of it, and when there is none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mfbayes.cli.cases import LARGEST_IMAGE, add_case_study

PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)
HARDEST = 3
"""Images of the dataset below, each with three texts."""


@pytest.fixture
def trials() -> pd.DataFrame:
    """Entropies of the texts differ most for image 2, whose answers are all the same; next for image 1."""
    rows = []
    for image, (high, choices) in enumerate(
        [(0.5, ("text", "text", "image")), (1.5, ("text", "image", "image")), (3.0, ("text", "text", "text"))]
    ):
        for tier, entropy in enumerate((0.1, 0.3, high)):
            rows.append(
                {
                    "model": "m", "task": "color", "group": "g", "item": f"v{image}-t{tier}", "kind": "conflict",
                    "d_text": tier, "d_image": image, "H_text": entropy, "H_image": 0.4, "choice": choices[tier],
                    "text_correct": True, "image_correct": True,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def traces(trials: pd.DataFrame) -> dict[str, xr.Dataset]:
    items = trials["item"].to_numpy(object)
    course = np.arange(4 * items.size, dtype=float).reshape(items.size, 4)
    dims = ("item", "layer")
    variables = {"state": (dims, (course % 2).astype(np.int8)), "logit_difference": (dims, course)}
    return {"m": xr.Dataset(variables, {"item": items, "layer": np.arange(1, 5)})}


@pytest.fixture
def dataset(trials: pd.DataFrame, tmp_path: Path) -> Path:
    manifest = trials[["item"]].assign(
        image=[f"images/v{i}.png" for i in trials["d_image"]],
        description=[f"Text {item}." for item in trials["item"]],
        question="What color is it?",
        text_answer="blue",
        image_answer="red",
    )
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for image in range(HARDEST):
        (folder / "images" / f"v{image}.png").write_bytes(PNG)
    manifest.to_parquet(folder / "manifest.parquet")
    return folder


@pytest.fixture
def tree() -> xr.DataTree:
    made = xr.DataTree.from_dict({"/estimates/balance_points": xr.Dataset()})
    made.attrs.update(subset="both-correct", index="entropy")
    return made


def test_the_widest_case_with_both_answers_is_taken(
    tree: xr.DataTree, trials: pd.DataFrame, traces: dict[str, xr.Dataset], dataset: Path
) -> None:
    add_case_study(tree, trials, traces, dataset)
    study = tree["estimates/case_study"].to_dataset()
    assert study["item"].to_numpy().tolist() == ["v1-t0", "v1-t1", "v1-t2"]
    assert study["choice"].to_numpy().tolist() == ["text", "image", "image"]
    assert study["text"].to_numpy().tolist()[2] == "Text v1-t2."
    assert study["dH"].to_numpy() == pytest.approx([2 * (h - 0.4) / (h + 0.4) for h in (0.1, 0.3, 1.5)])
    assert study["logit_difference"].to_numpy().tolist() == traces["m"]["logit_difference"].to_numpy()[3:6].tolist()
    assert study.attrs["subject"] == "m"
    assert tree["estimates/case_image"].to_dataset()["content"].to_numpy().tobytes() == PNG


def test_the_case_survives_a_file(
    tree: xr.DataTree, trials: pd.DataFrame, traces: dict[str, xr.Dataset], dataset: Path, tmp_path: Path
) -> None:
    add_case_study(tree, trials, traces, dataset)
    tree.to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "fit.nc", engine="h5netcdf") as read:
        for node in ("case_study", "case_image"):
            xr.testing.assert_equal(read[f"estimates/{node}"].to_dataset(), tree[f"estimates/{node}"].to_dataset())


def test_trials_that_the_fit_leaves_out_make_no_case(
    tree: xr.DataTree, trials: pd.DataFrame, traces: dict[str, xr.Dataset], dataset: Path
) -> None:
    trials.loc[trials["item"] == "v1-t2", "text_correct"] = False
    add_case_study(tree, trials, traces, dataset)
    assert tree["estimates/case_study"].to_dataset()["item"].to_numpy().tolist() == ["v0-t0", "v0-t1", "v0-t2"]


def test_traces_that_cannot_be_used_make_no_case(
    tree: xr.DataTree, trials: pd.DataFrame, traces: dict[str, xr.Dataset], dataset: Path
) -> None:
    """A logit that is not a number, and a model of one layer."""
    add_case_study(tree, trials, {"m": traces["m"].isel(layer=[0])}, dataset)
    assert "case_study" not in tree["estimates"].children
    broken = traces["m"].copy(deep=True)
    broken["logit_difference"].loc[{"item": "v1-t2", "layer": 3}] = np.nan
    add_case_study(tree, trials, {"m": broken}, dataset)
    assert tree["estimates/case_study"].to_dataset()["item"].to_numpy().tolist() == ["v0-t0", "v0-t1", "v0-t2"]


def test_without_a_case_nothing_is_added(
    tree: xr.DataTree, trials: pd.DataFrame, traces: dict[str, xr.Dataset], dataset: Path, tmp_path: Path
) -> None:
    add_case_study(tree, trials, traces, tmp_path / "nowhere")
    add_case_study(tree, trials, {}, dataset)
    add_case_study(tree, trials.drop(columns="d_text"), traces, dataset)
    add_case_study(tree, trials.assign(choice="text"), traces, dataset)
    add_case_study(tree, trials[trials["d_text"] > 0], traces, dataset)
    assert list(tree["estimates"].children) == ["balance_points"]


@pytest.mark.parametrize("fate", ["missing", "outside", "large"])
def test_an_image_that_cannot_be_shown_is_left_out(
    tree: xr.DataTree, trials: pd.DataFrame, traces: dict[str, xr.Dataset], dataset: Path, fate: str
) -> None:
    image = dataset / "images" / "v1.png"
    image.unlink()
    if fate == "outside":
        (dataset.parent / "secret.png").write_bytes(PNG)
        image.symlink_to(dataset.parent / "secret.png")
    elif fate == "large":
        image.write_bytes(PNG + bytes(LARGEST_IMAGE))
    add_case_study(tree, trials, traces, dataset)
    assert list(tree["estimates"].children) == ["balance_points", "case_study"]
