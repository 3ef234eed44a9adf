"""The results as tables, written into README.md between its two marks.

python -m benchmarks.table benchmarks/results.jsonl benchmarks/README.md
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.record import Record, read_records

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
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


class Claim(NamedTuple):
    """Something promised: what was measured, and the bounds it must and should keep."""

    text: str
    measured: float
    must: float
    goal: float
    unit: str = ""
    at_least: bool = False

    def row(self) -> tuple[str, ...]:
        """Cells of the table."""
        sign = "≥" if self.at_least else "≤"
        met = ["yes" if self._keeps(bound) else "no" for bound in (self.must, self.goal)]
        bounds = [
            f"{sign} {_number(bound)}{self.unit}: {kept}"
            for bound, kept in zip((self.must, self.goal), met, strict=True)
        ]
        return (self.text, f"{_number(self.measured)}{self.unit}", *bounds)

    def _keeps(self, bound: float) -> bool:
        return self.measured >= bound if self.at_least else self.measured <= bound


def render(records: Sequence[Record]) -> str:
    """All tables that the records allow."""
    found = {(r["benchmark"], r["contender"], r.get("kernels", "")): r for r in records}
    parts = [_tabulate(("claim", "measured", "must", "goal"), [claim.row() for claim in claim_all(found)])]
    for name, draw in (
        ("sampling", _sampling),
        ("intervals", _intervals),
        ("scale", _scale),
        ("study", _studies),
        ("gradient", _layer_gradients),
        ("fit", _layer_fits),
        ("collection-speed", partial(_ways, found=found)),
        ("exactness", _exactness),
        ("precision", _precisions),
        ("kills", _kills),
        ("ray", _engines),
    ):
        own = [record for record in records if record["benchmark"].endswith(name)]
        if own:
            parts.append(draw(own))
    parts.append(_machines(records))
    return "\n\n".join(parts)


def claim_all(found: dict[tuple[str, str, str], Record]) -> list[Claim]:
    """The claims whose two sides were both measured."""
    claims = []
    own = found.get(("sampling", "mfbayes-nuts", ""))
    for peer in ("bambi", "bambi-cells"):
        other = found.get(("sampling", peer, ""))
        if own and other:
            ratio = own["ess_min_per_cpu_s"] / other["ess_min_per_cpu_s"]
            claims.append(Claim(f"effective draws a CPU second, `nuts` : {TITLES[peer]}", ratio, 8, 15, at_least=True))
    fast = found.get(("intervals", "mfbayes-fast", "cached"))
    for peer, must in (("glmer", 50), ("glmmTMB", 25)):
        other = found.get(("intervals", peer, ""))
        if fast and other:
            for clock in ("wall", "cpu") if _is_quiet(fast) and _is_quiet(other) else ("cpu",):
                ratio = other[f"{clock}_s"] / fast[f"{clock}_s"]
                text = f"{TITLES[peer]} : `fast` at {_count(fast)} trials, warm, {clock.replace('cpu', 'CPU')} time"
                claims.append(Claim(text, ratio, must, 50, at_least=True))
    large = found.get(("scale", "mfbayes-fast", "cached"))
    if large:
        size = _count(large)
        if _is_quiet(large):
            claims.append(Claim(f"`fast` at {size} trials, warm", large["wall_s"], 6, 3, " s"))
        for key, where in (("", "modes known"), ("seeking_", "modes sought")):
            measured = large[f"{key}gradient_cpu_ns_per_trial"]
            claims.append(Claim(f"one gradient, a trial and core, {where}", measured, 10, 10, " ns"))
        claims.append(Claim(f"peak memory at {size} trials", large["peak_memory_mib"], 2048, 2048, " MiB"))
    for (benchmark, contender, _), record in found.items():
        if benchmark in _LAYER_MODELS and benchmark.endswith("fit") and _is_quiet(record):
            most = 60 if contender == "without effects of groups" else 600
            text = f"{_LAYER_MODELS[benchmark]} {contender.replace('mfbayes', '')}".strip()
            claims.append(Claim(f"{text}, {_layers(record)}", record["wall_s"], most, most, " s"))
    of_trials, whole = (found.get(("study", name, "")) for name in ("trials", "trials and layers"))
    if of_trials and _is_quiet(of_trials):
        claims.append(
            Claim("`fit --model all`, everything collected, without layers", of_trials["wall_s"], 40, 20, " s")
        )
    if of_trials and whole and _is_quiet(of_trials) and _is_quiet(whole):
        more = whole["wall_s"] - of_trials["wall_s"]
        claims.append(Claim("the same, the hazards of layers besides", more, 60, 60, " s"))
    ours, theirs = (found.get(("hidden-gradient", name, "")) for name in ("mfbayes-tables", "dynamax"))
    if ours and theirs:
        text = "CPU time of a gradient of the hidden model's forward pass, dynamax : mfbayes"
        claims.append(Claim(text, theirs["cpu_ms"] / ours["cpu_ms"], 1, 1, at_least=True))
    counted = [record for record in found.values() if record["benchmark"] == "collection-floor"]
    for record in counted:
        text = f"{record['contender']}: operations of packed rows over the floor"
        claims.append(Claim(text, record["packed_over_floor"], 1.05, 1.02))
    claims += _claim_ways([record for record in found.values() if record["benchmark"] == "collection-speed"])
    for record in found.values():
        if record["benchmark"] == "collection-agreement" and record["dtype"] == "float32":
            text = f"{record['contender']}, packed: largest difference of logits, over their size"
            claims.append(Claim(text, record["differences"]["packed"], 1e-5, 1e-5))
    return claims + _claim_faults(found)


def _claim_faults(found: dict[tuple[str, str, str], Record]) -> list[Claim]:
    claims = []
    kills = found.get(("faults-kills", "mfbayes", ""))
    if kills:
        wanted, landed = kills["kills_wanted"], kills["killed_while_running"]
        claims.append(Claim("collections killed while they ran", landed, wanted, wanted, at_least=True))
        text = "of them, gone on to the bytes of an undisturbed one"
        claims.append(Claim(text, kills["equal_to_undisturbed"], landed, landed, at_least=True))
    on_ray = found.get(("faults-ray", "ray, two workers", ""))
    if on_ray:
        text = "on Ray, two workers: share of files with the bytes of two parts without it"
        claims.append(Claim(text, float(on_ray["equal"]), 1, 1, at_least=True))
    return claims


def _claim_ways(records: list[Record]) -> list[Claim]:
    claims = []
    for model in dict.fromkeys(record["model"] for record in records):
        ways = {record["contender"]: record for record in records if record["model"] == model}
        packed = ways["packed"]
        if packed["device"] != "cpu":
            generated = ways["three generate calls an item"]["seconds"] / packed["seconds"]
            claims.append(Claim(f"{model}: three `generate` calls : packed", generated, 40, 40, at_least=True))
            over = packed["flops_over_floor"]
            claims.append(Claim(f"{model}: operations of packed rows over the floor", over, 1.05, 1.02))
        elif _is_quiet(packed):
            text = f"asking {packed['n_image_tokens']} tokens an image, naive batches : packed"
            claims.append(Claim(text, packed["speedup"], 4.4, 4.8, at_least=True))
        plain = ways["each prompt once, no lens"]["flops"]
        lens = 100 * (ways["each prompt once"]["flops"] - plain) / plain
        claims.append(Claim(f"{model}: operations of the lens, of a plain forward", lens, 5, 5, " %"))
    return claims


def _is_quiet(record: Record) -> bool:
    """Whether nothing much else ran, without which times on the wall say nothing."""
    return bool(record["load"][0] <= record["machine"]["cores"] + 1)


def _sampling(records: list[Record]) -> str:
    ranked = sorted(records, key=lambda record: -record["ess_min_per_cpu_s"])
    best = next((r for r in ranked if r["contender"] == "mfbayes-nuts"), ranked[0])
    rows = [
        (
            TITLES[r["contender"]],
            f"{r['ess_min_per_cpu_s']:.1f}",
            f"{r['ess_median_per_cpu_s']:.1f}",
            f"{best['ess_min_per_cpu_s'] / r['ess_min_per_cpu_s']:.1f}",
            f"{r['sampling_cpu_s']:.1f}",
            f"{r['compile_cpu_s']:.1f}",
            f"{r['r_hat_max']:.3f}",
            str(r["divergences"]),
            f"{r['peak_memory_mib']}",
        )
        for r in ranked
    ]
    head = (
        "contender",
        "ESS/CPU s, worst b",
        "median b",
        "`nuts` is faster by",
        "CPU s",
        "compiling, CPU s",
        "R-hat",
        "divergences",
        "MiB",
    )
    first = ranked[0]
    effort = f"{first['chains']} chains of {first['tune']} + {first['draws']}"
    title = f"### Sampling: {_count(first)} trials, {_shape(first)}, {effort}"
    return f"{title}\n\n{_tabulate(head, rows)}"


def _intervals(records: list[Record]) -> str:
    warm = next((r for r in records if r.get("kernels") == "cached"), records[0])
    rows = [
        (
            TITLES[r["contender"]] + (f", kernels {r['kernels']}" if r.get("kernels") else ""),
            f"{r['first_wall_s']:.2f}" if "first_wall_s" in r else "-",
            f"{r['wall_s']:.2f}",
            f"{r['cpu_s']:.2f}",
            f"{r['wall_s'] / warm['wall_s']:.0f}",
            f"{r['cpu_s'] / warm['cpu_s']:.0f}",
            f"{np.abs(np.subtract(r['balance_point'], warm['balance_point'])).max():.4f}",
            f"{np.mean(r['standard_error']):.4f}",
            f"{r['group_sd']:.3f}, {r['group_model_sd']:.3f}",
        )
        for r in sorted(records, key=lambda record: record["wall_s"])
    ]
    head = (
        "contender",
        "first call, s",
        "then, s",
        "then, CPU s",
        "ratio",
        "ratio, CPU",
        "farthest b",
        "mean error of b",
        "group sds",
    )
    title = f"### Point and interval: {_count(warm)} trials, {_shape(warm)}"
    return f"{title}\n\n{_tabulate(head, rows)}"


def _scale(records: list[Record]) -> str:
    rows = [
        (
            f"kernels {r['kernels']}",
            f"{r['first_wall_s']:.2f}",
            f"{r['wall_s']:.2f}",
            f"{r['cpu_s']:.2f}",
            f"{r['layout_wall_s']:.2f}",
            f"{r['gradient_cpu_ns_per_trial']:.1f} / {r['seeking_gradient_cpu_ns_per_trial']:.1f}",
            f"{r['gradient_wall_ns_per_trial']:.1f} / {r['seeking_gradient_wall_ns_per_trial']:.1f}",
            f"{r['read_memory_mib']} / {r['peak_memory_mib']}",
        )
        for r in sorted(records, key=lambda record: -record["first_wall_s"])
    ]
    head = (
        "`fast`",
        "first fit, s",
        "then, s",
        "then, CPU s",
        "laying out, s",
        "gradient, CPU ns a trial, modes known / sought",
        "on the wall",
        "MiB, table read / peak",
    )
    return f"### Scale: {_count(records[0])} trials, {_shape(records[0])}\n\n{_tabulate(head, rows)}"


_LAYER_MODELS = {
    "switching-gradient": "hazard model",
    "switching-fit": "hazard model",
    "hidden-gradient": "hidden model",
    "hidden-fit": "hidden model",
}


def _layers(record: Record) -> str:
    return f"{record['n_models']} models x {record['n_traces']} traces x {record['n_layers']} layers"


def _studies(records: list[Record]) -> str:
    rows = [
        (
            f"fit of {record['contender']}",
            f"{record['wall_s']:.1f}",
            ", ".join(f"{seconds:.1f}" for seconds in record["runs"]),
            f"{record['fit_s']:.1f}",
            f"{record['switching_s']:.1f}",
        )
        for record in records
    ]
    head = ("`fit --model all`, everything collected", "s, median", "runs, s", "of it trials, s", "of it hazards, s")
    title = f"### Whole study: eight embedded models x {records[0]['n_groups']} groups"
    return f"{title}\n\n{_tabulate(head, rows)}"


def _layer_gradients(records: list[Record]) -> str:
    rows = [
        (f"{_LAYER_MODELS[r['benchmark']]}, {r['contender']}", f"{r['cpu_ms']:.1f}", f"{r['wall_ms']:.1f}")
        for r in sorted(records, key=lambda record: (record["benchmark"], record["cpu_ms"]))
    ]
    head = ("value and gradient", "CPU ms", "ms")
    return f"### Layers: {_layers(records[0])}\n\n{_tabulate(head, rows)}"


def _layer_fits(records: list[Record]) -> str:
    rows = [
        (
            f"{_LAYER_MODELS[r['benchmark']]}, {r['contender']}",
            f"{r['wall_s']:.0f}",
            f"{r['cpu_s']:.0f}",
            f"{r['max_r_hat']:.4f}",
            f"{r['min_ess']}",
            f"{r['divergences']}",
            f"{r['gradients_per_draw']:.0f}",
            "yes" if r["passed"] else "no",
            f"{r['peak_memory_mib']}",
        )
        for r in sorted(records, key=lambda record: record["wall_s"])
    ]
    head = ("whole fit", "s", "CPU s", "R-hat", "ESS", "divergences", "gradients a draw", "gate passed", "MiB")
    return _tabulate(head, rows)


def _ways(records: list[Record], found: dict[tuple[str, str, str], Record]) -> str:
    parts = []
    for model in dict.fromkeys(record["model"] for record in records):
        own = [record for record in records if record["model"] == model]
        agreement = next(
            (r for (name, its, _), r in found.items() if (name, its) == ("collection-agreement", model)), None
        )
        apart = agreement["differences"] if agreement else {}
        rows = [
            (
                record["contender"],
                f"{record['seconds']:.2f}",
                f"{record['speedup']:.2f}",
                f"{record['flops'] / 1e12:.3f}",
                f"{record['flops_over_floor']:.3f}",
                f"{record['share_of_peak']:.0%}" if record["share_of_peak"] else "-",
                f"{apart[record['contender']]:.0e}" if record["contender"] in apart else "-",
            )
            for record in sorted(own, key=lambda record: -record["seconds"])
        ]
        head = (
            "way",
            "s",
            "faster than naive batches by",
            "TFLOP",
            "over the floor",
            "of the device's peak",
            "largest difference of logits",
        )
        title = f"### Asking: {model}, {own[0]['n_items']} items, {own[0]['dtype']} on {own[0]['device']}"
        parts.append(f"{title}\n\n{_tabulate(head, rows)}")
    return "\n\n".join(parts)


def _exactness(records: list[Record]) -> str:
    ways = list(records[0]["differences"])
    rows = [
        (
            record["contender"],
            *("-" if record["differences"][way] is None else f"{record['differences'][way]:.0e}" for way in ways),
        )
        for record in records
    ]
    title = "### Asking: largest difference of any layer's logits from single prompts, over the logits' size"
    return f"{title}\n\n{_tabulate(('family', *ways), rows)}"


def _precisions(records: list[Record]) -> str:
    rows = []
    for record in records:
        for what, errors in (("all", record["errors"]), ("its audit", record["audit"])):
            cells = [
                " / ".join(f"{errors[name][level]:.1{kind}}" for level in ("median", "p95", "largest"))
                for name, kind in (("dH", "e"), ("H", "e"), ("H_relative", "%"))
            ]
            items, prompts = (f"{errors[name]:,}".replace(",", "\u202f") for name in ("items", "prompts"))
            rows.append((f"{record['contender']}, {what}", items, prompts, *cells, f"{errors['answers_changed']:.1%}"))
    head = ("precision and items", "items", "prompts", "error of dH", "of H, nats", "of H, relative", "answers changed")
    title = f"### Asking: errors against float32, {records[0]['model']}: median / 95th percentile / largest"
    return f"{title}\n\n{_tabulate(head, rows)}"


def _kills(records: list[Record]) -> str:
    rows = [
        (
            record["model"],
            str(record["prompts"]),
            str(record["collections_begun"]),
            str(record["killed_while_running"]),
            str(record["equal_to_undisturbed"]),
            f"{min(record['share_answered_when_killed']):.0%} to {max(record['share_answered_when_killed']):.0%}",
            f"{record['seconds_after_first_shard']:.1f}",
        )
        for record in records
        if record["share_answered_when_killed"]
    ]
    head = (
        "model",
        "prompts",
        "collections begun",
        "killed while running",
        "equal to an undisturbed one",
        "answered when killed",
        "s from first shard to end",
    )
    return f"### Asking: killed at random moments and gone on with\n\n{_tabulate(head, rows)}"


def _engines(records: list[Record]) -> str:
    plain = next((record for record in records if "equal" not in record), None)
    # Under load the difference of two runs is that of what else the machine did.
    quiet = all(_is_quiet(record) for record in records)
    rows = [
        (
            record["contender"],
            f"{record['seconds']:.1f}",
            f"{record['seconds'] - plain['seconds']:+.1f}" if quiet and plain else "-",
            f"{record['cpu_seconds']:.1f}",
            f"{record['cpu_seconds'] - plain['cpu_seconds']:+.1f}" if plain else "-",
            f"{record['load'][0]:.0f}",
            f"{record['seconds_starting_cluster']:.1f}",
            f"{record['seconds_loading']:.1f}",
            f"{record['seconds_asking']:.1f}",
            {"True": "yes", "False": "no"}.get(str(record.get("equal")), "-"),
        )
        for record in sorted(records, key=lambda record: "equal" in record)
    ]
    head = (
        "engine",
        "s",
        "overhead, s",
        "CPU s",
        "overhead, CPU s",
        "load",
        "starting a cluster, s",
        "loading, s",
        "asking, s of both",
        "same bytes",
    )
    n_prompts = f"{records[0]['prompts']:,}".replace(",", "\u202f")
    title = f"### Asking: {n_prompts} prompts by two processes, {records[0]['model']}"
    return f"{title}\n\n{_tabulate(head, rows)}"


def _machines(records: Sequence[Record]) -> str:
    """What the times were taken on."""
    machines = [r["machine"] for r in records]
    labels = [f"{m['cpu']}, {m['cores']} cores, {m['system']}, Python {m['python']}" for m in machines]
    versions = {name: number for r in records for name, number in r["versions"].items()}
    loads = [r["load"][0] for r in records]
    told = {
        "Machine": "; ".join(dict.fromkeys(labels)),
        "Load while measuring": f"{min(loads):.1f} to {max(loads):.1f}",
        "Date": ", ".join(sorted({r["date"] for r in records})),
        "Seed": ", ".join(sorted({str(r["seed"]) for r in records})),
        "Versions": ", ".join(f"{name} {number}" for name, number in sorted(versions.items())),
    }
    return " ".join(f"{name}: {value}." for name, value in told.items())


def _tabulate(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:.0f}"
    if value < 0.01:
        return f"{value:.0e}"
    return f"{value:.3f}" if 0.9 < value < 1.1 else f"{value:.1f}"


def _count(record: Record) -> str:
    return f"{record['n_trials']:,}".replace(",", "\u202f")


def _shape(record: Record) -> str:
    return f"{record['n_models']} models x {record['n_groups']} groups"


def main() -> None:
    """Write the tables into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("page", type=Path)
    options = parser.parse_args()
    page = options.page.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    tables = render(read_records(options.results))
    options.page.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
