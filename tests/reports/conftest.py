"""Fits for the report to draw, simulated from the model and written as the fit writes them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import xarray as xr

DRAWS = 2000
BINS = 12
LAYERS = 12


@dataclass(frozen=True)
class Case:
    """A model on a task, with the truth that its trials are drawn from."""

    model: str
    b: float
    slope: float = 3.0
    task: str = "color"
    status: str = "ok"
    law: str = "falls"
    layers: int = LAYERS
    sd: float = 0.04
    condition: str = ""


FIVE = (
    Case("tiny-trust-text", 0.62),
    Case("tiny-balanced", 0.02, 2.6),
    Case("tiny-trust-image", -0.44, 3.4),
    Case("tiny-no-conflict", -0.12, 1.8),
    Case("tiny-no-supervision", -0.71, 2.2, layers=8),
)


def _logistic(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


def _interval(draws: np.ndarray, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    lower, upper = np.quantile(draws, [0.025, 0.975], axis=axis)
    return lower, upper


def simulate(
    cases: Sequence[Case] = FIVE,
    *,
    seed: int = 1,
    tiers: bool = True,
    traces: bool = True,
    converged: bool = True,
    studied: bool = True,
    method: str = "nuts",
    index: str = "entropy",
    notes: Sequence[str] = (),
) -> xr.DataTree:
    """A fit of the cases with every node of `/estimates`."""
    rng = np.random.default_rng(seed)
    shown = [name for name in ("task", "condition") if len({getattr(case, name) for case in cases}) > 1]
    keys = [" / ".join([case.model, *(getattr(case, name) for name in shown)]) for case in cases]
    draws = np.stack([rng.normal(case.b, case.sd, DRAWS) for case in cases])
    slopes = np.stack([rng.normal(case.slope, 0.12, DRAWS) for case in cases])
    dH = [np.clip(rng.normal(0, 0.75, 900), -2, 2) for _ in cases]
    text = [_choose(rng, case, values) for case, values in zip(cases, dH, strict=True)]
    nodes = {
        "balance_points": _balance_points(cases, keys, draws, slopes, text),
        "balance_density": _density(keys, draws),
        "pairwise": _pairwise(cases, keys, draws),
        "curves": _curves(keys, draws, slopes),
        "binned": _binned(keys, dH, text),
        "dH_histogram": _histogram(keys, dH),
        "convergence": _convergence(keys, rng, converged=converged, method=method),
    }
    if studied:
        nodes |= _study(cases, keys, draws, nodes["balance_points"], rng)
    if tiers:
        nodes["entropy_by_tier"] = _tiers(list(dict.fromkeys(case.model for case in cases)), rng)
    if traces:
        nodes["oscillations"] = _oscillations(cases, keys, rng)
        nodes["layer_map"] = _layer_map(cases, keys, rng)
    tree = xr.DataTree.from_dict({f"/estimates/{name}": node for name, node in nodes.items()})
    tree.attrs.update(
        mfbayes_version="0.1.0", ci_prob=0.95, subset="both-correct", method=method, index=index, seed=seed,
        status="ok" if converged else "not-converged", notes=json.dumps(list(notes)),
    )  # fmt: skip
    return tree


def _choose(rng: np.random.Generator, case: Case, dH: np.ndarray) -> np.ndarray:
    if case.status == "one-sided":
        return np.full(dH.shape, case.b > 0)
    sign = -1 if case.law == "rises" else 1
    return rng.random(dH.size) < _logistic(case.slope * sign * (case.b - dH))


def _balance_points(
    cases: Sequence[Case], keys: list[str], draws: np.ndarray, slopes: np.ndarray, text: list[np.ndarray]
) -> xr.Dataset:
    lower, upper = _interval(draws, axis=1)
    slope_lower, slope_upper = _interval(slopes, axis=1)
    n_text = np.array([int(t.sum()) for t in text])
    n = np.array([t.size for t in text])
    tfr = n_text / n
    error = 1.96 * np.sqrt(tfr * (1 - tfr) / n)
    free = np.array([{"falls": -1, "rises": 1, "unclear": -0.02}[case.law] * case.slope for case in cases])
    columns: dict[str, Any] = {
        "mean": draws.mean(1), "median": np.median(draws, axis=1), "sd": draws.std(1), "lower": lower, "upper": upper,
        "intercept_mean": (draws * slopes).mean(1), "slope_mean": slopes.mean(1),
        "slope_lower": slope_lower, "slope_upper": slope_upper,
        "n_trials": n, "n_text": n_text, "n_image": n - n_text, "n_other": np.full(len(keys), 21),
        "tfr": tfr, "tfr_lower": tfr - error, "tfr_upper": tfr + error,
        "status": [case.status for case in cases],
        "free_slope": free, "free_slope_lower": free - 0.3, "free_slope_upper": free + 0.3,
        "law": [case.law for case in cases],
    }  # fmt: skip
    coords = {
        "subject": keys,
        "model": ("subject", [case.model for case in cases]),
        "task": ("subject", [case.task for case in cases]),
        "condition": ("subject", [case.condition for case in cases]),
    }
    dataset = xr.Dataset({name: ("subject", np.asarray(values)) for name, values in columns.items()}, coords)
    dataset.attrs["ci_prob"] = 0.95
    return dataset


def _density(keys: list[str], draws: np.ndarray) -> xr.Dataset:
    values, densities = [], []
    for own in draws:
        at = np.linspace(own.mean() - 4 * own.std(), own.mean() + 4 * own.std(), 81)
        values.append(at)
        densities.append(np.exp(-(((at - own.mean()) / own.std()) ** 2) / 2) / own.std() / np.sqrt(2 * np.pi))
    dims = ("subject", "point")
    return xr.Dataset({"value": (dims, np.stack(values)), "density": (dims, np.stack(densities))}, {"subject": keys})


def _pairwise(cases: Sequence[Case], keys: list[str], draws: np.ndarray) -> xr.Dataset:
    below = np.array([[(a < b).mean() for b in draws] for a in draws])
    gaps = draws[:, None] - draws[None]
    lower, upper = _interval(gaps, axis=2)
    apart = _set_apart(cases)
    arrays = {"p_below": below, "difference": gaps.mean(2), "lower": lower, "upper": upper}
    return xr.Dataset(
        {name: (("subject", "other_subject"), np.where(apart, np.nan, values)) for name, values in arrays.items()},
        {"subject": keys, "other_subject": keys},
    )


def _set_apart(cases: Sequence[Case]) -> np.ndarray:
    return np.array(
        [
            [(x.task, x.condition) != (y.task, y.condition) or i == j for j, y in enumerate(cases)]
            for i, x in enumerate(cases)
        ]
    )


def _curves(keys: list[str], draws: np.ndarray, slopes: np.ndarray) -> xr.Dataset:
    grid = np.linspace(-2, 2, 61)
    p = _logistic(slopes[..., None] * (draws[..., None] - grid))
    lower, upper = _interval(p, axis=1)
    dims = ("subject", "dH")
    return xr.Dataset(
        {"mean": (dims, p.mean(1)), "lower": (dims, lower), "upper": (dims, upper)}, {"subject": keys, "dH": grid}
    )


def _binned(keys: list[str], dH: list[np.ndarray], text: list[np.ndarray]) -> xr.Dataset:
    out: dict[str, list[list[float]]] = {
        name: [] for name in ("dH_lower", "dH_upper", "dH_mean", "n", "n_text", "share", "share_lower", "share_upper")
    }
    for values, chosen in zip(dH, text, strict=True):
        edges = np.quantile(values, np.linspace(0, 1, BINS + 1))
        rows: dict[str, list[float]] = {name: [] for name in out}
        for low, high in pairwise(edges):
            inside = (values >= low) & (values <= high)
            n, k = int(inside.sum()), int(chosen[inside].sum())
            centre, half = (k + 2) / (n + 4), 1.96 * np.sqrt((k + 2) * (n - k + 2) / (n + 4) ** 3)
            found = (low, high, values[inside].mean(), n, k, k / n, max(0, centre - half), min(1, centre + half))
            for name, value in zip(out, found, strict=True):
                rows[name].append(float(value))
        for name, row in rows.items():
            out[name].append(row)
    return xr.Dataset({name: (("subject", "bin"), np.array(v)) for name, v in out.items()}, {"subject": keys})


def _histogram(keys: list[str], dH: list[np.ndarray]) -> xr.Dataset:
    edges = np.linspace(-2, 2, 33)
    dims = ("subject", "bin")
    shape = (len(keys), 1)
    return xr.Dataset(
        {
            "count": (dims, np.stack([np.histogram(values, edges)[0] for values in dH])),
            "edge_lower": (dims, np.tile(edges[:-1], shape)),
            "edge_upper": (dims, np.tile(edges[1:], shape)),
        },
        {"subject": keys},
    )


def _convergence(keys: list[str], rng: np.random.Generator, *, converged: bool, method: str) -> xr.Dataset:
    if method == "fast":
        return xr.Dataset(attrs={"passed": int(converged), "method": "fast", "divergences": 0, "draws": 1000})
    names = [f"{name}[{key}]" for name in ("balance_point", "slope") for key in keys]
    names += [
        "balance_point_mean",
        "balance_point_sd",
        "log_slope_mean",
        "log_slope_sd",
        "group_sd",
        "group_model_sd",
    ]
    worst = 1.004 if converged else 1.21
    sizes = rng.uniform(900, 3800, (2, len(names))) if converged else rng.uniform(12, 300, (2, len(names)))
    return xr.Dataset(
        {
            "r_hat": ("parameter", rng.uniform(1.0, worst, len(names))),
            "ess_bulk": ("parameter", sizes[0]),
            "ess_tail": ("parameter", sizes[1]),
        },
        {"parameter": names},
        {"divergences": 0 if converged else 41, "divergence_share": 0.0 if converged else 0.01, "draws": 1000,
         "chains": 4, "passed": int(converged), "attempts": 1,
         "max_r_hat": 1.01, "min_ess": 400, "max_divergence_share": 0.005},
    )  # fmt: skip


def _tiers(models: list[str], rng: np.random.Generator) -> xr.Dataset:
    tiers = np.arange(14)
    mean = np.full((len(models), 2, 14), np.nan)
    accuracy = mean.copy()
    for i in range(len(models)):
        scale = rng.uniform(0.7, 1.15)
        mean[i, 1] = scale * (0.05 + 1.5 * (tiers / 13) ** 1.3 + rng.normal(0, 0.03, 14)).clip(0.01)
        mean[i, 0, :3] = scale * np.array([0.06, 0.34, 0.93])
        accuracy[i, 1] = (0.99 - 0.7 * (tiers / 13) ** 1.5 * scale).clip(0.15)
        accuracy[i, 0, :3] = [1, 1, 0.86 * min(1, 1 / scale)]
    dims = ("model", "modality", "tier")
    arrays = {"mean": mean, "lower": mean * 0.94, "upper": mean * 1.06, "n": np.where(np.isnan(mean), 0, 64)}
    return xr.Dataset(
        {**{name: (dims, values) for name, values in arrays.items()}, "accuracy": (dims, accuracy)},
        {"model": models, "modality": ["text", "image"], "tier": tiers},
    )


REGIONS = ["text-clear", "ambiguous", "image-clear", "clear", "control"]


def _oscillations(cases: Sequence[Case], keys: list[str], rng: np.random.Generator) -> xr.Dataset:
    mean = np.array([[0.6, 1.35, 0.8, 0.7, 0.3] for _ in cases]) * rng.uniform(0.8, 1.25, (len(cases), 1))
    mean[:, 1] += rng.uniform(-0.15, 0.3, len(cases))
    dims = ("subject", "region")
    arrays = {"mean": mean, "lower": mean - 0.09, "upper": mean + 0.09, "n": np.full(mean.shape, 300)}
    arrays["never_committed"] = np.full(mean.shape, 0.03)
    return xr.Dataset({k: (dims, v) for k, v in arrays.items()}, {"subject": keys, "region": REGIONS})


def _layer_map(cases: Sequence[Case], keys: list[str], rng: np.random.Generator) -> xr.Dataset:
    edges = np.linspace(-2, 2, 17)
    centres = (edges[:-1] + edges[1:]) / 2
    mean = np.full((len(cases), LAYERS, 16), np.nan)
    for i, case in enumerate(cases):
        depth = np.arange(1, case.layers + 1)[:, None] / case.layers
        drift = _logistic(10 * (depth - 0.45))
        mean[i, : case.layers] = 7 * drift * np.tanh(1.4 * (case.b - centres)) + rng.normal(0, 0.35, (case.layers, 16))
    coords = {"subject": keys, "layer": np.arange(1, LAYERS + 1)}
    return xr.Dataset(
        {
            "mean": (("subject", "layer", "bin"), mean),
            "lower": (("subject", "layer", "bin"), mean - 0.6),
            "upper": (("subject", "layer", "bin"), mean + 0.6),
            "n": (("subject", "layer", "bin"), np.where(np.isnan(mean), 0, 40)),
            "n_layers": ("subject", [case.layers for case in cases]),
            "dH_lower": ("bin", edges[:-1]),
            "dH_upper": ("bin", edges[1:]),
        },
        coords,
    )


LAWS = {
    "intercept only": -412.0,
    "dH": -31.0,
    "log ratio": -33.5,
    "two entropies": -4.2,
    "monotone spline": -24.0,
    "free spline": -25.3,
    "surface": 0.0,
    "ideal arbiter": -88.0,
}
ANALYSES = ["main", "all items", "without near ties", "index: margin"]


def _study(
    cases: Sequence[Case], keys: list[str], draws: np.ndarray, points: xr.Dataset, rng: np.random.Generator
) -> dict[str, xr.Dataset]:
    """The estimates that compare subjects, laws, halves and analyses."""
    n, own, pair = len(keys), ("subject",), ("subject", "other_subject")
    coords = {"subject": keys}
    ranks = np.argsort(np.argsort(-draws, axis=0), axis=0) + 1
    rank_lower, rank_upper = _interval(ranks, axis=1)
    tfr = points["tfr"].values
    gap = np.where(_set_apart(cases), np.nan, tfr[:, None] - tfr[None])
    parts = {"by_balance_point": 0.8, "by_slope": 0.15, "by_composition": 0.03, "modelled": 0.98, "unexplained": 0.02}
    half = np.array([0.05, -0.05])
    halved = draws.mean(1)[:, None] * np.array([1.0, 0.6])
    grid = np.linspace(0.05, 2.2, 16)
    H_text, H_image = np.meshgrid(grid, grid, indexing="ij")
    dH = 2 * (H_text - H_image) / (H_text + H_image)
    p_text = np.stack([_logistic(case.slope * (case.b - dH)) for case in cases])
    p_text[:, H_text + H_image > 3.6] = np.nan
    curve = np.stack([grid * (2 - case.b) / max(2 + case.b, 0.01) * (1 + 0.08 * grid) for case in cases])
    curve[curve > 2.2] = np.nan
    behind = np.array(list(LAWS.values()))
    bent = _curves(keys, draws, np.full(draws.shape, 2.0))
    towards = np.abs(halved[:, 0]) - np.abs(halved[:, 1])
    analysed = draws.mean(1)[:, None] + rng.normal(0, 0.03, (n, len(ANALYSES)))
    width = np.array([-0.09, 0.09])
    dims = ("subject", "analysis")
    both = ("subject", "half")
    plane = ("subject", "H_text_point", "H_image_point")
    line = ("subject", "H_text_point")
    nodes = {
        "ranking": xr.Dataset(
            {
                "p_rank": (("subject", "rank"), np.stack([(ranks == r + 1).mean(1) for r in range(n)], axis=1)),
                "rank_mean": (own, ranks.mean(1)), "rank_lower": (own, rank_lower), "rank_upper": (own, rank_upper),
            },
            coords | {"rank": np.arange(1, n + 1)},
        ),
        "equivalence": xr.Dataset(
            {
                "p_image": (own, (draws < -0.15).mean(1)), "p_text": (own, (draws > 0.15).mean(1)),
                "p_equivalent": (own, (np.abs(draws) < 0.15).mean(1)),
            },
            coords, {"zone": 0.15},
        ),
        "decomposition": xr.Dataset(
            {
                f"{name}{end}": (pair, share * gap + off)
                for name, share in ({"tfr_difference": 1.0} | parts).items()
                for end, off in (("", 0.0), ("_lower", -0.02), ("_upper", 0.02))
            },
            coords | {"other_subject": keys},
        ),
        "halves": xr.Dataset(
            {
                "mean": (both, halved), "lower": (both, halved - 0.1), "upper": (both, halved + 0.1),
                "n_trials": (both, np.full((n, 2), 450)), "status": (both, np.full((n, 2), "ok")),
                "towards_zero": (own, towards), "towards_zero_lower": (own, towards + half[1]),
                "towards_zero_upper": (own, towards + half[0]),
                "p_towards_zero": (own, np.where(towards > 0.05, 0.99, 0.6)),
            },
            coords | {"half": ["low", "high"]},
        ),
        "laws": xr.Dataset(
            {
                "elpd": ("law", -2000 + behind), "elpd_se": ("law", np.full(behind.size, 40.0)),
                "elpd_difference": ("law", behind), "difference_se": ("law", np.sqrt(-behind)),
                "p_parameters": ("law", np.linspace(5, 30, behind.size)), "max_k_hat": ("law", behind * 0 + 0.4),
                "n_bad_k": ("law", np.zeros(behind.size, int)),
            },
            {"law": list(LAWS)},
            {"dH_suffices": "no"},
        ),
        "law_parameters": _parameters(keys),
        "monotone": xr.Dataset(
            {
                "p_monotone": (own, np.full(n, 0.97)), "prior_p_monotone": (own, np.full(n, 0.31)),
                "bayes_factor": (own, np.full(n, 71.9)), "verdict": (own, np.full(n, "falls", dtype=object)),
            },
            coords, {"tolerance": 0.3},
        ),
        "law_curves": bent.expand_dims(law=["free spline"]),
        "plane": xr.Dataset(
            {
                "p_text": (plane, p_text), "curve_H_image": (line, curve), "curve_lower": (line, curve * 0.92),
                "curve_upper": (line, curve * 1.08),
            },
            coords | {"H_text_point": grid, "H_image_point": grid},
        ),
        "sensitivity": xr.Dataset(
            {
                "mean": (dims, analysed), "lower": (dims, analysed + width[0]), "upper": (dims, analysed + width[1]),
                "n_trials": (dims, np.full(analysed.shape, 900)), "status": (dims, np.full(analysed.shape, "ok")),
            },
            coords | {"analysis": ANALYSES},
        ),
        "outcomes": xr.Dataset(
            {
                "p_other": (own, np.full(n, 0.023)), "shift": (own, np.full(n, 0.012)),
                "shift_lower": (own, np.full(n, -0.021)), "shift_upper": (own, np.full(n, 0.034)),
                "n_trials": (own, np.full(n, 921)), "n_other": (own, np.full(n, 21)),
            }
            | {
                f"balance_point{fit}{end}": (own, draws.mean(1) + moved + off)
                for fit, moved in (("", 0.012), ("_two_outcomes", 0.0), ("_if_text", 0.06), ("_if_image", -0.06))
                for end, off in (("", 0.0), ("_lower", -0.08), ("_upper", 0.08))
            },
            coords, {"ignorable": "no sign against it", "rule": "a rule"},
        ),
        "outcome_correlations": xr.Dataset(
            {name: ("level", [value]) for name, value in
             (("correlation", 0.1), ("correlation_lower", -0.4), ("correlation_upper", 0.6), ("p_positive", 0.61))},
            {"level": ["group"]},
        ),
        "lapses": xr.Dataset(
            {name: ("model", [value]) for name, value in (("mean", 0.02), ("lower", 0.004), ("upper", 0.05))},
            {"model": [cases[0].model]},
        ),
    }  # fmt: skip
    shifts = _shifts(cases, draws)
    return nodes | ({"condition_shifts": shifts} if shifts else {})


def _parameters(keys: list[str]) -> xr.Dataset:
    """Slopes of two laws; the arbiter was not fitted."""
    median = np.full((len(keys), 3, 3), np.nan)
    median[:, 0, 0] = -3.0
    median[:, 1, 1:] = -1.5, 1.2
    dims = ("subject", "law", "parameter")
    return xr.Dataset(
        {name: (dims, median + off) for name, off in (("median", 0.0), ("lower", -0.25), ("upper", 0.25))},
        {
            "subject": keys,
            "law": ["dH", "two entropies", "ideal arbiter"],
            "parameter": ["slope", "text slope", "image slope"],
        },
    )


def _shifts(cases: Sequence[Case], draws: np.ndarray) -> xr.Dataset:
    """Shifts against the first condition of each model and task; empty with one condition."""
    first: dict[tuple[str, str], int] = {}
    rows: dict[str, list[Any]] = {name: [] for name in SHIFT}
    for i, case in enumerate(cases):
        base = first.setdefault((case.model, case.task), i)
        if base != i:
            gap = draws[i] - draws[base]
            found = (case.model, case.task, case.condition, cases[base].condition, gap.mean(), *_interval(gap))
            for name, value in zip(SHIFT, (*found, (gap > 0).mean()), strict=True):
                rows[name].append(value)
    if not rows["mean"]:
        return xr.Dataset()
    return xr.Dataset({name: ("shift", values) for name, values in rows.items()}).set_coords(list(SHIFT[:4]))


SHIFT = ("model", "task", "condition", "baseline", "mean", "lower", "upper", "p_positive")

RUN = {
    "command": "mfbayes fit --model all --out runs",
    "versions": {"mfbayes": "0.1.0", "python": "3.12.11", "pymc": "6.4.0", "nutpie": "0.16.11"},
    "seeds": {"data": 0, "fit": 0},
    "hashes": {"data": "9f" * 32, "trials": "3c" * 32},
    "timings": {"collect": 81.2, "fit": 34.0},
    "asked": {
        "llava-r50": {
            "dtype": "bfloat16",
            "device": "cuda:0",
            "way": "packed",
            "flops": {"spent": 2.1e12, "floor": 2e12},
            "audit": {"H": {"median": 1e-3, "p95": 0.02}, "dH": {"median": 4e-3, "p95": 0.05}, "answers_changed": 0.01},
        },
        "qwen-r50": {"dtype": "float32", "device": "cpu", "way": "cached", "flops": {"spent": 3e12, "floor": 2e12}},
    },
}


@pytest.fixture(scope="session")
def build_tree() -> Callable[..., xr.DataTree]:
    return simulate


@pytest.fixture(scope="session")
def make_case() -> Callable[..., Case]:
    return Case


@pytest.fixture(scope="session")
def run_record() -> dict[str, Any]:
    return dict(RUN)
