"""The population above the subjects in coordinates without funnels: values, log-density, and gradients taken back.

The change of variables of `mfbayes.coordinates`, written out so that it is compiled once and for all. With a
standard deviation s, a mean m, and data that say about as much as N(estimate, 1 / known), pull = known * estimate,

    z = s (pull - known m) / N + coordinate / sqrt(N),    N = 1 + s^2 known,    variable = m + s z,

and the coordinate has the log-density -z^2/2 - log(N)/2. A quantity (balance point or log slope) takes its coordinates
from a vector that holds signed standard deviations over the scale of their prior (the subjects' own, then one a
level), the common mean, the effects of every level, and the subjects.
"""

import math

import numpy as np

from mfbayes.compiled import compiled


@compiled()
def unfold(point, prior, estimate, precision, label, n_labels, centre, z):  # type: ignore[no-untyped-def]
    """Values of one quantity, and the log-density of its coordinates up to a constant.

    Parameters
    ----------
    point, z : ndarray, shape (2 + n_levels + sum of n_labels + n_subjects,)
        Coordinates, and on return the standardised variables, in the same places.
    prior : ndarray, shape (3,)
        Mean and standard deviation of the common mean, scale of the half-normal standard deviations.
    estimate, precision : ndarray, shape (n_subjects,)
        What the data say of each subject, roughly.
    label : ndarray of int, shape (n_levels, n_subjects)
        Label of each subject on each level.
    n_labels : ndarray of int, shape (n_levels,)
    centre : ndarray, shape (n_levels + 2, n_subjects)
        On return the mean of each subject before each level and after all of them, and its value.
    """
    n_levels, n_subjects = label.shape
    mean, mean_sd, scale = prior[0], prior[1], prior[2]
    log_density = 0.0
    for s in range(1 + n_levels):
        log_density -= 0.5 * point[s] ** 2
    own, at = scale * point[0], 1 + n_levels
    pull, known = 0.0, 0.0
    for i in range(n_subjects):
        told = _tell(own, precision[i])
        pull += told * estimate[i]
        known += told
    z[at], narrowing = _standardise(mean_sd, mean, pull, known, point[at])
    log_density -= 0.5 * (z[at] ** 2 + math.log(narrowing))
    centre[0] = mean + mean_sd * z[at]
    at += 1
    for level in range(n_levels):
        spread = scale * point[1 + level]
        pulls, knowns = _collect(own, estimate, precision, centre[level], label[level], n_labels[level])
        for j in range(n_labels[level]):
            z[at + j], narrowing = _standardise(spread, 0.0, pulls[j], knowns[j], point[at + j])
            log_density -= 0.5 * (z[at + j] ** 2 + math.log(narrowing))
        for i in range(n_subjects):
            centre[level + 1, i] = centre[level, i] + spread * z[at + label[level, i]]
        at += n_labels[level]
    for i in range(n_subjects):
        pull = precision[i] * estimate[i]
        z[at + i], narrowing = _standardise(own, centre[n_levels, i], pull, precision[i], point[at + i])
        log_density -= 0.5 * (z[at + i] ** 2 + math.log(narrowing))
        centre[n_levels + 1, i] = centre[n_levels, i] + own * z[at + i]
    return log_density


@compiled()
def take_back(  # type: ignore[no-untyped-def]
    point, prior, estimate, precision, label, n_labels, centre, z, by_value, gradient
):
    """Gradient in the coordinates of `unfold`'s log-density and of anything that depends on its values.

    Parameters
    ----------
    by_value : ndarray, shape (n_subjects,)
        Derivative of the rest in the values.
    gradient : ndarray
        On return, in the places of `point`; what else is as `unfold` took and left it.
    """
    n_levels, n_subjects = label.shape
    mean, mean_sd, scale = prior[0], prior[1], prior[2]
    own, at = scale * point[0], point.size - n_subjects
    by_own = 0.0
    by_centre, by_told = np.empty(n_subjects), np.zeros(n_subjects)
    for i in range(n_subjects):
        known = precision[i]
        by_sd, by_mean, _, _, gradient[at + i] = _differentiate(
            own, centre[n_levels, i], known * estimate[i], known, point[at + i], z[at + i], by_value[i]
        )
        by_own += by_sd
        by_centre[i] = by_mean
    for level in range(n_levels - 1, -1, -1):
        at -= n_labels[level]
        spread = scale * point[1 + level]
        pulls, knowns = _collect(own, estimate, precision, centre[level], label[level], n_labels[level])
        by_effect = np.zeros(n_labels[level])
        for i in range(n_subjects):
            by_effect[label[level, i]] += by_centre[i]
        by_spread = 0.0
        for j in range(n_labels[level]):
            # From here on `pulls` and `knowns` hold derivatives in what they were.
            by_sd, _, pulls[j], knowns[j], gradient[at + j] = _differentiate(
                spread, 0.0, pulls[j], knowns[j], point[at + j], z[at + j], by_effect[j]
            )
            by_spread += by_sd
        for i in range(n_subjects):
            j = label[level, i]
            by_told[i] += pulls[j] * (estimate[i] - centre[level, i]) + knowns[j]
            by_centre[i] -= pulls[j] * _tell(own, precision[i])
        gradient[1 + level] = scale * by_spread - point[1 + level]
    at -= 1
    pull, known, by_all = 0.0, 0.0, 0.0
    for i in range(n_subjects):
        told = _tell(own, precision[i])
        pull += told * estimate[i]
        known += told
        by_all += by_centre[i]
    _, _, by_pull, by_known, gradient[at] = _differentiate(mean_sd, mean, pull, known, point[at], z[at], by_all)
    for i in range(n_subjects):
        told = _tell(own, precision[i])
        by_own -= 2 * own * told**2 * (by_told[i] + by_pull * estimate[i] + by_known)
    gradient[0] = scale * by_own - point[0]


@compiled()
def _tell(sd, precision):  # type: ignore[no-untyped-def]
    """What a subject tells of its mean: the precision of its data and of its own deviation together."""
    return precision / (1 + sd**2 * precision)


@compiled()
def _collect(own, estimate, precision, centre, label, n_labels):  # type: ignore[no-untyped-def]
    """What subjects tell of the effect of each label: pull and precision."""
    pulls, knowns = np.zeros(n_labels), np.zeros(n_labels)
    for i in range(label.size):
        told = _tell(own, precision[i])
        pulls[label[i]] += told * (estimate[i] - centre[i])
        knowns[label[i]] += told
    return pulls, knowns


@compiled()
def _standardise(sd, mean, pull, known, coordinate):  # type: ignore[no-untyped-def]
    narrowing = 1 + sd**2 * known
    return sd * (pull - known * mean) / narrowing + coordinate / math.sqrt(narrowing), narrowing


@compiled()
def _differentiate(sd, mean, pull, known, coordinate, z, by_variable):  # type: ignore[no-untyped-def]
    """Derivatives in the standard deviation, the mean, the pull, the precision and the coordinate."""
    narrowing = 1 + sd**2 * known
    root, excess = math.sqrt(narrowing), pull - known * mean
    by_z = by_variable * sd - z
    by_narrowing = -by_z * (sd * excess / narrowing + 0.5 * coordinate / root) / narrowing - 0.5 / narrowing
    by_sd = by_variable * z + by_z * excess / narrowing + 2 * sd * known * by_narrowing
    by_mean = by_variable - by_z * sd * known / narrowing
    by_known = -by_z * sd * mean / narrowing + sd**2 * by_narrowing
    return by_sd, by_mean, by_z * sd / narrowing, by_known, by_z / root
