"""Pages of a fit by another index than entropy: every figure made from it says so, and none says entropy of it."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
import xarray as xr

from mfbayes import names
from mfbayes.reports.measures import measure_of
from mfbayes.reports.page import render

MADE_FROM_IT = {
    *("balance-points", "curves", "ratios", "reasons", "laws", "plane", "halves", "conditions", "sensitivity"),
    *("outcomes", "oscillations", "layers"),
}
"""Figures of a page with everything that the simulation has, but for entropy by tier, which is of entropy always."""
OTHERS = [index for index in names.INDICES if index != names.ENTROPY]


def figures(html: str) -> dict[str, str]:
    """What each figure says and draws, by its name."""
    return {ident: unescape(text) for ident, text in re.findall(r'<figure id="([^"]+)"(.*?)</figure>', html, re.DOTALL)}


@pytest.fixture(scope="module")
def build(build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any]) -> Callable[..., dict[str, str]]:
    """Figures of a page with two models under two conditions."""

    def call(index: str) -> dict[str, str]:
        cases = [
            make_case(model, b, condition=condition)
            for model, b in (("a", 0.3), ("b", -0.4))
            for condition in ("text first", "image first")
        ]
        return figures(render(build_tree(cases, index=index)))

    return call


@pytest.mark.parametrize("index", OTHERS)
def test_every_figure_names_another_index(build: Callable[..., dict[str, str]], index: str) -> None:
    drawn = build(index)
    assert set(drawn) == MADE_FROM_IT | {"tiers"}
    captions = {ident: figure.split("<figcaption>")[1].split("</figcaption>")[0] for ident, figure in drawn.items()}
    assert {ident for ident, caption in captions.items() if measure_of(index).remark not in caption} == {"tiers"}


@pytest.mark.parametrize("index", OTHERS)
def test_the_plane_and_the_laws_call_another_index_no_entropy(build: Callable[..., dict[str, str]], index: str) -> None:
    drawn, measure = build(index), measure_of(index)
    for ident in ("plane", "laws", "curves"):
        figure = drawn[ident].replace(measure.remark, "")
        assert not re.search(r"entrop|\bH_(text|image)\b", figure), ident
    assert "two uncertainties" in drawn["laws"]
    assert f"Across: {measure.text}; up: {measure.image}" in drawn["plane"]
    assert f">{measure.text}</text>" in drawn["plane"]
    assert ("nats" in drawn["plane"].replace(measure.remark, "")) == (index == names.NLL)


def test_entropy_goes_without_saying(build: Callable[..., dict[str, str]]) -> None:
    drawn = build(names.ENTROPY)
    assert not any("not by entropy" in figure or "U_text" in figure for figure in drawn.values())
    assert "two entropies" in drawn["laws"]
    assert "Across: H_text; up: H_image, both in nats." in drawn["plane"]
