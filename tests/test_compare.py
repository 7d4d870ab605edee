"""Runs beside each other: what is told of each, what differs, what is noise, and what cannot be compared."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_runs import SAMPLE, SCORE, a_run, lines, step
from test_report import HOSTILE, failed, sound

from runner import cli
from runner.compare import comparison, page, runs
from runner.compare.comparison import Comparison
from runner.errors import OutOfMemory, Place, Problem
from runner.report import reading


def another(folder: Path, name: str, task: str = "sft", **state: Any) -> Path:
    """A run with a directory and a name of its own."""
    directory = a_run(folder / name, task, name=name, **state)
    settled = json.loads((directory / "run.json").read_text())
    settled["recipe"]["name"] = name
    (directory / "run.json").write_text(json.dumps(settled))
    return directory


def changed(directory: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    """A file of a run with a change in its object."""
    values = json.loads((directory / name).read_text())
    change(values)
    (directory / name).write_text(json.dumps(values))


def compared(*directories: Path, price: float | None = None) -> Comparison:
    return comparison.make(runs.read(directories, {}), price)


def test_settings_that_differ_and_no_others(tmp_path: Path) -> None:
    one, other = another(tmp_path, "one"), another(tmp_path, "other")
    assert compared(one, other).settings == []

    def change(state: dict[str, Any]) -> None:
        state["recipe"]["training"]["learning_rate"] = 1e-3
        state["recipe"]["model"]["name"] = "/models/tiny"
        state["recipe"]["dataset"]["train"] = [{"path": "/data/more.jsonl", "weight": 2.0}]
        state["versions"]["torch"] = "2.14.0"

    changed(other, "run.json", change)
    changed(other, "plan.json", lambda plan: plan["precision"].update(value="float32"))
    found = dict(compared(one, other).settings)
    assert found["training.learning_rate"] == [1e-4, 1e-3]
    assert found["model.name"] == ["owner/model", "/models/tiny"]
    assert found["plan: precision"] == ["bfloat16", "float32"] and found["version: torch"] == ["2.13.0", "2.14.0"]
    assert found.keys() - {"dataset.train.0.path", "dataset.train.0.weight"} == {
        "training.learning_rate", "model.name", "plan: precision", "version: torch",
    }  # fmt: skip
    assert dict(compared(one, other).setting_rows)["model.name"] == ["owner/model", "tiny"]


def test_what_makes_runs_hard_to_compare_is_said(tmp_path: Path) -> None:
    one, other = another(tmp_path, "one"), another(tmp_path, "other", "grpo", data={"/a/new.jsonl": "77"})
    new = another(tmp_path, "new", data={})
    found = compared(one, other, new)
    said = "\n".join(found.remarks)
    assert "the tasks differ (`sft` of `one`, `new`; `grpo` of `other`)" in said
    assert "`other` and `one` are of different data" in said
    assert "`other` alone has `new.jsonl`, `one` alone `rows.jsonl`" in said
    assert "the data is not known yet of `new`" in said
    assert compared(one, another(tmp_path, "same")).remarks == []


def answered(directory: Path, scores: list[float], metric: str = "exact_match", start: int = 0) -> None:
    """Have a run's samples be of numbered questions, with these scores."""
    samples = [
        SAMPLE | {"prompt": f"question {start + number}", "adapter_scores": {metric: score}}
        for number, score in enumerate(scores)
    ]
    lines(directory / "samples.jsonl", samples)


def test_the_same_rows_tell_apart_what_two_intervals_do_not(tmp_path: Path) -> None:
    one, other = another(tmp_path, "one"), another(tmp_path, "other")
    draw = random.Random(0)
    before = [draw.random() for _ in range(60)]
    answered(one, before)
    answered(other, [score + 0.02 + draw.random() / 100 for score in before])
    (found,) = compared(one, other).differences
    assert (found.metric, found.run, found.first, found.rows) == ("exact_match", "other", "one", 60)
    assert found.interval is not None and 0.02 < found.interval[0] < found.interval[1] < 0.03
    assert found.verdict == "better"
    (back,) = compared(other, one).differences
    assert back.difference == pytest.approx(-(found.difference or 0)) and back.verdict == "worse"
    answered(other, before)
    assert compared(one, other).differences[0].verdict == "within noise"
    answered(other, before[:4])
    assert compared(one, other).differences[0].verdict == "too few rows"


