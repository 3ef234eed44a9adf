"""How the models were asked: precision, way and cost, and how far a narrow precision puts entropies off."""

from collections.abc import Mapping
from typing import Any

from mfbayes.reports.figures import Table
from mfbayes.reports.numerals import percent

_NONE = "–"
_HEAD = ["Model", "Precision", "Device", "Way", "Operations over the least"]
_ERRORS = ["Error of H, nats", "Error of dH", "Answers changed"]


def tabulate_asking(run: Mapping[str, Any]) -> Table | None:
    """Tabulate `asked` of `run.json`, or nothing where no model was asked.

    Errors are the median and the 95th percentile of a sample asked again in float32.
    """
    asked = run.get("asked") or {}
    rows = [[model, *_cells(facts)] for model, facts in sorted(asked.items())]
    if not rows:
        return None
    if all(row[5:] == [_NONE] * 3 for row in rows):
        # Nothing was narrow, so nothing is off.
        return Table.of("How the models were asked", _HEAD, [row[:5] for row in rows])
    return Table.of("How the models were asked; errors as median, 95th percentile", _HEAD + _ERRORS, rows)


def _cells(facts: Mapping[str, Any]) -> list[str]:
    flops = facts.get("flops") or {}
    ratio = f"{flops['spent'] / flops['floor']:.2f}" if flops.get("floor") else _NONE
    told = [str(facts.get(name) or _NONE) for name in ("dtype", "device", "way")]
    audit = facts.get("audit") or {}
    if "skipped" in audit:
        return [*told, ratio, "not measured", "not measured", "not measured"]
    changed = audit.get("answers_changed")
    errors = [_error(audit.get(name) or {}) for name in ("H", "dH")]
    return [*told, ratio, *errors, _NONE if changed is None else percent(changed)]


def _error(summary: Mapping[str, float | None]) -> str:
    values = [summary.get(name) for name in ("median", "p95")]
    return _NONE if None in values else ", ".join(f"{value:.2g}" for value in values)
