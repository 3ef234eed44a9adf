"""The claim put to the test: is there more vacillation near balance than on both sides, and could entropy be why."""

import numpy as np
from markupsafe import Markup

from mfbayes.names import POOLED
from mfbayes.reports.axes import Rows, draw_x_axis
from mfbayes.reports.evidence import Evidence
from mfbayes.reports.figures import Drawing, Figure, Key, Panel, Table
from mfbayes.reports.lookup import Numbers, read_words
from mfbayes.reports.marks import draw_estimate, draw_key, span
from mfbayes.reports.numerals import DASH, MINUS, count, decimal, interval, numeral, percent, probability
from mfbayes.reports.svg import Canvas, Scale
from mfbayes.reports.verdict import CERTAIN

MEASURES = {"oscillations": "Oscillations", "round-trips": "Round trips"}
CONTRASTS = {
    "balanced": ("less the mean of both sides", "circle"),
    "text-side": ("less the text's side", "up"),
    "image-side": ("less the image's side", "down"),
}
ENDS = ("mean", "lower", "upper")
UNDECIDED, UNTOLD = "not distinguishable", "too few traces"
TITLES = {
    "higher than on both sides": "Near balance, models change sides more often than on either side of it",
    "higher than on the text side only": "Near balance, models change sides more often than on the text's side, "
    "{other} than on the image's",
    "higher than on the image side only": "Near balance, models change sides more often than on the image's side, "
    "{other} than on the text's",
    "higher than both sides on average": "Near balance, models change sides more often than both sides do on average",
    UNDECIDED: "Whether models change sides more often near balance cannot be told from these traces",
    "reversed": "Near balance, models change sides less often than on its sides",
    UNTOLD: "Too few traces to tell whether models change sides more often near balance",
}
OTHER_SIDE = {"higher than on the text side only": "image-side", "higher than on the image side only": "text-side"}
"""The contrast that a verdict on one side leaves open."""

SEPARABLE = {
    "yes": "; it holds at equal total entropy",
    "no": "; total entropy could be why",
    "positivity fails": "; total entropy cannot be ruled out",
}


def draw_contrasts(evidence: Evidence) -> Figure | None:
    """Draw the ambiguous region less each side for every model and all of them, or nothing without contrasts."""
    table = evidence.table("contrasts")
    if table is None:
        return None
    numbers = Numbers(table, "subject", "measure", "contrast")
    panels = tuple(
        Panel(
            (
                Drawing(_draw(evidence, numbers, measure, width=504), "wide"),
                Drawing(_draw(evidence, numbers, measure, width=358), "narrow"),
            ),
            heading=f"{words} near balance",
        )
        for measure, words in MEASURES.items()
    )
    alt = "Contrasts of the ambiguous region with its sides, in oscillations. " + "; ".join(
        f"{name}: " + ", ".join(f"{c} {decimal(numbers('mean', key, 'oscillations', c))}" for c in CONTRASTS)
        for key, name in _names(evidence).items()
    )
    data = [_data(evidence, numbers), *_entropy_data(evidence), *_placebo_data(evidence)]
    return Figure(
        "vacillation",
        _title(evidence),
        alt,
        panels,
        tuple(data),
        intro=_intro(evidence),
        caption=(
            "Mean in ambiguous cases less that on the sides, in changes per item. A switch that the answer needs costs "
            "one side more than the other; the mean of both sides cancels it. "
            f"Lines: {evidence.level} intervals over groups and over b; none where a region has too few cases."
            f"{_word_pooled(evidence, numbers)}"
        ),
        grid="two",
        keys=tuple(
            Key(draw_key(shape, f"{'fill' if name == 'balanced' else 'hollow'} neutral"), words)
            for name, (words, shape) in CONTRASTS.items()
        ),
    )  # fmt: skip


def tabulate_verdicts(evidence: Evidence) -> Table | None:
    """Tabulate the verdict of each model and all of them with its p-value and the place of its peak, or nothing."""
    table = evidence.table("vacillation")
    if table is None or not evidence.converged:
        return None
    verdicts, told = (read_words(table, name, ("subject", "measure")) for name in ("verdict", "separable"))
    places = Numbers(table, "subject", "measure")
    contrasts = evidence.table("contrasts")
    tests = None if contrasts is None else Numbers(contrasts, "subject", "measure", "contrast")
    rows = []
    for key, name in _names(evidence).items():
        if not any(verdicts.get((key, measure)) for measure in MEASURES):
            continue
        row = [name]
        for measure in MEASURES:
            p = float("nan") if tests is None else tests("p", key, measure, "balanced")
            verdict = verdicts.get((key, measure), "")
            row += [verdict or DASH, _p(p), DASH if verdict == UNTOLD else _peak(places, key, measure)]
        answers = [told.get((key, measure), "") or DASH for measure in MEASURES]
        rows.append([*row, answers[0] if len(set(answers)) == 1 else "; ".join(answers)])
    head = ["Model", *(part for words in MEASURES.values() for part in (f"{words} near balance", "p", "Peak at dH"))]
    caption = (
        f"Verdicts by rule; p: contrast with both sides, by flipping signs of groups{_size(evidence, tests)}; peak: of "
        "this contrast in standard errors as its centre moves, for all models from b, where sign flips seldom make one "
        "as high at any centre. Verdicts go by intervals, which carry the uncertainty of b; sign flips take b as "
        "known, so that p can be small where an interval holds zero"
    )
    return Table.of(caption, [*head, "Told from total entropy"], rows)


