"""The page as a document: structure, escaping, policy, size, and what it does with odd fits."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from mfbayes.errors import InputError
from mfbayes.reports.page import render, write_report

STRUCTURE = Path(__file__).with_name("structure.txt")
HOSTILE = "</script><script>alert(1)</script>\"><img src=x onerror=alert(2)> '&amp;"


class Outline(HTMLParser):
    """Elements by path, texts of headings and captions, and every attribute."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.outline: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    VOID = frozenset({"meta", "img", "br", "link", "input"})
    TOLD = frozenset({"title", "h1", "h2", "h3", "caption", "summary"})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in self.TOLD and "svg" not in self.open:
            self.outline.append(f"{tag}: ")
        if tag in ("section", "figure", "nav", "aside", "table"):
            self.outline.append(f"<{tag}{' #' + (dict(attrs)['id'] or '') if 'id' in dict(attrs) else ''}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            return
        self.text.append(data)
        told = [tag for tag in self.open if tag in self.TOLD]
        if told and "svg" not in self.open:
            self.outline[-1] += re.sub(r"\s+", " ", data)


def read(html: str) -> Outline:
    outline = Outline()
    outline.feed(html)
    assert outline.open == []
    return outline


def test_structure_is_as_committed(build_tree: Callable[..., xr.DataTree], run_record: dict[str, Any]) -> None:
    """Headings, sections and captions of one simulated fit; write the file anew after reading the difference."""
    html = render(build_tree(notes=["A note."]), run_record, when=datetime(2026, 1, 1, tzinfo=UTC))
    found = "\n".join(line.rstrip() for line in read(html).outline) + "\n"
    assert found == STRUCTURE.read_text(encoding="utf-8")


def test_same_fit_same_page(build_tree: Callable[..., xr.DataTree], run_record: dict[str, Any]) -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    assert render(build_tree(), run_record, when=when) == render(build_tree(), run_record, when=when)


def test_names_are_inert(build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any]) -> None:
    cases = [make_case(HOSTILE, 0.5), make_case("b" + HOSTILE, -0.5), make_case("c", 0.1)]
    html = render(build_tree(cases, notes=[HOSTILE]), {"command": HOSTILE, "hashes": {HOSTILE: HOSTILE}})
    outline = read(html)
    assert {tag for tag, _ in outline.elements}.isdisjoint({"script", "img", "iframe", "object", "link"})
    assert not [name for _, attributes in outline.elements for name in attributes if name.startswith("on")]
    assert HOSTILE in " ".join(outline.text)
    assert any(HOSTILE in (attributes.get("aria-label") or "") for _, attributes in outline.elements)


