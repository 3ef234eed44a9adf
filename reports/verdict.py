"""The verdict in words, by rule: also where it is "cannot tell", "the law fails" or "no verdict".

`b` is the balance point: the relative uncertainty dH at which a model follows text and image equally often.
b > 0 leans to the text, b < 0 to the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mfbayes import names
from mfbayes.reports.evidence import Evidence, Reading, Subject
from mfbayes.reports.numerals import count, decimal, numeral, probability

type Sentence = tuple[str | Subject, ...]

CERTAIN = 0.975
"""A posterior probability from which an order is stated as a finding: that of a 95 % interval without zero."""


@dataclass(frozen=True)
class Verdict:
    """A headline and what explains it; `alarm` where there is none to give."""

    headline: Sentence
    lede: tuple[Sentence, ...]
    alarm: bool = False


def judge(evidence: Evidence) -> Verdict:
    """State what the balance points say about the models, or why they cannot say it."""
    if not evidence.converged:
        return _no_verdict(evidence)
    if evidence.several_tasks:
        return _over_tasks(evidence)
    subjects = list(evidence.subjects)
    return Verdict(headline_of(evidence, subjects), (*_explain(evidence, subjects), *_exceptions(subjects)))


def plain(sentence: Sentence) -> str:
    """The sentence as plain text."""
    return "".join(part if isinstance(part, str) else part.name for part in sentence)


def order_probability(evidence: Evidence, lower: Subject, upper: Subject) -> float:
    """P(b of `lower` < b of `upper`), NaN where the fit does not compare them."""
    pairs = evidence.table("pairwise")
    if pairs is None or lower.task != upper.task:
        return float("nan")
    return float(pairs["p_below"].sel(subject=lower.key, other_subject=upper.key))


def headline_of(evidence: Evidence, subjects: Sequence[Subject]) -> Sentence:
    """One sentence on the subjects of one task."""
    rising = [subject for subject in subjects if subject.defies_the_law]
    if rising and len(rising) == len(subjects) > 1:
        return ("The law fails: every model follows the text more as the text grows less certain.",)
    if rising:
        verb = "it follows" if len(rising) == 1 else "they follow"
        return ("The law fails for ", *_names(rising), f": {verb} the text more as the text grows less certain.")
    located = [subject for subject in subjects if subject.located]
    if not located:
        return _nothing_located(subjects)
    if len(located) == 1:
        return _alone(located[0])
    return _begin(_compare(evidence, located))


def _compare(evidence: Evidence, located: list[Subject]) -> Sentence:
    """Rules for two or more located models, ordered from the highest balance point to the lowest."""
    top, bottom = located[0], located[-1]
    everyone = "Both models" if len(located) == 2 else "Every model"
    if not order_probability(evidence, bottom, top) >= CERTAIN:
        if all(subject.reading == "even" for subject in located):
            verb = "weigh" if len(located) == 2 else "weighs"
            return (f"{everyone} {verb} text and image evenly.",)
        return (f"Cannot tell the {numeral(len(located))} models apart: their balance points overlap.",)
    highest = [s for s in located if not order_probability(evidence, s, top) >= CERTAIN]
    lowest = [s for s in located if not order_probability(evidence, bottom, s) >= CERTAIN]
    if {s.key for s in highest} & {s.key for s in lowest}:
        rest = "the model" if len(located) == 3 else "the models"
        return (top, " gives the text more weight than ", bottom, f"; {rest} between cannot be placed.")
    readings = {subject.reading for subject in located}
    lean = "lean" if len(located) == 2 else "leans"
    if readings == {"image"}:
        return (f"{everyone} {lean} to the image, ", *_few(lowest), " the furthest.")
    if readings == {"text"}:
        return (f"{everyone} {lean} to the text, ", *_few(highest), " the furthest.")
    if top.reading == "text" and bottom.reading == "image":
        most = "" if len(located) == 2 else " furthest"
        return (*_few(highest), f" {_lean(highest)}{most} to the text, ", *_few(lowest), " to the image.")
    return (
        *_few(highest), f" {_verb(highest, 'yield')} to the text first; ",
        *_few(lowest), f" {_verb(lowest, 'hold')} on to the image longest.",
    )  # fmt: skip


def _alone(subject: Subject) -> Sentence:
    words: dict[Reading, str] = {
        "text": " leans to the text even where text and image are equally certain.",
        "image": " leans to the image even where text and image are equally certain.",
        "even": " weighs text and image evenly.",
    }
    if subject.reading in words:
        return (subject, words[subject.reading])
    return ("Cannot tell which side ", subject, " leans to: its balance point may lie on either side of zero.")


def _nothing_located(subjects: Sequence[Subject]) -> Sentence:
    if len(subjects) == 1:
        return _state(subjects[0])
    if all(subject.status == "one-sided" for subject in subjects):
        sides = {subject.only_side for subject in subjects}
        if len(sides) == 1 and sides != {""}:
            return (f"Every model always follows the {sides.pop()}: no balance point can be located.",)
        return ("No model ever changes sides: no balance point can be located.",)
    if all(subject.status == "outside" for subject in subjects):
        return ("Every balance point lies beyond the observed range: none can be located.",)
    if all(subject.law == "unclear" and subject.status == "ok" for subject in subjects):
        return ("Cannot tell: no model's choice clearly depends on relative uncertainty.",)
    return ("Cannot tell: no model's balance point can be located.",)


def _state(subject: Subject) -> Sentence:
    """Why this one model has no balance point to name."""
    if subject.status == "one-sided" and not subject.only_side:
        return (subject, " gave neither answer in any trial: it has no balance point in these trials.")
    if subject.status == "one-sided":
        return (subject, f" always follows the {subject.only_side}: it has no balance point in these trials.")
    if subject.status == "outside":
        side = "text" if subject.n_text > subject.n_image else "image"
        return (subject, f" follows the {side} over the whole observed range: its balance point lies beyond it.")
    if subject.status == "not-converged":
        return (subject, " has no estimate to trust: the fit did not converge.")
    if subject.defies_the_law:
        return ("The law fails for ", subject, ": it follows the text more as the text grows less certain.")
    if subject.law == "unknown":
        return ("Cannot tell for ", subject, ": a single group cannot show whether its choice follows the law.")
    return ("Cannot tell for ", subject, ": its choice does not clearly depend on relative uncertainty.")


def _explain(evidence: Evidence, subjects: Sequence[Subject]) -> list[Sentence]:
    located = [subject for subject in subjects if subject.located]
    if not located:
        return []
    top, bottom = located[0], located[-1]
    sentences: list[Sentence] = [
        (top, f" follows text and image equally often at dH = {_with_interval(top, evidence)}", _meaning(top))
    ]
    if len(located) > 1:
        sentences.append((bottom, f" does so at {_with_interval(bottom, evidence)}", _meaning(bottom)))
        sentences.append(_order(evidence, located))
    return sentences


def _order(evidence: Evidence, located: list[Subject]) -> Sentence:
    steps = [order_probability(evidence, low, high) for high, low in pairwise(located)]
    if all(step >= CERTAIN for step in steps):
        whole = "The two are" if len(located) == 2 else "Neighbours in this order are"
        return (f"{whole} told apart with probability {_at_least(min(steps))}.",)
    open_steps = sum(not step >= CERTAIN for step in steps)
    if len(located) == 2:
        return (f"The probability that they stand in this order is {probability(steps[0])}.",)
    pairs = "pair" if len(steps) == 1 else "pairs"
    return (f"Of {numeral(len(steps))} neighbouring {pairs}, {numeral(open_steps)} cannot be told apart.",)


def _at_least(value: float) -> str:
    return probability(value) if value > 0.99 else f"{probability(value)} or more"


def _meaning(subject: Subject) -> str:
    if abs(subject.median) < subject.zone:
        return ", about where both are equally certain."
    if subject.median > 0:
        return ", where the text is already the less certain side."
    return ", where the text is still the surer side."


def _with_interval(subject: Subject, evidence: Evidence) -> str:
    low, high = decimal(subject.lower), decimal(subject.upper)
    return f"{decimal(subject.median)} ({evidence.level} interval {low} to {high})"


def _exceptions(subjects: Sequence[Subject]) -> list[Sentence]:
    if len(subjects) == 1:
        return []
    return [_state(subject) for subject in subjects if not subject.located and not subject.defies_the_law]


def _over_tasks(evidence: Evidence) -> Verdict:
    """One verdict a task; the headline says whether they agree."""
    headlines = {task: headline_of(evidence, evidence.of_task(task)) for task in evidence.tasks}
    texts = {plain(headline) for headline in headlines.values()}
    lede = tuple((f"{task}: ", *headline) for task, headline in headlines.items())
    exceptions = tuple(_state(s) for s in evidence.subjects if not s.located and not s.defies_the_law)
    if len(texts) == 1:
        return Verdict(
            (
                f"On every {evidence.setting}: " if evidence.setting == "task" else f"In every {evidence.setting}: ",
                *next(iter(headlines.values())),
            ),
            exceptions,
        )
    leans: dict[str, set[Reading]] = {}
    for subject in evidence.subjects:
        if subject.located:
            leans.setdefault(subject.name, set()).add(subject.reading)
    if any({"text", "image"} <= readings for readings in leans.values()):
        said = f"Which side a model leans to depends on the {evidence.setting}."
    else:
        said = f"What can be told of the models differs from {evidence.setting} to {evidence.setting}."
    return Verdict((said,), (*lede, *exceptions))


def _no_verdict(evidence: Evidence) -> Verdict:
    checks = evidence.table("convergence")
    headline = "No verdict: the sampler did not converge."
    remedy = "Run the fit again, with more draws or more trials."
    if evidence.attributes.get("method") == names.FAST:
        headline, remedy = "No verdict: the fast fit failed its checks.", "Fit again with --method nuts."
    lede: Sentence = (f"Nothing on this page is to be trusted. {remedy}",)
    if checks is not None and {"r_hat", "ess_bulk"} <= set(checks.data_vars):
        worst = float(checks["r_hat"].max())
        least = float(checks["ess_bulk"].min())
        lede = (f"Largest R-hat {decimal(worst, digits=3)}, smallest effective sample size {count(least)}. ", *lede)
    return Verdict((headline,), (lede,), alarm=True)


def _names(subjects: Sequence[Subject]) -> list[str | Subject]:
    parts: list[str | Subject] = []
    for i, subject in enumerate(subjects):
        joint = "" if i == 0 else " and " if i == len(subjects) - 1 else ", "
        parts += [joint, subject] if joint else [subject]
    return parts


def _begin(sentence: Sentence) -> Sentence:
    """Begin with a capital, unless a model's name stands first: names keep their spelling."""
    first, *rest = sentence
    return (first[:1].upper() + first[1:], *rest) if isinstance(first, str) else sentence


def _few(subjects: Sequence[Subject]) -> list[str | Subject]:
    """Names of one or two, a count of more: a headline has little room."""
    return _names(subjects) if len(subjects) < 3 else [f"{numeral(len(subjects))} models"]


def _verb(subjects: Sequence[Subject], verb: str) -> str:
    return verb + "s" if len(subjects) == 1 else verb


def _lean(subjects: Sequence[Subject]) -> str:
    return _verb(subjects, "lean")
