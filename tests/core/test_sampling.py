"""The gate: what has converged passes, what has not is told, whatever the reason."""

import numpy as np
import pymc as pm
import pytest
import xarray as xr

from mfbayes.convergence import judge
from mfbayes.sampling import Effort, sample


def draws(values: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"x": (("chain", "draw"), values)})


def diverging(values: np.ndarray, share: float) -> xr.DataArray:
    flags = np.arange(values.size).reshape(values.shape) < share * values.size
    return xr.DataArray(flags, dims=("chain", "draw"))


def test_the_gate_passes_good_draws_only() -> None:
    noise = np.random.default_rng(1).standard_normal((4, 500))
    good = judge(draws(noise), diverging=diverging(noise, 0.005), gate=["x"])
    assert good.attrs["passed"] == 1
    assert good["parameter"].to_numpy().tolist() == ["x"]
    assert judge(draws(noise), diverging=diverging(noise, 0.006), gate=["x"]).attrs["passed"] == 0
    apart = noise + 0.5 * np.arange(4)[:, None]
    assert judge(draws(apart), diverging=diverging(noise, 0), gate=["x"]).attrs["passed"] == 0
    few = noise[:, :60]
    assert judge(draws(few), diverging=diverging(few, 0), gate=["x"]).attrs["passed"] == 0
    sticky = np.cumsum(noise, axis=1)
    assert judge(draws(sticky), diverging=diverging(noise, 0), gate=["x"]).attrs["passed"] == 0
    assert judge(draws(np.zeros((4, 500))), diverging=diverging(noise, 0), gate=["x"]).attrs["passed"] == 0


def test_every_element_is_judged_by_name() -> None:
    values = np.random.default_rng(2).standard_normal((4, 500, 2))
    values[0, :, 1] += 5
    posterior = xr.Dataset({"b": (("chain", "draw", "subject"), values)}, coords={"subject": ["m", "n"]})
    table = judge(posterior, diverging=xr.zeros_like(posterior["b"][..., 0], dtype=bool), gate=["b"])
    assert table["parameter"].to_numpy().tolist() == ["b[m]", "b[n]"]
    assert table["r_hat"][0] < 1.01 < table["r_hat"][1]
    assert table.attrs["passed"] == 0


@pytest.fixture(scope="module")
def two_modes() -> pm.Model:
    with pm.Model() as model:
        x = pm.Normal("x", 0, 10)
        pm.Potential("modes", pm.math.logaddexp(-2000 * (x - 1) ** 2, -2000 * (x + 1) ** 2))
    return model


def test_modes_that_no_chain_leaves_use_up_the_attempts(two_modes: pm.Model) -> None:
    attempts = [Effort(tune=200, draws=200, target_accept=0.8), Effort(tune=250, draws=250, target_accept=0.9)]
    found = sample(two_modes, keep=["x"], gate=["x"], seed=3, attempts=attempts)
    assert not found.passed
    assert found.convergence.attrs["attempts"] == 2
    assert found.convergence.attrs["draws"] == 250


def test_a_seed_gives_the_same_draws_again() -> None:
    with pm.Model(coords={"k": ["p", "q"]}) as model:
        pm.Normal("x", [1.0, -2.0], 0.5, dims="k")
    once, again, other = (
        sample(model, keep=["x"], gate=["x"], seed=seed, attempts=[Effort(tune=200, draws=300, target_accept=0.8)])
        for seed in (4, 4, 5)
    )
    assert once.passed
    xr.testing.assert_identical(once.posterior["x"], again.posterior["x"])
    assert not np.array_equal(once.posterior["x"], other.posterior["x"])
    np.testing.assert_allclose(once.posterior["x"].mean(("chain", "draw")), [1.0, -2.0], atol=0.15)
