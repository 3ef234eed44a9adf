"""Is dH enough? Laws of rising freedom, held to how well they predict groups of items that they have not seen."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from markupsafe import Markup

from mfbayes.names import ENTROPY
from mfbayes.reports.axes import draw_x_axis
from mfbayes.reports.evidence import Evidence, Subject
from mfbayes.reports.figures import MIDDLING, Drawing, Figure, Panel, Table
from mfbayes.reports.lookup import Numbers, read_words
from mfbayes.reports.marks import draw_estimate
from mfbayes.reports.measures import Measure, measure_of
from mfbayes.reports.numerals import DASH, count, decimal, interval, listing, numeral, probability
from mfbayes.reports.svg import Canvas, Scale

LAW = "dH"
"""Label of the law that this page rests on."""

BAR = 2.0
"""Standard errors to each side of a difference: within them, it is not told from none."""


@dataclass(frozen=True)
class Law:
    """How well one law predicts groups left out, and by how much it falls short of the best."""

    name: str
    elpd: float
    elpd_se: float
    behind: float
    behind_se: float
    p_parameters: float
    max_k_hat: float
    n_bad_k: float


def compare_laws(evidence: Evidence) -> Figure | None:
    """Draw how far each law falls short of the best, or nothing where laws were not compared."""
    table = evidence.table("laws")
    if table is None:
        return None
    laws = sorted(_read(table, evidence.measure), key=lambda law: law.behind)
    if not laws:
        return None
    drawings = tuple(Drawing(_draw(laws, width=width), kind) for kind, width in MIDDLING.items())
    alt = "Expected log predictive density, difference to the best law. " + "; ".join(
        f"{law.name} {decimal(-law.behind, digits=1)}, standard error {decimal(law.behind_se, digits=1)}"
        for law in laws
    )
    caption = (
        "Expected log predictive density of whole groups left out (PSIS-LOO), less that of the best law; lines: two "
        "standard errors of the difference to either side. A law whose line reaches zero cannot be told from the best."
    )
    bad = [law.name for law in laws if law.n_bad_k > 0]
    if bad:
        caption += f" Importance weights are unreliable (Pareto k) in some groups for {listing(bad)}."
    monotone = evidence.table("monotone")
    parameters = evidence.table("law_parameters")
    data = [_data(laws)]
    if monotone is not None:
        data.append(_monotone_data(evidence, monotone))
    if parameters is not None:
        data += _parameter_data(evidence, parameters)
    intro = _word_monotone(evidence, monotone) if monotone is not None else ""
    title = _title(laws, str(table.attrs.get("dH_suffices", "")))
    if any(subject.defies_the_law for subject in evidence.subjects):
        title += "; each is free to rise in dH here, as the law is not"
    return Figure("laws", title, alt, (Panel(drawings),), tuple(data), intro=intro, caption=caption, grid="mid")


def _read(table: xr.Dataset, measure: Measure) -> list[Law]:
    numbers = Numbers(table, "law")
    return [
        Law(
            _name(name, measure),
            numbers("elpd", name),
            numbers("elpd_se", name),
            abs(numbers("elpd_difference", name)),
            numbers("difference_se", name),
            numbers("p_parameters", name),
            numbers("max_k_hat", name),
            numbers("n_bad_k", name),
        )
        for name in numbers.labels["law"]
        if np.isfinite(numbers("elpd_difference", name))
    ]


def _name(law: str, measure: Measure) -> str:
    """A law by the name that fits the index: "two entropies" are two uncertainties of another."""
    return law.replace(measure_of(ENTROPY).plural, measure.plural)


def _title(laws: list[Law], suffices: str) -> str:
    own = next((law for law in laws if law.name == LAW), None)
    if own is None or suffices not in _HEADLINES:
        return "How well each law predicts new groups"
    best = laws[0]
    told = f"by {decimal(own.behind, digits=0)} (standard error {decimal(own.behind_se, digits=0)})"
    return _HEADLINES[suffices].format(best=best.name, told=told)


_HEADLINES = {
    "yes": "dH is enough: no other law predicts new groups better by much",
    "no": "dH is not enough: “{best}” predicts new groups better, {told}",
    "unclear": "Whether dH is enough is unclear: “{best}” predicts new groups better, {told}",
}
"""By what the estimate says of dH."""


def _word_monotone(evidence: Evidence, table: xr.Dataset) -> str:
    verdicts = read_words(table, "verdict", ("subject",))
    told: dict[str, list[Subject]] = {}
    for subject in evidence.subjects:
        verdict = verdicts.get((subject.key,))
        if verdict is not None:
            told.setdefault(verdict, []).append(subject)
    if not told:
        return ""
    tolerance = table.attrs.get("tolerance")
    within = "" if tolerance is None else f" (within {float(tolerance):g} logits)"
    total = sum(map(len, told.values()))
    falling = len(told.get("falls", []))
    whom = f"{numeral(falling)} of {numeral(total)} models"
    if falling == total:
        whom = "the model" if total == 1 else "every model"
    elif not falling:
        whom = "no model"
    sentence = f"A spline free to bend falls all along{within} for {whom}."
    for verdict, words in (("unclear", "It is unclear for"), ("not monotone", "It rises somewhere for")):
        if told.get(verdict):
            sentence += f" {words} {listing([evidence.short(s.key) for s in told[verdict]])}."
    return sentence


def _draw(laws: list[Law], *, width: float) -> Markup:
    stacked = width < 500
    names, height, top = (0.0 if stacked else 196.0), (50.0 if stacked else 34.0), 12.0
    bottom = top + height * len(laws)
    canvas = Canvas(width, bottom + 44)
    reaches = [law.behind + BAR * np.nan_to_num(law.behind_se) for law in laws]
    backs = [BAR * np.nan_to_num(law.behind_se) - law.behind for law in laws]
    low = -1.05 * max(1.0, *reaches)
    high = max(-0.04 * low, 1.05 * max(backs))
    scale = Scale(low, high, names + 8, width - (8 if stacked else 130))
    label = "difference to the best" if stacked else "expected log predictive density, difference to the best"
    draw_x_axis(canvas, scale, top=top, bottom=bottom, label=label, ticks=3 if stacked else 5)
    canvas.line((scale(0), top), (scale(0), bottom), "zero")
    for i, law in enumerate(laws):
        y = top + height * (i + 0.5) + (10 if stacked else 0)
        reach = BAR * law.behind_se
        numbers = f"{decimal(-law.behind, digits=1)} ± {decimal(reach, digits=1)}" if law.behind else "best"
        own = law.name == LAW
        canvas.text(0, y - 14 if stacked else y + 5, law.name, "name" if own else "value")
        canvas.text(width, y - 14 if stacked else y + 5, numbers, "value over", anchor="end")
        ends = (-law.behind - reach, -law.behind + reach) if law.behind else (np.nan, np.nan)
        draw_estimate(
            canvas, scale, y, (-law.behind, *ends), css="neutral", hollow=not own, title=f"{law.name}: {numbers}"
        )
    return canvas.markup()


def _data(laws: list[Law]) -> Table:
    head = ["Law", "elpd", "SE", "Difference", "SE of difference", "Effective parameters", "Largest k", "Bad k"]
    rows = [
        [
            law.name,
            decimal(law.elpd, digits=1),
            decimal(law.elpd_se, digits=1),
            decimal(-law.behind, digits=1),
            decimal(law.behind_se, digits=1),
            decimal(law.p_parameters, digits=1),
            decimal(law.max_k_hat),
            count(law.n_bad_k),
        ]
        for law in laws
    ]
    return Table.of("Laws by the prediction of groups left out", head, rows)


def _monotone_data(evidence: Evidence, table: xr.Dataset) -> Table:
    numbers, verdicts = Numbers(table, "subject"), read_words(table, "verdict", ("subject",))
    rows = [
        [
            s.key,
            probability(numbers("p_monotone", s.key)),
            probability(numbers("prior_p_monotone", s.key)),
            decimal(numbers("bayes_factor", s.key), digits=1),
            verdicts.get((s.key,), ""),
        ]
        for s in evidence.subjects
    ]
    head = ["Model", "P(falls all along)", "Before the data", "Bayes factor", "Verdict"]
    return Table.of("Whether P(text) falls with dH all along", head, rows)


def _parameter_data(evidence: Evidence, table: xr.Dataset) -> list[Table]:
    """A table for each law with the parameters that any model has; none for a law without."""
    numbers = Numbers(table, "subject", "law", "parameter")
    tables = []
    for law in numbers.labels["law"]:
        own = [
            name
            for name in numbers.labels["parameter"]
            if any(np.isfinite(numbers("median", s.key, law, name)) for s in evidence.subjects)
        ]
        if own:
            rows = [[s.key, *(_say(numbers, s.key, law, name) for name in own)] for s in evidence.subjects]
            caption = f"Parameters of the law “{_name(law, evidence.measure)}”, with {evidence.level} intervals"
            tables.append(Table.of(caption, ["Model", *own], rows))
    return tables


def _say(numbers: Numbers, *labels: str) -> str:
    median, lower, upper = (numbers(name, *labels) for name in ("median", "lower", "upper"))
    return f"{decimal(median)} {interval(lower, upper)}" if np.isfinite(median) else DASH
