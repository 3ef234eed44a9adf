"""Every rule of the verdict, each on a fit where it must speak."""

from collections.abc import Callable
from typing import Any

import pytest
import xarray as xr

from mfbayes.reports.evidence import read_evidence
from mfbayes.reports.forest import readings_title
from mfbayes.reports.verdict import judge, plain


@pytest.fixture
def headline(build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any]) -> Callable[..., str]:
    """The headline on models given as (name, b) or (name, b, further properties)."""

    def of(*models: tuple[Any, ...], **options: Any) -> str:
        cases = [make_case(m[0], m[1], **(m[2] if len(m) > 2 else {})) for m in models]
        return plain(judge(read_evidence(build_tree(cases, **options))).headline)

    return of


CASES: list[tuple[list[tuple[Any, ...]], str]] = [
    # One model.
    ([("a", 0.5)], "a leans to the text even where text and image are equally certain."),
    ([("a", -0.5)], "a leans to the image even where text and image are equally certain."),
    ([("a", 0.0, {"sd": 0.02})], "a weighs text and image evenly."),
    (
        [("a", 0.05, {"sd": 0.2})],
        "Cannot tell which side a leans to: its balance point may lie on either side of zero.",
    ),
    ([("a", 2.0, {"status": "one-sided"})], "a always follows the text: it has no balance point in these trials."),
    ([("a", -2.0, {"status": "one-sided"})], "a always follows the image: it has no balance point in these trials."),
    (
        [("a", 1.9, {"status": "outside"})],
        "a follows the text over the whole observed range: its balance point lies beyond it.",
    ),
    (
        [("a", 0.5), ("b", -0.5), ("c", 0.1, {"law": "rises", "status": "one-sided"})],
        "a leans to the text, b to the image.",
    ),
    ([("a", 0.1, {"law": "rises"})], "The law fails for a: it follows the text more as the text grows less certain."),
    (
        [("a", 0.1, {"law": "unclear"})],
        "Cannot tell for a: its choice does not clearly depend on relative uncertainty.",
    ),
    # Two models.
    ([("a", 0.5), ("b", -0.5)], "a leans to the text, b to the image."),
    ([("a", -0.3), ("b", -0.8)], "Both models lean to the image, b the furthest."),
    ([("a", 0.3), ("b", 0.8)], "Both models lean to the text, b the furthest."),
    ([("a", 0.0, {"sd": 0.03}), ("b", 0.01, {"sd": 0.03})], "Both models weigh text and image evenly."),
    ([("a", 0.30), ("b", 0.31)], "Cannot tell the two models apart: their balance points overlap."),
    ([("a", 0.05), ("b", 0.5)], "b yields to the text first; a holds on to the image longest."),
    # Several.
    ([("a", 0.5), ("b", 0.0), ("c", -0.5)], "a leans furthest to the text, c to the image."),
    ([("a", 0.5), ("b", 0.49), ("c", -0.5)], "a and b lean furthest to the text, c to the image."),
    (
        [("a", 0.5), ("b", 0.49), ("c", 0.51), ("d", -0.5)],
        "Three models lean furthest to the text, d to the image.",
    ),
    (
        [("a", 0.12), ("b", 0.04, {"sd": 0.09}), ("c", -0.04)],
        "a gives the text more weight than c; the model between cannot be placed.",
    ),
    ([("a", -0.3), ("b", -0.6), ("c", -0.9)], "Every model leans to the image, c the furthest."),
    # The law, and models that cannot be placed.
    (
        [("a", 0.5), ("b", -0.5), ("c", 0.1, {"law": "rises"})],
        "The law fails for c: it follows the text more as the text grows less certain.",
    ),
    (
        [("a", 0.5, {"law": "rises"}), ("b", -0.5, {"law": "rises"})],
        "The law fails: every model follows the text more as the text grows less certain.",
    ),
    (
        [("a", 0.5, {"law": "unclear"}), ("b", -0.5, {"law": "unclear"})],
        "Cannot tell: no model's choice clearly depends on relative uncertainty.",
    ),
    (
        [("a", -2.0, {"status": "one-sided"}), ("b", -2.0, {"status": "one-sided"})],
        "Every model always follows the image: no balance point can be located.",
    ),
    (
        [("a", 2.0, {"status": "one-sided"}), ("b", -2.0, {"status": "one-sided"})],
        "No model ever changes sides: no balance point can be located.",
    ),
    (
        [("a", 1.9, {"status": "outside"}), ("b", -1.9, {"status": "outside"})],
        "Every balance point lies beyond the observed range: none can be located.",
    ),
    (
        [("a", 1.9, {"status": "outside"}), ("b", -2, {"status": "one-sided"})],
        "Cannot tell: no model's balance point can be located.",
    ),
    (
        [("a", 0.4), ("b", -2, {"status": "one-sided"})],
        "a leans to the text even where text and image are equally certain.",
    ),
]


@pytest.mark.parametrize(("models", "expected"), CASES)
def test_headline(headline: Callable[..., str], models: list[tuple[Any, ...]], expected: str) -> None:
    assert headline(*models) == expected


def test_no_verdict_without_convergence(build_tree: Callable[..., xr.DataTree]) -> None:
    verdict = judge(read_evidence(build_tree(converged=False)))
    assert verdict.alarm
    assert plain(verdict.headline) == "No verdict: the sampler did not converge."
    assert "R-hat" in plain(verdict.lede[0])


def test_status_alone_takes_the_verdict_away(build_tree: Callable[..., xr.DataTree]) -> None:
    tree = build_tree()
    tree.attrs["status"] = "not-converged"
    assert judge(read_evidence(tree)).alarm


def test_agreeing_and_disagreeing_tasks(headline: Callable[..., str]) -> None:
    colour, shape = {"task": "color"}, {"task": "shape"}
    agreeing = headline(("a", 0.5, colour), ("b", -0.5, colour), ("a", 0.4, shape), ("b", -0.4, shape))
    assert agreeing == "On every task: a leans to the text, b to the image."
    disagreeing = headline(("a", 0.5, colour), ("b", -0.5, colour), ("a", -0.4, shape), ("b", 0.4, shape))
    assert disagreeing == "Which side a model leans to depends on the task."
    # One of them clearer than the other is no change of sides.
    clearer = headline(("a", 0.5, colour), ("b", 0.02, colour), ("a", 0.4, shape), ("b", 0.3, shape))
    assert clearer == "What can be told of the models differs from task to task."


def test_lede_names_what_cannot_be_placed(
    build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any]
) -> None:
    cases = [make_case("a", 0.5), make_case("b", -0.5), make_case("c", -2, status="one-sided")]
    lede = " ".join(plain(sentence) for sentence in judge(read_evidence(build_tree(cases))).lede)
    assert "c always follows the image" in lede
    assert "told apart with probability > 0.99" in lede


def test_forest_title_counts_readings(build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any]) -> None:
    cases = [make_case("a", 0.5), make_case("b", -0.5), make_case("c", -0.6), make_case("d", 0.1, sd=0.3)]
    title = readings_title(read_evidence(build_tree(cases)).subjects)
    assert title == "Of four models, one leans to the text, two lean to the image and one cannot be placed"
