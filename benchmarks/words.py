"""Words and numbers that tables and claims share."""

from collections.abc import Sequence

from benchmarks.record import Record

TITLES = {
    "mfbayes-nuts": "mfbayes `nuts`",
    "mfbayes-reference": "mfbayes `reference`",
    "mfbayes-fast": "mfbayes `fast`",
    "bambi": "bambi `dH + (dH\\|model) + (1\\|group)`",
    "bambi-cells": "bambi, the same `+ (1\\|group:model)`",
    "pymc": "PyMC, explicit graph",
    "numpyro": "numpyro, explicit graph",
    "glmer": "lme4 `glmer`",
    "glmmTMB": "`glmmTMB`",
}
LAYER_MODELS = {
    "switching-gradient": "hazard model",
    "switching-fit": "hazard model",
    "hidden-gradient": "hidden model",
    "hidden-fit": "hidden model",
}


def describe_layers(record: Record) -> str:
    """Size of simulated traces."""
    return f"{record['n_models']} models x {record['n_traces']} traces x {record['n_layers']} layers"


def is_quiet(record: Record) -> bool:
    """Whether nothing much else ran, without which times on the wall say nothing."""
    return bool(record["load"][0] <= record["machine"]["cores"] + 1)


def tabulate(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float) -> str:
    """A number with as many digits as it needs."""
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    if value < 0.01:
        return f"{value:.0e}"
    return f"{value:.3f}" if 0.9 < value < 1.1 else f"{value:.1f}"


def count(record: Record) -> str:
    """Number of trials."""
    return f"{record['n_trials']:,}".replace(",", "\u202f")


def describe_shape(record: Record) -> str:
    """Models and groups."""
    return f"{record['n_models']} models x {record['n_groups']} groups"
