"""How often the leading answer changes sides over the layers: around the balance point, on both sides, in controls."""

import numpy as np
import xarray as xr
from markupsafe import Markup

from mfbayes.reports.axes import Rows, draw_x_axis
from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.figures import Drawing, Figure, Key, Panel, Table
from mfbayes.reports.lookup import Numbers
from mfbayes.reports.marks import draw_estimate, draw_key
from mfbayes.reports.numerals import MINUS, count, decimal, interval, listing, numeral, percent
from mfbayes.reports.svg import Canvas, Scale

OSCILLATIONS = "oscillations"
DRAWN = {OSCILLATIONS: "Oscillations per item", "round-trips": "Round trips per item, one back and forth counting two"}
MEASURES = DRAWN | {
    "first-commitment": "First layer on a side",
    "last-switch": "Layer of the last switch",
    "dwell": "Mean layers between switches",
}
REGIONS = {"text-clear": "up", "ambiguous": "circle", "image-clear": "down", "control": "cross"}
WORDS = {"text-clear": "text's side", "ambiguous": "ambiguous", "image-clear": "image's side", "control": "control"}
ALL_REGIONS = ("text-clear", "ambiguous", "image-clear", "clear", "control")
ENDS = ("mean", "lower", "upper")


def draw_oscillations(evidence: Evidence) -> Figure | None:
    """Draw the mean numbers of oscillations and of round trips by region, or nothing without traces."""
    table = _find(evidence)
    if table is None:
        return None
    numbers = Numbers(table, "subject", "measure", "region")
    never = Numbers(table, "subject", "region")
    panels = tuple(
        Panel(
            (
                Drawing(_draw(evidence, numbers, never, measure, width=504), "wide"),
                Drawing(_draw(evidence, numbers, never, measure, width=358), "narrow"),
            ),
            heading=heading,
        )
        for measure, heading in DRAWN.items()
        if measure in numbers.labels["measure"]
    )
    alt = "Mean oscillations. " + "; ".join(
        f"{evidence.short(s.key)}: "
        + ", ".join(f"{word} {decimal(numbers('mean', s.key, OSCILLATIONS, r))}" for r, word in WORDS.items())
        for s in _traced(evidence, numbers)
    )
    shown = [
        region
        for region in REGIONS
        if any(np.isfinite(numbers("mean", s.key, OSCILLATIONS, region)) for s in _traced(evidence, numbers))
    ]
    caption = (
        "An oscillation: from one decoder layer to the next, the logit lens's leading answer changes from the text's "
        "to the image's or back; layers led by anything else are skipped. Round trips leave out the one change that "
        f"the final answer needs. Ambiguous: |dH {MINUS} b| < {evidence.reach:g}; the text's side lies below, the "
        f"image's above. {'Control: the text is about another object. ' * ('control' in shown)}"
        f"Lines: {evidence.level} intervals over groups and over b. Title: ambiguous cases against the mean of "
        "both sides, in models with enough cases on each."
    )
    return Figure(
        "oscillations",
        _title(evidence, numbers),
        alt,
        panels,
        (_data(evidence, numbers, never),),
        caption=caption,
        grid="two",
        keys=tuple(Key(draw_key(REGIONS[region], _look(region)), WORDS[region]) for region in shown),
    )


def _find(evidence: Evidence) -> xr.Dataset | None:
    """Every measure, or oscillations alone where a fit has no more."""
    table = evidence.table("traces")
    if table is not None:
        return table
    alone = evidence.table("oscillations")
    if alone is None:
        return None
    return alone.assign({name: alone[name].expand_dims(measure=[OSCILLATIONS]) for name in (*ENDS, "n")})


def _traced(evidence: Evidence, numbers: Numbers) -> list[Subject]:
    return [
        s
        for s in evidence.subjects
        if any(np.isfinite(numbers("mean", s.key, OSCILLATIONS, region)) for region in ALL_REGIONS)
    ]


def _look(region: str) -> str:
    return "fill neutral" if region == "ambiguous" else "hollow neutral"


