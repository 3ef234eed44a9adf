"""Position bias and agreement of both orders, against means by hand and a known bias."""

import numpy as np
import pandas as pd
import pytest

from mfbayes.estimates.letters import INPUTS, ORDERS_AGREE, describe_letters, word_letters


def make_trials(bias: float, *, n_groups: int = 40, model: str = "m", seed: int = 0) -> pd.DataFrame:
    """Three items a group with this bias given both, half and none of it alone; orders agree on two of the three."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), 3)
    columns = {
        name: share * bias + rng.normal(0, 0.4, n_groups)[group] + rng.normal(0, 0.3, group.size)
        for name, share in zip(INPUTS.values(), (1.0, 0.5, 0.0), strict=True)
    }
    frame = pd.DataFrame({"model": model, "group": group.astype(str), "kind": "conflict", **columns})
    return frame.assign(**{ORDERS_AGREE: np.arange(group.size) % 3 > 0})


def test_means_are_those_of_conflict_items_by_model() -> None:
    trials = pd.concat([make_trials(1.0), make_trials(-1.0, model="l", seed=1)], ignore_index=True)
    controls = trials.assign(kind="control", **dict.fromkeys(INPUTS.values(), 50.0))
    without = trials.assign(model="words", **dict.fromkeys([*INPUTS.values(), ORDERS_AGREE], None))
    found = describe_letters(pd.concat([trials, controls, without.astype(object)], ignore_index=True))
    assert found is not None
    assert found["model"].to_numpy().tolist() == ["l", "m"]
    by_hand = trials.groupby("model")[list(INPUTS.values())].mean().to_numpy()
    np.testing.assert_allclose(found["position_bias"], by_hand)
    np.testing.assert_allclose(found["orders_agree"], 2 / 3)
    assert found["n_items"].to_numpy().tolist() == [120, 120]
    assert (found["position_bias_lower"] < found["position_bias"]).all()
    assert (found["position_bias"] < found["position_bias_upper"]).all()


def test_intervals_respect_groups() -> None:
    """Items of a group share most of their bias: an interval for independent items would be half as wide."""
    covered, widths = 0, []
    for seed in range(40):
        found = describe_letters(make_trials(1.0, seed=seed), seed=seed)
        assert found is not None
        own = found.sel(model="m", modality="both")
        lower, upper = float(own["position_bias_lower"]), float(own["position_bias_upper"])
        covered += lower <= 1.0 <= upper
        widths.append(upper - lower)
    # Of 40 intervals of 95 %, fewer than 34 cover about once in 300.
    assert covered >= 34
    assert np.mean(widths) == pytest.approx(2 * 2.02 * np.sqrt((0.4**2 + 0.3**2 / 3) / 40), rel=0.1)


def test_other_trials_have_none_and_text_is_read() -> None:
    trials = make_trials(1.0)
    assert describe_letters(trials.drop(columns=ORDERS_AGREE)) is None
    assert describe_letters(trials.assign(kind="control")) is None
    found, written = describe_letters(trials), describe_letters(trials.astype(str))
    assert found is not None
    assert written is not None
    np.testing.assert_allclose(found["orders_agree"], written["orders_agree"])
    np.testing.assert_allclose(found["position_bias"], written["position_bias"])


def test_the_line_for_the_terminal_has_no_interval_of_few_groups() -> None:
    many, few = (describe_letters(make_trials(1.0, n_groups=n)) for n in (40, 3))
    assert many is not None
    assert few is not None
    line = word_letters(many)[0]
    bias = [float(many[f"position_bias{end}"].sel(model="m", modality="both")) for end in ("", "_lower", "_upper")]
    assert line.startswith("m: both orders agree on 67% [")
    assert f"of 120 items; lead of the first option, nats: {bias[0]:+.2f} [{bias[1]:+.2f}, {bias[2]:+.2f}]" in line
    assert "[" not in word_letters(few)[0].split("nats: ")[1]
