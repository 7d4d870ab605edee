"""The page of a run: what it says of each kind and state of run, what no text in it can do, and what it costs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_runs import REWARD_LINES, SAMPLE, a_run, completion, lines, step

from runner import cli, errors, runfile
from runner.errors import DataError, Interrupted, OutOfMemory, Place, Problem, PushError, RunError, UserError
from runner.report import completions, evaluation, figures, page, reading

VOID = {"meta", "input", "br", "link", "img"}
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]>\x00\x1b[2J",
    "half \ud83d of one",
    "\u202egnp.exe\u2066",
    '" onfocus="alert(1)" autofocus="',
    "{{ 7 * 7 }}{% raw %}",
    "line\u2028separators\u2029",
]


class Page(HTMLParser):
    """A page as a browser would see it: its elements, with every one of them closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.within: dict[str, list[str]] = {"script": [], "style": []}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.within:
            self.within[tag].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.within:
            self.within[self.open[-1]][-1] += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def headings(self) -> list[str]:
        return [tag for tag, _ in self.elements if re.fullmatch("h[1-6]", tag)]


def sound(text: str) -> Page:
    """The page, of which everything is as a page of ours has to be."""
    found = Page(text)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.elements:
        for name in ("aria-labelledby", "for"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
        assert not {"style", "src", "srcset", "action"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
        if "href" in attributes:
            assert tag == "a"
            assert (attributes["href"] or "").removeprefix("#") in ids or (attributes["href"] or "").startswith(
                "https://"
            )
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
    (policy,) = (attributes["content"] for _, attributes in found.elements if attributes.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    run = [text for text in found.within["script"] if not text.startswith("{")]
    for own in (*found.within["style"], *run):
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
        assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttp", own)
    assert found.headings()[0] == "h1" and found.headings().count("h1") == 1
    levels = [int(tag[1]) for tag in found.headings()]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    tables = Counter(tag for tag, _ in found.elements)
    assert tables["table"] == tables["caption"]
    assert not re.search(reading.HIDDEN, text)
    return found


def shown(directory: Path, **environment: str) -> Page:
    return sound(page.render(directory, environment))


def data_of(found: Page) -> dict[str, Any]:
    (text,) = (text for text in found.within["script"] if text.startswith("{"))
    return dict(json.loads(text))


@pytest.mark.parametrize("task", ["sft", "continued_pretraining", "function_calling", "grpo"])
def test_a_finished_run_of_each_task(tmp_path: Path, task: str) -> None:
    found = shown(a_run(tmp_path, task))
    for said in (
        "demo trained", "tunesmith generate", "Learning rate", "planned, at its peak", "2.25 (2.1 to 2.4)", "better",
        "What is the capital of France?", "rows read", "too long", "the row is no object", "[1, 2]", "25a22a1b",
        "--set training.seed=7",
        "Left out, since no row counts for them: rouge_l", "12,345", "owner/model", "2 × NVIDIA H100",
    ):  # fmt: skip
        assert said in found.text, said
    assert ("Reward polite" in found.text) == (task == "grpo") == ("hello from a reward" in found.text)
    assert ("the call is no JSON" in found.text) == (task == "function_calling")
    assert "cannot be" not in found.text


def test_completions_are_there_whole(tmp_path: Path) -> None:
    data = data_of(shown(a_run(tmp_path, "grpo")))
    assert data["rewards"] == ["polite", "short"]
    assert data["prompts"][5] == ["question 5", "rows.jsonl:6"]
    assert len(data["rows"]) == 24
    assert data["rows"][23] == [5, 3, 2 / 7, 0.5, 12, False, [2 / 7, None], "answer 23", ""]


def test_of_a_long_prompt_the_end_is_seen_first(tmp_path: Path) -> None:
    directory = a_run(tmp_path)
    begins = "tools and more tools\n" * 90
    lines(directory / "samples.jsonl", [SAMPLE | {"prompt": f"{begins}what is it?", "base": " \n", "adapter": ""}])
    text = page.render(directory, {})
    sound(text)
    begun, shown_at_once = re.findall(r'<pre dir="auto">([^<]*)</pre>', text.split('id="samples"')[1])[:2]
    assert begun + shown_at_once == f"{begins}what is it?" and begun.endswith("tools\n") and len(shown_at_once) < 520
    assert '<p class="note">nothing but white space</p>' in text and '<p class="note">nothing</p>' in text


def test_differences_are_marked() -> None:
    assert evaluation.differences("it is <Lyon>", "it was Paris, too") == (
        "it <del>is</del> <del>&lt;Lyon&gt;</del>",
        "it <ins>was</ins> <ins>Paris, too</ins>",
    )
    assert evaluation.differences("same", "same") == ("same", "same")
    assert evaluation.differences("", "") == ("", "")
    assert evaluation.differences("word " * 1000, "word") is None


def failed(status: str, error: UserError) -> dict[str, Any]:
    return {"status": status, "exit_code": error.exit_code, "fault": errors.packed(error)}


HINTED = Problem("no memory", Place("rows.jsonl", 3, 1, 2, "[]"), "a step takes 3 GiB")
OF_AN_EARLIER_VERSION = {"status": "failed", "exit_code": 1, "problems": ["an old fault"]}


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (
            failed("failed", RunError(Problem("rank 0 ended"))),
            ["failed; the last lines of the files in logs", "rank 0 ended"],
        ),
        (
            failed("failed", OutOfMemory(HINTED, 9)),
            [
                "ran out of memory; what to do",
                "error: no memory",
                "--> rows.jsonl:3:1",
                "3 | []",
                "hint: a step takes 3 GiB",
                "Found 9 problems; the first 1",
            ],
        ),
        (failed("failed", DataError(Problem("bad row"))), ["correct what is named below", "bad row"]),
        (OF_AN_EARLIER_VERSION, ["logs", "an old fault"]),
        (failed("interrupted", Interrupted(Problem("stopped by SIGTERM"))), ["goes on", "SIGTERM"]),
        (failed("not_pushed", PushError(Problem("no right"))), ["tunesmith push", "no right"]),
        ({"status": "training", "exit_code": None}, ["was training when", "tunesmith report"]),
        ({"status": [], "exit_code": {}}, ["not known"]),
    ],
)
def test_each_state_says_what_to_do(tmp_path: Path, state: dict[str, Any], says: list[str]) -> None:
    found = shown(a_run(tmp_path, **state))
    assert all(said in found.text for said in says)


def test_a_run_on_the_hub_is_linked_to_and_nothing_else_is(tmp_path: Path) -> None:
    for number, (url, linked) in enumerate([("https://huggingface.co/a/b", True), ("javascript:alert(1)", False)]):
        found = shown(a_run(tmp_path / str(number), hub={"url": url}))
        assert (("a", url) in [(tag, given.get("href")) for tag, given in found.elements]) is linked


def test_what_a_person_wrote_is_told_from_defaults(tmp_path: Path) -> None:
    text = page.render(a_run(tmp_path), {})
    found = re.findall(r'<tr( class="default")?><th scope="row">([\w.]+)</th>', text)
    rows = {name: bool(default) for default, name in found}
    assert not rows["training.learning_rate"] and not rows["training.max_steps"] and not rows["model.name"]
    assert not rows["training.seed"]  # by `--set`
    assert rows["training.scheduler"] and rows["adapter.rank"] and rows["output.directory"] and rows["tracking.wandb"]


def full_of(folder: Path, task: str, text: str) -> Page:
    """The page of a run that has the text wherever it can have one."""
    named = {text: text}
    state: dict[str, Any] = failed("failed", RunError(Problem(text, Place(text, 1, 1, 1, text), text))) | {
        "name": text,
        "versions": named,
        "data": named,
    }
    directory = a_run(folder, task, **state)
    of_sample = {"file": text, "line": 1, "prompt": text, "answer": text, "base": f"a {text}", "adapter": f"b {text}"}
    scored = {"base_scores": {text: 1.0}, "adapter_calls": {"read": [text], "fault": text}}
    lines(directory / "samples.jsonl", [of_sample | scored])
    lines(directory / "rejects.jsonl", [{"file": text, "line": 1, "reason": text, "row": text}])
    rewards = {text: {"mean": 1.0, "std": 0.5}}
    lines(directory / "metrics.jsonl", [step(1, reward=1.0, reward_std=0.1, rewards=rewards, warnings=[text])])
    (directory / "evaluation.json").write_text(json.dumps({"metrics": {text: {"base": 1.0, "verdict": text}}}))
    (directory / "recipe.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    ledger = {"dropped": {text: 3}, "calls": {text: 1}, "files": [{"file": text}]}
    (directory / "ledger.json").write_text(json.dumps(ledger))
    lines(directory / "rewards.jsonl", [{"kind": text, "reward": text, "step": text, "text": text}])
    made = completion(1, prompt=text, completion=text, file=text, scores={text: 1.0}, faults={text: text})
    lines(directory / "completions.jsonl", [made])
    return shown(directory)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("task", ["sft", "grpo"])
def test_no_text_is_more_than_text(tmp_path: Path, task: str, text: str) -> None:
    found, harmless = full_of(tmp_path / "one", task, text), full_of(tmp_path / "other", task, "word")
    parts, expected = ([(tag, list(given)) for tag, given in each.elements] for each in (found, harmless))
    assert parts == expected
    assert len(found.within["script"]) == 2
    assert sum(reading.visible(text) in each for each in found.texts) >= 20
    data = data_of(found)
    assert data["prompts"][0][0] == data["rows"][0][7] == data["rewards"][0] == reading.visible(text)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(), max_size=40))
