"""Posterior predictive checks: whether the hazard model makes traces like those that were seen.

Every replicate starts each trace on the side and at the layer of its first commitment, in new groups, and reads
neither answer where the observed trace did; `mfbayes.switching.paths` has the rule.
"""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.compiled import compiled
from mfbayes.switching.fit import SIDE, SwitchingFit
from mfbayes.switching.pairs import AGES, OLD, find_sides
from mfbayes.switching.paths import draw_paths
from mfbayes.switching.structure import EFFECT, GROUP_SDS, LEVEL

type Floats = NDArray[np.float64]
type Indices = NDArray[np.int64]

MEASURES = ("oscillations", "three-or-more", "runs-of-two-or-more", "last-switch-depth", "between-group-sd")
_N_REPLICATES = 100


def check_replicates(
    fit: SwitchingFit, *, rng: np.random.Generator, n_replicates: int = _N_REPLICATES, ci_prob: float = 0.95
) -> xr.Dataset:
    """Hold statistics of the traces against those of traces drawn from the fitted model.

    Parameters
    ----------
    fit : SwitchingFit
        Draws.
    rng : numpy.random.Generator
        Randomness.
    n_replicates : int
        Draws of the posterior that a replicate is made of.
    ci_prob : float
        Probability of the equal-tailed intervals.

    Returns
    -------
    Dataset
        Over (subject, measure): `observed`, the replicates' `mean`, `lower`, `upper`, and `p_tail`, twice the smaller
        share of replicates on either side of the observed value (ties count half). Measures of the traces with two
        committed layers: mean number of switches; share with three or more; mean number of finished runs of two
        committed layers or more, between switches; mean relative depth of the last switch where there is one;
        standard deviation of the groups' mean number of switches.
    """
    of, used = fit.pairs.trajectories, np.unique(fit.pairs.trace)
    observed_side = find_sides(of.state[used])
    committed = observed_side >= 0
    start = observed_side[np.arange(len(used)), committed.argmax(axis=1)]
    subject, group = of.subject[used], of.group[used]
    n_subjects, depth = len(of.subjects), of.n_layers[of.subject[used]]
    posterior = fit.posterior.stack(draw_of=("chain", "draw"))
    picked = rng.choice(posterior.sizes["draw_of"], size=n_replicates)
    values = np.empty((len(used), len(fit.layout.terms)))
    values[np.searchsorted(used, fit.layout.unit_trace)] = fit.layout.features[fit.layout.unit_of_trace]
    measured = []
    for draw in picked:
        own = posterior.isel(draw_of=int(draw))
        base = np.stack([values @ each.T for each in own[EFFECT].to_numpy()[:, :, : values.shape[1]]])
        base = np.take_along_axis(base, subject[None, :, None], axis=2)[:, :, 0]
        effects = np.zeros((2, len(of.groups), n_subjects))
        for name, size in zip(GROUP_SDS, (1, n_subjects), strict=True):
            if name in own:
                effects += own[name].to_numpy()[:, None, None] * rng.standard_normal((2, len(of.groups), size))
        base += effects[:, group, subject]
        by_age = np.zeros((2, n_subjects, len(AGES)))
        by_age[:, :, :OLD] = own[EFFECT].to_numpy()[:, :, values.shape[1] :]
        level = own[LEVEL].transpose(SIDE, names.SUBJECT, names.LAYER).to_numpy()
        replicate = draw_paths(committed, start, subject=subject, base=base, level=level, by_age=by_age, rng=rng)
        measured.append(measure_switching(replicate, subject, group, depth, n_subjects=n_subjects))
    drawn = np.stack(measured)
    observed = measure_switching(observed_side, subject, group, depth, n_subjects=n_subjects)
    return _compare(observed, drawn, subjects=of.subjects, ci_prob=ci_prob)


def measure_switching(side: Indices, subject: Indices, group: Indices, depth: Indices, *, n_subjects: int) -> Floats:
    """The measures of traces by subject, shape (n_subjects, n_measures); NaN where there is nothing to measure.

    Parameters
    ----------
    side : ndarray of int, shape (n_traces, n_layers)
        Index of the side at every layer, -1 where it reads neither answer.
    subject, group, depth : ndarray of int, shape (n_traces,)
        Subject, group and number of layers of every trace.
    """
    switches, long_runs, last = _count_runs(side)
    by_trace = {
        "oscillations": switches.astype(np.float64),
        "three-or-more": (switches >= 3).astype(np.float64),
        "runs-of-two-or-more": long_runs.astype(np.float64),
        "last-switch-depth": np.where(switches > 0, last / np.maximum(depth - 1, 1), np.nan),
    }
    found = np.full((n_subjects, len(MEASURES)), np.nan)
    for s in range(n_subjects):
        own = subject == s
        for number, values in enumerate(by_trace.values()):
            known = own & np.isfinite(values)
            if known.any():
                found[s, number] = values[known].mean()
        sizes = np.bincount(group[own])
        if (sizes > 0).sum() > 1:
            found[s, -1] = (np.bincount(group[own], switches[own])[sizes > 0] / sizes[sizes > 0]).std(ddof=1)
    return found


def _compare(observed: Floats, drawn: Floats, *, subjects: tuple[str, ...], ci_prob: float) -> xr.Dataset:
    above, ties = (drawn > observed).mean(axis=0), (drawn == observed).mean(axis=0)
    upper_share = above + 0.5 * ties
    lacking = np.isnan(observed) | np.isnan(drawn).any(axis=0)
    lower, upper = np.quantile(drawn, [(1 - ci_prob) / 2, (1 + ci_prob) / 2], axis=0)
    dims = (names.SUBJECT, "measure")
    return xr.Dataset(
        {
            "observed": (dims, observed),
            "mean": (dims, drawn.mean(axis=0)),
            "lower": (dims, lower),
            "upper": (dims, upper),
            "p_tail": (dims, np.where(lacking, np.nan, 2 * np.minimum(upper_share, 1 - upper_share))),
        },
        coords={names.SUBJECT: np.array(subjects, dtype=object), "measure": np.array(MEASURES, dtype=object)},
        attrs={"ci_prob": ci_prob, "n_replicates": len(drawn)},
    )


@compiled()
def _count_runs(side):  # type: ignore[no-untyped-def]
    """Switches, runs of two committed layers or more between two switches, and the layer of the last switch."""
    n = side.shape[0]
    switches, long_runs, last = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    for i in range(n):
        before, run = -1, 0
        for layer in range(side.shape[1]):
            here = side[i, layer]
            if here < 0:
                continue
            if before >= 0 and here != before:
                if switches[i] > 0 and run >= 2:
                    long_runs[i] += 1
                switches[i] += 1
                last[i] = layer
                run = 0
            run += 1
            before = here
    return switches, long_runs, last