def test_policy_names_this_style_sheet_and_nothing_else(build_tree: Callable[..., xr.DataTree]) -> None:
    html = render(build_tree())
    css = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert css
    digest = base64.b64encode(hashlib.sha256(css[1].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy
    text = policy[1].replace("&#39;", "'")
    assert text.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in text
    assert "unsafe" not in text
    assert "script-src" not in text


def test_nothing_is_loaded_from_elsewhere(build_tree: Callable[..., xr.DataTree]) -> None:
    html = render(build_tree())
    for _, attributes in read(html).elements:
        assert not {"src", "style"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert re.findall(r"url\((?!data:font/woff2;base64,)", html) == []


def test_every_figure_has_title_alt_and_data(build_tree: Callable[..., xr.DataTree]) -> None:
    html = render(build_tree())
    figures = re.findall(r"<figure .*?</figure>", html, re.DOTALL)
    assert len(figures) == 12
    for figure in figures:
        assert re.search(r'<h2 class="finding"[^>]*>[^<]{12,}</h2>', figure)
        assert re.search(r'role="img" aria-label="[^"]{40,}"', figure)
        assert re.search(r"<details>.*<table.*</details>", figure, re.DOTALL)


def test_ids_are_unique(build_tree: Callable[..., xr.DataTree]) -> None:
    ids = [attributes["id"] for _, attributes in read(render(build_tree())).elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_class_has_a_style(build_tree: Callable[..., xr.DataTree]) -> None:
    """But for those that say how many panels there are, or where one is shown, when nothing special is done then."""
    page = render(build_tree())
    style = page[page.index("<style>") : page.index("</style>")]
    used = {name for names in re.findall(r'class="([^"]*)"', page.replace(style, "")) for name in names.split()}
    styled = set(re.findall(r"\.([a-z][\w-]*)", style))
    assert used - styled <= {"all", "n3", "case"}


def test_what_is_missing_is_said(build_tree: Callable[..., xr.DataTree]) -> None:
    html = render(build_tree(tiers=False, traces=False))
    assert "these trials name no tiers" in html
    assert "no layer traces were collected" in html
    assert 'id="oscillations"' not in html


def test_banner_takes_the_verdicts_place(build_tree: Callable[..., xr.DataTree]) -> None:
    html = render(build_tree(converged=False))
    assert 'class="alarm" role="alert"' in html
    assert 'class="lede"' not in html
    assert "<em" not in html
    assert 'id="pairs"' not in html
    assert "Draws that did not converge" in html


@pytest.mark.parametrize("method", ["nuts", "fast"])
@pytest.mark.parametrize("nonsense", [np.nan, np.inf, 1e233])
@pytest.mark.parametrize("part", [slice(1), slice(None)], ids=["one", "all"])
def test_what_a_failed_fit_leaves_is_not_printed_as_numbers(
    build_tree: Callable[..., xr.DataTree], method: str, nonsense: float, part: slice
) -> None:
    """Of one model, or of all: the page is whole, and neither its tables nor its drawings have such numbers."""
    tree = build_tree(converged=False, method=method, tiers=False, traces=False)
    drawn = set(tree["estimates"].children) - {"binned", "dH_histogram"}
    for name in drawn:
        node = tree[f"estimates/{name}"].to_dataset()
        for column in [column for column, values in node.data_vars.items() if values.dtype.kind == "f"]:
            node[column].values[part] = nonsense
        tree[f"estimates/{name}"] = xr.DataTree(node)
    html = render(tree)
    page = html.split("</style>")[1]
    assert re.findall(r"\bnan\b|\binf\b|∞|e\+\d|\d{8,}", page) == []
    assert page.count("no number to draw") == 3 * (1 if part.stop else 5)


@pytest.mark.parametrize("status", ["one-sided", "outside"])
def test_statuses_are_worded(
    build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any], status: str
) -> None:
    cases = [make_case("a", 0.4), make_case("b", -0.4), make_case("odd", -1.9, status=status)]
    html = render(build_tree(cases))
    words = {"one-sided": "always the image", "outside": "beyond the observed dH"}[status]
    assert words in html


def test_ambiguous_above_clear_is_found_not_assumed(build_tree: Callable[..., xr.DataTree]) -> None:
    tree = build_tree()
    assert "Ambiguous cases change sides more often than clear ones, in every model" in render(tree)
    table = tree["estimates/oscillations"].to_dataset()
    swapped = table.assign_coords(region=["text-clear", "clear", "image-clear", "ambiguous", "control"])
    tree["estimates/oscillations"] = xr.DataTree(swapped)
    assert "Ambiguous cases do not" not in render(build_tree())
    assert "Ambiguous cases change sides less often than clear ones, in every model" in render(tree)


def test_size_with_many_models(build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any]) -> None:
    cases = [make_case(f"lab/some-vision-language-model-{i}b-instruct", (i - 6) / 8, layers=12) for i in range(13)]
    tree = build_tree(cases)
    for asked_for in ("outcomes", "outcome_correlations", "lapses"):
        del tree["estimates"][asked_for]
    html = render(tree)
    assert len(html.encode()) <= 1_000_000
    assert ">6b<" in html


def test_report_file(build_tree: Callable[..., xr.DataTree], tmp_path: Path, run_record: dict[str, Any]) -> None:
    build_tree().to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    (tmp_path / "run.json").write_text(json.dumps(run_record), encoding="utf-8")
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    html = path.read_text(encoding="utf-8")
    assert "mfbayes fit --model all" in html
    assert "arXiv:2511.02243" in html
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fit.nc", "report.html", "run.json"]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no such file"):
        write_report(tmp_path)
    (tmp_path / "fit.nc").write_bytes(b"not a fit")
    with pytest.raises(InputError, match="cannot be read"):
        write_report(tmp_path)
    with pytest.raises(InputError, match="balance_points"):
        render(xr.DataTree())
