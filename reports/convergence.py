"""Whether the sampler can be trusted: the checks as a title and a table, worst parameters first."""

from dataclasses import dataclass

import numpy as np

from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import Cell, Table
from mfbayes.reports.numerals import count, decimal, percent

SHOWN = 12
R_HAT_LIMIT = 1.01
ESS_LIMIT = 400


@dataclass(frozen=True)
class Convergence:
    """The checks in words, the worst parameters, and all of them."""

    title: str
    summary: str
    worst: Table
    everything: Table


def check_convergence(evidence: Evidence) -> Convergence | None:
    """Word the convergence checks, or nothing where the fit stores none."""
    checks = evidence.table("convergence")
    if checks is None:
        return None
    r_hat, bulk, tail = (checks[name].values.astype(float) for name in ("r_hat", "ess_bulk", "ess_tail"))
    order = np.lexsort((np.nan_to_num(bulk, nan=-1), -np.nan_to_num(r_hat, nan=np.inf)))
    rows = tuple(
        (
            Cell(str(checks["parameter"].values[i])),
            Cell(decimal(float(r_hat[i]), digits=3), "bad" if not r_hat[i] <= R_HAT_LIMIT else ""),
            Cell(count(float(bulk[i])), "bad" if not bulk[i] >= ESS_LIMIT else ""),
            Cell(count(float(tail[i])), "bad" if not tail[i] >= ESS_LIMIT else ""),
        )
        for i in order
    )
    head = ("Parameter", "R-hat", "ESS bulk", "ESS tail")
    least = min(float(np.nanmin(bulk)), float(np.nanmin(tail)))
    title = "The sampler converged" if evidence.converged else "The sampler did not converge"
    return Convergence(
        title,
        _summary(checks.attrs, float(np.nanmax(r_hat)), least),
        Table("The least certain parameters", head, rows[:SHOWN]),
        Table("All parameters", head, rows),
    )


def _summary(attributes: dict[str, object], largest: float, least: float) -> str:
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
        "; ".join(parts) + f". Limits: R-hat at most {R_HAT_LIMIT}, effective sample size at least {ESS_LIMIT}, "
        "divergences at most 0.5\N{NO-BREAK SPACE}%."
    )
