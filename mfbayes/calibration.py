"""Calibration: whether intervals cover what is true as often as they say.

`python -m mfbayes.calibration` measures the coverage of 95 % intervals over a grid of studies, with
parameters drawn from their priors, and the ranks of true values among draws (simulation-based
calibration) of the sampled tier. Finished studies are kept in a file of lines and not done again.

References
----------
Talts et al., "Validating Bayesian Inference Algorithms with Simulation-Based Calibration",
arXiv:1804.06788.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import chi2

from mfbayes.convergence import Sample
from mfbayes.design import Design
from mfbayes.marginal.fast import approximate
from mfbayes.priors import Priors
from mfbayes.storage import write_text

type Floats = NDArray[np.float64]
type Fit = Callable[[Design, int], Sample]

CI_PROB = 0.95
SEED = 20_261_122
_RANK_BINS = 20
_RANK_DRAWS = 399


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study to simulate: its size, how groups differ, and where its dH lies.

    Attributes
    ----------
    n_groups, n_models : int
        Size; every model meets every group in 0 to some 20 trials, models in unequal shares.
    group_sd, group_model_sd : float or None
        Standard deviations of u and v; None draws them from their priors.
    tilt : float
        Centre of dH: below zero text is followed more often, above less.
    """

    n_groups: int
    n_models: int
    group_sd: float | None
    group_model_sd: float | None
    tilt: float


def list_studies() -> list[Study]:
    """The grid: groups x sigma_g x sigma_gm x models, tilts of dH dealt out evenly among them."""
    levels = itertools.product(
        enumerate((40, 120, 400)), enumerate((0.3, 0.8, 1.5)), enumerate((0.0, 0.5, 1.5)), enumerate((2, 4, 8))
    )
    return [
        Study(
            n_groups=groups,
            n_models=models,
            group_sd=sd,
            group_model_sd=model_sd,
            tilt=(-1.0, 0.0, 1.0)[(g + s + v + m) % 3],
        )
        for (g, groups), (s, sd), (v, model_sd), (m, models) in levels
    ]


def simulate_study(study: Study, *, rng: np.random.Generator) -> tuple[Design, dict[str, Any]]:
    """Draw parameters from their priors and trials from the model.

    Returns
    -------
    design : Design
        Trials, laid out.
    truth : dict
        True values by the names of the posterior's variables.
    """
    priors, n = Priors(), study.n_models
    b_mean, b_sd = priors.balance_point_mean_sd * rng.normal(), abs(priors.balance_point_sd * rng.normal())
    k_mean = priors.log_slope_mean + priors.log_slope_mean_sd * rng.normal()
    k_sd = abs(priors.log_slope_sd * rng.normal())
    balance_point, slope = b_mean + b_sd * rng.normal(size=n), np.exp(k_mean + k_sd * rng.normal(size=n))
    group_sd = abs(priors.group_sd * rng.normal()) if study.group_sd is None else study.group_sd
    model_sd = abs(priors.group_model_sd * rng.normal()) if study.group_model_sd is None else study.group_model_sd
    mean_trials = 10 * np.exp(rng.uniform(-0.7, 0.7, n))
    counts = rng.poisson(mean_trials, (study.n_groups, n))
    cell = np.repeat(np.arange(counts.size), counts.ravel())
    group, subject = cell // n, cell % n
    # dH as two entropies make it: a spread of items around where their group lies.
    ratio = study.tilt + rng.normal(size=study.n_groups)[group] * 0.5 + rng.normal(size=cell.size)
    dH = 2 * np.tanh(ratio / 2)
    effect = group_sd * rng.normal(size=study.n_groups)[group] + model_sd * rng.normal(size=counts.size)[cell]
    is_text = rng.random(cell.size) < expit(slope[subject] * (balance_point[subject] - dH) + effect)
    kept, group = np.unique(group, return_inverse=True)
    labels = tuple(f"m{i}" for i in range(n))
    design = Design(
        subjects=labels,
        subject_model=labels,
        subject_task=("task",) * n,
        subject_condition=("",) * n,
        subject_family=("",) * n,
        groups=tuple(f"g{i}" for i in kept),
        uncertainty=dH,
        is_text=is_text.astype(np.float64),
        trial_subject=subject,
        trial_group=group.astype(np.int64),
        row=np.arange(cell.size),
    )
    truth = {
        "balance_point": balance_point,
        "slope": slope,
        "balance_point_mean": b_mean,
        "balance_point_sd": b_sd,
        "log_slope_mean": k_mean,
        "log_slope_sd": k_sd,
        "group_sd": group_sd,
        "group_model_sd": model_sd,
    }
    return design, truth


