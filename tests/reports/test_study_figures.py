"""Figures that compare subjects, laws, halves, conditions and analyses: their numbers, and pages without them."""

import math
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
import xarray as xr

from mfbayes.reports.convergence import check_convergence, word_failure, word_weighing
from mfbayes.reports.curves import draw_curves
from mfbayes.reports.evidence import read_evidence
from mfbayes.reports.forest import draw_forest
from mfbayes.reports.halves import draw_halves
from mfbayes.reports.laws import compare_laws
from mfbayes.reports.numerals import numeral
from mfbayes.reports.page import render
from mfbayes.reports.reasons import explain_ratios

HOSTILE = "</script><script>alert(1)</script>\"><img src=x onerror=alert(2)> '&amp;"
SECTIONS = {
    "decomposition": 'id="reasons"',
    "laws": 'id="laws"',
    "law_parameters": "Parameters of the law",
    "plane": 'id="plane"',
    "halves": 'id="halves"',
    "sensitivity": 'id="sensitivity"',
    "condition_shifts": 'id="conditions"',
    "outcomes": 'id="outcomes"',
    "lapses": "Random answers",
    "ranking": "Mean rank",
    "law_curves": 'class="spline"',
}


@pytest.fixture(scope="module")
def conditions(build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any]) -> Callable[..., xr.DataTree]:
    """Two models under two conditions; the second turns both to the text by 0.25."""

    def build(first: str = "text first", **options: Any) -> xr.DataTree:
        cases = [
            make_case(model, b + shift, condition=condition)
            for model, b in (("a", 0.3), ("b", -0.4))
            for condition, shift in ((first, 0.0), ("image first", 0.25))
        ]
        return build_tree(cases, traces=False, tiers=False, **options)

    return build


