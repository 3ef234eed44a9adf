"""A law: how the log-odds of following the text depend on a trial, for one subject's coefficients."""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from mfbayes.marginal.likelihood import Evaluation

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

PRIOR_SD = 2.5
"""Prior standard deviation, in log-odds, of every subject's level and of effects per standard deviation.

The same for every law, with means of zero, so that no law wins by its prior.
"""

_ARBITER_MEAN = np.array([0.0, 1.0, 0.0])
_ARBITER_SD = np.array([PRIOR_SD, 1.0, 1.5])
# Probabilities are kept in single precision; below this a logarithm tells rounding.
_LEAST_PROBABILITY = 1e-7


class Law(Protocol):
    """What a fit needs of a law; theta are the coefficients of the subjects, (n_subjects, n_coefficients).

    The linear predictor of a trial is `offset(theta)` + its features times `coefficients(theta)`.
    """

    @property
    def label(self) -> str:
        """What a reader sees."""

    @property
    def features(self) -> Floats:
        """Shape (n_features, n_trials)."""

    @property
    def prior_mean(self) -> Floats:
        """Shape (n_coefficients,), the same for every subject."""

    @property
    def prior_precision(self) -> Floats:
        """Shape (n_coefficients, n_coefficients)."""

    def coefficients(self, theta: Floats) -> Floats:
        """What multiplies the features, shape (..., n_subjects, n_features) for theta with leading dims."""

    def offset(self, theta: Floats) -> Floats:
        """What comes on top, shape (..., n_trials), or (0,) where nothing does."""

    def pull(self, theta: Floats, found: Evaluation) -> Floats:
        """Gradient in theta from those in coefficients and offset, shape of theta."""

    def jacobian(self, theta: Floats) -> Floats:
        """Derivative of each trial's linear predictor in its subject's theta, (n_coefficients, n_trials)."""

    def keep(self, kept: NDArray[np.bool_]) -> Self:
        """The same law for some of the trials."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearLaw:
    """A law linear in features, some of whose coefficients can only be negative.

    Attributes
    ----------
    falling : ndarray of bool, shape (n_features,)
        Features whose coefficient is -log(1 + exp(theta)), the others' is theta.
    trial_subject : ndarray of int, shape (n_trials,)
        Subject of each trial.
    """

    label: str
    features: Floats
    falling: NDArray[np.bool_]
    prior_mean: Floats
    prior_precision: Floats
    trial_subject: Indices

    def coefficients(self, theta: Floats) -> Floats:
        """What multiplies the features."""
        return bend(theta, self.falling)

    def offset(self, theta: Floats) -> Floats:
        """Nothing."""
        return np.empty(0)

    def pull(self, theta: Floats, found: Evaluation) -> Floats:
        """Gradient in theta."""
        return found.coefficients * self._slope(theta)

    def jacobian(self, theta: Floats) -> Floats:
        """Derivative of each trial's linear predictor."""
        slopes: Floats = self._slope(theta).T
        return self.features * slopes[:, self.trial_subject]

    def keep(self, kept: NDArray[np.bool_]) -> Self:
        """The same law for some of the trials."""
        features = np.ascontiguousarray(self.features[:, kept])
        return replace(self, features=features, trial_subject=self.trial_subject[kept])

    def _slope(self, theta: Floats) -> Floats:
        return np.where(self.falling, -expit(theta), 1.0)


def bend(theta: Floats, falling: NDArray[np.bool_]) -> Floats:
    """Coefficients of a linear law: theta, or -log(1 + exp(theta)) where they can only be negative.

    About linear where the data tell a coefficient well, so that a normal posterior of theta serves.
    """
    return np.where(falling, -np.logaddexp(0.0, theta), theta)


@dataclass(frozen=True, kw_only=True, eq=False)
class ArbiterLaw:
    r"""The ideal arbiter: the log-odds of the two answers under a mixture of the unimodal distributions.

    .. math:: \kappa (\log q_{text} - \log q_{image}) + a, \qquad
        q = r\, p_{image\ only} + (1 - r)\, p_{text\ only}

    theta of a subject is (a, kappa, logit r). Priors: N(0, 2.5), N(1, 1), N(0, 1.5).

    Attributes
    ----------
    text_answer, image_answer : ndarray, shape (2, n_trials)
        Probability of the designed answer given the text alone and given the image alone.
    """

    text_answer: Floats
    image_answer: Floats
    trial_subject: Indices
    label: str = "ideal arbiter"

    @property
    def features(self) -> Floats:
        """The level."""
        return np.ones((1, self.trial_subject.size))

    @property
    def prior_mean(self) -> Floats:
        """Of level, slope and logit share."""
        return _ARBITER_MEAN

    @property
    def prior_precision(self) -> Floats:
        """Of level, slope and logit share."""
        return np.diag(_ARBITER_SD**-2)

    def coefficients(self, theta: Floats) -> Floats:
        """The level."""
        return theta[..., :1]

    def offset(self, theta: Floats) -> Floats:
        """Slope times the log-odds of the answers under the mixture."""
        log_odds, _ = self._mix(theta)
        result: Floats = theta[..., self.trial_subject, 1] * log_odds
        return result

    def pull(self, theta: Floats, found: Evaluation) -> Floats:
        """Gradient in theta."""
        by_trial = self.jacobian(theta)[1:] * found.trials
        sums = [np.bincount(self.trial_subject, row, len(theta)) for row in by_trial]
        return np.column_stack([found.coefficients, *sums])

    def jacobian(self, theta: Floats) -> Floats:
        """Derivative of each trial's linear predictor."""
        log_odds, by_logit_share = self._mix(theta)
        return np.stack([np.ones(log_odds.size), log_odds, theta[self.trial_subject, 1] * by_logit_share])

    def keep(self, kept: NDArray[np.bool_]) -> Self:
        """The same law for some of the trials."""
        text_answer, image_answer = self.text_answer[:, kept], self.image_answer[:, kept]
        own = self.trial_subject[kept]
        return replace(self, text_answer=text_answer, image_answer=image_answer, trial_subject=own)

    def _mix(self, theta: Floats) -> tuple[Floats, Floats]:
        """Log-odds of the answers under the mixture, and their derivative in logit r."""
        share = expit(theta[..., self.trial_subject, 2])
        log_odds, slope = np.zeros_like(share), np.zeros_like(share)
        for sign, (given_text, given_image) in ((1.0, self.text_answer), (-1.0, self.image_answer)):
            mixed = share * given_image + (1 - share) * given_text + _LEAST_PROBABILITY
            log_odds += sign * np.log(mixed)
            slope += sign * (given_image - given_text) / mixed
        return log_odds, slope * share * (1 - share)
