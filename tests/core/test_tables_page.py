"""docs/tables.md against the tables of a fit that has all of them, and against the words that the code can say."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr

import mfbayes
from mfbayes import names, outcomes, sampling
from mfbayes.convergence import Sample, judge
from mfbayes.estimates import letters, sensitivity
from mfbayes.estimates.balance import write_balance_points
from mfbayes.estimates.conditions import MEAN_OF_MODELS
from mfbayes.estimates.halves import HALVES
from mfbayes.estimates.letters import add_letters
from mfbayes.estimates.tables import write_tables
from mfbayes.laws import catalogue, monotonicity, parameters
from mfbayes.pooled import estimate, optimum
from mfbayes.pooled.pooling import pool, write_pooled
from mfbayes.simulated_traces import simulate_traces
from mfbayes.simulation import Scenario, simulate_trials
from mfbayes.switching import additions, comparison, fit, replication, structure
from mfbayes.switching.pairs import AGES, OLD, SIDES
from mfbayes.switching.parts import SUBJECT_SDS
from mfbayes.switching.terms import DEFAULT_TERMS
from mfbayes.vacillation import contrasts, measures, regions, total_entropy, verdicts
from mfbayes.vacillation.estimates import add_trace_estimates
from tests.tables_page import COMMON, check_folder, find_faults, find_own_faults, find_untold_words, read_page

STATUSES = ("one-sided", "not-converged", "outside", "ok")
WORDS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "balance_points.csv": {"index": names.INDICES, "status": STATUSES, "law": ("falls", "rises", "unclear", "unknown")},
    "estimates/entropy_by_tier.csv": {"modality": (names.TEXT, names.IMAGE)},
    "estimates/letters.csv": {"modality": tuple(letters.INPUTS)},
    "estimates/condition_shifts.csv": {"model": (MEAN_OF_MODELS,)},
    "estimates/laws.csv": {"law": catalogue.LAWS, "dH_suffices": ("yes", "no", "unclear")},
    "estimates/law_parameters.csv": {
        "law": tuple(parameters.PARAMETERS),
        "parameter": tuple(name for own in parameters.PARAMETERS.values() for name in own),
    },
    "estimates/outcomes.csv": {"ignorable": (outcomes.NOT_IGNORABLE, outcomes.NO_SIGN, outcomes.UNCLEAR)},
    "estimates/monotone.csv": {"verdict": (monotonicity.FALLS, monotonicity.UNCLEAR, monotonicity.NOT_MONOTONE)},
    "estimates/halves.csv": {"half": HALVES, "status": STATUSES},
    "estimates/sensitivity.csv": {
        "analysis": (
            *(sensitivity.MAIN, sensitivity.ALL_ITEMS, sensitivity.BOTH_CORRECT, sensitivity.WITHOUT_NEAR_TIES),
            *(f"index: {index}" for index in names.INDICES),
        ),
        "status": (*STATUSES, "absent"),
    },
    "estimates/traces.csv": {"measure": measures.MEASURES, "region": regions.REGIONS},
    "estimates/contrasts.csv": {"measure": measures.CLAIMS, "contrast": contrasts.CONTRASTS},
    "estimates/placebos.csv": {"measure": measures.CLAIMS},
    "estimates/total_entropy.csv": {
        "measure": measures.CLAIMS,
        "contrast": total_entropy.ADJUSTED,
        "stratum": total_entropy.STRATA,
        "positivity": (total_entropy.HOLDS, total_entropy.FAILS),
    },
    "estimates/vacillation.csv": {
        "measure": measures.CLAIMS,
        "verdict": verdicts.VERDICTS,
        "separable": (verdicts.YES, verdicts.NO, verdicts.NO_POSITIVITY),
    },
    "estimates/hazard_by_depth.csv": {"side": SIDES},
    "estimates/switching_effects.csv": {"term": (*DEFAULT_TERMS, *AGES[:OLD])},
    "estimates/switching_effects_by_scale.csv": {"scale": (*SUBJECT_SDS, *structure.GROUP_SDS)},
    "estimates/predictive_checks.csv": {"measure": replication.MEASURES},
    "estimates/switching_comparison.csv": {"version": tuple(comparison.VERSIONS)},
    "pooled.csv": {
        "status": (
            *("ok", optimum.NO_TRIALS, optimum.ONE_SIDED, optimum.CONSTANT, optimum.SEPARABLE),
            *(estimate.NOT_CONVERGED, estimate.ONE_GROUP, estimate.FLAT, estimate.RISES, estimate.OUTSIDE),
        )
    },
}
"""Words that labels and verdicts can be."""

PAGE = """
## In most tables