def cells(html: str, caption: str) -> list[list[str]]:
    """The rows of the table of that caption."""
    table = html.split(f"<caption>{caption}")[1].split("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    return [[unescape(cell) for cell in row] for row in rows]


@pytest.mark.parametrize("node", SECTIONS)
def test_a_missing_node_leaves_its_section_out(conditions: Callable[..., xr.DataTree], node: str) -> None:
    tree = conditions()
    assert SECTIONS[node] in render(tree)
    del tree["estimates"][node]
    assert SECTIONS[node] not in render(tree)


def test_page_is_whole_without_the_study(build_tree: Callable[..., xr.DataTree]) -> None:
    html = render(build_tree(studied=False))
    assert not any(mark in html for mark in SECTIONS.values())
    assert "|b| &lt; 0.1," in html


def test_zone_is_the_one_of_the_estimates(build_tree: Callable[..., xr.DataTree]) -> None:
    tree = build_tree()
    evidence = read_evidence(tree)
    assert evidence.zone == 0.15
    assert "|b| < 0.15" in draw_forest(evidence).caption
    # The balance point of tiny-no-conflict lies within -0.12 +- 0.08: beyond a narrow zone, within a wide one.
    readings = {}
    for zone in (0.01, 0.3):
        tree["estimates/equivalence"].attrs["zone"] = zone
        readings[zone] = next(s.reading for s in read_evidence(tree).subjects if s.key == "tiny-no-conflict")
    assert readings == {0.01: "image", 0.3: "even"}


def test_parts_of_a_difference_are_told(build_tree: Callable[..., xr.DataTree]) -> None:
    tree = build_tree()
    table = tree["estimates/decomposition"].to_dataset()
    pair = {"subject": "tiny-trust-text", "other_subject": "tiny-no-supervision"}
    parts = {"by_balance_point": 0.5, "by_slope": -0.014, "by_composition": 0.1}
    for name, value in {"tfr_difference": 0.63, **parts}.items():
        table[name].loc[pair] = value
    tree["estimates/decomposition"] = xr.DataTree(table)
    figure = explain_ratios(read_evidence(tree))
    assert figure is not None
    assert figure.title == (
        "tiny-trust-text follows the text 63 points more often than tiny-no-supervision: 50 points are owed to its "
        "balance point, 10 to the dH it met and −1 to its slope"
    )
    row = next(
        r for r in cells(render(tree), "Differences in TFR") if r[0] == "tiny-trust-text over tiny-no-supervision"
    )
    assert row[1].startswith("63.0 ")
    assert row[3].startswith("−1.4 ")


def test_laws_say_whether_dH_is_enough(build_tree: Callable[..., xr.DataTree]) -> None:
    tree = build_tree()
    table = tree["estimates/laws"].to_dataset()
    table["elpd_difference"].loc[{"law": "dH"}] = -31.0
    table["difference_se"].loc[{"law": "dH"}] = 5.6
    titles = []
    for suffices in ("no", "unclear", "yes"):
        tree["estimates/laws"] = xr.DataTree(table.assign_attrs(dH_suffices=suffices))
        figure = compare_laws(read_evidence(tree))
        assert figure is not None
        titles.append(figure.title)
    assert titles == [
        "dH is not enough: “surface” predicts new groups better, by 31 (standard error 6)",
        "Whether dH is enough is unclear: “surface” predicts new groups better, by 31 (standard error 6)",
        "dH is enough: no other law predicts new groups better by much",
    ]


def test_parameters_of_laws_stand_with_their_intervals(build_tree: Callable[..., xr.DataTree]) -> None:
    tree = build_tree()
    table = tree["estimates/law_parameters"].to_dataset()
    untold = {"subject": "tiny-balanced", "law": "two entropies", "parameter": "text slope"}
    for name in table.data_vars:
        table[name].loc[untold] = math.nan
    tree["estimates/law_parameters"] = xr.DataTree(table)
    html = render(tree)
    head, *rows = cells(html, "Parameters of the law “two entropies”")
    assert head == ["Model", "text slope", "image slope"]
    by_model = {row[0]: row[1:] for row in rows}
    assert by_model["tiny-trust-text"] == ["−1.50 [−1.75, −1.25]", "1.20 [0.95, 1.45]"]
    assert by_model["tiny-balanced"] == ["–", "1.20 [0.95, 1.45]"]
    assert "Parameters of the law “ideal arbiter”" not in html


def test_the_title_of_the_curves_says_which_law_bends(build_tree: Callable[..., xr.DataTree]) -> None:
    tree = build_tree()

    def title() -> str:
        figure = draw_curves(read_evidence(tree))
        assert figure is not None
        return figure.title

    falls, node = title(), tree["estimates/monotone"]
    assert isinstance(node, xr.DataTree)
    monotone = node.to_dataset(inherit=False)
    verdict = monotone["verdict"]
    assert "all along" not in falls
    falling = [s for s in read_evidence(tree).subjects if s.law == "falls"]
    tree["estimates/monotone"] = xr.DataTree(monotone.assign(verdict=xr.full_like(verdict, "not monotone")))
    assert title() == f"{falls}, though not all along in {numeral(len(falling))} of them"
    bent = falling[0]
    one = xr.where(monotone["subject"] == bent.key, "not monotone", "unclear")
    tree["estimates/monotone"] = xr.DataTree(monotone.assign(verdict=one))
    assert title() == f"{falls}, though not all along in {bent.name}"
    del tree["estimates"]["monotone"]
    assert title() == falls


def test_halves_count_what_moves(build_tree: Callable[..., xr.DataTree]) -> None:
    tree = build_tree()
    table = tree["estimates/halves"].to_dataset()
    table["p_towards_zero"][:] = [0.99, 0.5, 0.98, 0.01, 0.97]
    tree["estimates/halves"] = xr.DataTree(table)
    figure = draw_halves(read_evidence(tree))
    assert figure is not None
    assert figure.title == "Where total entropy is high, two of five balance points move towards zero, one away"


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        ("no sign against it", "Leaving out answers that are neither moves no balance point"),
        ("not ignorable", "Answers that are neither cannot be ignored"),
        ("unclear", "It is unclear whether answers that are neither can be ignored"),
    ],
)
def test_answers_of_neither_side_are_judged_by_the_stored_verdict(
    build_tree: Callable[..., xr.DataTree], verdict: str, title: str
) -> None:
    tree = build_tree()
    tree["estimates/outcomes"].attrs |= {"ignorable": verdict, "rule": HOSTILE}
    html = render(tree)
    assert f">{title}</h2>" in html
    assert "<script" not in html
    row = next(r for r in cells(html, "Balance points of three outcomes") if r[0] == "tiny-trust-text")
    assert row[1] == "2\u00a0%"
    assert float(row[6]) > float(row[2]) > float(row[7].replace("\u2212", "-"))


