"""The five kinds of page as a browser shows them: on a desktop and on a phone, light and dark.

``make test-browser`` runs these. Photographs of the pages are kept under pytest's temporary directory.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ctr_kd.report import render, render_features, render_monitoring, render_proof, render_sweep
from tests.browser.chromium import launched, missing
from tests.ctr_kd.report import figures

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.skipif(importlib.util.find_spec("selenium") is None, reason="selenium is absent: pip install -e '.[browser]'"),
]

PAGES = {
    "run": lambda: render(*figures.whole_run()),
    "proof": lambda: render_proof(figures.whole_proof()),
    "sweep": lambda: render_sweep(figures.whole_sweep()),
    "monitor": lambda: render_monitoring(figures.monitor()),
    "features": lambda: render_features(figures.features()),
}
WIDTHS = {"desktop": 1280, "phone": 390}
SCHEMES = ("light", "dark")
AUDIT = Path(__file__).with_name("audit.js").read_text("utf-8")


@dataclass(frozen=True)
class Seen:
    """What the browser found on a page that it has opened."""

    address: str
    found: dict[str, Any]
    requests: list[str]
    console: list[str]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with launched(tmp_path_factory.mktemp("profile")) as started:
        yield started


def look(browser, file, width, scheme):
    browser.open(file, width, scheme)
    found = browser.run(AUDIT)
    return Seen(file.as_uri(), found, browser.requests(), browser.console())


@pytest.fixture(
    scope="module",
    params=[pytest.param((page, width, scheme), id=f"{page}-{width}-{scheme}") for page in PAGES for width in WIDTHS for scheme in SCHEMES],
)
def seen(request, browser, tmp_path_factory):
    page, width, scheme = request.param
    directory = tmp_path_factory.mktemp("page")
    file = directory / f"{page}.html"
    file.write_text(PAGES[page](), "utf-8")
    found = look(browser, file, WIDTHS[width], scheme)
    browser.photograph(directory / f"{page}-{width}-{scheme}.png")
    assert (found.found["width"], found.found["scheme"]) == (WIDTHS[width], scheme)
    assert found.found["charts"] > 4 and found.found["words"] > 500
    return found


class TestPages:
    def test_nothing_overflows(self, seen):
        assert seen.found["overflow"] == []

    def test_every_picture_has_a_text_alternative(self, seen):
        assert seen.found["pictures"] == []

    def test_text_can_be_read_on_what_is_behind_it(self, seen):
        assert seen.found["texts"] == []

    def test_text_is_large_enough(self, seen):
        assert seen.found["sizes"] == []

    def test_lines_and_dots_stand_out(self, seen):
        assert seen.found["marks"] == []

    def test_no_request_leaves_the_page(self, seen):
        assert seen.requests == [seen.address] and seen.found["requests"] == []

    def test_the_console_is_silent(self, seen):
        assert seen.console == []


FAULTS = {
    "wide table": ("overflow", "<table><tr><td style='min-width: 900px'>wide</td></tr></table>"),
    "cut at the edge": ("overflow", "<div style='overflow: hidden'><p style='width: 800px'>cut</p></div>"),
    "chart without a name": ("pictures", "<svg role='img' width='9' height='9'></svg>"),
    "chart that is no picture": ("pictures", "<svg aria-label='chart' width='9' height='9'></svg>"),
    "image without a name": ("pictures", "<img width='9' height='9'>"),
    "figure without a caption": ("pictures", "<figure>1</figure>"),
    "grey text": ("texts", "<p style='color: #777777'>4.48 to 1</p>"),
    "pale text": ("texts", "<p style='opacity: .5'>half there</p>"),
    "large grey text": ("texts", "<p style='font-size: 24px; color: #959595'>2.98 to 1</p>"),
    "dark text on a dark cell": (
        "texts",
        "<div style='background: color-mix(in srgb, #19794c 90%, white)'><b style='color: #1c2430'>310</b></div>",
    ),
    "text of a chart": ("texts", "<svg role='img' aria-label='a' width='90' height='30'><text y='20' fill='#999'>0.75</text></svg>"),
    "small text": ("sizes", "<svg role='img' aria-label='a' width='40' viewBox='0 0 80 30'><text y='20' font-size='16'>0.75</text></svg>"),
    "faint line": ("marks", "<svg role='img' aria-label='a' width='90' height='30'><line x2='80' y1='9' y2='9' stroke='#aaa'/></svg>"),
    "faint dot": ("marks", "<svg role='img' aria-label='a' width='90' height='30'><circle cx='9' cy='9' r='4' opacity='.4'/></svg>"),
}
SOUND = """
<p style='color: #767676'>4.54 to 1</p> <p style='font-size: 24px; color: #949494'>3.03 to 1</p>
<p style='background: #fff8'>white over white</p> <div style='overflow-x: auto'><p style='width: 800px'>scrolls</p></div>
<svg role='img' aria-label='a' width='90' height='30'>
<line x2='80' y1='9' y2='9' stroke='#949494'/><text y='20' fill='#767676'>a</text></svg>
"""


class TestTheChecks:
    """The checks see what they are for: each fault is found, and only where it is."""

    def look(self, browser, tmp_path, body):
        file = tmp_path / "page.html"
        file.write_text(f"<!DOCTYPE html><html lang='en'><head><title>a</title></head><body style='background: white'>{body}</body></html>")
        return look(browser, file, 390, "light")

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_fault_is_found(self, browser, tmp_path, fault):
        question, body = FAULTS[fault]
        seen = self.look(browser, tmp_path, f"<meta name='viewport' content='width=device-width'>{body}")
        assert {name for name, wrong in seen.found.items() if isinstance(wrong, list) and wrong} == {question}

    def test_a_sound_page_passes(self, browser, tmp_path):
        seen = self.look(browser, tmp_path, f"<meta name='viewport' content='width=device-width'>{SOUND}")
        assert not [wrong for wrong in seen.found.values() if isinstance(wrong, list) and wrong]

    def test_a_request_and_a_message_are_found(self, browser, tmp_path):
        seen = self.look(browser, tmp_path, "<img src='http://127.0.0.1:9/pixel.png' alt='a'><script>console.warn('a word')</script>")
        assert "http://127.0.0.1:9/pixel.png" in seen.requests
        assert any("a word" in message for message in seen.console)

    def test_what_the_policy_of_the_page_forbids_is_on_the_console(self, browser, tmp_path):
        policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
        seen = self.look(browser, tmp_path, f"{policy}<img src='http://127.0.0.1:9/pixel.png' alt='a'>")
        assert any("Content Security Policy" in message for message in seen.console)
