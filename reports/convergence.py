"""Whether the sampler can be trusted: the checks as a title and a table, worst parameters first."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfbayes.names import FAST
from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import Cell, Table
from mfbayes.reports.numerals import count, decimal, percent

SHOWN = 12
LIMITS = {"max_r_hat": 1.01, "min_ess": 400.0, "max_divergence_share": 0.005}
"""The gate where the checks themselves do not name it."""

EXACT_K_HAT = 0.7
"""Shape of the tail of importance weights up to which they count as exact."""


@dataclass(frozen=True)
class Convergence:
    """The checks in words, the worst parameters, and all of them."""

    title: str
    summary: str
    worst: Table | None = None
    everything: Table | None = None


def check_convergence(evidence: Evidence) -> Convergence | None:
    """Word the convergence checks, or nothing where the fit stores none."""
    checks = evidence.table("convergence")
    if checks is None:
        return None
    if "r_hat" not in checks or not np.isfinite(checks["r_hat"].values.astype(float)).any():
        return _without_sampler(evidence)
    limits = {key: float(checks.attrs.get(key, fallback)) for key, fallback in LIMITS.items()}
    r_hat, bulk, tail = (checks[name].values.astype(float) for name in ("r_hat", "ess_bulk", "ess_tail"))
    order = np.lexsort((np.nan_to_num(bulk, nan=-1), -np.nan_to_num(r_hat, nan=np.inf)))
    rows = tuple(
        (
            Cell(str(checks["parameter"].values[i])),
            Cell(decimal(float(r_hat[i]), digits=3), "bad" if not r_hat[i] <= limits["max_r_hat"] else ""),
            Cell(count(float(bulk[i])), "bad" if not bulk[i] >= limits["min_ess"] else ""),
            Cell(count(float(tail[i])), "bad" if not tail[i] >= limits["min_ess"] else ""),
        )
        for i in order
    )
    head = ("Parameter", "R-hat", "ESS bulk", "ESS tail")
    least = min(float(np.nanmin(bulk)), float(np.nanmin(tail)))
    title = "The sampler converged" if evidence.converged else "The sampler did not converge"
    return Convergence(
        title,
        _summary(checks.attrs, float(np.nanmax(r_hat)), least, limits=limits),
        Table("The least certain parameters", head, rows[:SHOWN]),
        Table("All parameters", head, rows),
    )


def word_weighing(attributes: Mapping[Hashable, Any]) -> str:
    """One sentence where draws of the fast tier were not weighed by the likelihood, or not well; else nothing.

    Parameters
    ----------
    attributes : mapping
        Those of `/estimates/convergence`.

    Examples
    --------
    >>> word_weighing({"method": "fast", "passed": 1, "weighed": 1, "k_hat": 0.4})
    ''
    """
    if attributes.get("method") != FAST or "weighed" not in attributes or not attributes.get("passed", True):
        return ""
    if not attributes["weighed"]:
        return (
            "The draws of this fast fit were not weighed by the likelihood, so its intervals may be a few per cent too "
            "narrow: --method nuts tells."
        )
    k_hat = float(attributes.get("k_hat", 0.0))
    if k_hat <= EXACT_K_HAT:
        return ""
    return (
        f"The weights of this fast fit's draws are not exact (Pareto k-hat {decimal(k_hat)}, above {EXACT_K_HAT:g}), "
        "so its intervals may be somewhat too narrow: --method nuts tells."
    )


def word_failure(attributes: Mapping[Hashable, Any]) -> str:
    """Why a fit of the fast tier failed its checks, in one sentence; nothing where it passed or another tier made it.

    Parameters
    ----------
    attributes : mapping
        Those of `/estimates/convergence`.

    Examples
    --------
    >>> word_failure({"method": "fast", "passed": 0, "mode_found": 0})
    'The search for the mode of the posterior did not settle.'
    """
    if attributes.get("method") != FAST or attributes.get("passed", True):
        return ""
    if not attributes.get("mode_found", True):
        return "The search for the mode of the posterior did not settle."
    if "effective_nodes" not in attributes:
        return "The mode of the posterior or the integral over the spread between subjects was not found."
    return (
        "The integral over the spread between subjects is too coarse: of the points that it is made from, "
        f"{float(attributes['effective_nodes']):.1f} count, and {attributes['min_effective_nodes']} are needed."
    )


def _without_sampler(evidence: Evidence) -> Convergence:
    """The fast tier has no chains to compare: its own checks either passed or not."""
    if evidence.converged:
        weighing = word_weighing(evidence.estimates["convergence"].attrs)
        return Convergence(
            "Mode and curvature, no sampler",
            "The fit found the mode of the posterior and took its spread from the curvature there; its checks passed. "
            "Intervals of models with few trials are surer by sampling: fit again with --method nuts."
            + (f" {weighing}" if weighing else ""),
        )
    return Convergence(
        "Mode and curvature: the checks failed",
        f"{word_failure(evidence.estimates['convergence'].attrs)} Fit again with --method nuts.".lstrip(),
    )


def _summary(attributes: dict[str, object], largest: float, least: float, *, limits: dict[str, float]) -> str:
    parts = [f"Largest R-hat {decimal(largest, digits=3)}, smallest effective sample size {count(least)}"]
    chains, draws = attributes.get("chains"), attributes.get("draws")
    if chains is not None and draws is not None:
        parts.append(f"{count(float(str(chains)))} chains of {count(float(str(draws)))} draws")
    if "divergences" in attributes:
        number = float(str(attributes["divergences"]))
        share = percent(float(str(attributes.get("divergence_share", "nan"))))
        parts.append("no divergences" if number == 0 else f"{count(number)} divergences ({share})")
    attempts = attributes.get("attempts")
    if attempts is not None and float(str(attempts)) > 1:
        parts.append(f"{count(float(str(attempts)))} attempts")
    return (
        "; ".join(parts)
        + f". Limits: R-hat at most {limits['max_r_hat']:g}, effective sample size at least {limits['min_ess']:g}, "
        f"divergences at most {100 * limits['max_divergence_share']:g}\N{NO-BREAK SPACE}%."
    )