def test_lapses_are_told_as_shares_of_random_answers(build_tree: Callable[..., xr.DataTree]) -> None:
    """The rate of either side by chance is .02: one answer in 25 is random."""
    assert cells(render(build_tree()), "Share of answers given at random")[1] == [
        "tiny-trust-text",
        "4\u00a0%",
        "[0.8, 10.0]",
    ]


def test_conditions_are_kept_apart(conditions: Callable[..., xr.DataTree]) -> None:
    tree = conditions()
    html = render(tree)
    assert "Of two shifts between conditions, two to the text" in html
    mean = float(tree["estimates/condition_shifts"].to_dataset()["mean"][0])
    assert cells(html, "Shifts of the balance point")[1][3] == f"{mean:.2f}"
    assert "In every condition: a leans to the text" in html or "depends on the condition" in html


def test_fast_fits_claim_no_sampler(build_tree: Callable[..., xr.DataTree]) -> None:
    html = render(build_tree(method="fast", index="margin"))
    assert "Mode and curvature, no sampler" in html
    assert "R-hat" not in html
    assert "relative uncertainty dH (by margin)" in html


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        ({"mode_found": 0, "effective_nodes": 90.0, "min_effective_nodes": 25}, "The search for the mode"),
        ({"mode_found": 1, "effective_nodes": 9.2, "min_effective_nodes": 25}, "9.2 count, and 25 are needed"),
        ({}, "was not found"),
    ],
)
def test_a_fast_fit_that_failed_says_why(
    build_tree: Callable[..., xr.DataTree], checks: dict[str, float], words: str
) -> None:
    tree = build_tree(method="fast", converged=False)
    tree["estimates/convergence"].attrs |= checks
    html = render(tree)
    assert words in html
    assert "No verdict: the fast fit failed its checks." in html
    assert html.count("Fit again with --method nuts.") == 2
    attributes = tree["estimates/convergence"].attrs
    assert word_failure({**attributes, "passed": 1}) == word_failure({**attributes, "method": "nuts"}) == ""


@pytest.mark.parametrize(
    ("weighing", "words"),
    [
        ({"weighed": 1, "k_hat": 0.7}, ""),
        ({"weighed": 1, "k_hat": 0.834}, "are not exact (Pareto k-hat 0.83, above 0.7)"),
        ({"weighed": 0, "k_hat": math.nan}, "were not weighed by the likelihood"),
    ],
)
def test_draws_that_were_not_weighed_well_are_told(
    build_tree: Callable[..., xr.DataTree], weighing: dict[str, float], words: str
) -> None:
    tree = build_tree(method="fast")
    tree["estimates/convergence"].attrs |= weighing
    found = check_convergence(read_evidence(tree))
    assert found is not None
    assert words in found.summary
    assert ("this fast fit" in found.summary) == bool(words)
    assert word_weighing({**tree["estimates/convergence"].attrs, "passed": 0}) == ""
    assert word_weighing({**tree["estimates/convergence"].attrs, "method": "nuts"}) == ""


def test_labels_are_inert(conditions: Callable[..., xr.DataTree]) -> None:
    tree = conditions(HOSTILE)
    for node, dim in (
        ("laws", "law"),
        ("sensitivity", "analysis"),
        ("law_parameters", "law"),
        ("law_parameters", "parameter"),
    ):
        table = tree[f"estimates/{node}"].to_dataset()
        labels = [HOSTILE, *table[dim].values[1:]]
        tree[f"estimates/{node}"] = xr.DataTree(table.assign_coords({dim: labels}))
    html = render(tree)
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;alert(1)" in html
