"""What it takes to make the page again: command, versions, seeds, hashes, timings, and whom to cite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CITATION = (
    "Zhang et al., “When Modalities Conflict: How Unimodal Reasoning Uncertainty Governs Preference "
    "Dynamics in MLLMs”, 2025, arXiv:2511.02243."
)


@dataclass(frozen=True)
class Reproduction:
    """The command, and facts by heading."""

    command: str
    sections: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    citation: str = CITATION


def describe_run(run: Mapping[str, Any], attributes: Mapping[str, Any]) -> Reproduction:
    """Lay out `run.json` and the fit's own attributes, whatever their nesting."""
    command = run.get("command", "")
    text = command if isinstance(command, str) else " ".join(str(part) for part in command)
    loose = {key: value for key, value in run.items() if key != "command" and not isinstance(value, Mapping)}
    # How models were asked has a table of its own.
    named = {key: value for key, value in run.items() if isinstance(value, Mapping) and key != "asked"}
    kept = ("mfbayes_version", "method", "subset", "index", "seed", "ci_prob", "status")
    fit = {key.replace("_", " "): attributes[key] for key in kept if key in attributes}
    sections = [
        ("Fit", _facts(fit)),
        *((_heading(key), _facts(value)) for key, value in named.items()),
        ("Run", _facts(loose)),
    ]
    return Reproduction(text, tuple((heading, facts) for heading, facts in sections if facts))


def _heading(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _facts(values: Mapping[str, Any], prefix: str = "") -> tuple[tuple[str, str], ...]:
    facts: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            facts += _facts(value, f"{name} / ")
        else:
            facts.append((name, _print(value)))
    return tuple(facts)


def _print(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_print(part) for part in value)
    return str(value)
