"""The page of a run in a real browser, where Chromium and playwright are installed: its scripts, keys and requests."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_runs import a_run, completion, lines, rewarded

from runner import holding, runfile, serve
from runner.compare import comparison, runs
from runner.compare import page as compare_page
from runner.report import page

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, which no lock holds")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

HOSTILE = "</script><img src=x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A tab with the page of 10,000 completions; it has made no other request, and has no fault to tell."""
    directory = a_run(tmp_path, "grpo")
    made = [completion(number, completion=f"answer {number} " + "word " * 100) for number in range(9_999)]
    lines(directory / "completions.jsonl", [*made, completion(9_999, prompt=HOSTILE, completion=HOSTILE)])
    path = page.write(directory, {})
    tab = browser.new_page(viewport={"width": 360, "height": 800})
    told: list[str] = []
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda request: told.append(request.url))
    tab.goto(path.as_uri())
    yield tab
    assert told == [path.as_uri()]
    assert tab.title() == "demo: trained"
    tab.close()


def cells(tab: Any, table: str, column: int) -> list[str]:
    return list(tab.locator(f"#{table} tbody tr > :nth-child({column})").all_inner_texts())


def test_it_fits_a_phone(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360


def test_prompts_are_found_and_their_completions_sorted(opened: Any) -> None:
    assert len(cells(opened, "prompts", 1)) == 51
    opened.get_by_role("button", name="question 7", exact=True).click()
    assert opened.evaluate("document.activeElement.id") == "chosen-title"
    assert opened.locator("#chosen-prompt").inner_text() == "question 7"
    steps = [int(step) for step in cells(opened, "answers", 1)]
    assert len(steps) == 100 and steps == sorted(steps)  # the rest is made when it is asked for
    more = opened.get_by_role("button", name="Show more completions")
    more.click()
    assert len(cells(opened, "answers", 1)) == 200 and not more.is_visible()
    opened.get_by_role("button", name="total", exact=True).click()
    totals = [float(total) for total in cells(opened, "answers", 2)]
    assert totals == sorted(totals, reverse=True) and totals[0] > totals[-1]
    assert opened.locator("#answers th[aria-sort=descending]").inner_text() == "total"


def test_a_search_goes_through_prompts_and_completions(opened: Any) -> None:
    opened.get_by_label("Search prompts and completions").fill("ANSWER 1234 ")
    opened.locator("#found:not(:empty)").wait_for()
    assert opened.locator("#found").inner_text() == "1 of 51 prompts"
    opened.keyboard.press("Tab")
    opened.locator("#prompts tbody button").press("Enter")
    assert cells(opened, "answers", 1) == ["155"]
    opened.get_by_label("Search prompts and completions").fill("no such words")
    opened.get_by_text("0 of 51 prompts").wait_for()


def test_a_text_of_a_model_stays_text(opened: Any) -> None:
    opened.get_by_label("Search prompts and completions").fill("onerror")
    opened.get_by_text("1 of 51 prompts").wait_for()
    opened.locator("#prompts tbody button").click()
    assert opened.locator("#chosen-prompt").inner_text() == HOSTILE
    assert opened.locator("#answers pre").inner_text() == HOSTILE
    assert opened.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_colour_can_be_read(browser: Any, tmp_path: Path, scheme: str) -> None:
    path = page.write(a_run(tmp_path, "grpo"), {})
    tab = browser.new_page(color_scheme=scheme)
    tab.goto(path.as_uri())
    contrasts = tab.evaluate(CONTRASTS)
    assert len(contrasts) > 5 and min(contrasts.values()) >= 4.5, contrasts  # WCAG 2.2, 1.4.3
    tab.close()


@pytest.fixture
def followed(browser: Any, tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """A tab that follows a run of GRPO which goes on, and the run's directory; it has no fault to tell."""
    directory = a_run(tmp_path, "grpo", status="training")
    with holding.alone(directory), serve.server(directory, 0) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        tab = browser.new_page(viewport={"width": 360, "height": 800})
        told: list[str] = []
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        address = f"http://{serve.HOST}:{listening.server_port}/{listening.secret}/"
        tab.on("request", lambda request: told.append(request.url) if not request.url.startswith(address) else None)
        tab.goto(address)
        tab.get_by_text("as of").wait_for()
        yield tab, directory
        tab.close()
        listening.shutdown()
        thread.join()
    assert told == []


def test_a_page_takes_over_what_is_new_and_leaves_what_is_read(followed: tuple[Any, Path]) -> None:
    tab, directory = followed
    tab.locator("#training details summary").first.click()
    tab.get_by_label("Search prompts and completions").fill("question 3")
    tab.get_by_text("1 of 6 prompts").wait_for()
    lines(directory / "completions.jsonl", [completion(number) for number in range(48)])
    lines(directory / "metrics.jsonl", [rewarded(number) for number in range(1, 5)])
    runfile.update(directory, status="evaluating")
    tab.get_by_text("The run is evaluating").wait_for()
    assert tab.title() == "demo: evaluating" and tab.locator("#told").inner_text() == "evaluating"
    assert tab.locator("#training details").first.get_attribute("open") is not None
    assert tab.locator("#training table").first.locator("tbody tr").count() == 4
    assert tab.locator("#found").inner_text() == "1 of 6 prompts"  # which is in use
    tab.get_by_label("Search prompts and completions").fill("")
    tab.get_by_label("Search prompts and completions").blur()
    tab.get_by_text("48 completions of 12 prompts").wait_for()
    assert len(cells(tab, "prompts", 1)) == 12
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_page_can_be_told_to_pause(followed: tuple[Any, Path]) -> None:
    tab, directory = followed
    pause = tab.get_by_role("button", name="Pause")
    pause.press("Enter")
    assert pause.get_attribute("aria-pressed") == "true"
    runfile.update(directory, status="pushing")
    tab.wait_for_timeout(3000)
    assert "training" in tab.title()
    pause.press("Enter")
    tab.get_by_text("The run is pushing").wait_for()


def test_runs_beside_each_other_fit_a_phone(browser: Any, tmp_path: Path) -> None:
    directories = [a_run(tmp_path / name, name=name) for name in ("one", "other", "a-third-one")]
    path = tmp_path / "compared.html"
    compare_page.write(comparison.make(runs.read(directories, {})), path, {})
    tab = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme="dark")
    told: list[str] = []
    tab.on("console", lambda message: told.append(message.text))
    tab.on("request", lambda request: told.append(request.url))
    tab.goto(path.as_uri())
    assert told == [path.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    contrasts = tab.evaluate(CONTRASTS)
    assert min(contrasts.values()) >= 4.5, contrasts
    tab.close()


# Each colour of text on each ground that it stands on -> their contrast as WCAG has it.
CONTRASTS = """
() => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const own = getComputedStyle(element).backgroundColor;
    return own !== "rgba(0, 0, 0, 0)" || !element.parentElement ? own : ground(element.parentElement);
  };
  const found = {};
  for (const element of document.querySelectorAll("body *:not(script):not(svg):not(svg *)")) {
    const [text, behind] = [getComputedStyle(element).color, ground(element)];
    const [low, high] = [light(text), light(behind)].sort((one, other) => one - other);
    found[`${text} on ${behind}`] = (high + 0.05) / (low + 0.05);
  }
  return found;
}
"""
