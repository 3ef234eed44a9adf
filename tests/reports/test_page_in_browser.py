"""The page in a real browser: offline, without overflow, in the dark, without JavaScript, in print."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from playwright.sync_api import Browser, Page, sync_playwright

from mfbayes.reports.page import render

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 120_000
"""Milliseconds: a busy machine is slow, not wrong."""

WIDTHS = (320, 390, 768, 1280, 1920)

type Visit = Callable[..., tuple[Page, list[str], list[str]]]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=PATIENCE)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    """Open HTML from a file; with the page come its console messages and its requests."""
    contexts = []

    def open_page(html: str, **options: Any) -> tuple[Page, list[str], list[str]]:
        path = tmp_path / "report.html"
        path.write_text(html, encoding="utf-8")
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        messages: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.on("requestfailed", lambda request: requests.append(f"{request.failure}: {request.url}"))
        page.goto(path.as_uri())
        return page, messages, requests

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def page_html(build_tree: Callable[..., xr.DataTree], run_record: dict[str, Any]) -> str:
    return render(build_tree(notes=["A note."]), run_record)


@pytest.fixture(scope="module")
def crowded_html(build_tree: Callable[..., xr.DataTree], make_case: Callable[..., Any]) -> str:
    names = [f"organisation/{'very-' * i}long-vision-language-model-name-{i}" for i in range(12)]
    return render(build_tree([make_case(name, (i - 6) / 8) for i, name in enumerate(names)]))


def outside(requests: list[str]) -> list[str]:
    return [url for url in requests if not url.startswith(("file:", "data:"))]


def test_silent_and_offline(visit: Visit, page_html: str) -> None:
    page, messages, requests = visit(page_html)
    assert messages == []
    assert outside(requests) == []
    assert page.evaluate("document.fonts.check('16px \"Mfbayes Serif\"')")
    loaded = page.evaluate("document.fonts.ready.then(f => [...f].filter(x => x.status === 'loaded').length)")
    assert loaded == 2


@pytest.mark.parametrize(("html", "widths"), [("page_html", WIDTHS), ("crowded_html", (320, 768, 1280))])
def test_no_overflow(visit: Visit, request: pytest.FixtureRequest, html: str, widths: tuple[int, ...]) -> None:
    page, _, _ = visit(request.getfixturevalue(html))
    for width in widths:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_one_drawing_at_every_width(visit: Visit, page_html: str) -> None:
    """Variants for other widths stay hidden: of each drawing exactly one is seen."""
    page, _, _ = visit(page_html)
    count = (
        "[...document.querySelectorAll('.panel')].map(p => [...p.children].filter(c => "
        "c.matches('.wide,.medium,.narrow,.all') && c.getBoundingClientRect().height > 0).length)"
    )
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        assert set(page.evaluate(count)) == {1}


def test_first_screen_holds_verdict_and_forest(visit: Visit, page_html: str) -> None:
    page, _, _ = visit(page_html, viewport={"width": 1280, "height": 800})
    assert page.evaluate("document.querySelector('#balance-points .plots').getBoundingClientRect().bottom") <= 800


def test_letters_stay_readable_on_phones(visit: Visit, page_html: str) -> None:
    page, _, _ = visit(page_html, viewport={"width": 390, "height": 800})
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('svg text')].filter(t => t.getBoundingClientRect().height > 0)"
        ".map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a))"
    )
    assert smallest >= 9.5


def test_dark_scheme(visit: Visit, page_html: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, _, _ = visit(page_html, color_scheme="light")
    assert light.evaluate(ground) == "rgb(251, 250, 247)"
    dark, messages, _ = visit(page_html, color_scheme="dark")
    assert dark.evaluate(ground) == "rgb(20, 22, 26)"
    assert dark.evaluate("getComputedStyle(document.querySelector('svg text.name')).fill") == "rgb(236, 234, 228)"
    assert messages == []


def test_without_javascript(visit: Visit, page_html: str) -> None:
    page, messages, _ = visit(page_html, java_script_enabled=False)
    assert page.locator("h1").is_visible()
    assert page.locator("#balance-points svg").first.is_visible()
    page.locator("#balance-points summary").click()
    assert page.locator("#balance-points table").is_visible()
    assert messages == []


def test_print(visit: Visit, page_html: str) -> None:
    page, _, _ = visit(page_html, color_scheme="dark")
    document = page.pdf(prefer_css_page_size=True)
    assert document.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", document)) <= 14
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--ink')") == "#1b1d22"


def test_hostile_name_does_nothing(
    visit: Visit,
    build_tree: Callable[..., xr.DataTree],
    make_case: Callable[..., Any],
) -> None:
    name = "</title></style></svg><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    page, messages, _ = visit(render(build_tree([make_case(name, 0.5), make_case("b", -0.5)])))
    assert page.title() != "owned"
    assert messages == []
    assert page.locator("script, img").count() == 0


@pytest.mark.parametrize(
    "injected",
    ["<script>document.title='owned'</script>", "<style>h1{color:red!important}</style>",
     '<img src="https://example.org/x.png">'],
)  # fmt: skip
def test_injection_is_blocked(visit: Visit, page_html: str, injected: str) -> None:
    """The policy really discriminates: what is added to the page afterwards is refused, loudly."""
    page, messages, requests = visit(page_html.replace("<main", f"{injected}<main", 1))
    assert page.title() != "owned"
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(27, 29, 34)"
    assert any("Content Security Policy" in message for message in messages)
    for url in outside(requests):
        assert f"csp: {url.removeprefix('csp: ')}" in requests


def test_altered_style_sheet_is_refused(visit: Visit, page_html: str) -> None:
    page, messages, _ = visit(page_html.replace("<style>", "<style>h1{color:red}", 1))
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(0, 0, 0)"
    assert any("Content Security Policy" in message for message in messages)


def test_keyboard_reaches_the_content(visit: Visit, page_html: str) -> None:
    page, _, _ = visit(page_html, viewport={"width": 390, "height": 800})
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    stops = []
    for _ in range(6):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.tagName"))
    assert "SUMMARY" in stops
