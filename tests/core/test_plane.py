"""The plane of both entropies: the balance curve of a law in dH is the ray that algebra says."""

import numpy as np
import pandas as pd
import pytest

from mfbayes.errors import InputError
from mfbayes.laws.bases import span_plane
from mfbayes.laws.plane import cross_zero, map_plane
from mfbayes.uncertainty import relative_uncertainty


def simulate_plane(*, seed: int, balance_points: tuple[float, ...], n_groups: int = 60, n: int = 25) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), n)
    shared = 0.5 * rng.standard_normal(n_groups)
    tables = []
    for model, balance_point in enumerate(balance_points):
        H_text, H_image = rng.uniform(0.05, 1.5, (2, group.size))
        dH = relative_uncertainty(H_text, H_image)
        log_odds = 2.5 * (balance_point - dH) + shared[group]
        choice = np.where(rng.random(group.size) < 1 / (1 + np.exp(-log_odds)), "text", "image")
        tables.append(
            pd.DataFrame(
                {"H_text": H_text, "H_image": H_image, "dH": dH, "choice": choice, "group": group.astype(str)}
            ).assign(model=f"m{model}", subject=f"m{model}", task="task")
        )
    return pd.concat(tables, ignore_index=True)


def test_the_balance_curve_of_a_law_in_dH_is_a_ray() -> None:
    balance_points = (-0.4, 0.0, 0.5)
    mapped = map_plane(simulate_plane(seed=1, balance_points=balance_points), seed=1)
    covered: list[bool] = []
    errors: list[float] = []
    for subject, b in enumerate(balance_points):
        own = mapped.isel(subject=subject)
        ray = own["H_text_point"].to_numpy() * (2 - b) / (2 + b)
        shown = np.isfinite(own["curve_H_image"].to_numpy()) & (ray < 1.2)
        assert shown.sum() >= 8
        covered.extend(((own["curve_lower"] <= ray) & (ray <= own["curve_upper"])).to_numpy()[shown])
        errors.extend(np.abs(own["curve_H_image"].to_numpy() / ray - 1)[shown])
    # Points of a curve go together, about four independent ones a subject.
    assert np.mean(covered) > 0.7
    assert np.median(errors) < 0.15


def test_shares_rise_towards_a_surer_text_and_are_unknown_without_trials() -> None:
    trials = simulate_plane(seed=2, balance_points=(0.0,))
    corner = (trials["H_text"] > 0.8) & (trials["H_image"] > 0.8)
    mapped = map_plane(trials[~corner].reset_index(drop=True), seed=1)
    p_text = mapped["p_text"].isel(subject=0)
    assert np.isnan(p_text.sel(H_text_point=slice(1.2, None), H_image_point=slice(1.2, None)).to_numpy()).all()
    surer_text = float(p_text.sel(H_text_point=0.2, H_image_point=1.2, method="nearest"))
    surer_image = float(p_text.sel(H_text_point=1.2, H_image_point=0.2, method="nearest"))
    # logit P at dH = -/+ 1.43 is +/- 3.6; the effects of groups pull a little inwards.
    assert surer_text > 0.9
    assert surer_image < 0.1
    known = mapped["curve_H_image"].isel(subject=0)
    assert np.isnan(known.sel(H_text_point=slice(1.2, None)).to_numpy()).all()


def test_crossings_are_interpolated_and_the_middle_of_several_is_taken() -> None:
    places = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    heights = np.array(
        [
            [-3.0, -1.0, 1.0, 3.0, 4.0, 5.0],
            [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0],
            [np.nan, np.nan, -1.0, 3.0, np.nan, np.nan],
            [3.0, 2.0, 1.0, 0.5, -1.0, -2.0],
            [np.nan] * 6,
        ]
    )
    np.testing.assert_allclose(cross_zero(heights, places), [1.5, 2.5, 2.25, np.nan, np.nan])


def test_the_surface_is_the_law_in_dH_where_it_does_not_bend() -> None:
    rng = np.random.default_rng(3)
    H_text, H_image = rng.uniform(0.1, 2, (2, 300))
    plane = span_plane(H_text, H_image)
    dH = relative_uncertainty(H_text, H_image)
    columns = plane.features(H_text, H_image)
    assert columns.shape == (plane.n_features, 300)
    np.testing.assert_allclose(columns[0], (dH - dH.mean()) / dH.std(), atol=1e-12)
    # At its points the bending part has the covariance of the process: K K^-1 K.
    apart = np.exp(plane.points[:, 1] * plane.scale + plane.centre)
    ray = plane.points[:, 0] * plane.ray_scale + plane.ray_centre
    at_points = plane.features(apart * (2 + ray) / 4, apart * (2 - ray) / 4)[2:]
    squared = ((plane.points[:, None] - plane.points[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(at_points.T @ at_points, np.exp(-0.5 * squared / 0.8**2), atol=1e-4)


def test_an_interval_must_have_a_probability() -> None:
    with pytest.raises(InputError, match="ci_prob"):
        map_plane(simulate_plane(seed=1, balance_points=(0.0,), n_groups=4), seed=1, ci_prob=1.0)