def test_losses_of_the_same_rows_are_weighed_by_their_tokens(tmp_path: Path) -> None:
    one, other = another(tmp_path, "one"), another(tmp_path, "other")
    for directory, loss in ((one, 3.0), (other, 2.0)):
        (directory / "samples.jsonl").unlink()
        rows = [{"row": f"{n % 9:x}", "tokens": n + 1, "adapter": loss * (n + 1), "base": 4.0} for n in range(20)]
        lines(directory / "losses.jsonl", rows if loss > 2 else rows[::-1])
    (found,) = compared(one, other).differences  # rows that are alike have one digest, and count as often as they come
    assert (found.metric, found.rows, found.verdict) == ("loss", 20, "better")
    assert found.difference == pytest.approx(-1.0)
    lines(other / "losses.jsonl", [{"row": "another", "tokens": 1, "adapter": 1.0}])
    found_none = compared(one, other)
    assert not found_none.differences and "0 held-out rows in common, of 1 and 20" in found_none.unpaired[0]


def test_only_questions_that_both_were_asked_count(tmp_path: Path) -> None:
    one, other = another(tmp_path, "one"), another(tmp_path, "other")
    answered(one, [0.0] * 10)
    answered(other, [1.0] * 10, start=4)
    found = compared(one, other)
    assert (found.differences[0].rows, found.differences[0].difference) == (6, 1.0)
    assert found.unpaired == [
        "`loss`: `other` and `one` kept no scores of single held-out rows, so no difference is told",
        "`exact_match`: `other` and `one` have 6 held-out questions in common, of 10 and 10",
    ]


def test_rewards_of_other_code_or_weight_are_not_held_against_each_other(tmp_path: Path) -> None:
    one, other = (another(tmp_path, name, "grpo") for name in ("one", "other"))
    for directory in (one, other):
        answered(directory, [0.5] * 10, "reward/polite")
    assert [each.metric for each in compared(one, other).differences] == ["reward/polite"]
    changed(other, "run.json", lambda state: state["rewards"].update(polite="another hash"))
    found = compared(one, other)
    said = "`reward`, `reward/polite`: `other` and `one` were scored by different rewards"
    assert found.differences == [] and found.unpaired == [said]


def test_facts_and_cost(tmp_path: Path) -> None:
    found = compared(another(tmp_path, "one"), another(tmp_path, "other", status="training", timings={}), price=3.0)
    facts = dict(found.facts)
    assert facts["state"] == ["trained", "training"] and facts["step"] == ["3 of 3", "3 of 3"]
    assert facts["device"] == ["2 × NVIDIA H100"] * 2
    assert facts["learned tokens a second"] == ["150", "150"] and facts["seconds a step"] == ["2.5", "2.5"]
    assert facts["memory of a process, GiB"] == ["3", "3"]
    assert facts["minutes in all"] == ["2.0", "0.1"]  # of one that goes on, what its steps took
    assert facts["cost at 3.0 an hour"] == ["0.20", "0.01"]  # 123 seconds of two devices
    assert not any(
        "cost" in name for name, _ in compared(tmp_path / "one/outputs/demo", tmp_path / "other/outputs/demo").facts
    )