def test_any_text_is_more_than_no_text(tmp_path: Path, text: str) -> None:
    directory = tmp_path / "run"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    (directory / "run.json").write_text(json.dumps({"name": text} | failed("failed", RunError(Problem(text)))))
    lines(directory / "samples.jsonl", [{"prompt": text, "base": text, "adapter": text + "x"}])
    lines(directory / "completions.jsonl", [completion(1, prompt=text, completion=text)])
    assert data_of(shown(directory))["rows"][0][7] == reading.visible(text)


def test_secrets_are_in_no_part(tmp_path: Path) -> None:
    token, key = "hf_" + "a" * 34, "ünlikely-secret-value"
    directory = a_run(tmp_path, "grpo", **failed("failed", RunError(Problem(key, hint=token))))
    text = f"it is {token} and {key}"
    lines(
        directory / "completions.jsonl",
        [completion(1, prompt=text, completion="x" * (completions.LONGEST - 5) + token)],
    )
    lines(directory / "samples.jsonl", [SAMPLE | {"adapter": text}])
    lines(directory / "rejects.jsonl", [{"file": "a", "line": 1, "reason": text, "row": text}])
    lines(directory / "rewards.jsonl", [{"kind": "printed", "reward": "a", "step": 1, "text": text}])
    lines(directory / "metrics.jsonl", [step(1, warnings=[text])])
    (directory / "recipe.yaml").write_text(f"name: {text}\n")
    written = page.render(directory, {"WANDB_API_KEY": key})
    assert token not in written and key not in written and "hf_aa" not in written
    assert written.count("[redacted]") >= 8


