"""Missing at random: whether traces switch across layers of neither answer as often as the hazards foretell.

The model takes 'other' to say nothing of the side. Were traces to fall silent because they are about to switch, more of
them would come out on the other side.
"""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mfbayes import names
from mfbayes.compiled import compiled
from mfbayes.switching import kernel
from mfbayes.switching.fit import SwitchingFit

type Floats = NDArray[np.float64]

_N_DRAWS = 200


def check_crossings(
    fit: SwitchingFit, *, rng: np.random.Generator, n_draws: int = _N_DRAWS, ci_prob: float = 0.95
) -> xr.Dataset:
    """Compare switches across gaps with what the model expects of them.

    Returns
    -------
    Dataset
        Over `subject`, and all together as "all": `gaps`, `observed` switches across them, `expected` and `lower`,
        `upper` of the replicated number, and `p_more`, the probability that a replicate has as many or more (ties count
        half). NaN where there is no gap. A `p_more` near 0: silence goes with switching, and gaps are not random.
    """
    layout, gaps = fit.layout, fit.layout.gaps
    effects = fit.pilot.effects
    posterior = fit.sample.posterior.stack(draw_of=("chain", "draw"))
    hazards = posterior["hazards"].transpose("draw_of", "parameter").to_numpy()
    picked = hazards[rng.choice(len(hazards), size=n_draws)]
    unit = np.repeat(np.arange(len(layout.features)), np.diff(gaps.start))
    subject = layout.unit_subject[unit]
    n_subjects = len(layout.subjects)
    drawn, mean = np.zeros((n_draws, n_subjects + 1)), np.zeros(n_subjects)
    count = gaps.count.astype(np.int64)
    for number, values in enumerate(picked):
        table, slopes = fit.structure.tabulate(values)
        level = effects[:, layout.unit_cell[unit]] + (slopes[:, subject] * layout.features[unit]).sum(axis=2)
        p = _cross(table, level, subject, gaps.layer, gaps.length, gaps.side, gaps.age)
        mean += np.bincount(subject, gaps.count * p, n_subjects) / n_draws
        drawn[number, :-1] = np.bincount(subject, rng.binomial(count, p), n_subjects)
    drawn[:, -1] = drawn[:, :-1].sum(axis=1)
    n_gaps = np.bincount(subject, gaps.count, n_subjects)
    observed = np.bincount(subject, gaps.count * (gaps.side != gaps.end), n_subjects)
    n_gaps, observed, mean = (np.append(each, each.sum()) for each in (n_gaps, observed, mean))
    there = n_gaps > 0
    lower, upper = np.quantile(drawn, [(1 - ci_prob) / 2, (1 + ci_prob) / 2], axis=0)
    p_more = (drawn > observed).mean(axis=0) + 0.5 * (drawn == observed).mean(axis=0)
    return xr.Dataset(
        {
            "gaps": (names.SUBJECT, n_gaps),
            "observed": (names.SUBJECT, np.where(there, observed, np.nan)),
            "expected": (names.SUBJECT, np.where(there, mean, np.nan)),
            "lower": (names.SUBJECT, np.where(there, lower, np.nan)),
            "upper": (names.SUBJECT, np.where(there, upper, np.nan)),
            "p_more": (names.SUBJECT, np.where(there, p_more, np.nan)),
        },
        coords={names.SUBJECT: np.array([*layout.subjects, names.POOLED], dtype=object)},
        attrs={"ci_prob": ci_prob},
    )


@compiled()
def _cross(table, level, subject, layer, length, side, age):  # type: ignore[no-untyped-def]
    """Probability of every gap to end on the other side."""
    p = np.empty(subject.size)
    most = 1
    for i in range(subject.size):
        most = max(most, length[i])
    hazard, slope, forward, backward = np.empty((4, most + 1, 2, 3))
    levels = np.empty(2)
    for i in range(subject.size):
        levels[0], levels[1] = level[0, i], level[1, i]
        log_p = kernel.cross_gap(
            table[:, subject[i]],
            levels,
            layer[i],
            length[i],
            side[i],
            age[i],
            1 - side[i],
            hazard,
            forward,
            backward,
            slope,
        )
        p[i] = np.exp(log_p)
    return p
