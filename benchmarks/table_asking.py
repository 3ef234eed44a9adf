"""Tables of what asking models costs and keeps."""

from benchmarks.record import Record
from benchmarks.words import is_quiet, tabulate


def compare_ways(records: list[Record], found: dict[tuple[str, str, str], Record]) -> str:
    """Ways of asking, a table a model."""
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
        parts.append(f"{title}\n\n{tabulate(head, rows)}")
    return "\n\n".join(parts)


def tell_exactness(records: list[Record]) -> str:
    """Differences from single prompts, by family."""
    ways = list(records[0]["differences"])
    rows = [
        (
            record["contender"],
            *("-" if record["differences"][way] is None else f"{record['differences'][way]:.0e}" for way in ways),
        )
        for record in records
    ]
    title = "### Asking: largest difference of any layer's logits from single prompts, over the logits' size"
    return f"{title}\n\n{tabulate(('family', *ways), rows)}"


def tell_precisions(records: list[Record]) -> str:
    """Errors of half precisions."""
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
    return f"{title}\n\n{tabulate(head, rows)}"


def tell_kills(records: list[Record]) -> str:
    """Collections that were killed."""
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
    return f"### Asking: killed at random moments and gone on with\n\n{tabulate(head, rows)}"


def compare_engines(records: list[Record]) -> str:
    """Ray beside plain processes."""
    plain = next((record for record in records if "equal" not in record), None)
    # Under load the difference of two runs is that of what else the machine did.
    quiet = all(is_quiet(record) for record in records)
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
    return f"{title}\n\n{tabulate(head, rows)}"
