"""What a person sees of a run: its plan, its progress, its result. Text in, text out; nothing is decided here.

On a terminal progress is one line that moves; elsewhere (a log file, a CI job) it is a plain line now and then.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from runner.choices import Choice
from runner.errors import listed, printable
from runner.plan import Plan
from runner.recipe import Recipe
from runner.scores.metrics import LOWER_IS_BETTER, needs_answers

MIB, GIB = 1024**2, 1024**3
SECONDS_BETWEEN_LINES = 10.0
SHOWN_SAMPLES = 3
LONGEST_SHOWN = 300  # characters of a sample's text
MOST_NAMED = 4  # rows of a step that was passed over; all are in `metrics.jsonl`
SMOOTHING = 8  # steps that the shown speed looks back over


def plan(settled: Plan, console: Console) -> None:
    """The settled run, with the reason of each choice."""
    recipe = settled.recipe
    _section(console, "run")
    _row(console, "name", recipe.name)
    _row(console, "task", recipe.task)
    model = recipe.model
    called = f"`{model.hub_id}` on the Hub" if model.hub_id else ""
    _row(console, "model", model.name + (f" at {model.revision}" if model.revision else ""), called)
    _row(console, "writes to", settled.directory)
    if recipe.output.hub:
        checkpoints = "checkpoints too, while training goes on" if recipe.output.hub.checkpoints else ""
        _row(console, "pushes to", f"{recipe.output.hub.repository} ({recipe.output.hub.revision})", checkpoints)
    _section(console, "machine")
    _row(console, "device", settled.device_name, f"{settled.device_memory / GIB:.0f} GiB a process")
    if settled.nodes > 1:
        _row(console, "nodes", settled.nodes, f"{settled.processes_here} processes on each")
    _row(console, "processes", settled.processes)
    _choice(console, "ZeRO stage", settled.zero_stage)
    _choice(console, "precision", settled.precision)
    _choice(console, "attention", settled.attention)
    if settled.engine:
        _choice(console, "completions written by", settled.engine)
    else:
        _choice(console, "packing", settled.packing)
    _choice(console, "gradient checkpointing", settled.gradient_checkpointing)
    _section(console, "batch")
    batch = settled.batch
    _row(
        console,
        "completions a step" if recipe.grpo else "rows a step",
        batch.effective,
        f"{batch.micro} at a time × {batch.accumulation} times × {batch.processes} processes: {batch.reason}",
    )
    _choice(console, "longest row", settled.max_length, " tokens")
    if settled.rows:
        _row(console, "training rows", settled.rows.train)
        _row(console, "held-out rows", settled.rows.evaluation)
    if settled.steps:
        steps = settled.steps
        _row(console, "steps", steps.total, f"{steps.an_epoch} an epoch, {steps.warmup} of warmup")
        if steps.evaluate_every:
            _row(console, "evaluation every", f"{steps.evaluate_every} steps", _cost_of_evaluation(recipe))
        _row(console, "checkpoint every", f"{steps.checkpoint_every} steps")
    if settled.checkpoint is not None:
        together = _bytes(settled.checkpoint * settled.checkpoints)
        of_all = f"up to {settled.checkpoints} at a time take {together} of the disk"
        _row(console, "checkpoint size", _bytes(settled.checkpoint), of_all)
    _section(console, "adapter")
    adapter = recipe.adapter
    shape = f"rank {adapter.rank}, alpha {adapter.alpha:g}, dropout {adapter.dropout:g}"
    _row(console, "type", adapter.type, "all weights are trained" if adapter.type == "full" else shape)
    if adapter.train_embeddings:
        _row(console, "embeddings", "trained", "input and output, whole")
    if settled.parameters and settled.trainable is not None:
        share = 100 * settled.trainable / settled.parameters
        _row(console, "trainable parameters", f"{settled.trainable:,}", f"{share:.2f} % of {settled.parameters:,}")
    else:
        _row(console, "trainable parameters", "not known", "the model's files are not on this machine yet")
    if settled.memory:
        _memory(settled, console)
    _section(console, "settings")
    for block in ("dataset", "training", "grpo", "evaluation"):
        settings = getattr(recipe, block)
        for name, value in vars(settings).items() if settings else ():
            _row(console, f"{block}.{name}", _setting(value))
    for reward in recipe.rewards:
        _row(console, f"reward {reward.name}", f"weight {reward.weight:g}", f"`{reward.function}` in {reward.file}")


def _cost_of_evaluation(recipe: Recipe) -> str:
    """What an evaluation during training does beside the loss; nothing, unless the run stops by answers."""
    stopping, evaluation = recipe.training.early_stopping, recipe.evaluation
    if recipe.grpo is None and (stopping is None or not needs_answers(stopping.metric)):
        return ""
    if recipe.grpo is not None or stopping is None:
        return f"each answers up to {evaluation.samples} held-out prompts"
    tokens = f"{evaluation.samples} answers of up to {evaluation.max_new_tokens} tokens"
    return f"each writes {tokens} for `{stopping.metric}`"


def _memory(settled: Plan, console: Console) -> None:
    memory = settled.memory
    assert memory is not None
    _section(console, "memory of a process at its peak, estimated")
    for name in ("weights", "adapter", "gradients", "optimizer", "activations", "logits"):
        _row(console, name, _bytes(getattr(memory, name)))
    share = 100 * memory.total / settled.device_memory
    _row(console, "together", _bytes(memory.total), f"{share:.0f} % of {_bytes(settled.device_memory)}")


class Watcher:
    """Shows the events of a run as they come in."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = 0
        self.shown_at = 0.0
        self.recent: list[tuple[int, int, float, float]] = []  # steps, learned tokens, seconds in them, seconds elapsed
        self.last_step = 0
        self.bar: Progress | None = None

    def say(self, text: str) -> None:
        """A line that stays."""
        console = self.bar.console if self.bar else self.console
        console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def __call__(self, event: Mapping[str, Any]) -> None:
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def close(self) -> None:
        """Take the moving line away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _on_prepared(self, event: Mapping[str, Any]) -> None:
        for name in ("train", "evaluation"):
            facts = event[name]
            if facts["rows"] and event.get("prompts_only"):
                self.say(f"{name}: {facts['rows']} prompts, {facts['tokens']} tokens, longest {facts['longest']}")
            elif facts["rows"]:
                share = 100 * facts["learned_tokens"] / max(facts["tokens"], 1)
                self.say(
                    f"{name}: {facts['rows']} rows, {facts['tokens']} tokens, "
                    f"{facts['learned_tokens']} learned ({share:.0f} %), longest {facts['longest']}"
                )

        for line in rows_read(event.get("formats", {}), event.get("calls", {})):
            self.say(line)

    def _on_start(self, event: Mapping[str, Any]) -> None:
        self.total, self.last_step = event["total"], event["step"]
        if event["step"]:
            self.say(f"going on from step {event['step']} of {self.total}")
        self.close()
        if self.console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=30, complete_style="green", finished_style="green"),
                TextColumn("{task.fields[facts]}"),
            )
            self.bar = Progress(*columns, console=self.console)
            self.bar.add_task("training", total=self.total, completed=event["step"], facts="")
            self.bar.start()

    def _on_step(self, event: Mapping[str, Any]) -> None:
        step = event["step"]
        latest = (step - self.last_step, event["learned_tokens"], event["seconds"], event["elapsed"])
        self.recent = [*self.recent, latest][-SMOOTHING:]
        self.last_step = step
        steps, learned, seconds, elapsed = (sum(each[part] for each in self.recent) for part in range(4))
        speed = learned / max(seconds, 1e-9)
        left = (self.total - step) * elapsed / max(steps, 1)
        measured = f"loss {event['loss']:.4f}" if "reward" not in event else f"reward {_signed(event['reward'])}"
        facts = f"{measured}  {speed:.0f} learned tokens/s  {_duration(left)} left"
        for warning in event.get("warnings", ()):
            self.say(f"warning: {warning}")
        if self.bar is not None:
            task = self.bar.task_ids[0]
            self.bar.update(task, completed=step, facts=f"{step}/{self.total}  {facts}")
        elif step == self.total or time.monotonic() - self.shown_at >= SECONDS_BETWEEN_LINES:
            self.shown_at = time.monotonic()
            self.say(f"step {step}/{self.total}  epoch {event['epoch']:.2f}  {facts}")

    def _on_stopping(self, event: Mapping[str, Any]) -> None:
        self.say(f"{event['reason']}: a checkpoint is saved first; the same signal again ends the run at once")

    def _on_damaged(self, event: Mapping[str, Any]) -> None:
        self.say(f"warning: the checkpoint `{event['path']}` is damaged, and is passed over")

    def _on_skipped(self, event: Mapping[str, Any]) -> None:
        rows = listed(event["rows"][:MOST_NAMED])
        self.say(f"warning: step {event['step']} was passed over, since its {event['what']} is not a number: {rows}")

    def _on_evaluation(self, event: Mapping[str, Any]) -> None:
        found = [f"loss {event['evaluation_loss']:.4f}"] if "evaluation_loss" in event else []
        found += [f"{name} {value:.4g}" for name, value in event.get("measured", {}).items()]
        self.say(f"step {event['step']}/{self.total}  held-out {'  '.join(found)}")

    def _on_reloaded(self, event: Mapping[str, Any]) -> None:
        self.close()
        self.say(
            f"adapter of step {event['step']} read back with PEFT: loss {event['loss']:.4f}, "
            f"in training {event['training_loss']:.4f}"
        )

    def _on_scoring(self, event: Mapping[str, Any]) -> None:
        self.say(f"scoring: {event['what']}")


def rows_read(formats: Mapping[str, str], calls: Mapping[str, int]) -> list[str]:
    """Lines for a ledger with calls: the format of each file, and how many rows have how many. Others have none."""
    if not calls:
        return []
    lines = [f"{file}: format {name}" for file, name in formats.items() if name]
    counted = ", ".join(f"{count} with {name}" for name, count in calls.items())
    lines.append(f"calls: of {sum(calls.values())} rows {counted}")
    if sum(calls.values()) == calls["none"]:
        lines.append("warning: no row calls a tool, so a model learns from them to call none")
    return lines


def result(directory: Path, console: Console) -> None:
    """The adapter beside its base model, some samples, and where everything is."""
    evaluation = _json(directory / "evaluation.json") or {}
    metrics = evaluation.get("metrics", {})
    if metrics:
        table = Table(title=f"{evaluation['rows']} held-out rows, {evaluation['questions']} of them asked")
        spreads = [_spread(entry) for entry in metrics.values()]
        for name in ("metric", "base model", "adapter", "better", *(["difference, 95 %"] if any(spreads) else [])):
            justify: Literal["left", "right"] = "right" if name in ("base model", "adapter") else "left"
            table.add_column(name, justify=justify, no_wrap=name == "metric")
        for (name, entry), spread in zip(metrics.items(), spreads, strict=True):
            figures = (_figure(entry["base"]), _figure(entry["adapter"]))
            table.add_row(name, *figures, _better(name, entry), *([spread] if any(spreads) else []))
        console.print(table)
    if missing := evaluation.get("not_measured"):
        names = ", ".join(f"`{name}`" for name in missing)
        console.print(Text(f"left out, since no row counts for them: {names}"), soft_wrap=True)
    _show_samples(directory / "samples.jsonl", console)
    for name, what in (
        ("report.html", "all of it on one page, for a browser"),
        ("adapter", "the adapter, with tokenizer and model card"),
        ("metrics.jsonl", "every logged step"),
        ("completions.jsonl", "every completion that was sampled, with its scores"),
        ("rewards.jsonl", "what reward functions printed, and where they failed"),
        ("samples.jsonl", "held-out questions with both answers"),
        ("evaluation.json", "the scores"),
        ("ledger.json", "what became of every row"),
    ):
        if (directory / name).exists():
            console.print(Text(printable(f"{directory / name}  ")).append(what, style="dim"), soft_wrap=True)


def _show_samples(path: Path, console: Console) -> None:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for _, line in zip(range(SHOWN_SAMPLES), file, strict=False):
            sample = json.loads(line)
            console.print()
            for label, key in (("prompt", "prompt"), ("wanted", "answer"), ("base", "base"), ("adapter", "adapter")):
                if key in sample:
                    text = Text(f"{label:>8}  ", style="bold").append(_short(sample[key]), style="not bold")
                    console.print(text, soft_wrap=True)
    console.print()


def _better(name: str, entry: Mapping[str, Any]) -> str:
    """The better model, where the rows tell which it is."""
    base, adapter = entry["base"], entry["adapter"]
    if base is None or adapter is None:
        return ""
    if "verdict" in entry:
        words = {"better": "adapter", "worse": "base model", "within noise": "within noise", None: "too few rows"}
        return words[entry["verdict"]]
    if base == adapter:  # an evaluation of a version that told no intervals
        return ""
    return "adapter" if (adapter < base) == (name in LOWER_IS_BETTER) else "base model"


def _spread(entry: Mapping[str, Any]) -> str:
    """The interval that the difference between the models is in."""
    interval = entry.get("difference_interval")
    return " to ".join(f"{end:+.3g}" if end else "0" for end in interval) if interval else ""


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _section(console: Console, title: str) -> None:
    console.print(Text(title, style="bold"))


def _row(console: Console, name: str, value: object, reason: str = "") -> None:
    text = Text(printable(f"  {name:<32} {value}"))
    if reason:
        text.append(f"  ({reason})", style="dim")
    console.print(text, soft_wrap=True)


def _choice(console: Console, name: str, choice: Choice, unit: str = "") -> None:
    value = {True: "on", False: "off"}[choice.value] if isinstance(choice.value, bool) else choice.value
    _row(console, name, f"{value}{unit}", choice.reason)


def _setting(value: Any) -> str:
    if value is None or value == ():
        return "–"
    if isinstance(value, bool):
        return str(value).lower()  # as a recipe has it
    if isinstance(value, tuple):
        return ", ".join(str(getattr(item, "path", getattr(item, "name", item))) for item in value)
    if hasattr(value, "__dataclass_fields__"):
        return ", ".join(f"{key} {_setting(item)}" for key, item in vars(value).items())
    return str(value)


def _signed(reward: float | None) -> str:
    return "–" if reward is None else f"{reward:.4f}"


def _bytes(count: int) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _short(text: str) -> str:
    flat = printable(text.replace("\n", "⏎"))  # what a model writes may move a terminal's cursor
    return flat if len(flat) <= LONGEST_SHOWN else f"…{flat[-LONGEST_SHOWN:]}"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
