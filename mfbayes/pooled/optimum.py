r"""Where the log-likelihood of compressed trials is largest, and whether it has a largest value at all.

References
----------
Albert and Anderson, "On the existence of maximum likelihood estimates in logistic regression models",
Biometrika 71(1), 1984, doi:10.1093/biomet/71.1.1, for separation.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from mfbayes.pooled.batches import Floats, Subject
from mfbayes.pooled.bins import BIN_WIDTH, Compression

EXISTS = "ok"
NO_TRIALS, ONE_SIDED, CONSTANT, SEPARABLE = "no-trials", "one-sided", "constant", "separable"
_STEPS = 100
_TOLERANCE = 1e-12
# Across a bin the log-odds may not change by more than this, or the second-order expansion says nothing.
_STEEPEST = 2.0


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """Intercept and slope in dH of the log-odds of following the text, for each subject.

    Attributes
    ----------
    subjects : tuple of Subject
        Sorted.
    lines : ndarray, shape (n_subjects, 2)
        Intercept and slope; NaN where no largest likelihood exists.
    """

    subjects: tuple[Subject, ...]
    lines: Floats


def judge_existence(compression: Compression) -> list[str]:
    """Whether each subject has a largest likelihood ("ok"), and if not, why.

    "no-trials": none with a choice of text or image; "one-sided": all follow the same side; "constant":
    all have the same dH; "separable": some dH parts text from image without overlap, so that the
    likelihood rises for ever with the slope. The ranges behind this are exact, not binned.
    """
    n_text, n_image = compression.n_text, compression.n_trials - compression.n_text
    low = np.minimum(compression.text_low, compression.image_low)
    high = np.maximum(compression.text_high, compression.image_high)
    apart = (compression.text_high <= compression.image_low) | (compression.image_high <= compression.text_low)
    found = np.select(
        [n_text + n_image == 0, (n_text == 0) | (n_image == 0), low == high, apart],
        [NO_TRIALS, ONE_SIDED, CONSTANT, SEPARABLE],
        EXISTS,
    )
    return [str(status) for status in found]


def fit_bins(compression: Compression) -> Coefficients:
    """Maximise the compressed log-likelihood of every subject by damped Newton steps.

    The result is within about 1e-6 of the exact optimum for slopes up to about 5. Where the curve is so
    steep that the bins cannot follow, the search stops at the steepest curve that they describe: a pass over
    the trials has to finish it (`mfbayes.pooled.estimate`).
    """
    lines = np.full((len(compression.subjects), 2), np.nan)
    for row, status in enumerate(judge_existence(compression)):
        if status == EXISTS:
            lines[row] = _Bins(compression, row).climb()
    return Coefficients(subjects=compression.subjects, lines=lines)


class _Bins:
    """Occupied bins of one subject, with dH centred and scaled to standard deviation 1."""

    def __init__(self, compression: Compression, row: int) -> None:
        there = compression.count[row] > 0
        self.count = compression.count[row][there].astype(np.float64)
        mean, moment = compression.mean[row][there], compression.moment[row][there]
        total = self.count.sum()
        self.centre = float(self.count @ mean / total)
        self.scale = float(np.sqrt((self.count @ (mean - self.centre) ** 2 + moment.sum()) / total))
        self.mean = (mean - self.centre) / self.scale
        self.moment = moment / self.scale**2
        n_text = float(compression.n_text[row])
        self.observed = np.array([n_text, n_text * (float(compression.text_mean[row]) - self.centre) / self.scale])
        self.steepest = _STEEPEST * self.scale / BIN_WIDTH

    def climb(self) -> Floats:
        theta = np.zeros(2)
        value, gradient, hessian = self.expand(theta)
        for _ in range(_STEPS):
            step = np.linalg.solve(hessian, -gradient)
            fall = float(-gradient @ step)
            if fall < _TOLERANCE:
                theta = theta + step
                break
            share = min(1.0, 4.0 / float(np.abs(step[0] + step[1] * self.mean).max()))
            while True:
                tried = theta + share * step
                tried_value, tried_gradient, tried_hessian = self.expand(tried)
                if tried_value <= value - 1e-4 * share * fall or share * fall < _TOLERANCE:
                    break
                share /= 2
            if abs(tried[1]) > self.steepest:
                break
            theta, value, gradient, hessian = tried, tried_value, tried_gradient, tried_hessian
        slope = theta[1] / self.scale
        return np.array([theta[0] - slope * self.centre, slope])

    def expand(self, theta: Floats) -> tuple[float, Floats, Floats]:
        """Negative log-likelihood, its gradient, and a positive definite matrix close to its Hessian."""
        slope, m = theta[1], self.mean
        eta = theta[0] + slope * m
        p = expit(eta)
        second = p * (1 - p)
        third, fourth = second * (1 - 2 * p), second * (1 - 6 * second)
        spread = self.moment * slope
        value = self.count @ np.logaddexp(0, eta) + slope / 2 * (spread @ second) - self.observed @ theta
        by_eta = self.count * p + slope / 2 * spread * third
        gradient = np.array([by_eta.sum(), by_eta @ m + spread @ second]) - self.observed
        weight = self.count * second
        curved = weight + slope / 2 * spread * fourth
        cross = float(curved @ m + spread @ third)
        last = float(curved @ m**2 + self.moment @ second + 2 * (spread * third) @ m)
        hessian = np.array([[curved.sum(), cross], [cross, last]])
        if hessian[0, 0] <= 0 or np.linalg.det(hessian) <= 1e-9 * hessian[0, 0] * abs(last):
            # Far from the optimum the expansion need not be convex; without its own curvature it is.
            cross = float(weight @ m)
            hessian = np.array([[weight.sum(), cross], [cross, float(weight @ m**2 + self.moment @ second)]])
        return float(value), gradient, hessian
