"""The measured calibration as a page."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mfbayes.calibration.measures import CI_PROB, describe_ranks, judge_ranks
from mfbayes.calibration.studies import SEED


def describe(path: Path) -> str:
    """The measured calibration as a page in Markdown."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    coverage = pd.DataFrame([row for row in rows if row["kind"] in ("fast", "nuts")])
    page = ["# Calibration", "", _INTRODUCTION.strip(), ""]
    for kind, title in (("fast", "## `fast`, over the grid"), ("nuts", "## `nuts`, at points of the grid")):
        own = coverage[coverage["kind"] == kind] if len(coverage) else coverage
        if not len(own):
            continue
        page += [title, "", _summarise(own), "", *_by_groups(own), _COLUMNS, "|" + "---|" * (_COLUMNS.count("|") - 1)]
        page += [
            f"| {row.n_groups} | {row.group_sd:g} | {row.group_model_sd:g} | {row.n_models} | {row.tilt:+g} "
            f"| {row.tfr_lowest:.2f}-{row.tfr_highest:.2f} | {row.b:.3f} ({row.b_error:.3f}) "
            f"| {row.difference:.3f} ({row.difference_error:.3f}) | {row.replicates} |"
            for row in own.itertuples()
        ]
        page.append("")
    compared = pd.DataFrame([row for row in rows if row["kind"] == "tiers"])
    if len(compared):
        page += ["## Widths of intervals, `fast` over `nuts`", "", _TIERS.strip(), "", *_compare(compared), ""]
    for kind, title, names in (
        ("rank", "## Ranks of true values among the draws of `nuts`", _RANKED),
        ("lapses", "## Ranks of true values with lapses, drawn from their prior too (`--lapse`)", (*_RANKED, "lapse")),
    ):
        ranked = [row for row in rows if row["kind"] == kind]
        if ranked:
            page += [title, "", *_rank(ranked, names), ""]
    return "\n".join(page)


_RANKED = (
    *("balance_point", "slope", "balance_point_mean", "balance_point_sd", "log_slope_mean", "log_slope_sd"),
    *("group_sd", "group_model_sd"),
)
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
_TIERS = """
On the same trials of 40 groups: geometric means over studies of the ratio of widths of 95 % intervals, with errors
between studies in brackets. Below one `fast` is too narrow. Its draws are weighed by the marginal likelihood; a k-hat
above .7 says that those weights are not exact.
"""
_RANKS = """
Simulation-based calibration: {n} studies of 4 models and 30 groups with every parameter drawn from its prior. Ranks
are uniform if the posterior is right. Balance points and slopes of a study share its groups and population, so that
their chi-square is too large and its p-value too small. Beside it stand the mean of the ranks (as a share) less one
half and their spread about one half over that of uniform ranks - below one where intervals are too wide, above one
where they are too narrow - with Monte Carlo errors between studies in brackets, which hold for shared groups too.
"""


def _rank(own: list[dict[str, Any]], names: Sequence[str]) -> Iterator[str]:
    passed = [row["passed"] for row in own if "passed" in row]
    gate = f" Fits that did not pass their own checks: {passed.count(False)} of {len(passed)}." if passed else ""
    yield _RANKS.format(n=len(own)).strip() + gate
    yield ""
    yield "| variable | ranks | chi-square (19 df) | p | mean - 1/2 | spread |"
    yield "|---|---|---|---|---|---|"
    for name in names:
        ranks = [rank for row in own for rank in row[name]]
        statistic, p = judge_ranks(ranks)
        shift, shift_error, spread, spread_error = describe_ranks([row[name] for row in own])
        yield (
            f"| `{name}` | {len(ranks)} | {statistic:.1f} | {p:.3f} | {shift:+.3f} ({shift_error:.3f}) "
            f"| {spread:.2f} ({spread_error:.2f}) |"
        )


def _by_groups(own: pd.DataFrame) -> Iterator[str]:
    """Coverage over all studies of as many groups, whose Monte Carlo error is small enough to show a small lack."""
    if own["n_groups"].nunique() < 2:
        return
    yield "| groups | studies | b | difference of two b |"
    yield "|---|---|---|---|"
    for n_groups, part in [*own.groupby("n_groups"), ("all", own)]:
        cells = [
            f"{part[name].mean():.3f} ({(part[f'{name}_error'] ** 2).sum() ** 0.5 / len(part):.3f})"
            for name in ("b", "difference")
        ]
        yield f"| {n_groups} | {len(part)} | {' | '.join(cells)} |"
    yield ""


def _compare(compared: pd.DataFrame) -> Iterator[str]:
    yield "| k-hat | studies | b | difference of two b |"
    yield "|---|---|---|---|"
    for label, part in (
        ("up to .7", compared[compared["k_hat"] <= 0.7]),
        (".7 to 1", compared[compared["k_hat"] > 0.7]),
        ("not weighed", compared[compared["k_hat"].isna()]),
    ):
        if len(part) > 1:
            logs = np.log(part[["b", "difference"]])
            cells = [f"{np.exp(logs[name].mean()):.3f} ({logs[name].std() / len(part) ** 0.5:.3f})" for name in logs]
            yield f"| {label} | {len(part)} | {' | '.join(cells)} |"


def _summarise(own: pd.DataFrame) -> str:
    # Where every interval covers, the spread between replicates is zero; the error is not.
    least = (CI_PROB * (1 - CI_PROB) / own["replicates"] / own["n_models"]) ** 0.5
    beyond = {
        name: ((own[name] - CI_PROB).abs() - 3 * np.maximum(own[f"{name}_error"], least)).max()
        for name in ("b", "difference")
    }
    return (
        f"Mean over {len(own)} studies: b {own['b'].mean():.3f}, differences {own['difference'].mean():.3f}. Of the "
        "distance from .95, what three Monte Carlo errors do not account for, in the worst study: "
        f"b {max(beyond['b'], 0):.3f}, differences {max(beyond['difference'], 0):.3f} (allowed: .020). "
        f"Fits that did not pass their own checks: {int(own['failures'].sum())} of {int(own['replicates'].sum())}."
    )
