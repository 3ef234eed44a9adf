"""Whether the hazard model can be believed: replicates, silent layers, groups left out, and its sampler."""

from dataclasses import dataclass

import numpy as np

from mfbayes.names import POOLED
from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import Cell, Table
from mfbayes.reports.lookup import Numbers
from mfbayes.reports.numerals import count, decimal, interval, numeral, probability

MEASURES = {
    "oscillations": "mean number of switches",
    "three-or-more": "share of traces with three switches or more",
    "runs-of-two-or-more": "runs of two layers or more",
    "last-switch-depth": "depth of the last switch",
    "between-group-sd": "spread between groups",
}
TERMS = {"x": "effect of x = dH - b", "distance": "effect of distance from b"}
UNLIKELY = 0.05


@dataclass(frozen=True)
class Checks:
    """A finding, a short table of all checks, and the numbers behind it."""

    title: str
    table: Table
    details: tuple[Table, ...]


def check_switching(evidence: Evidence) -> Checks | None:
    """Sum up the checks of the hazard model, or nothing without any."""
    rows = [
        *_replicates(evidence),
        *_crossings(evidence),
        *_comparison(evidence),
        *_sampler(evidence),
        *_calibration(evidence),
    ]
    if not rows:
        return None
    table = Table("Checks of the hazard model", ("Check", "Result"), tuple(rows))
    details = tuple(t for t in (_replicate_data(evidence), _crossing_data(evidence)) if t is not None)
    return Checks(_title(evidence), table, details)


def _row(check: str, result: str, *, bad: bool = False) -> tuple[Cell, ...]:
    return Cell(check), Cell(result, "bad" if bad else "")


def _misses(evidence: Evidence, measure: str | None = None) -> tuple[int, int]:
    """How many observed statistics lie outside the replicates' interval, and how many are known."""
    table = evidence.table("predictive_checks")
    if table is None:
        return 0, 0
    numbers = Numbers(table, "subject", "measure")
    found = [
        [numbers(name, subject, m) for name in ("observed", "lower", "upper")]
        for subject in numbers.labels["subject"]
        for m in numbers.labels["measure"]
        if measure in (None, m)
    ]
    known = [(value, lower, upper) for value, lower, upper in found if np.isfinite([value, lower, upper]).all()]
    return sum(not lower <= value <= upper for value, lower, upper in known), len(known)


def _title(evidence: Evidence) -> str:
    missed, known = _misses(evidence)
    if not _converged(evidence):
        return "The hazard model's sampler did not converge"
    if not known:
        return "How far the hazard model can be believed"
    if not missed:
        return f"The hazard model makes traces like those observed, in {numeral(known)} statistics"
    return f"The hazard model misses {numeral(missed)} of {numeral(known)} statistics of the traces"


def _replicates(evidence: Evidence) -> list[tuple[Cell, ...]]:
    table = evidence.table("predictive_checks")
    if table is None:
        return []
    rows = []
    for measure in [str(label) for label in table["measure"].values]:
        missed, known = _misses(evidence, measure)
        words = MEASURES.get(measure, measure)
        said = f"observed outside the {evidence.level} range of replicates in {missed} of {known} models"
        # One miss in twenty is what a right model has.
        rows.append(_row(f"Replicates: {words}", said, bad=missed > max(1, 0.05 * known)))
    return rows


def _crossings(evidence: Evidence) -> list[tuple[Cell, ...]]:
    table = evidence.table("missing_at_random")
    if table is None:
        return []
    numbers = Numbers(table, "subject")
    observed, expected, lower, upper, p = (
        numbers(name, POOLED) for name in ("observed", "expected", "lower", "upper", "p_more")
    )
    if np.isnan(observed):
        return [_row("Silent layers", "none between two layers with a side")]
    said = (
        f"{count(observed)} switches across layers led by neither answer, {decimal(expected, digits=1)} "
        f"{interval(lower, upper, digits=0)} expected; probability of as many or more {probability(p)}"
    )
    return [_row("Silent layers", said, bad=not UNLIKELY / 2 <= p <= 1 - UNLIKELY / 2)]


