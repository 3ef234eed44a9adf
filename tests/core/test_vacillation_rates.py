"""How often checks of the claim err: size of the sign flips and coverage of the contrasts, on simulated traces."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from mfbayes.simulated_traces import Switching, simulate_traces
from mfbayes.simulation import Scenario, simulate_trials
from mfbayes.trajectories import Trajectories, join_traces
from mfbayes.vacillation.contrasts import contrast_regions
from mfbayes.vacillation.flips import flip_scores
from mfbayes.vacillation.measures import measure_traces
from mfbayes.vacillation.regions import redraw, tally_regions

POINTS = {"seer": -0.5, "middle": 0.0, "reader": 0.4}


def simulate_study(rng: np.random.Generator, *, n_groups: int, by_distance: float) -> Trajectories:
    scenario = Scenario(models=POINTS, n_groups=n_groups, image_tiers=10, both_correct=1.0)
    trials, _ = simulate_trials(scenario, rng=rng)
    switching = Switching(by_distance=by_distance, model_sd=0.0, group_sd=0.6)
    traces, _ = simulate_traces(trials, POINTS, rng=rng, n_layers=10, switching=switching)
    return join_traces(trials, traces, subset="all", index="entropy")[0]


def order_points(laid: Trajectories) -> NDArray[np.float64]:
    return np.array([POINTS[subject] for subject in laid.subjects])


def test_the_variance_of_flips_is_that_of_nulls() -> None:
    """Groups that lie unevenly over the regions, whose effects are large: the measured size must hold."""
    rng = np.random.default_rng(20)
    laid = simulate_study(rng, n_groups=12, by_distance=0.0)
    found = flip_scores(laid, measure_traces(laid), order_points(laid), rng=rng, n_nulls=2000)
    size = found["size"].to_numpy()
    assert (np.abs(size - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)).all(), size


def simulate_p_values(rng: np.random.Generator, n_studies: int, n_groups: int) -> Iterator[NDArray[np.float64]]:
    for _ in range(n_studies):
        laid = simulate_study(rng, n_groups=n_groups, by_distance=0.0)
        # Traces end in the choice, so that "image" and "text" sides are alike only in round trips and on average.
        found = flip_scores(laid, measure_traces(laid), order_points(laid), rng=rng, n_flips=199, n_nulls=2)
        yield found["p"].sel(contrast="balanced").to_numpy()


def test_sign_flips_reject_true_nulls_as_often_as_they_say() -> None:
    p = np.array(list(simulate_p_values(np.random.default_rng(21), n_studies=40, n_groups=14)))
    # 120 tests of subjects for each measure, of which 6 are expected, and 40 of all together.
    assert (p[:, :-1] <= 0.05).mean() < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 120)
    assert (p[:, -1] <= 0.05).mean() < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 40)
    assert (p[:, :-1] <= 0.5).mean() > 0.5 - 4 * np.sqrt(0.25 / 120), "not conservative either"


@pytest.mark.slow
def test_sign_flips_keep_their_size_over_many_studies() -> None:
    p = np.array(list(simulate_p_values(np.random.default_rng(22), n_studies=300, n_groups=24)))
    share = (p <= 0.05).mean(axis=0)
    assert (np.abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 300)).all(), share


def measure_coverage(rng: np.random.Generator, *, n_studies: int, n_groups: int) -> NDArray[np.float64]:
    """Whether 90 % intervals of the balanced contrast hold what very many groups show; by study, subject, measure."""

    def contrast(laid: Trajectories, points: NDArray[np.float64], n_draws: int) -> NDArray[np.float64]:
        redraws = redraw(points, n_groups=len(laid.groups), rng=rng, n_draws=n_draws)
        tally = tally_regions(laid, measure_traces(laid), redraws)
        found = contrast_regions(tally, laid.subjects, ci_prob=0.9).sel(contrast="balanced")
        return np.stack([found["mean"].to_numpy(), found["lower"].to_numpy(), found["upper"].to_numpy()])

    large = simulate_study(rng, n_groups=600, by_distance=1.0)
    truth = contrast(large, np.tile(order_points(large)[:, None], (1, 3)), 3)[0]
    hits = []
    for _ in range(n_studies):
        laid = simulate_study(rng, n_groups=n_groups, by_distance=1.0)
        estimated = order_points(laid)[:, None] + 0.08 * rng.standard_normal((3, 1))
        _, lower, upper = contrast(laid, estimated + 0.08 * rng.standard_normal((3, 200)), 200)
        hits.append((lower <= truth) & (truth <= upper))
    return np.array(hits, dtype=np.float64)


def check_coverage(hits: NDArray[np.float64]) -> None:
    """Each interval within four standard errors of its level, and all together, by the spread between studies."""
    covered, by_study = hits.mean(axis=0), hits.mean(axis=(1, 2))
    assert (covered > 0.9 - 4 * np.sqrt(0.9 * 0.1 / len(hits))).all(), covered
    # Intervals of one study are alike, by groups and by draws of b that its subjects share.
    assert abs(by_study.mean() - 0.9) < 3 * by_study.std(ddof=1) / np.sqrt(len(hits)), covered


def test_intervals_of_the_balanced_contrast_cover() -> None:
    hits = measure_coverage(np.random.default_rng(23), n_studies=40, n_groups=25)
    check_coverage(hits)


@pytest.mark.slow
def test_intervals_of_the_balanced_contrast_cover_over_many_studies() -> None:
    hits = measure_coverage(np.random.default_rng(24), n_studies=300, n_groups=40)
    check_coverage(hits)