def measure_coverage(study: Study, *, number: int, replicates: int, fit: Fit | None = None) -> dict[str, Any]:
    """How often 95 % intervals of balance points and of their differences cover the truth.

    Parameters
    ----------
    study : Study
        What is simulated.
    number : int
        Of the study; with the replicate it is the seed.
    replicates : int
        Studies simulated and fitted.
    fit : callable, optional
        From a design and a seed to draws; by default the fast tier.

    Returns
    -------
    dict
        Shares `b` and `difference` with Monte Carlo errors from the spread between replicates (models
        of a replicate share its groups), the mean TFR and the replicates whose fit did not pass.
    """
    fit = fit or (lambda design, seed: approximate(design, seed=seed, draws=500))
    shares, pair_shares, ratios, failures = [], [], [], 0
    for replicate in range(replicates):
        rng = np.random.default_rng([SEED, number, replicate])
        design, truth = simulate_study(study, rng=rng)
        drawn = fit(design, replicate)
        failures += not drawn.passed
        points = drawn.posterior["balance_point"].stack(sample=("chain", "draw")).to_numpy()
        shares.append(_covered(points, truth["balance_point"]).mean())
        first, second = np.triu_indices(study.n_models, 1)
        between = truth["balance_point"][first] - truth["balance_point"][second]
        pair_shares.append(_covered(points[first] - points[second], between).mean())
        ratios.append(design.is_text.mean())
    return {
        "b": float(np.mean(shares)),
        "b_error": float(np.std(shares, ddof=1) / replicates**0.5),
        "difference": float(np.mean(pair_shares)),
        "difference_error": float(np.std(pair_shares, ddof=1) / replicates**0.5),
        "tfr_lowest": float(np.min(ratios)),
        "tfr_highest": float(np.max(ratios)),
        "failures": failures,
        "replicates": replicates,
    }


def rank_truth(study: Study, *, number: int, replicate: int, fit: Fit) -> dict[str, list[int]]:
    """Ranks of the true values among thinned draws, from 0 to 399, by variable."""
    rng = np.random.default_rng([SEED, number, replicate])
    design, truth = simulate_study(study, rng=rng)
    posterior = fit(design, replicate).posterior
    ranks = {}
    for name, value in truth.items():
        draws = posterior[name].stack(sample=("chain", "draw")).transpose(..., "sample").to_numpy()
        positions = np.linspace(0, draws.shape[-1] - 1, _RANK_DRAWS).astype(np.int64)
        ranks[name] = np.atleast_1d((draws[..., positions] < np.asarray(value)[..., None]).sum(axis=-1)).tolist()
    return ranks