| column | unit | what |
|---|---|---|
| `subject` | - | who |
| `family` | - | of whom |

### a.csv

| column | unit | what |
|---|---|---|
| `mean`, `sd` | dH | of b |
| `side` | - | `text` or `image` |
| `more` | - | Only where there is more |

Also `subject`.

### b.csv

Also `subject`, `tier`, and as in `a.csv` `side`,
`mean`.
"""


def draw(model: pm.Model, *, keep: Sequence[str], gate: Sequence[str], seed: int, **_: object) -> Sample:
    """Draws of everything between .1 and .4: tables of them have the columns that those of sampled ones have."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in keep:
        labels = {dim: np.array(model.coords[dim], dtype=object) for dim in model.named_vars_to_dims.get(name, ())}
        values = rng.uniform(0.1, 0.4, (4, 100, *map(len, labels.values())))
        found[name] = xr.DataArray(values, labels, dims=("chain", "draw", *labels))
    posterior = xr.Dataset(found)
    diverging = xr.DataArray(np.zeros((4, 100), dtype=bool), dims=("chain", "draw"))
    convergence = judge(posterior, diverging=diverging, gate=gate).assign_attrs(passed=1)
    return Sample(posterior=posterior, statistics=xr.Dataset({"diverging": diverging}), convergence=convergence)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models under two conditions with lapses, answers of neither side and layers, and nothing sampled."""
    rng = np.random.default_rng(5)
    scenario = Scenario(
        models={"reader": 0.3, "seer": -0.4},
        conditions={"plain": 0.0, "image first": -0.2},
        families={"reader": "R", "seer": "S"},
        n_groups=8,
        image_tiers=5,
        other_share=0.15,
    )
    trials, truth = simulate_trials(scenario, rng=rng)
    # Traces are by item: an item under another condition is another.
    trials["item"] += " " + trials["condition"]
    points = {str(name): float(point) for name, point in truth["balance_point"].to_series().items()}
    traces, _ = simulate_traces(trials, points, rng=rng, n_layers=5)
    with pytest.MonkeyPatch.context() as patched:
        for module in (sampling, fit):
            patched.setattr(module, "sample", draw)
        tree = mfbayes.fit(trials, lapse=True, outcomes=True)
        add_letters(tree, trials.assign(**dict.fromkeys(letters.INPUTS.values(), 0.5), orders_agree=True))
        add_trace_estimates(tree, trials, traces)
        additions.add_switching_estimates(tree, trials, traces, compare=True)
    folder = tmp_path_factory.mktemp("run")
    write_balance_points(tree, folder / "balance_points.csv")
    write_tables(tree, folder / "estimates")
    trials.to_parquet(folder / "trials.parquet", index=False)
    written = {"table": "pooled.csv", "pairs": "pooled_pairwise.csv", "dataset": "pooled.nc"}
    write_pooled(pool(folder / "trials.parquet"), **{what: folder / name for what, name in written.items()})
    return folder


def test_every_table_and_column_is_on_the_page_and_nothing_else(run: Path) -> None:
    page = read_page()
    files, faults = check_folder(page, run)
    assert faults == []
    assert files == set(page) - {COMMON}


def test_the_page_agrees_with_itself() -> None:
    assert find_own_faults(read_page()) == []


def test_every_word_that_a_label_or_verdict_can_be_is_told() -> None:
    page = read_page()
    assert [fault for file, words in WORDS.items() for fault in find_untold_words(page, file, words)] == []


def test_what_the_page_lacks_or_says_too_much_is_found(tmp_path: Path) -> None:
    page = read_page(PAGE)
    assert find_faults(page, "a.csv", ["subject", "mean", "sd", "side"]) == []
    assert find_faults(page, "a.csv", ["mean", "sd", "side", "more", "new"]) == [
        "a.csv: new is not on the page",
        "a.csv has no subject",
    ]
    assert find_faults(page, "c.csv", ["mean"]) == ["c.csv has no section"]
    assert find_own_faults(page) == ["b.csv: tier is defined nowhere", f"{COMMON}: no table has family"]
    rows = {"subject": ["s", "s"], "tier": [0, 1], "side": ["text", "neither"], "mean": [0.5, 0.5]}
    pd.DataFrame(rows).to_csv(tmp_path / "b.csv", index=False)
    assert check_folder(page, tmp_path) == ({"b.csv"}, ["b.csv: side may be neither"])
