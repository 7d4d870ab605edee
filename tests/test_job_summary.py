"""The summary of a job: what it says of each end, what no text in it can do, and that GitHub would take it."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from report_runs import SCORE
from runs import run_of, tunesmith, write_recipe

from runner import cli, job_summary
from runner.errors import (
    CONTROL_CHARACTERS,
    DataError,
    Interrupted,
    OutOfMemory,
    Place,
    Problem,
    PushError,
    RecipeError,
    RunError,
    UserError,
)

STATE: dict[str, Any] = {
    "status": "done",
    "exit_code": 0,
    "name": "demo",
    "recipe": {"task": "sft"},
    "model": {"name": "owner/model", "revision": None},
    "timings": {"prepare": 3.0, "train": 100.0, "evaluate": 20.0},
}


def step(number: int, loss: float, **more: Any) -> dict[str, Any]:
    return {"step": number, "epoch": 0.1, "event": "step", "loss": loss, "learning_rate": 1e-3, "seconds": 1.0} | more


STEPS: list[dict[str, Any]] = [
    step(1, 3.0),
    step(2, 2.5),
    {"step": 2, "epoch": 0.2, "event": "evaluation", "evaluation_loss": 2.0},
    step(3, 2.0),
]


def a_run(
    folder: Path, state: dict[str, Any] | None = None, events: list[dict[str, Any]] | None = None, scores: Any = None
) -> Path:
    """The files of a run, as a run leaves them."""
    directory = folder / "outputs" / "demo"
    (directory / "adapter").mkdir(parents=True, exist_ok=True)
    (directory / "logs").mkdir(exist_ok=True)
    (directory / "run.json").write_text(json.dumps(STATE | (state or {})))
    lines = STEPS if events is None else events
    (directory / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in lines))
    metrics = {"loss": SCORE} if scores is None else scores
    evaluation = {"step": 3, "metrics": metrics, "rows": 40, "not_measured": [], "questions": 8}
    (directory / "evaluation.json").write_text(json.dumps(evaluation, indent=1))
    return directory


def test_a_finished_run(tmp_path: Path) -> None:
    directory = a_run(tmp_path)
    place = "".join(character if character.isalnum() else f"&#{ord(character)};" for character in str(directory))
    assert job_summary.render(directory, None, {}) == (
        "## <code>demo</code>: trained\n\n"
        "task <code>sft</code> · base model <code>owner&#47;model</code> · step 3 · 2.0 minutes\n\n"
        "### Base model and adapter, on held-out rows\n\n"
        "| metric | base model | adapter | difference, 95 % | adapter is | rows |\n"
        "| --- | ---: | ---: | ---: | --- | ---: |\n"
        "| <code>loss</code> | 2.25 (2.1 to 2.4) | 1.5 (1.4 to 1.6) | -0.9 to -0.6 | better | 40 |\n\n"
        "### Loss in training\n\n"
        "```mermaid\nxychart-beta\n"
        '    x-axis "step" 1 --> 3\n'
        '    y-axis "loss" 1.95 --> 3.05\n'
        "    line [3, 2.5, 2]\n```\n\n"
        "### Held-out rows in training\n\n"
        "| step | <code>loss</code> |\n| ---: | ---: |\n| 2 | 2 |\n\n"
        "### Where things are\n\n"
        "| place | what |\n| --- | --- |\n"
        f"| <code>{place}&#47;adapter</code> | the adapter, with tokenizer and model card |\n"
        f"| <code>{place}&#47;metrics&#46;jsonl</code> | every logged step |\n"
        f"| <code>{place}&#47;evaluation&#46;json</code> | the scores |\n"
        f"| <code>{place}&#47;logs</code> | what the libraries printed |\n\n"
    )


@pytest.mark.parametrize(
    ("fault", "state", "heading", "says"),
    [
        (
            Interrupted(Problem("stopped at step 3")),
            "interrupted",
            "interrupted, with a checkpoint saved",
            "goes on from",
        ),
        (PushError(Problem("`ann/x` refuses")), "not_pushed", "trained, not pushed", "`tunesmith push`"),
        (OutOfMemory(Problem("out of memory")), "failed", "out of memory", "`tunesmith plan`"),
        (RunError(Problem("rank 0 ended")), "failed", "not trained", "`logs`"),
        (DataError(Problem("a row is bad", Place("a.jsonl", 3))), "failed", "recipe or the data is wrong", "Correct"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, UserError) else None,
)
def test_each_end_says_what_to_do(tmp_path: Path, fault: UserError, state: str, heading: str, says: str) -> None:
    directory = a_run(tmp_path, {"status": state, "exit_code": fault.exit_code})
    text = job_summary.render(directory, fault, {})
    assert text.startswith("## <code>demo</code>: ") and heading in text.splitlines()[0]
    assert f"<pre>error: {fault.problems[0].message}" in text
    assert says in text
    assert "xychart" in text


@pytest.mark.parametrize("directory_exists", [True, False])
def test_a_run_that_lies_there_and_is_another_is_not_told_as_this_one(tmp_path: Path, directory_exists: bool) -> None:
    directory = a_run(tmp_path) if directory_exists else tmp_path / "none"
    fault = RecipeError(Problem("these differ: `training.epochs`", hint="give this run another `name`"))
    assert job_summary.render(directory, fault, {}) == (
        "## Tunesmith: not trained: the recipe or the data is wrong\n\n"
        "<pre>error: these differ: `training.epochs`\nhint: give this run another `name`</pre>\n\n"
        "Correct what is named above, and run it again.\n\n"
    )


def test_grpo_shows_rewards(tmp_path: Path) -> None:
    events = [
        step(n, 0.0, reward=n / 4, rewards={"numeric_answer": {"mean": n / 8, "std": 0.1}, "a|b": {"mean": None}})
        for n in range(1, 4)
    ]
    text = job_summary.render(a_run(tmp_path, events=events), None, {})
    assert "### Reward in training" in text and "line [0.25, 0.5, 0.75]" in text
    assert "| <code>numeric&#95;answer</code> | 0.125 | 0.375 |\n| <code>a&#124;b</code> | – | – |" in text
    assert "Loss in training" not in text


def test_what_is_not_known_is_not_made_up(tmp_path: Path) -> None:
    few = {"exact_match": {"base": None, "adapter": 0.5, "difference_interval": None, "rows": 2, "verdict": None}}
    text = job_summary.render(a_run(tmp_path, events=[], scores=few), None, {})
    assert "| <code>exact match</code> | – | 0.5 | – | not told | 2 |" in text
    assert "xychart" not in text
    events = [step(1, 2.0), step(2, float("nan")), step(3, 1.0)]
    assert "line [2, 1]" in job_summary.render(a_run(tmp_path, events=events), None, {})


def test_the_hub_is_named_once_it_has_the_adapter(tmp_path: Path) -> None:
    hub = {"hub": {"url": "https://huggingface.co/ann/demo"}}
    assert "the adapter on the Hub" in job_summary.render(a_run(tmp_path, hub), None, {})
    waiting = hub | {"status": "not_pushed", "exit_code": 3}
    assert "on the Hub" not in job_summary.render(a_run(tmp_path, waiting), PushError(Problem("no")), {})


def test_files_that_a_kill_or_a_hand_broke_are_passed_over(tmp_path: Path) -> None:
    directory = a_run(tmp_path)
    for name in ("metrics.jsonl", "evaluation.json", "run.json"):
        (directory / name).write_bytes(b'{"step": "x"}\n[1]\n\xff\n{"event"')
    assert job_summary.render(directory, None, {}).startswith("## <code>demo</code>: trained\n")


def test_no_secret_is_shown(tmp_path: Path) -> None:
    token, key = "hf_" + "a" * 34, "wandb-key-12345"
    directory = a_run(tmp_path / key, {"model": {"name": f"/models/{token}"}}, [step(1, 1.0, rewards={key: {}})])
    text = html.unescape(job_summary.render(directory, None, {"WANDB_API_KEY": key}))
    failed = job_summary.render(None, RunError(Problem(f"cannot reach {token} {key}")), {"WANDB_API_KEY": key})
    assert token not in text + failed and key not in text + failed and "[redacted]" in text


ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=60) | st.sampled_from(
    ["</pre><script>alert(1)</script>", "|", "\\|", "`", "```\n# x", "[x](javascript:x)", "@ann", "www.evil.example",
     "https://evil.example", "<b>", "&lt;b&gt;", "</code><img src=x>", "\n\n# heading\n", "$x$", ":smile:", "\u202e"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=ANY, model=ANY, metric=ANY, reward=ANY, message=ANY, place=ANY, hint=ANY)
def test_no_text_is_markdown_or_html(
    tmp_path: Path, name: str, model: str, metric: str, reward: str, message: str, place: str, hint: str
) -> None:
    directory = a_run(
        tmp_path,
        {"name": name, "model": {"name": model}, "exit_code": 1, "recipe": {"task": metric}},
        [step(1, 1.0, rewards={reward: {"mean": 1.0}}), step(2, 2.0, rewards={reward: {"mean": 1.0}})],
        {metric: SCORE | {"verdict": reward}},
    )
    fault = RunError(Problem(message, Place(place, 1, 1, 1, hint), hint))
    text = job_summary.render(directory, fault, {})
    assert not {unicodedata.category(character) for character in re.sub(r"[\n\t]", "", text)} & CONTROL_CHARACTERS
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text)
    blocks = [token.type for token in tokens if token.level == 0 and token.nesting >= 0]
    assert blocks == [
        "heading_open", "paragraph_open", "html_block", "paragraph_open", "heading_open", "table_open",
        "heading_open", "fence", "heading_open", "table_open", "heading_open", "table_open",
    ]  # fmt: skip
    (pre,) = (token.content for token in tokens if token.type == "html_block")
    assert re.findall(r"<[^>]*>", pre) == ["<pre>", "</pre>"]
    inline = [child for token in tokens for child in token.children or ()]
    assert {child.content for child in inline if child.type == "html_inline"} <= {"<code>", "</code>"}
    # the one that is ours names a key or a file
    assert {child.type for child in inline} <= {"text", "text_special", "html_inline", "code_inline"}
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.integers(0, 10**6), st.floats(allow_nan=True) | st.none(), max_size=200),
    st.sampled_from(["loss", "reward"]),
)
def test_a_curve_is_what_mermaid_reads(tmp_path: Path, values: dict[int, float | None], what: str) -> None:
    events = [step(number, 1.0) | {what: value} for number, value in sorted(values.items())]
    text = job_summary.render(a_run(tmp_path, events=events), None, {})
    number = r"-?\d+(?:\.\d+)?"
    charts = re.findall(r"^```mermaid\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    for chart in charts:
        axes = rf'xychart-beta\n    x-axis "step" \d+ --> \d+\n    y-axis "{what}" ({number}) --> ({number})\n'
        found = re.fullmatch(rf"{axes}    line \[({number}(?:, {number})*)\]\n", chart)
        assert found is not None, chart
        points = [float(point) for point in found[3].split(", ")]
        assert 2 <= len(points) <= job_summary.MOST_POINTS
        assert float(found[1]) <= min(points) <= max(points) <= float(found[2])


def test_a_curve_of_many_steps_keeps_its_shape(tmp_path: Path) -> None:
    events = [step(number, 1000.0 - number) for number in range(1000)]
    text = job_summary.render(a_run(tmp_path, events=events), None, {})
    (line,) = re.findall(r"line \[(.*)\]", text)
    points = [float(point) for point in line.split(", ")]
    assert len(points) == job_summary.MOST_POINTS
    assert points == sorted(points, reverse=True) and points[0] > 980 and points[-1] < 20


def test_it_fits_whatever_the_run_holds(tmp_path: Path) -> None:
    scores = {f"reward/{number}{'|' * 500}": SCORE for number in range(2000)}
    events = [step(n, 1.0, rewards={f"{k}{'<' * 500}": {"mean": 1.0} for k in range(200)}) for n in range(20)]
    fault = RunError([Problem("<" * 100_000)] * 500, total=700)
    directory = a_run(tmp_path, {"exit_code": 1, "name": "|" * 10**6}, events, scores)
    text = job_summary.render(directory, fault, {})
    assert len(text.encode()) < job_summary.MOST_BYTES
    assert "680 more were found." in text and "and 1940 more" in text


def test_it_is_appended_where_it_fits(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    environment = {job_summary.VARIABLE: str(path)}
    path.write_text("before\n")
    directory = a_run(tmp_path)
    job_summary.write(directory, None, environment)
    assert path.read_text() == "before\n" + job_summary.render(directory, None, {})
    path.write_text("x" * (job_summary.MOST_BYTES - 100))
    job_summary.write(directory, None, environment)
    assert path.read_text().endswith("x## Tunesmith: trained\n\n")
    path.write_text("x" * job_summary.MOST_BYTES)
    job_summary.write(directory, None, environment)
    assert path.stat().st_size == job_summary.MOST_BYTES
    job_summary.write(directory, None, {})


def test_a_summary_that_cannot_be_written_hides_no_fault(tmp_path: Path) -> None:
    environment = {job_summary.VARIABLE: str(tmp_path)}
    job_summary.write(None, RunError(Problem("the real one")), environment)
    with pytest.raises(RunError, match=r"cannot write to the `.*` of `GITHUB_STEP_SUMMARY`: Is a directory"):
        job_summary.write(None, None, environment)


def test_a_training_that_cannot_begin_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = tmp_path / "summary"
    monkeypatch.setenv(job_summary.VARIABLE, str(summary))
    assert cli.main(["train", str(tmp_path / "none.yaml")]) == 2
    assert summary.read_text().startswith("## Tunesmith: not trained: the recipe or the data is wrong\n\n<pre>error: ")
    assert "none.yaml" in summary.read_text()


@pytest.mark.slow
def test_a_real_run_writes_it(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tiny_model, {"dataset": {"evaluation": 0.5}})
    environment = {job_summary.VARIABLE: str(tmp_path / "summary")}
    wrong = tunesmith("train", recipe, "--set", "training.epoch=2", environment=environment)
    assert wrong.code == 2
    said = (tmp_path / "summary").read_text()
    assert said.startswith("## Tunesmith: not trained: the recipe or the data is wrong\n\n<pre>error: unknown key")
    ended = tunesmith("train", recipe, environment=environment)
    assert ended.code == 0, ended.err
    text = (tmp_path / "summary").read_text().removeprefix(said)
    assert text == job_summary.render(run_of(recipe), None, {})
    assert (
        "| <code>loss</code> |" in text
        and "xychart-beta" in text
        and text.startswith("## <code>recipe</code>: trained")
    )
