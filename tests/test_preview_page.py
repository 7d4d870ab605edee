"""The page of `preview --html`: every token of every row with what is learned, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from samples import write
from small_model import MODEL
from test_report_browser import CONTRASTS
from users_files import openai_calls, texts

from runner import machine, model, preview_page, supervise
from runner.data import dataset
from runner.errors import RecipeError
from runner.plan import Plan
from runner.prepare import encode
from runner.reading import check, overrides, source
from runner.text.encoding import NOT_LEARNED

pytestmark = pytest.mark.slow  # a tokenizer, and with packing the trainers

HOSTILE = "</script><img src=x onerror=document.title='taken'>\u202e\x07 & é漢"


def plan_of(train: str, *changes: str) -> Plan:
    task = "task: sft\n" if not any(change.startswith("task=") for change in changes) else "task: null\n"
    text = f"{task}name: shown\nmodel: {{name: {MODEL}}}\ndataset: {{train: {train}}}\n"
    written = overrides.apply(source.recipe(text, "recipe.yaml"), changes)
    return supervise.settle(check.settle(written, "recipe.yaml"), written, machine.named("cpu:2:8"), None)


def on_page(html: str) -> dict[str, list[list[Any]]]:
    (found,) = re.findall(r'<script type="application/json" id="rows-data">(.*?)</script>', html, re.DOTALL)
    splits: dict[str, list[list[Any]]] = json.loads(found)["splits"]
    return splits


def learned_texts(row: list[Any]) -> str:
    """The texts of a row on the page that are learned."""
    _, _, _, _, pieces, changes, _ = row
    bounds = [*changes, len(pieces)]
    return "".join("".join(pieces[bounds[i] : bounds[i + 1]]) for i in range(0, len(bounds) - 1, 2))


def parts(row: list[Any]) -> list[tuple[str, str]]:
    """The rows or documents within a row: where each stands, and its text."""
    _, _, _, _, pieces, _, begins = row
    bounds = [*(at for at, _ in begins), len(pieces)]
    return [(name, "".join(pieces[bounds[i] : bounds[i + 1]])) for i, (_, name) in enumerate(begins)]


def test_each_row_has_its_tokens_and_its_mask(here: Path) -> None:
    write("rows.jsonl", [{"prompt": f"{HOSTILE} {n}", "completion": f"answer é漢 {n}"} for n in range(6)])
    settled = plan_of("rows.jsonl", "dataset.evaluation=0.2")
    html = preview_page.render(settled)
    assert "<img" not in html
    found = on_page(html)
    tokenizer = model.tokenizer(settled.recipe.model)
    both = encode(settled, dataset.read(settled.recipe.dataset, settled.recipe.training.seed), tokenizer)
    assert [len(rows) for rows in found.values()] == [5, 1]
    for rows, encoded in zip(found.values(), both, strict=True):
        for shown, row in zip(rows, encoded.rows, strict=True):
            learned = [token for token, label in zip(row.ids, row.labels, strict=True) if label != NOT_LEARNED]
            assert "".join(shown[4]) == tokenizer.decode(row.ids)
            assert learned_texts(shown) == tokenizer.decode(learned)
            assert shown[2:4] == [len(row.ids), row.learned] and str(row.place) in shown[0]
    assert "all 5" in html and "all 1" in html


def test_a_row_of_several_shows_where_each_begins(here: Path) -> None:
    write("rows.jsonl", [{"prompt": f"p{n}", "completion": f"c{n}"} for n in range(8)])
    single = {
        row[0].split(", ")[1]: "".join(row[4])
        for row in on_page(preview_page.render(plan_of("rows.jsonl")))["to train on"]
    }
    packing = ("training.packing=bfd", "dataset.max_length=128", "model.attention=eager")
    packed = on_page(preview_page.render(plan_of("rows.jsonl", *packing)))["to train on"]
    assert len(packed) < 8 and max(len(parts(row)) for row in packed) > 1
    assert dict(part for row in packed for part in parts(row)) == single


@pytest.mark.parametrize("packing", ["wrapped", "document"])
def test_documents_are_marked_in_their_rows(here: Path, packing: str) -> None:
    folder = texts()
    given = ("task=continued_pretraining", f"training.packing={packing}", "dataset.max_length=64")
    html = preview_page.render(plan_of(folder, *given))
    rows = on_page(html)["to train on"]
    names = [name for row in rows for name, _ in parts(row)]
    assert sorted(names) == sorted(f"{path}:1" for path in Path(folder).rglob("*.*"))
    starts = [text for row in rows for _, text in parts(row)]
    assert all(text.startswith("# Chapter ") or len(text) < 10 for text in starts)
    assert f"all {len(rows)}" in html


def test_of_a_large_corpus_the_first_rows_are_shown(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_page, "MOST_TOKENS", 300)
    given = ("task=continued_pretraining", "dataset.max_length=64")
    html = preview_page.render(plan_of(texts(), *given))
    assert len(on_page(html)["to train on"]) == 4 and "the first 4" in html


def test_prompts_and_calls(here: Path) -> None:
    write("rows.jsonl", [{"prompt": "What is 1 + 1?", "answer": "2"}])
    html = preview_page.render(plan_of("rows.jsonl", "task=grpo", "rewards=[{use: numeric_answer}]"))
    ((_, note, tokens, _, pieces, changes, _),) = on_page(html)["to train on"]
    assert note == 'rewards see beside it: {"answer": "2"}' and changes == [] and tokens == len(pieces)
    assert "paid for" in html and 'data-learns="no"' in html
    given = ("task=function_calling", "model.chat_template=hermes", "dataset.limit=3")
    rows = on_page(preview_page.render(plan_of(openai_calls(), *given)))["to train on"]
    assert len(rows) == 3 and all(learned_texts(row).startswith("<tool_call>") for row in rows)


def test_the_page_is_not_written_over_a_recipe(here: Path) -> None:
    write("rows.jsonl", [{"prompt": "a", "completion": "b"}])
    settled = plan_of("rows.jsonl")
    Path("folder").mkdir()
    for name in ("recipe.yaml", "folder"):
        with pytest.raises(RecipeError, match="is not written over"):
            preview_page.write(settled, Path(name))
    assert preview_page.write(settled, Path("deep/page.html")).is_file()


# in a browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, which no lock holds")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rows = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(44)]
        write("rows.jsonl", [*rows, {"prompt": HOSTILE, "completion": HOSTILE}])
        settled = plan_of("rows.jsonl", "dataset.evaluation=0.1", "training.packing=bfd", "model.attention=eager")
        return preview_page.write(settled, folder / "page.html")


@pytest.fixture
def opened(browser: Any, page: Path) -> Iterator[Callable[[str], Any]]:
    """A function that opens the page in a scheme; no tab makes another request or has a fault to tell."""
    told: list[str] = []
    tabs: list[Any] = []

    def tab_of(scheme: str) -> Any:
        tab = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme=scheme)
        tab.on("console", lambda message: told.append(message.text))
        tab.on("pageerror", lambda error: told.append(str(error)))
        tab.on("request", lambda request: told.append(request.url))
        tab.goto(page.as_uri())
        tabs.append(tab)
        return tab

    yield tab_of
    assert told == [page.as_uri()] * len(tabs)
    for tab in tabs:
        assert tab.title() == "shown: what the model sees"
        tab.close()


def test_it_is_read_by_keyboard_on_a_phone(opened: Callable[[str], Any]) -> None:
    tab = opened("light")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    total = tab.locator("article").count()
    assert total >= 1 and tab.locator(".learned").count() > 10 and tab.locator(".begins").count() >= total
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.get_by_label("Rows", exact=True).select_option("held out")
    tab.get_by_text(re.compile(r"^\d rows$")).wait_for()
    assert tab.locator("article h3").first.inner_text().startswith("row 1, ")
    tab.get_by_label("Rows", exact=True).select_option("to train on")
    tab.get_by_label("Search rows").fill("no such words")
    tab.get_by_text(re.compile("^0 of")).wait_for()


def test_a_text_stays_text(opened: Callable[[str], Any]) -> None:
    tab = opened("light")
    tab.get_by_label("Search rows").fill("onerror")
    tab.get_by_text(re.compile("^1 of")).wait_for()
    shown = tab.locator("article pre").first.inner_text()
    assert "<img src=x onerror=document.title='taken'>" in shown and "\\u202e" in shown and "\u202e" not in shown
    assert tab.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_colour_can_be_read(opened: Callable[[str], Any], scheme: str) -> None:
    contrasts = opened(scheme).evaluate(CONTRASTS)
    assert len(contrasts) > 5 and min(contrasts.values()) >= 4.5, contrasts
