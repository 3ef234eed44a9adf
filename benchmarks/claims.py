"""What is promised, beside what was measured."""

from typing import NamedTuple

from benchmarks.record import Record
from benchmarks.words import LAYER_MODELS, TITLES, count, describe_layers, is_quiet, number


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
            f"{sign} {number(bound)}{self.unit}: {kept}"
            for bound, kept in zip((self.must, self.goal), met, strict=True)
        ]
        return (self.text, f"{number(self.measured)}{self.unit}", *bounds)

    def _keeps(self, bound: float) -> bool:
        return self.measured >= bound if self.at_least else self.measured <= bound


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
            for clock in ("wall", "cpu") if is_quiet(fast) and is_quiet(other) else ("cpu",):
                ratio = other[f"{clock}_s"] / fast[f"{clock}_s"]
                text = f"{TITLES[peer]} : `fast` at {count(fast)} trials, warm, {clock.replace('cpu', 'CPU')} time"
                claims.append(Claim(text, ratio, must, 50, at_least=True))
    large = found.get(("scale", "mfbayes-fast", "cached"))
    if large:
        size = count(large)
        if is_quiet(large):
            claims.append(Claim(f"`fast` at {size} trials, warm", large["wall_s"], 6, 3, " s"))
        for key, where in (("", "modes known"), ("seeking_", "modes sought")):
            measured = large[f"{key}gradient_cpu_ns_per_trial"]
            claims.append(Claim(f"one gradient, a trial and core, {where}", measured, 10, 10, " ns"))
        claims.append(Claim(f"peak memory at {size} trials", large["peak_memory_mib"], 2048, 2048, " MiB"))
    for (benchmark, contender, _), record in found.items():
        if benchmark in LAYER_MODELS and benchmark.endswith("fit") and is_quiet(record):
            most = 60 if contender == "without effects of groups" else 600
            text = f"{LAYER_MODELS[benchmark]} {contender.replace('mfbayes', '')}".strip()
            claims.append(Claim(f"{text}, {describe_layers(record)}", record["wall_s"], most, most, " s"))
    of_trials, whole = (found.get(("study", name, "")) for name in ("trials", "trials and layers"))
    if of_trials and is_quiet(of_trials):
        claims.append(
            Claim("`fit --model all`, everything collected, without layers", of_trials["wall_s"], 40, 20, " s")
        )
    if of_trials and whole and is_quiet(of_trials) and is_quiet(whole):
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
        elif is_quiet(packed):
            text = f"asking {packed['n_image_tokens']} tokens an image, naive batches : packed"
            claims.append(Claim(text, packed["speedup"], 4.4, 4.8, at_least=True))
        plain = ways["each prompt once, no lens"]["flops"]
        lens = 100 * (ways["each prompt once"]["flops"] - plain) / plain
        claims.append(Claim(f"{model}: operations of the lens, of a plain forward", lens, 5, 5, " %"))
    return claims
