"""Trials simulated from the following model, so that the truth is known."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest

type Simulate = Callable[..., pd.DataFrame]


def simulate_trials(
    *,
    seed: int,
    balance_points: Mapping[str, float],
    slope: float = 2.5,
    n_groups: int = 24,
    n_images: int = 7,
    n_texts: int = 3,
    group_sd: float = 0.6,
    cell_sd: float = 0.6,
    other_share: float = 0.02,
) -> pd.DataFrame:
    """Conflict trials of a design of groups x image tiers x text tiers, with a wide dH."""
    rng = np.random.default_rng(seed)
    group_level = group_sd * rng.standard_normal(n_groups)
    axes = np.meshgrid(np.arange(n_groups), np.arange(n_images), np.arange(n_texts), indexing="ij")
    group, d_image, d_text = (axis.ravel() for axis in axes)
    tables = []
    for model, balance_point in balance_points.items():
        cell_level = group_level + cell_sd * rng.standard_normal(n_groups)
        image_noise = 0.4 * rng.standard_normal((n_groups, n_images))
        text_noise = 0.4 * rng.standard_normal((n_groups, n_texts))
        H_image = np.exp(-1.6 + 2.4 * d_image / max(n_images - 1, 1) + image_noise[group, d_image])
        H_text = np.exp(-1.6 + 0.9 * d_text + text_noise[group, d_text])
        dH = 2 * (H_text - H_image) / (H_text + H_image)
        p = 1 / (1 + np.exp(-(slope * (balance_point - dH) + cell_level[group])))
        choice = np.where(rng.random(p.size) < p, "text", "image")
        choice[rng.random(p.size) < other_share] = "other"
        tables.append(
            pd.DataFrame(
                {
                    "model": model,
                    "group": [f"g{g:04d}" for g in group],
                    "item": [f"g{g:04d}-v{v:02d}-t{t}" for g, v, t in zip(group, d_image, d_text, strict=True)],
                    "d_image": d_image,
                    "d_text": d_text,
                    "H_text": H_text,
                    "H_image": H_image,
                    "choice": choice,
                    "text_correct": rng.random(p.size) < 0.95,
                    "image_correct": rng.random(p.size) < 0.9,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="session")
def simulate() -> Simulate:
    return simulate_trials