def _comparison(evidence: Evidence) -> list[tuple[Cell, ...]]:
    table = evidence.table("switching_comparison")
    if table is None:
        return []
    numbers = Numbers(table, "version")
    rows = []
    for version in sorted(numbers.labels["version"], key=lambda v: -numbers("elpd", v)):
        difference, error, unknown = (
            numbers(name, version) for name in ("elpd_difference", "difference_se", "n_unknown")
        )
        said = "best at groups left out" if difference == 0 else f"{decimal(difference, digits=1)}"
        said += "" if difference == 0 else f" nats, standard error {decimal(error, digits=1)}"
        said += f"; not found of {count(unknown)} groups" if unknown > 0 else ""
        rows.append(_row(f"Terms: {version}", said, bad=unknown > 0))
    return rows


def _converged(evidence: Evidence) -> bool:
    table = evidence.table("switching_convergence")
    return table is None or bool(table.attrs.get("passed", True))


def _sampler(evidence: Evidence) -> list[tuple[Cell, ...]]:
    table = evidence.table("switching_convergence")
    if table is None or "r_hat" not in table:
        return []
    worst = float(np.nanmax(table["r_hat"].values))
    size = float(np.nanmin([table[name].values for name in ("ess_bulk", "ess_tail") if name in table]))
    said = f"largest R-hat {worst:.3f}, smallest effective sample size {count(size)}"
    said += "" if _converged(evidence) else "; not enough"
    return [_row("Sampler", said, bad=not _converged(evidence))]


def _calibration(evidence: Evidence) -> list[tuple[Cell, ...]]:
    """What was measured on simulated traces: it vouches for the method, not for this fit."""
    table = evidence.table("switching_calibration")
    if table is None:
        return []
    numbers = Numbers(table, "term")
    rows = []
    for term in numbers.labels["term"]:
        share, error, sets = (numbers(name, term) for name in ("coverage", "coverage_error", "coverage_sets"))
        bias, off, of_bias = (numbers(name, term) for name in ("bias", "bias_error", "bias_sets"))
        said = (
            f"95 % intervals cover the truth in {decimal(share, digits=3)} (Monte Carlo error "
            f"{decimal(error, digits=3)}, {count(sets)} data sets); bias {decimal(bias)} ({decimal(off)}, "
            f"{count(of_bias)}) posterior standard deviations"
        )
        bad = abs(share - 0.95) > 0.02 + 3 * error or abs(bias) > 0.1 + 3 * off
        rows.append(_row(f"Simulated traces: {TERMS.get(term, term)}", said, bad=bad))
    return rows


def _replicate_data(evidence: Evidence) -> Table | None:
    table = evidence.table("predictive_checks")
    if table is None:
        return None
    numbers = Numbers(table, "subject", "measure")
    rows = [
        [
            evidence.short(subject), MEASURES.get(measure, measure), decimal(numbers("observed", subject, measure)),
            decimal(numbers("mean", subject, measure)),
            interval(*(numbers(end, subject, measure) for end in ("lower", "upper"))),
            probability(numbers("p_tail", subject, measure)),
        ]
        for subject in numbers.labels["subject"]
        for measure in numbers.labels["measure"]
    ]  # fmt: skip
    head = ["Model", "Statistic", "Observed", "Replicates", f"{evidence.level} interval", "P(as far out)"]
    return Table.of("Statistics of the traces and of replicates", head, rows)


def _crossing_data(evidence: Evidence) -> Table | None:
    table = evidence.table("missing_at_random")
    if table is None:
        return None
    numbers = Numbers(table, "subject")
    rows = [
        [
            "All models" if subject == POOLED else evidence.short(subject), count(numbers("gaps", subject)),
            count(numbers("observed", subject)), decimal(numbers("expected", subject), digits=1),
            interval(numbers("lower", subject), numbers("upper", subject), digits=0),
            probability(numbers("p_more", subject)),
        ]
        for subject in numbers.labels["subject"]
    ]  # fmt: skip
    head = ["Model", "Silent stretches", "Switches across", "Expected", f"{evidence.level} interval", "P(as many)"]
    return Table.of("Switches across layers led by neither answer", head, rows)
