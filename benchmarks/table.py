"""The results as tables, written into README.md between its two marks.

python -m benchmarks.table benchmarks/results.jsonl benchmarks/README.md
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.claims import claim_all
from benchmarks.record import Record, read_records
from benchmarks.table_asking import compare_engines, compare_ways, tell_exactness, tell_kills, tell_precisions
from benchmarks.words import LAYER_MODELS, TITLES, count, describe_layers, describe_shape, tabulate

BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def render(records: Sequence[Record]) -> str:
    """All tables that the records allow."""
    found = {(r["benchmark"], r["contender"], r.get("kernels", "")): r for r in records}
    parts = [tabulate(("claim", "measured", "must", "goal"), [claim.row() for claim in claim_all(found)])]
    for name, draw in (
        ("sampling", _sampling),
        ("intervals", _intervals),
        ("scale", _scale),
        ("study", _studies),
        ("gradient", _layer_gradients),
        ("fit", _layer_fits),
        ("collection-speed", partial(compare_ways, found=found)),
        ("exactness", tell_exactness),
        ("precision", tell_precisions),
        ("kills", tell_kills),
        ("ray", compare_engines),
    ):
        own = [record for record in records if record["benchmark"].endswith(name)]
        if own:
            parts += [draw(own), _tell_circumstances(own)]
    parts.append(_tell_versions(records))
    return "\n\n".join(parts)


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
    title = f"### Sampling: {count(first)} trials, {describe_shape(first)}, {effort}"
    return f"{title}\n\n{tabulate(head, rows)}"


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
    title = f"### Point and interval: {count(warm)} trials, {describe_shape(warm)}"
    return f"{title}\n\n{tabulate(head, rows)}"


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
    return f"### Scale: {count(records[0])} trials, {describe_shape(records[0])}\n\n{tabulate(head, rows)}"


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
    return f"{title}\n\n{tabulate(head, rows)}"


def _layer_gradients(records: list[Record]) -> str:
    rows = [
        (f"{LAYER_MODELS[r['benchmark']]}, {r['contender']}", f"{r['cpu_ms']:.1f}", f"{r['wall_ms']:.1f}")
        for r in sorted(records, key=lambda record: (record["benchmark"], record["cpu_ms"]))
    ]
    head = ("value and gradient", "CPU ms", "ms")
    return f"### Layers: {describe_layers(records[0])}\n\n{tabulate(head, rows)}"


def _layer_fits(records: list[Record]) -> str:
    rows = [
        (
            f"{LAYER_MODELS[r['benchmark']]}, {r['contender']}",
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
    return tabulate(head, rows)


def _tell_circumstances(records: Sequence[Record]) -> str:
    """What the times of a table were taken on, and when."""
    machines = [r["machine"] for r in records]
    labels = [f"{m['cpu']}, {m['cores']} cores, {m['system']}, Python {m['python']}" for m in machines]
    loads = [r["load"][0] for r in records]
    told = {
        "Machine": "; ".join(dict.fromkeys(labels)),
        "Load": f"{min(loads):.1f} to {max(loads):.1f}",
        "Date": ", ".join(sorted({r["date"] for r in records})),
        "Seed": ", ".join(sorted({str(r["seed"]) for r in records})),
    }
    return " ".join(f"{name}: {value}." for name, value in told.items())


def _tell_versions(records: Sequence[Record]) -> str:
    versions = {name: number for r in records for name, number in r["versions"].items()}
    return f"Versions: {', '.join(f'{name} {number}' for name, number in sorted(versions.items()))}."


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
