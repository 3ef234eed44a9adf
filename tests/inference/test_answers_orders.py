"""Multiple choice in both orders: what only likes a letter is unsure, and what does not is left as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mfbayes.datasets import Dataset, read_pixels
from mfbayes.errors import InputError
from mfbayes.inference.asking import Asker
from mfbayes.inference.loading import load_model
from mfbayes.inference.orders import ask_both_orders, average_orders, write_averaged_traces
from mfbayes.inference.prompts import INPUTS, plan_prompts
from mfbayes.inference.sources import find_model
from mfbayes.inference.tables import build_trials
from mfbayes.traces import read_traces
from mfbayes.trials import check_trials

REST = 0.01
MANIFEST = pd.DataFrame({"item": ["i"], "text_answer": ["red"], "image_answer": ["blue"]})


def answer(lead_of_text: float, bias: float, *, text_first: bool) -> dict[str, Any]:
    """A row as it is collected: letters weighed by meaning and by place, alike for every input."""
    lead = lead_of_text + (bias if text_first else -bias)
    p = (1 - REST) / (1 + np.exp([-lead, lead]))
    shares = np.array([*p, REST])
    h = -(shares * np.log(shares)).sum()
    letters = {"text": "A" if text_first else "B", "image": "B" if text_first else "A"}
    chosen = "text" if lead > 0 else "image"
    row: dict[str, Any] = {"item": f"i~{'text' if text_first else 'image'}-first", "model": "m", "group": "g"}
    row |= {"choice": chosen, "H_text": h, "H_image": h, "nll_text": -np.log(p[0]), "nll_image": -np.log(p[1])}
    for side in ("text", "image"):
        row |= {f"{side}_answer": letters[side], f"{side}_correct": chosen == side}
        row |= {f"margin_uncertainty_{side}": 0.0, f"least_confidence_{side}": 0.0}
        for given in INPUTS:
            row[f"p_{side}_{given}"] = p[0 if side == "text" else 1]
            row[f"logit_{side}_{given}"] = lead / 2 if side == "text" else -lead / 2
    row |= {f"answer_{given}": letters[chosen].lower() for given in ("text", "image", "both")}
    return row


def average(lead: float, bias: float) -> pd.Series:
    trials = pd.DataFrame([answer(lead, bias, text_first=True), answer(lead, bias, text_first=False)])
    return average_orders(trials, MANIFEST).iloc[0]


def test_without_a_bias_nothing_changes() -> None:
    row, plain = average(1.5, 0.0), answer(1.5, 0.0, text_first=True)
    for column in ("H_text", "nll_text", "nll_image", "p_text_both", "logit_text_both"):
        assert row[column] == pytest.approx(plain[column], abs=1e-12)
    assert row["position_bias_both"] == 0
    assert row[["choice", "answer_both", "text_answer", "image_answer"]].tolist() == ["text", "red", "red", "blue"]
    assert row["orders_agree"]
    assert row["margin_uncertainty_text"] == pytest.approx(1 - plain["p_text_both"] + plain["p_image_both"])
    assert row["least_confidence_text"] == pytest.approx(1 - plain["p_text_both"])


def test_a_model_that_only_likes_the_first_letter_is_unsure() -> None:
    """Each order alone looks certain; together they know nothing but the letter."""
    row, plain = average(0.0, 8.0), answer(0.0, 8.0, text_first=True)
    assert plain["H_text"] < 0.1
    assert row["H_text"] == pytest.approx(np.log(2) * (1 - REST), abs=0.06)
    assert row["position_bias_both"] == pytest.approx(8.0)
    assert not row["orders_agree"]
    assert row["nll_text"] == pytest.approx(row["nll_image"]) == pytest.approx(-np.log((1 - REST) / 2), abs=1e-3)


@pytest.mark.parametrize("lead", [-2.0, -0.3, 0.3, 2.0])
@pytest.mark.parametrize("bias", [-1.0, 1.0])
def test_the_meaning_decides_where_a_letter_is_liked(lead: float, bias: float) -> None:
    row = average(lead, bias)
    assert row["choice"] == ("text" if lead > 0 else "image")
    assert row["answer_both"] == ("red" if lead > 0 else "blue")
    assert row["position_bias_both"] == pytest.approx(bias)
    assert row["orders_agree"] == (abs(lead) > abs(bias))
    assert row["text_correct"] == (lead > 0)


def test_one_order_alone_is_refused() -> None:
    with pytest.raises(InputError, match="'i' was asked in one order only"):
        average_orders(pd.DataFrame([answer(1.0, 0.0, text_first=True)]), MANIFEST)
    with pytest.raises(InputError, match="both orders already"):
        ask_both_orders(pd.DataFrame({"item": ["a~text-first"]}))


def test_controls_speak_with_the_options_of_their_own_order(dataset: Dataset) -> None:
    plan = plan_prompts(ask_both_orders(dataset.manifest))
    assert len(plan.items) == 2 * len(dataset.manifest)
    assert plan.answers == ("A", "B")
    for row in plan.items.to_dict("records"):
        first = row["text_answer"] == "A"
        assert row["item"].endswith("~text-first" if first else "~image-first")
        for given in INPUTS:
            assert row["question"] in plan.prompts[row[given]].text


def test_a_real_model_is_asked_and_averaged(model_folders: dict[str, Path], dataset: Dataset, tmp_path: Path) -> None:
    """Averages by hand, and text and image changed over: a choice of letters must not know which side is which."""
    manifest = dataset.manifest[dataset.manifest["image"] == dataset.manifest["image"].iloc[0]]
    loaded = load_model(find_model(str(model_folders["llava"])), device="cpu")

    def ask(items: pd.DataFrame, traces: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
        plan = plan_prompts(ask_both_orders(items))
        asker = Asker(loaded, plan.answers, name="tiny", batch_size=8)
        texts = [prompt for prompt in plan.prompts.values() if not prompt.pixels]
        found = asker.ask_texts(texts)
        for pixels, file in plan.images.items():
            about = [prompt for prompt in plan.prompts.values() if prompt.pixels == pixels]
            found += asker.ask_images([(Image.fromarray(read_pixels(dataset.image_path(file))), about)])
        responses = {response.key: response for response in found}
        trials = build_trials(plan, responses, model="tiny", logit_noise=1e-6)
        write_averaged_traces(traces, plan, responses)
        return trials, average_orders(trials, items)

    trials, averaged = ask(manifest, tmp_path / "traces.nc")
    checked = check_trials(averaged)
    assert checked["item"].tolist() == manifest["item"].tolist()
    pair = trials[trials["item"].str.startswith(f"{checked['item'].iloc[0]}~")]
    assert checked["p_text_both"].iloc[0] == pytest.approx(pair["p_text_both"].mean())
    assert (checked[["H_text", "H_image"]] > 0).all(axis=None)
    assert (checked["position_bias_both"].abs() > 0).all()
    swapped = manifest.rename(columns={"text_answer": "image_answer", "image_answer": "text_answer"})
    _, other = ask(swapped, tmp_path / "swapped.nc")
    np.testing.assert_allclose(other["p_text_both"], averaged["p_image_both"], rtol=1e-4)
    np.testing.assert_allclose(other["position_bias_both"], averaged["position_bias_both"], atol=1e-4)
    np.testing.assert_allclose(other["nll_text"], _nll_of_other_side(trials), rtol=1e-4)
    layers, changed = (read_traces(tmp_path / name) for name in ("traces.nc", "swapped.nc"))
    np.testing.assert_allclose(changed["logit_difference"], -layers["logit_difference"], atol=1e-4)
    last = layers["logit_difference"].to_numpy()[:, -1]
    np.testing.assert_allclose(last, averaged["logit_text_both"] - averaged["logit_image_both"], atol=1e-4)


def _nll_of_other_side(trials: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the text alone says of the image's option, from its probabilities."""
    by_item = trials.groupby(trials["item"].str.replace(r"~.*", "", regex=True), sort=False)
    return -np.log(by_item["p_image_text_only"].mean().to_numpy())
