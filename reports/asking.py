"""How the models were asked: precision, way and cost, what a narrow precision costs, and what letters do."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import Table
from mfbayes.reports.lookup import Numbers
from mfbayes.reports.numerals import count, decimal, percent

_NONE = "–"
_HEAD = ["Model", "Precision", "Device", "Way", "Operations over the least"]
_GIVEN = {"both": "both inputs", "text": "text alone", "image": "image alone"}
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


def tabulate_letters(evidence: Evidence) -> Table | None:
    """Tabulate what the order of options does to models that were asked for letters, or nothing without them."""
    table = evidence.table("letters")
    if table is None:
        return None
    over_model, over_both = Numbers(table, "model"), Numbers(table, "model", "modality")
    rows = [
        [
            model,
            _bounded(over_model, "orders_agree", model, word=percent),
            *(_bounded(over_both, "position_bias", model, modality, word=decimal) for modality in _GIVEN),
            count(over_model("n_items", model)),
        ]
        for model in over_model.labels["model"]
    ]
    caption = (
        "Letters in both orders: items on which both lead to the same choice, and the lead of the first option over "
        f"the second in nats (0: its place makes no difference), with {evidence.level} intervals"
    )
    head = ["Model", "Orders agree", *(f"Lead, {words}" for words in _GIVEN.values()), "Items"]
    return Table.of(caption, head, rows)


def _bounded(numbers: Numbers, name: str, *labels: str, word: Callable[[float], str]) -> str:
    """A number with its interval, where it has one."""
    value, lower, upper = (numbers(f"{name}{end}", *labels) for end in ("", "_lower", "_upper"))
    return word(value) + ("" if math.isnan(lower) or math.isnan(upper) else f" [{word(lower)}, {word(upper)}]")


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
