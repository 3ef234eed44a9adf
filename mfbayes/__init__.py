"""Why a multimodal language model follows the text or the image when the two disagree.

The functions below are loaded when first used, so that importing mfbayes costs nothing.

Examples
--------
>>> import mfbayes
>>> trials = mfbayes.read_trials("trials.csv")  # doctest: +SKIP
>>> fit = mfbayes.fit(trials, seed=1)  # doctest: +SKIP
>>> mfbayes.balance_points(fit)  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

from mfbayes._version import __version__ as __version__

if TYPE_CHECKING:
    from mfbayes.estimates.balance import balance_points as balance_points
    from mfbayes.estimates.comparisons import compare_pairs as compare_pairs
    from mfbayes.estimates.comparisons import judge_equivalence as judge_equivalence
    from mfbayes.estimates.comparisons import rank_models as rank_models
    from mfbayes.estimates.conditions import shift_of_conditions as shift_of_conditions
    from mfbayes.estimates.decomposition import decompose_tfr as decompose_tfr
    from mfbayes.estimates.halves import split_by_total_entropy as split_by_total_entropy
    from mfbayes.estimates.predictions import predict as predict
    from mfbayes.estimates.sensitivity import estimate_sensitivity as estimate_sensitivity
    from mfbayes.fitting import fit as fit
    from mfbayes.fitting import load_fit as load_fit
    from mfbayes.fitting import save_fit as save_fit
    from mfbayes.laws.comparison import compare_laws as compare_laws
    from mfbayes.laws.monotonicity import judge_monotonicity as judge_monotonicity
    from mfbayes.laws.parameters import law_parameters as law_parameters
    from mfbayes.laws.plane import map_plane as map_plane
    from mfbayes.outcomes import fit_three_outcomes as fit_three_outcomes
    from mfbayes.pooled.pooling import pool as pool
    from mfbayes.power import find_groups as find_groups
    from mfbayes.power import measure_power as measure_power
    from mfbayes.reports.page import write_report as report
    from mfbayes.selection import select_trials as select_trials
    from mfbayes.simulated_traces import simulate_traces as simulate_traces
    from mfbayes.simulation import Scenario as Scenario
    from mfbayes.simulation import simulate_trials as simulate_trials
    from mfbayes.trials import read_trials as read_trials

_HOMES = {
    "find_groups": ("mfbayes.power", "find_groups"),
    "measure_power": ("mfbayes.power", "measure_power"),
    "Scenario": ("mfbayes.simulation", "Scenario"),
    "simulate_traces": ("mfbayes.simulated_traces", "simulate_traces"),
    "pool": ("mfbayes.pooled.pooling", "pool"),
    "balance_points": ("mfbayes.estimates.balance", "balance_points"),
    "compare_laws": ("mfbayes.laws.comparison", "compare_laws"),
    "compare_pairs": ("mfbayes.estimates.comparisons", "compare_pairs"),
    "decompose_tfr": ("mfbayes.estimates.decomposition", "decompose_tfr"),
    "estimate_sensitivity": ("mfbayes.estimates.sensitivity", "estimate_sensitivity"),
    "fit": ("mfbayes.fitting", "fit"),
    "fit_three_outcomes": ("mfbayes.outcomes", "fit_three_outcomes"),
    "judge_equivalence": ("mfbayes.estimates.comparisons", "judge_equivalence"),
    "judge_monotonicity": ("mfbayes.laws.monotonicity", "judge_monotonicity"),
    "law_parameters": ("mfbayes.laws.parameters", "law_parameters"),
    "load_fit": ("mfbayes.fitting", "load_fit"),
    "map_plane": ("mfbayes.laws.plane", "map_plane"),
    "predict": ("mfbayes.estimates.predictions", "predict"),
    "rank_models": ("mfbayes.estimates.comparisons", "rank_models"),
    "read_trials": ("mfbayes.trials", "read_trials"),
    "report": ("mfbayes.reports.page", "write_report"),
    "save_fit": ("mfbayes.fitting", "save_fit"),
    "select_trials": ("mfbayes.selection", "select_trials"),
    "shift_of_conditions": ("mfbayes.estimates.conditions", "shift_of_conditions"),
    "simulate_trials": ("mfbayes.simulation", "simulate_trials"),
    "split_by_total_entropy": ("mfbayes.estimates.halves", "split_by_total_entropy"),
}
__all__ = [
    "Scenario",
    "__version__",
    "balance_points",
    "compare_laws",
    "compare_pairs",
    "decompose_tfr",
    "estimate_sensitivity",
    "find_groups",
    "fit",
    "fit_three_outcomes",
    "judge_equivalence",
    "judge_monotonicity",
    "law_parameters",
    "load_fit",
    "map_plane",
    "measure_power",
    "pool",
    "predict",
    "rank_models",
    "read_trials",
    "report",
    "save_fit",
    "select_trials",
    "shift_of_conditions",
    "simulate_traces",
    "simulate_trials",
    "split_by_total_entropy",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mfbayes' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
