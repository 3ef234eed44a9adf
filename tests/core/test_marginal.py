"""The marginal likelihood: against numerical quadrature, finite differences and itself in other shapes."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logsumexp
from scipy.stats import norm

from mfbayes.design import Design
from mfbayes.marginal.likelihood import MarginalLikelihood, marginal_likelihood, three_scales

type Floats = NDArray[np.float64]

SCALES = np.array([0.8, 0.5, 0.0])
# Standard deviations to each side that the quadrature covers.
_REACH = 7


def make_design(
    *, n_groups: int = 12, n_models: int = 3, n_trials: int = 10, n_conditions: int = 1, seed: int = 3
) -> tuple[Design, Floats]:
    """A balanced design with trials from the model; and the coefficients they came from."""
    rng = np.random.default_rng(seed)
    n_subjects = n_models * n_conditions
    cell = np.repeat(np.arange(n_groups * n_subjects), n_trials)
    group, subject = cell // n_subjects, cell % n_subjects
    slope = np.exp(rng.normal(0.7, 0.3, n_subjects))
    coefficients = np.column_stack([slope * rng.normal(0, 0.4, n_subjects), slope])
    dH = rng.uniform(-2, 2, cell.size)
    effect = SCALES[0] * rng.normal(size=n_groups)[group] + SCALES[1] * rng.normal(size=n_groups * n_subjects)[cell]
    eta = coefficients[subject, 0] - coefficients[subject, 1] * dH + effect
    model = np.repeat(np.arange(n_models), n_conditions)
    labels = tuple(f"m{m}c{c}" for m, c in zip(model, np.tile(np.arange(n_conditions), n_models), strict=True))
    design = Design(
        subjects=labels,
        subject_model=tuple(f"m{m}" for m in model),
        subject_task=("t",) * n_subjects,
        subject_condition=tuple(label[-2:] for label in labels),
        subject_family=("",) * n_subjects,
        groups=tuple(f"g{i}" for i in range(n_groups)),
        uncertainty=dH,
        is_text=(rng.random(cell.size) < expit(eta)).astype(np.float64),
        trial_subject=subject,
        trial_group=group,
        row=np.arange(cell.size),
    )
    return design, coefficients


def integrate_numerically(design: Design, coefficients: Floats, scales: Floats) -> Floats:
    """Log marginal likelihood of each group by nested quadrature: over v of every branch, then over u."""
    nodes, weights = np.polynomial.legendre.leggauss(90)
    eta = coefficients[design.trial_subject, 0] - coefficients[design.trial_subject, 1] * design.uncertainty
    sign = 2 * design.is_text - 1
    u, v = _REACH * scales[0] * nodes, _REACH * scales[1] * nodes
    log_u = np.log(weights * _REACH * scales[0]) + norm.logpdf(u, 0, scales[0])
    log_v = np.log(weights * _REACH * scales[1]) + norm.logpdf(v, 0, scales[1])
    total = []
    for g in range(len(design.groups)):
        log_group = log_u.copy()
        for m in range(design.n_subjects):
            own = (design.trial_group == g) & (design.trial_subject == m)
            level = eta[own][:, None, None] + u[:, None] + v[None, :]
            log_group += logsumexp(log_expit(sign[own][:, None, None] * level).sum(axis=0) + log_v, axis=1)
        total.append(logsumexp(log_group))
    return np.array(total)


WIDE = np.array([1.5, 1.5, 0.0])


@pytest.mark.parametrize(
    ("n_trials", "scales", "of_group", "of_coefficients", "of_scales"),
    [
        (25, SCALES, 0.02, 0.01, 0.05),
        (6, SCALES, 0.02, 0.02, 0.05),
        (2, SCALES, 0.02, 0.03, 0.1),
        (1, SCALES, 0.02, 0.04, 0.15),
        # Where the method is weakest: few trials a cell, and effects far larger than they can tell.
        (2, WIDE, 0.15, 0.15, 0.3),
        (1, WIDE, 0.1, 0.2, 0.3),
    ],
)
def test_laplace_against_quadrature(
    n_trials: int, scales: Floats, of_group: float, of_coefficients: float, of_scales: float
) -> None:
    """Largest errors: of a group, in nats, and of the score over the root of the information, in standard errors."""
    design, coefficients = make_design(n_trials=n_trials, n_groups=6)
    likelihood = marginal_likelihood(design)
    exact = integrate_numerically(design, coefficients, scales)
    found = likelihood.evaluate(coefficients, scales)
    assert np.abs(found.by_group - exact).max() < of_group
    h = 1e-3
    for place in np.ndindex(coefficients.shape):
        step = np.zeros_like(coefficients)
        step[place] = h
        ends = [integrate_numerically(design, coefficients + move, scales).sum() for move in (step, -step)]
        slopes = [likelihood.evaluate(coefficients + move, scales).coefficients[place] for move in (step, -step)]
        error = found.coefficients[place] - (ends[0] - ends[1]) / (2 * h)
        assert abs(error) / ((slopes[1] - slopes[0]) / (2 * h)) ** 0.5 < of_coefficients, place
    for k in (0, 1):
        step = np.zeros(3)
        step[k] = h
        ends = [integrate_numerically(design, coefficients, scales + move).sum() for move in (step, -step)]
        slopes = [likelihood.evaluate(coefficients, scales + move).scales[k] for move in (step, -step)]
        error = found.scales[k] - (ends[0] - ends[1]) / (2 * h)
        # Of a spread the curvature is not always downwards where the truth is.
        assert abs(error) / (abs(slopes[1] - slopes[0]) / (2 * h)) ** 0.5 < of_scales, k


@pytest.mark.parametrize("n_conditions", [1, 2])
def test_gradient_against_differences(n_conditions: int) -> None:
    design, coefficients = make_design(n_conditions=n_conditions, n_trials=4)
    scales = three_scales(design, [0.8, 0.5, 0.3][: len(design.group_scales)])
    assert (scales > 0).sum() == 1 + n_conditions
    likelihood = marginal_likelihood(design)
    offset = np.linspace(-0.3, 0.3, design.n_trials)
    found = likelihood.evaluate(coefficients, scales, offset=offset, trials=True)

    def value(c: Floats = coefficients, s: Floats = scales, o: Floats = offset) -> float:
        return likelihood.evaluate(c, s, offset=o).value

    h = 1e-4
    for place in np.ndindex(coefficients.shape):
        step = np.zeros_like(coefficients)
        step[place] = h
        difference = (value(c=coefficients + step) - value(c=coefficients - step)) / (2 * h)
        assert found.coefficients[place] == pytest.approx(difference, abs=2e-5)
    for i in np.flatnonzero(scales):
        step = h * np.eye(3)[i]
        difference = (value(s=scales + step) - value(s=scales - step)) / (2 * h)
        assert found.scales[i] == pytest.approx(difference, abs=2e-5)
    for trial in (0, design.n_trials // 2):
        step = h * np.eye(design.n_trials)[trial]
        difference = (value(o=offset + step) - value(o=offset - step)) / (2 * h)
        assert found.trials[trial] == pytest.approx(difference, abs=2e-5)


def test_without_spread_it_is_the_plain_likelihood() -> None:
    design, coefficients = make_design()
    eta = coefficients[design.trial_subject, 0] - coefficients[design.trial_subject, 1] * design.uncertainty
    plain = log_expit((2 * design.is_text - 1) * eta).sum()
    found = marginal_likelihood(design).evaluate(coefficients, np.zeros(3))
    assert found.value == pytest.approx(plain, abs=1e-9)
    np.testing.assert_array_equal(found.scales, 0.0)


def test_extreme_predictors_keep_their_mode() -> None:
    """Whoever starts far away arrives at the same mode, and hopeless trials do not end in infinities."""
    design, coefficients = make_design(n_trials=5)
    steep = coefficients * 60
    here = marginal_likelihood(design)
    far = MarginalLikelihood(design=design, features=here.features, start=np.full(design.cell_subject.size, 50.0))
    for scales in (SCALES, SCALES * 8):
        expected = here.evaluate(steep, scales)
        assert np.isfinite(expected.value)
        assert far.evaluate(steep, scales).value == pytest.approx(expected.value, abs=1e-6)
    assert np.isnan(here.evaluate(coefficients * np.nan, SCALES).value)


def test_threads_and_order_change_nothing() -> None:
    design, coefficients = make_design(n_groups=300, n_trials=70)
    likelihood = marginal_likelihood(design)
    assert design.n_trials > 40_000
    whole = likelihood.evaluate(coefficients, SCALES)
    parts = [design.keep(design.trial_group % 3 == i) for i in range(3)]
    each = [marginal_likelihood(part).evaluate(coefficients, SCALES) for part in parts]
    assert whole.value == pytest.approx(sum(part.value for part in each), abs=1e-6)
    np.testing.assert_allclose(whole.coefficients, sum(part.coefficients for part in each), atol=1e-6)


def test_relabelling_text_and_image_mirrors_everything() -> None:
    design, coefficients = make_design()
    mirrored = replace(design, is_text=1 - design.is_text, uncertainty=-design.uncertainty)
    found = marginal_likelihood(design).evaluate(coefficients, SCALES)
    other = marginal_likelihood(mirrored).evaluate(coefficients * [-1, 1], SCALES)
    assert found.value == pytest.approx(other.value, abs=1e-8)
    np.testing.assert_allclose(found.coefficients, other.coefficients * [-1, 1], atol=1e-6)


@pytest.mark.parametrize("n_points", [0, 1, 7])
def test_many_points_are_evaluated_as_one_by_one(n_points: int) -> None:
    design, coefficients = make_design()
    likelihood, rng = marginal_likelihood(design), np.random.default_rng(5)
    points = coefficients + 0.3 * rng.standard_normal((n_points, *coefficients.shape))
    scales = np.abs(SCALES * (1 + 0.2 * rng.standard_normal((n_points, 3))))
    offset = rng.standard_normal((n_points, design.n_trials))
    for given in (None, offset):
        found = likelihood.evaluate_points(points, scales, offset=given)
        assert found.shape == (n_points, len(design.groups))
        for i in range(n_points):
            alone = likelihood.evaluate(points[i], scales[i], offset=np.empty(0) if given is None else given[i])
            np.testing.assert_allclose(found[i], alone.by_group, rtol=1e-12)