def judge_ranks(ranks: list[int]) -> tuple[float, float]:
    """Chi-square of the ranks' histogram in 20 bins against uniformity, and its p-value."""
    counts = np.bincount(np.array(ranks) * _RANK_BINS // (_RANK_DRAWS + 1), minlength=_RANK_BINS)
    expected = counts.sum() / _RANK_BINS
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return statistic, float(chi2.sf(statistic, _RANK_BINS - 1))


def sample_marginal(design: Design, seed: int) -> Sample:
    """Draws of the sampled tier, as `fit(method="nuts")` makes them."""
    from mfbayes.following import marginal_model
    from mfbayes.sampling import MARGINAL_ATTEMPTS, sample

    gate = ["balance_point", "slope", "balance_point_mean", "log_slope_mean", "balance_point_sd", "log_slope_sd"]
    gate = [*gate, *design.group_scales]
    return sample(marginal_model(design), keep=gate, gate=gate, seed=seed, attempts=MARGINAL_ATTEMPTS)


def _covered(draws: Floats, truth: Floats) -> NDArray[np.bool_]:
    lower, upper = np.quantile(draws, [(1 - CI_PROB) / 2, (1 + CI_PROB) / 2], axis=1)
    covered: NDArray[np.bool_] = (lower <= truth) & (truth <= upper)
    return covered


_SAMPLED = (
    Study(n_groups=40, n_models=4, group_sd=0.8, group_model_sd=0.5, tilt=0.0),
    Study(n_groups=60, n_models=2, group_sd=1.5, group_model_sd=1.5, tilt=-1.0),
)
_RANKED = Study(n_groups=30, n_models=4, group_sd=None, group_model_sd=None, tilt=0.0)


def describe_ranks(studies: Sequence[Sequence[int]]) -> tuple[float, float, float, float]:
    """Mean rank less one half, and mean squared distance from one half over that of uniform ranks, with their errors.

    A distance below one tells of intervals that are too wide, above one too narrow. The Monte Carlo errors are
    those between studies, so that ranks of one study need not be independent.

    Parameters
    ----------
    studies : sequence of sequence of int
        Ranks from 0 to 399, by study.
    """
    shares = [(np.array(ranks) + 0.5) / (_RANK_DRAWS + 1) - 0.5 for ranks in studies]
    shifts = np.array([share.mean() for share in shares])
    spreads = np.array([12 * np.square(share).mean() for share in shares])
    errors = [float(values.std(ddof=1) / len(studies) ** 0.5) for values in (shifts, spreads)]
    return float(shifts.mean()), errors[0], float(spreads.mean()), errors[1]


def _jobs(replicates: int, sampled: int, ranked: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, study in enumerate(list_studies()):
        yield f"fast-{number}", {"kind": "fast", "study": study, "number": number, "replicates": replicates}
    for number, study in enumerate(_SAMPLED):
        if sampled:
            yield f"nuts-{number}", {"kind": "nuts", "study": study, "number": 1000 + number, "replicates": sampled}
    for replicate in range(ranked):
        yield f"rank-{replicate}", {"kind": "rank", "study": _RANKED, "number": 2000, "replicate": replicate}


def _work(key: str, job: Mapping[str, Any]) -> dict[str, Any]:
    study = job["study"]
    if job["kind"] == "rank":
        found: dict[str, Any] = rank_truth(study, number=job["number"], replicate=job["replicate"], fit=sample_marginal)
    else:
        fit = sample_marginal if job["kind"] == "nuts" else None
        found = measure_coverage(study, number=job["number"], replicates=job["replicates"], fit=fit)
    return {"key": key, "kind": job["kind"], **asdict(study), **found}


def main() -> None:
    """Measure what is not there yet and write the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/calibration.jsonl"))
    parser.add_argument("--replicates", type=int, default=40)
    parser.add_argument("--sampled", type=int, default=20)
    parser.add_argument("--ranked", type=int, default=60)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="fast, nuts or rank")
    options = parser.parse_args()
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    done = {json.loads(line)["key"]: line for line in lines}
    jobs = [job for job in _jobs(options.replicates, options.sampled, options.ranked) if job[0] not in done]
    jobs = [job for job in jobs if not options.only or job[1]["kind"] == options.only]
    with ProcessPoolExecutor(options.processes) as pool:
        for result in pool.map(_work, *zip(*jobs, strict=True)) if jobs else []:
            with options.out.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(result) + "\n")
    write_text(options.out.with_suffix(".md"), describe(options.out))


def describe(path: Path) -> str:
    """The measured calibration as a page in Markdown."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    coverage = pd.DataFrame([row for row in rows if row["kind"] != "rank"])
    page = ["# Calibration", "", _INTRODUCTION.strip(), ""]
    for kind, title in (("fast", "## `fast`, over the grid"), ("nuts", "## `nuts`, at points of the grid")):
        own = coverage[coverage["kind"] == kind] if len(coverage) else coverage
        if not len(own):
            continue
        page += [title, "", _summarise(own), "", _COLUMNS, "|" + "---|" * (_COLUMNS.count("|") - 1)]
        page += [
            f"| {row.n_groups} | {row.group_sd:g} | {row.group_model_sd:g} | {row.n_models} | {row.tilt:+g} "
            f"| {row.tfr_lowest:.2f}-{row.tfr_highest:.2f} | {row.b:.3f} ({row.b_error:.3f}) "
            f"| {row.difference:.3f} ({row.difference_error:.3f}) | {row.replicates} |"
            for row in own.itertuples()
        ]
        page.append("")
    ranked = [row for row in rows if row["kind"] == "rank"]
    if ranked:
        page += ["## Ranks of true values among the draws of `nuts`", "", _RANKS.format(n=len(ranked)).strip(), ""]
        page += ["| variable | ranks | chi-square (19 df) | p | mean - 1/2 | spread |", "|---|---|---|---|---|---|"]
        for name in ("balance_point", "slope", *_SCALARS):
            ranks = [rank for row in ranked for rank in row[name]]
            statistic, p = judge_ranks(ranks)
            shift, shift_error, spread, spread_error = describe_ranks([row[name] for row in ranked])
            page.append(
                f"| `{name}` | {len(ranks)} | {statistic:.1f} | {p:.3f} | {shift:+.3f} ({shift_error:.3f}) "
                f"| {spread:.2f} ({spread_error:.2f}) |"
            )
        page.append("")
    return "\n".join(page)


_SCALARS = ("balance_point_mean", "balance_point_sd", "log_slope_mean", "log_slope_sd", "group_sd", "group_model_sd")
_COLUMNS = (
    "| groups | sigma_g | sigma_gm | models | tilt | TFR, lowest-highest | b | difference of two b | replicates |"
)
_INTRODUCTION = f"""
Made by `make calibrate`; every line is in [calibration.jsonl](calibration.jsonl), seeds are
({SEED}, number of the study, replicate). Balance points, slopes and their population are drawn from
the priors of the model for every replicate, the spreads of groups are as the table says; each model has
0 to some 20 trials a group, in unequal numbers. Shares are of nominal 95 % intervals that cover the truth, with
their Monte Carlo error (from the spread between replicates) in brackets.
"""
_RANKS = """
Simulation-based calibration: {n} studies of 4 models and 30 groups with every parameter drawn from its prior. Ranks
are uniform if the posterior is right. Balance points and slopes of a study share its groups and population, so that
their chi-square is too large and its p-value too small. Beside it stand the mean of the ranks (as a share) less one
half and their spread about one half over that of uniform ranks - below one where intervals are too wide, above one
where they are too narrow - with Monte Carlo errors between studies in brackets, which hold for shared groups too.
"""


def _summarise(own: pd.DataFrame) -> str:
    # Where every interval covers, the spread between replicates is zero; the error is not.
    least = (CI_PROB * (1 - CI_PROB) / own["replicates"] / own["n_models"]) ** 0.5
    beyond = {
        name: ((own[name] - CI_PROB).abs() - 3 * np.maximum(own[f"{name}_error"], least)).max()
        for name in ("b", "difference")
    }
    return (
        f"Mean over {len(own)} studies: b {own['b'].mean():.3f}, differences {own['difference'].mean():.3f}. Farthest "
        f"from .95 beyond three Monte Carlo errors: b {max(beyond['b'], 0):.3f}, differences "
        f"{max(beyond['difference'], 0):.3f} (allowed: .020). Fits that did not pass their own checks: "
        f"{int(own['failures'].sum())} of {int(own['replicates'].sum())}."
    )


if __name__ == "__main__":
    main()