def _draw(evidence: Evidence, numbers: Numbers, never: Numbers, measure: str, *, width: float) -> Markup:
    gap, stacked = 9.0, width < 500
    rows = Rows(evidence, width=width, top=8, height=gap * len(REGIONS) + (17 if stacked else 12))
    canvas = Canvas(width, rows.bottom + 30)
    ends = [numbers(name, s.key, measure, r) for s in evidence.subjects for r in REGIONS for name in ("mean", "upper")]
    highest = max([end for end in ends if np.isfinite(end)], default=1.0)
    scale = Scale(0, max(1.05 * highest, 0.1), rows.name_width + (8 if stacked else 6), width - 8)
    draw_x_axis(canvas, scale, top=8, bottom=rows.bottom)
    rows.draw_names(canvas)
    traced = {s.key for s in _traced(evidence, numbers)}
    for subject, y in rows.places:
        if subject.key not in traced:
            silent = any(never("never_committed", subject.key, region) == 1 for region in ALL_REGIONS)
            canvas.text(scale.start + 6, y + 6, "never on a side" if silent else "no traces", "note")
            continue
        first = y - gap * (len(REGIONS) - 1) / 2 + (6 if rows.stacked else 1)
        for i, (region, shape) in enumerate(REGIONS.items()):
            value, lower, upper = (numbers(end, subject.key, measure, region) for end in ENDS)
            draw_estimate(
                canvas, scale, first + gap * i, (value, lower, upper),
                css="neutral" if region == "control" else f"m{subject.colour}", shape=shape,
                hollow=region != "ambiguous", size=3.7,
                title=f"{subject.key}, {WORDS[region]}: {decimal(value)} {interval(lower, upper)}",
            )  # fmt: skip
    return canvas.markup()


def _compare(evidence: Evidence, numbers: Numbers) -> list[tuple[Subject, int]]:
    """1 where ambiguous cases change sides more often than clear ones, -1 less often, 0 where it is not known.

    By the interval of the contrast with the mean of both sides where the fit has it, in which the last switch to the
    final answer cancels; else by the intervals of the ambiguous and all clear cases, which is stricter. Models with
    cases on one side only have no such contrast and are not counted.
    """
    contrasts = evidence.table("contrasts")
    found = Numbers(contrasts, "subject", "measure", "contrast") if contrasts is not None else None
    compared = []
    for s in _traced(evidence, numbers):
        if found is not None:
            place = (s.key, OSCILLATIONS, "balanced")
            lower, upper = found("lower", *place), found("upper", *place)
        else:
            lower, upper = (
                numbers(one, s.key, OSCILLATIONS, "ambiguous") - numbers(other, s.key, OSCILLATIONS, "clear")
                for one, other in (("lower", "upper"), ("upper", "lower"))
            )
        if np.isfinite([lower, upper]).all():
            compared.append((s, int(lower > 0) - int(upper < 0)))
    return compared


def _title(evidence: Evidence, numbers: Numbers) -> str:
    if not evidence.converged:
        return "Oscillations, by regions of a fit that did not converge"
    compared = _compare(evidence, numbers)
    more, fewer = ([s for s, sign in compared if sign == wanted] for wanted in (1, -1))
    if not compared:
        return "Ambiguous and clear cases cannot be compared"
    if len(compared) == 1:
        if more:
            return "Ambiguous cases change sides more often than clear ones"
        return (
            "Ambiguous cases change sides less often than clear ones"
            if fewer
            else "Ambiguous cases do not clearly change sides more often"
        )
    if len(more) == len(compared):
        return "Ambiguous cases change sides more often than clear ones, in every model"
    if len(fewer) == len(compared):
        return "Ambiguous cases change sides less often than clear ones, in every model"
    if not more and not fewer:
        return "Ambiguous cases do not clearly change sides more often than clear ones, in any model"
    verb = "changes" if len(more) == 1 else "change"
    if not more:
        rest = f"{numeral(len(fewer))} of {numeral(len(compared))} models"
        return f"Ambiguous cases do not clearly change sides more often than clear ones; less often in {rest}"
    share = (
        f"{numeral(len(more)).capitalize()} of {numeral(len(compared))} models {verb} sides more "
        "often in ambiguous cases"
    )
    if fewer:
        names = listing([s.name for s in fewer]) if len(fewer) < 3 else numeral(len(fewer))
        return f"{share}; the reverse holds for {names}"
    return share


def _data(evidence: Evidence, numbers: Numbers, never: Numbers) -> Table:
    rows = []
    for s in evidence.subjects:
        for measure in numbers.labels["measure"]:
            for region in ALL_REGIONS:
                mean, lower, upper, n = (numbers(name, s.key, measure, region) for name in (*ENDS, "n"))
                # A region in which no trace commits has a share and no mean.
                silent = measure == OSCILLATIONS and never("never_committed", s.key, region) == 1
                if np.isfinite(mean) or silent:
                    rows.append(
                        [
                            evidence.short(s.key), MEASURES.get(measure, measure), WORDS.get(region, "clear, both"),
                            decimal(mean), interval(lower, upper), count(n),
                            _share(never, s.key, region),
                        ]
                    )  # fmt: skip
    head = ["Model", "Measure", "Region", "Mean", f"{evidence.level} interval", "Items", "Never on a side [interval]"]
    return Table.of("What traces do, by region", head, rows)


def _share(never: Numbers, key: str, region: str) -> str:
    share, lower, upper = (never(name, key, region) for name in ("never_committed", "never_lower", "never_upper"))
    return percent(share) + (f" [{percent(lower)} to {percent(upper)}]" if np.isfinite(lower) else "")