def _peak(places: Numbers, key: str, measure: str) -> str:
    peak, lower, upper = (places(f"peak{end}", key, measure) for end in ("", "_lower", "_upper"))
    return f"{decimal(peak, digits=1)} {interval(lower, upper, digits=1)}" if np.isfinite(peak) else DASH


def _names(evidence: Evidence) -> dict[str, str]:
    """Names of the subjects with contrasts, and of all together."""
    table = evidence.table("contrasts")
    table = evidence.table("vacillation") if table is None else table
    known = set() if table is None else {str(key) for key in table["subject"].values}
    own = {s.key: evidence.short(s.key) for s in evidence.subjects if s.key in known}
    return own | ({POOLED: "All models"} if POOLED in known and POOLED not in own else {})


def _p(value: float) -> str:
    if np.isnan(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _size(evidence: Evidence, tests: Numbers | None) -> str:
    if tests is None:
        return ""
    sizes = [tests("size", key, m, "balanced") for key in _names(evidence) for m in MEASURES]
    known = [size for size in sizes if np.isfinite(size)]
    if not known:
        return ""
    low, high = 100 * min(known), 100 * max(known)
    return f" (at level 5\N{NO-BREAK SPACE}% it rejects {low:.0f} to {high:.0f}\N{NO-BREAK SPACE}% of simulated nulls)"


def _key(evidence: Evidence) -> str:
    """All models, or the only one."""
    return evidence.subjects[0].key if len(evidence.subjects) == 1 else POOLED


def _word_pooled(evidence: Evidence, numbers: Numbers) -> str:
    """How many models "All models" are, where some have not all regions."""
    n = numbers("n_subjects", POOLED, "oscillations", "balanced")
    several = len([key for key in _names(evidence) if key != POOLED])
    if POOLED not in _names(evidence) or not 0 < n < several:
        return ""
    return f" All models: mean of the {numeral(int(n))} of {numeral(several)} with enough cases in every region."


def _find(evidence: Evidence, name: str, measure: str) -> str:
    """A word of the verdict on all models, or on the only one."""
    table = evidence.table("vacillation")
    return "" if table is None else read_words(table, name, ("subject", "measure")).get((_key(evidence), measure), "")


def _word_other_side(evidence: Evidence, verdict: str) -> str:
    """How the ambiguous region compares with the side that the verdict leaves open."""
    table = evidence.table("contrasts")
    if table is None or verdict not in OTHER_SIDE:
        return ""
    upper = Numbers(table, "subject", "measure", "contrast")
    below = upper("upper", _key(evidence), "oscillations", OTHER_SIDE[verdict]) < 0
    return "and less often" if below else "not clearly"


def _title(evidence: Evidence) -> str:
    if not evidence.converged:
        return "Vacillation near balance, by a fit that did not converge"
    verdict, told = (_find(evidence, name, "oscillations") for name in ("verdict", "separable"))
    title = TITLES.get(verdict, "How vacillation near balance compares with that on the sides")
    title = title.format(other=_word_other_side(evidence, verdict))
    return title if verdict in (UNDECIDED, UNTOLD, "") else title + SEPARABLE.get(told, "")


def _intro(evidence: Evidence) -> str:
    verdict, told = (_find(evidence, name, "round-trips") for name in ("verdict", "separable"))
    if not evidence.converged or not verdict:
        return ""
    more = "" if verdict in (UNDECIDED, UNTOLD) else SEPARABLE.get(told, "")
    return f"By round trips alone: {verdict}{more}.{_word_peak(evidence)}"


def _word_peak(evidence: Evidence) -> str:
    """That there is a peak, and not at balance, where that is sure, of either measure by its name."""
    table = evidence.table("vacillation")
    if table is None:
        return ""
    found = Numbers(table, "subject", "measure")
    said = ""
    for measure, words in MEASURES.items():
        near, peak, lower, upper = (
            found(name, _key(evidence), measure) for name in ("peak_near", "peak", "peak_lower", "peak_upper")
        )
        if near <= 1 - CERTAIN:
            place = f"{decimal(peak, digits=1)} {interval(lower, upper, digits=1)}"
            where = f"{place} from the balance point" if _key(evidence) == POOLED else f"dH = {place}"
            said += f" The contrast in {words.lower()} peaks at {where}, not near it."
    return said


def _draw(evidence: Evidence, numbers: Numbers, measure: str, *, width: float) -> Markup:
    gap, stacked = 10.0, width < 500
    rows = Rows(evidence, width=width, top=8, height=gap * len(CONTRASTS) + 12)
    pooled = POOLED in _names(evidence)
    bottom = rows.bottom + (rows.height + 6 if pooled else 0)
    canvas = Canvas(width, bottom + 30)
    keys = list(_names(evidence))
    # Differing scales would hide that round trips are fewer.
    low, high = span([numbers(e, key, m, c) for e in ENDS for key in keys for m in MEASURES for c in CONTRASTS])
    scale = Scale(low, high, rows.name_width + 8, width - 8)
    draw_x_axis(canvas, scale, top=8, bottom=bottom)
    canvas.line((scale(0), 8), (scale(0), bottom), "zero")
    rows.draw_names(canvas)
    places = [(s.key, s.name, f"m{s.colour}", y) for s, y in rows.places]
    if pooled:
        y = rows.bottom + 6 + rows.height / 2 + (11 if stacked else 0)
        canvas.line((0, rows.bottom + 3), (width, rows.bottom + 3), "grid")
        canvas.text(20, y - 18 if stacked else y + 7, "All models", "name")
        places.append((POOLED, "All models", "strong", y))
    for key, name, css, y in places:
        first = y - gap * (len(CONTRASTS) - 1) / 2 + (4 if stacked else 1)
        for i, (contrast, (words, shape)) in enumerate(CONTRASTS.items()):
            value, lower, upper = (numbers(end, key, measure, contrast) for end in ENDS)
            if not np.isfinite(lower):
                continue
            draw_estimate(
                canvas, scale, first + gap * i, (value, lower, upper),
                css=css, shape=shape, hollow=contrast != "balanced", size=3.9,
                title=f"{name}, {words}: {decimal(value)} {interval(lower, upper)}",
            )  # fmt: skip
    return canvas.markup()


def _data(evidence: Evidence, numbers: Numbers) -> Table:
    rows = [
        [
            name, words, said, decimal(numbers("mean", key, measure, contrast)),
            interval(*(numbers(end, key, measure, contrast) for end in ENDS[1:])),
            probability(numbers("probability", key, measure, contrast)), _p(numbers("p", key, measure, contrast)),
            percent(numbers("size", key, measure, contrast)),
        ]
        for key, name in _names(evidence).items()
        for measure, words in MEASURES.items()
        for contrast, (said, _) in CONTRASTS.items()
        if np.isfinite(numbers("mean", key, measure, contrast))
    ]  # fmt: skip
    head = ["Model", "Measure", "Ambiguous cases", "Contrast", f"{evidence.level} interval", "P(> 0)", "p", "Size of p"]
    return Table.of("Contrasts of the ambiguous region with its sides", head, rows)


def _entropy_data(evidence: Evidence) -> list[Table]:
    table = evidence.table("total_entropy")
    if table is None:
        return []
    numbers = Numbers(table, "subject", "measure", "contrast", "stratum")
    overlap = Numbers(table, "subject", "contrast")
    holds = read_words(table, "positivity", ("subject", "contrast"))
    strata = [label for label in ("low", "middle", "high", "overlap") if label in numbers.labels["stratum"]]
    rows = [
        [
            name, words, CONTRASTS[contrast][0],
            *(
                f"{decimal(numbers('mean', key, measure, contrast, s))} "
                f"{interval(*(numbers(end, key, measure, contrast, s) for end in ENDS[1:]))}"
                for s in strata
            ),
            percent(overlap("effective_share", key, contrast)), count(overlap("smallest_cell", key, contrast)),
            holds.get((key, contrast), "") or DASH,
        ]
        for key, name in _names(evidence).items()
        for measure, words in MEASURES.items()
        for contrast in CONTRASTS
        if any(np.isfinite(numbers("mean", key, measure, contrast, s)) for s in strata)
    ]  # fmt: skip
    head = ["Model", "Measure", "Ambiguous cases", *(_stratum(s) for s in strata)]
    head += ["Effective share", "Smallest cell", "Positivity"]
    return [Table.of(f"The same at equal total entropy, with {evidence.level} intervals", head, rows)]


def _stratum(label: str) -> str:
    return "Overlap weights" if label == "overlap" else f"{label.capitalize()} third"


def _placebo_data(evidence: Evidence) -> list[Table]:
    table = evidence.table("placebos")
    if table is None:
        return []
    centres = table["centre"].values.astype(float)
    labelled = Numbers(table.assign_coords(centre=[f"{c:.1f}" for c in centres]), "subject", "measure", "centre")
    names = _names(evidence)
    rows = []
    for centre in centres[np.isclose(5 * centres, np.round(5 * centres)) & (np.abs(centres) <= 1.5)]:
        for measure, words in MEASURES.items():
            cells = [decimal(labelled("mean", key, measure, f"{centre:.1f}")) for key in names]
            rows.append([f"{decimal(float(centre), digits=1)}, {words.lower()}", *cells])
    places = evidence.table("vacillation")
    if places is not None:
        found = Numbers(places, "subject", "measure")
        rows += [
            [f"P(peak within 0.25 of b), {words.lower()}", *(probability(found("peak_near", key, m)) for key in names)]
            for m, words in MEASURES.items()
        ]
    head = ["Centre, measure", *(f"{name}, from b" if key == POOLED else name for key, name in names.items())]
    return [
        Table.of(f"The contrast with both sides around other centres than b (dH; all models: dH {MINUS} b)", head, rows)
    ]