FILES = ["run.json", "plan.json", "metrics.jsonl", "evaluation.json", "samples.jsonl", "ledger.json", "rejects.jsonl",
         "completions.jsonl", "rewards.jsonl", "recipe.yaml"]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), False),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), True),
        (lambda path: path.write_text(""), None),
        (lambda path: path.write_bytes(b"\xff\xfe\x00{[\n"), True),
        (lambda path: path.write_text("[" * 100_000), True),
        (
            lambda path: path.write_text('{"step": 1, "metrics": [], "recipe": 5, "event": "step", "splits": [1]}\n'),
            None,
        ),
        (lambda path: path.write_text("5\nnull\n[]\n"), None),
        (lambda path: (path.unlink(), path.mkdir()), True),
    ],
    ids=["missing", "torn", "empty", "bytes", "deep", "other", "values", "directory"],
)
def test_a_file_that_cannot_be_read_costs_its_part_alone(
    tmp_path: Path, name: str, spoil: Callable[[Path], Any], told: bool | None
) -> None:
    directory = a_run(tmp_path, "grpo")
    spoil(directory / name)
    found = shown(directory)
    assert "demo" in found.text and "Recipe" in found.text
    if told is not None and name != "recipe.yaml":
        assert (f"{name} cannot be read" in found.text) is told


@pytest.mark.parametrize("other", ["null", '"text"', "[1]", '{"a": {"b": 1}}', "NaN", "-Infinity", "1e400", "9" * 400])
def test_values_of_other_kinds_in_every_place(tmp_path: Path, other: str) -> None:
    directory = a_run(tmp_path, "grpo")
    for name in FILES[:-1]:
        path = directory / name
        path.write_text(
            re.sub(r'(?<=: )(-?[\d.]+|null|true|false|"[^"]*")(?=[,}\]])', lambda _: other, path.read_text())
        )
    shown(directory)


def test_numbers_that_are_none_are_not_drawn(tmp_path: Path) -> None:
    directory = a_run(tmp_path)
    events = [
        step(1, loss=float("nan"), memory=None),
        step(2, loss=float("inf")),
        step(3, learned_tokens=0, seconds=0.0),
    ]
    lines(directory / "metrics.jsonl", [*events, step(4) | {"step": 10**400}])
    text = page.render(directory, {})
    assert "nan" not in re.findall(r'points="[^"]*"', text) and "1 at step 3" in sound(text).text


