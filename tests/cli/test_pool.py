"""`mfbayes pool`: files, what is done again, and refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mfbayes.pooled import parts, streaming

type Run = Callable[..., Any]


def write(path: Path, *, seed: int = 0, n: int = 600) -> Path:
    rng = np.random.default_rng(seed)
    H_text, H_image = rng.uniform(0.1, 2, (2, n))
    dH = 2 * (H_text - H_image) / (H_text + H_image)
    frame = pd.DataFrame(
        {
            "model": rng.choice(["m0", "m1"], n),
            "group": rng.integers(0, 30, n),
            "H_text": H_text,
            "H_image": H_image,
            "choice": np.where(rng.random(n) < 1 / (1 + np.exp(2 * dH)), "text", "image"),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)
    return path


def test_a_table_and_a_dataset_are_written(run: Run, tmp_path: Path) -> None:
    outcome = run("pool", "--trials", write(tmp_path / "trials.parquet"), "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "slopes are marginal" in outcome.out
    assert "All trials are used" in outcome.err
    table = pd.read_csv(tmp_path / "out" / "pooled.csv")
    assert table["subject"].tolist() == ["m0", "m1"]
    assert table["status"].tolist() == ["ok", "ok"]
    assert table["n_trials"].sum() == 600
    assert table["index"].tolist() == ["entropy"] * 2
    pairs = pd.read_csv(tmp_path / "out" / "pooled_pairwise.csv")
    assert pairs[["subject", "other_subject"]].to_numpy().tolist() == [["m0", "m1"], ["m1", "m0"]]
    assert pairs["difference"][0] == pytest.approx(table["balance_point"][0] - table["balance_point"][1])
    with xr.open_dataset(tmp_path / "out" / "pooled.nc", engine="h5netcdf") as found:
        assert found.attrs["index"] == "entropy"
        assert found["covariance"].shape == (2, 2)
        np.testing.assert_allclose(found["balance_point"], table["balance_point"])


def test_finished_parts_are_used_again(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, out = write(tmp_path / "data" / "a.parquet"), tmp_path / "out"
    assert run("pool", "--trials", first, "--out", out).code == 0
    read: list[str] = []

    def spy(source: Any, **options: Any) -> Any:
        read.append(source.path.name)
        return streaming.stream(source, **options)

    monkeypatch.setattr(parts, "stream", spy)
    assert run("pool", "--trials", first, "--out", out).code == 0
    assert read == []
    write(tmp_path / "data" / "b.parquet", seed=1)
    assert run("pool", "--trials", tmp_path / "data", "--out", out, "--overwrite").code == 0
    # The new file is compressed, and both are scored at the new optimum.
    assert sorted(read) == ["a.parquet", "b.parquet", "b.parquet"]
    for part in (out / "parts").glob("*.nc"):
        part.write_bytes(b"cut")
    before = (out / "pooled.csv").read_bytes()
    assert run("pool", "--trials", tmp_path / "data", "--out", out).code == 0
    assert (out / "pooled.csv").read_bytes() == before


def test_other_trials_do_not_replace_results_unasked(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("pool", "--trials", write(tmp_path / "a.parquet"), "--out", out).code == 0
    before = (out / "pooled.nc").read_bytes()
    outcome = run("pool", "--trials", write(tmp_path / "b.parquet", seed=1), "--out", out)
    assert outcome.code == 2
    assert "--overwrite" in outcome.err
    assert (out / "pooled.nc").read_bytes() == before
    assert run("pool", "--trials", tmp_path / "b.parquet", "--out", out, "--overwrite").code == 0
    assert (out / "pooled.nc").read_bytes() != before


def test_trials_without_entropies_are_pooled_by_the_index_that_they_have(run: Run, tmp_path: Path) -> None:
    """Whoever goes on with another index is refused."""
    frame = pd.read_parquet(write(tmp_path / "t.parquet"))
    options = ("pool", "--trials", tmp_path / "nll.parquet", "--out", tmp_path / "out")
    frame.rename(columns={"H_text": "nll_text", "H_image": "nll_image"}).to_parquet(tmp_path / "nll.parquet")
    outcome = run(*options)
    assert outcome.code == 2
    assert "use the index 'nll'" in outcome.err
    outcome = run(*options, "--index", "nll")
    assert outcome.code == 0, outcome.err
    assert "(dH by negative log-likelihood at which" in outcome.out
    assert pd.read_csv(tmp_path / "out" / "pooled.csv")["index"].tolist() == ["nll"] * 2
    frame.assign(nll_text=frame["H_text"], nll_image=frame["H_image"]).to_parquet(tmp_path / "both.parquet")
    options = ("pool", "--trials", tmp_path / "both.parquet", "--out", tmp_path / "both")
    assert run(*options).code == 0
    outcome = run(*options, "--index", "nll")
    assert outcome.code == 2
    assert "--overwrite" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--index", "gini"], "max-probability"),
        (["--ci-prob", "95"], "0.95"),
        (["--subset", "both"], "both-correct"),
        (["--processes", "0"], "processes"),
    ],
)
def test_bad_options_are_refused(run: Run, tmp_path: Path, arguments: list[str], words: str) -> None:
    file = write(tmp_path / "t.parquet")
    outcome = run("pool", "--trials", file, "--out", tmp_path / "out", *arguments)
    assert outcome.code == 2
    assert words in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_csv_is_refused_with_the_way_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("model,group,H_text,H_image,choice\nm,g,1,2,text\n")
    outcome = run("pool", "--trials", tmp_path / "t.csv", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "parquet only" in outcome.err