def test_a_run_that_failed_and_one_that_has_hardly_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = OutOfMemory(Problem("no memory", Place("rows.jsonl", 3, 1, 2, "[]"), "take less"))
    one, other = another(tmp_path, "one"), another(tmp_path, "other", **failed("failed", error))
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "run.json").write_text('{"status": "preparing", "name": "begun"}')
    assert cli.main(["compare", str(one), str(other), str(begun)]) == 0
    out = capsys.readouterr().out
    for said in ("what ended other", "error: no memory", "3 | []", "hint: take less", "preparing", "2.25 (2.1 to 2.4)"):
        assert said in out
    assert cli.main(["compare", str(begun), str(begun.parent / "one/outputs/demo"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["status"] for run in told["runs"]] == ["preparing", "done"] and told["runs"][0]["step"] is None
    assert told["scores"][0]["runs"][0] is None and told["scores"][0]["runs"][1]["adapter_interval"] == [1.4, 1.6]
    settings = {each["name"]: each["values"] for each in told["settings"]}
    assert settings["training.learning_rate"] == [None, 1e-4]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["one"], "there is nothing to compare one run with\nhint: name another run: `tunesmith compare one"),
        (["one", "one"], "`one` is named twice\nhint: name each run once"),
        (["one", "./other/../one"], "`one` and `other/../one` are the same run"),
        (["one", "nowhere", "empty"], "there is no `nowhere`"),
        (["one", "nowhere", "empty"], "Found 2 problems"),
        (["one", "one/adapter"], "hint: the run is `one`"),
        (["one", "."], "hint: name one of the runs in it: `link`, `one`, `other`"),
        (["one", "link"], "`one` and `link` are the same run"),
        (["one", "other", "--price", "-1"], "`-1.0` is no price\n --> --price"),
        (["one", "other", "--price", "nan"], "`nan` is no price"),
    ],
)
def test_what_cannot_be_compared(here: Path, capsys: pytest.CaptureFixture[str], names: list[str], told: str) -> None:
    for name in ("one", "other"):
        another(here, f"of-{name}").rename(here / name)
    (here / "one" / "adapter").mkdir()
    (here / "empty").mkdir()
    (here / "link").symlink_to("one")
    assert cli.main(["compare", *names]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and told in captured.err


def test_too_many_runs_and_runs_of_one_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [a_run(here / str(number)) for number in range(13)]
    assert cli.main(["compare", *map(str, places)]) == 2
    assert "13 runs are more than can be told apart: at most 12" in capsys.readouterr().err
    found = compared(*places[:12])
    assert found.labels == [str(place) for place in places[:12]]
    chart = found.charts[0]
    assert len({look for _, look in chart.legend}) == 12


def test_a_run_has_one_colour_in_all_charts(tmp_path: Path) -> None:
    one, other = another(tmp_path, "one"), another(tmp_path, "other")
    lines(one / "metrics.jsonl", [step(1), step(2)])  # no held-out rows
    found = {chart.title: dict(chart.legend) for chart in compared(one, other).charts}
    assert found["Loss on held-out rows"] == {"other": "line-1"}
    assert found["Loss in training"] == {"one": "line-0", "other": "line-1"}


@pytest.mark.parametrize("text", HOSTILE)
def test_the_page_is_sound_whatever_a_run_is_called(tmp_path: Path, text: str) -> None:
    directory = another(tmp_path, "one")
    changed(directory, "run.json", lambda state: state.update(name=text, data={text: text}, versions={text: text}))
    metrics = {text: SCORE}
    (directory / "evaluation.json").write_text(json.dumps({"metrics": metrics}))
    lines(directory / "metrics.jsonl", [step(1, measured={text: 1.0})])
    answered(directory, [1.0] * 9, text)
    found = sound(
        page.render(compared(directory, another(tmp_path, "other", **failed("failed", OutOfMemory(Problem(text))))), {})
    )
    assert sum(reading.visible(text) in each for each in found.texts) >= 5
    assert found.within["script"] == []


def test_the_page_and_where_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_TOKEN", "ünlikely-secret-value")
    one, other = another(tmp_path, "one"), another(tmp_path, "other")
    changed(other, "run.json", lambda state: state["recipe"]["dataset"].update(limit="ünlikely-secret-value"))
    target = tmp_path / "compared.html"
    assert cli.main(["compare", str(one), str(other), "--html", str(target)]) == 0
    text = target.read_text()
    found = sound(text)
    assert "2 runs beside each other" in found.text and "unlikely" not in text and "ünlikely" not in text
    assert len(re.findall("<polyline", text)) >= 8
    assert str(target) in capsys.readouterr().out
    for place in (".", "nowhere/page.html", "/dev/null"):
        assert cli.main(["compare", str(one), str(other), "--html", place]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("error: cannot write `") and "`--html`" in captured.err and captured.out == ""