def test_a_long_run_is_drawn_with_its_peaks() -> None:
    values = [(float(number), 1.0) for number in range(50_000)]
    values[12_345] = (12_345.0, 99.0)
    drawn = figures.chart("loss", [figures.Line("loss", values)], 1)
    assert drawn is not None and len(drawn.svg) < 20_000
    assert (12_345.0, 99.0) in figures.thinned(values) and len(figures.thinned(values)) <= figures.MOST_POINTS
    assert len(drawn.rows) <= figures.MOST_ROWS and drawn.rows[-1][0] == "49,999"


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-1e-300, 1e-300], [1e11, -1e11], [1.0, 1.0 + 1e-15], []])
def test_scales_of_any_values(values: list[float]) -> None:
    drawn = figures.chart("x", [figures.Line("x", list(enumerate(values)))], 1)
    if not values:
        assert drawn is None
        return
    assert drawn is not None
    places = [
        float(number) for number in re.findall(r"[\d.]+,([\d.-]+)", "".join(re.findall('points="([^"]*)"', drawn.svg)))
    ]
    assert all(figures.TOP <= place <= figures.BOTTOM for place in places)


def test_ten_thousand_completions(tmp_path: Path) -> None:
    directory = a_run(tmp_path, "grpo")
    text = "A word after another, as they come from a model. " * 20
    lines(
        directory / "completions.jsonl", (completion(number, completion=f"{number} {text}") for number in range(10_000))
    )
    started = time.monotonic()
    written = page.render(directory, {})
    assert time.monotonic() - started < 60
    assert len(written) < 12 * 2**20
    assert len(data_of(Page(written))["rows"]) == 10_000


def test_more_completions_than_a_page_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = a_run(tmp_path, "grpo")
    lines(directory / "completions.jsonl", map(completion, range(8 * 30)))
    monkeypatch.setattr(completions, "MOST_COMPLETIONS", 100)
    found = shown(directory)
    steps = Counter(row[1] for row in data_of(found)["rows"])
    assert steps == dict.fromkeys(range(3, 31, 3), 8)
    assert "80 completions of" in found.text and "160 more are in" in found.text
    monkeypatch.setattr(completions, "MOST_COMPLETIONS", 5)
    assert [row[1] for row in data_of(shown(directory))["rows"]] == [30] * 5


def test_what_rewards_say_is_said_once(tmp_path: Path) -> None:
    directory = a_run(tmp_path, "grpo")
    lines(
        directory / "rewards.jsonl",
        [*REWARD_LINES, *({"kind": "printed", "reward": "a", "step": 1, "text": str(n)} for n in range(99))],
    )
    found, left_out = completions.said(reading.Files(directory, {}))
    assert found[0] == {
        "kind": "fault",
        "reward": "short",
        "text": "line 4; raised ValueError",
        "times": 2,
        "first": 1,
        "last": 3,
    }
    assert len(found) == completions.MOST_SAID and left_out == 99 + 3 - completions.MOST_SAID


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    directory = a_run(tmp_path)
    assert cli.main(["report", str(directory)]) == 0
    assert capsys.readouterr().out == f"{directory / 'report.html'}\n"
    sound((directory / "report.html").read_text())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", str(directory), "--output", "elsewhere.html"]) == 0
    assert "<h1>" in Path("elsewhere.html").read_text()
    for place in (".", "nowhere/page.html", "/dev/null", "\0", "x" * 5000):
        assert cli.main(["report", str(directory), "--output", place]) == 1
        assert capsys.readouterr().err.startswith("error: cannot write `")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [
        ("nowhere", "there is no `nowhere`", "name the directory"),
        ("caf\udce9", "there is no `caf\\udce9`", "name the directory"),
        ("outputs/demo/adapter", "there is no `outputs/demo/adapter`", "the run is `outputs/demo`"),
        ("outputs", "`outputs` holds no run", "name one of the runs in it: `outputs/demo`"),
        *((name, "` holds no run", "name the directory") for name in ("empty", "a-file", "", "x" * 5000)),
        ("\0", "there is no `", "name the directory"),
    ],
)
def test_what_holds_no_run(here: Path, capsys: pytest.CaptureFixture[str], name: str, told: str, hint: str) -> None:
    a_run(here)
    Path("empty").mkdir()
    Path("a-file").write_text("text")
    assert cli.main(["report", name]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ")
    assert told in captured.err and f"\nhint: {hint}" in captured.err
    assert not list(here.glob("*.html")) and not list(Path("empty").iterdir())


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    runfile.update(tmp_path, status="preparing", name="new")
    found = shown(tmp_path)
    assert "new preparing" in found.text and found.headings() == ["h1"]


def test_a_page_that_cannot_be_written_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    directory = a_run(tmp_path)
    (directory / page.NAME).mkdir()
    page.attempt(directory, {}, said.append)
    assert len(said) == 1 and said[0].startswith("warning: `report.html` is not written: ")
    page.attempt(tmp_path / "nowhere", {}, said.append)
    assert len(said) == 1
    monkeypatch.setattr(page, "render", lambda *_: 1 / 0)
    page.attempt(directory, {}, said.append)
    assert len(said) == 2
