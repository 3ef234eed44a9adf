"""A collection of letters in both orders is one of items, as any other."""

from pathlib import Path

import pandas as pd

from mfbayes.datasets import Dataset
from mfbayes.inference.collection import collect
from mfbayes.traces import read_traces
from mfbayes.trials import read_trials


def test_letters_are_collected(model_folders: dict[str, Path], dataset: Dataset, tmp_path: Path) -> None:
    folder = collect(dataset, str(model_folders["llava"]), out=tmp_path, limit=5, letters=True, progress=False)
    trials = read_trials(folder / "trials.parquet")
    assert trials["item"].tolist() == dataset.manifest["item"].head(5).tolist()
    assert {"position_bias_both", "orders_agree"} <= set(trials)
    assert read_traces(folder / "traces.nc")["item"].to_numpy().tolist() == trials["item"].tolist()
    assert (trials["text_answer"].to_numpy() == dataset.manifest["text_answer"].head(5).to_numpy()).all()
    again = collect(dataset, str(model_folders["llava"]), out=tmp_path, limit=5, letters=True, progress=False)
    pd.testing.assert_frame_equal(read_trials(again / "trials.parquet"), trials)
