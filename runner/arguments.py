"""The command line's grammar: every verb and its options. What they do is said elsewhere."""

from __future__ import annotations

import argparse

import runner
from runner.reading.keys import FORMATS, TASKS

SHELLS = ("bash", "zsh", "fish")
EXAMPLES = {
    "init": (
        "tunesmith init reviews.csv",
        "tunesmith init train.jsonl test.jsonl --model models/mine --output reviews.yaml",
        "tunesmith init demo",
    ),
    "validate": ("tunesmith validate recipe.yaml --data", "tunesmith validate recipes/*.yaml --format github"),
    "plan": ("tunesmith plan recipe.yaml --machine h100:8", "tunesmith plan recipe.yaml --set training.batch_size=64"),
    "doctor": ("tunesmith doctor", "tunesmith doctor recipe.yaml --network"),
    "preview": ("tunesmith preview recipe.yaml --row 3", "tunesmith preview recipe.yaml --html rows.html"),
    "rewards check": (
        "tunesmith rewards check recipe.yaml --prompts 16",
        "tunesmith rewards check recipe.yaml --completions answers.jsonl",
    ),
    "train": (
        "tunesmith train recipe.yaml --set training.max_steps=20",
        "tunesmith train recipe.yaml --time-limit 3h30m",
    ),
    "push": ("tunesmith push outputs/demo",),
    "report": ("tunesmith report outputs/demo --output page.html", "tunesmith report outputs/demo --price 2.5"),
    "compare": ("tunesmith compare outputs/a outputs/b", "tunesmith compare outputs/a outputs/b --html compared.html"),
    "watch": ("tunesmith watch outputs/demo", "tunesmith watch outputs/demo --serve"),
    "generate": ('tunesmith generate outputs/demo "12 silver pens, please"', "tunesmith generate outputs/demo --chat"),
    "evaluate": ("tunesmith evaluate outputs/demo --data new_rows.jsonl", "tunesmith evaluate outputs/demo --json"),
    "schema": ("tunesmith schema > schema.json", "tunesmith schema --markdown > recipe.md"),
    "completion": (
        'eval "$(tunesmith completion bash)"',
        "tunesmith completion fish > ~/.config/fish/completions/tunesmith.fish",
    ),
}


def parser() -> argparse.ArgumentParser:
    """What reads a command line: `verb` names what to do, `action` what a verb of several does."""
    top = argparse.ArgumentParser(prog="tunesmith", description="One YAML recipe in, one trained adapter out.")
    top.add_argument("--version", action="version", version=f"tunesmith {runner.__version__}")
    verbs = top.add_subparsers(title="verbs", required=True, metavar="VERB", dest="verb")

    init = verbs.add_parser("init", help="write a recipe for data, or one of those that ship")
    init.add_argument(
        "files", nargs="*", metavar="FILE", help="data files, folders or globs; or the name of a recipe that ships"
    )
    init.add_argument("--list", action="store_true", help="show the recipes that ship")
    init.add_argument("--task", choices=TASKS, help="what to train for; guessed by default")
    init.add_argument(
        "--format",
        dest="row_format",
        choices=FORMATS[1:],
        metavar="NAME",
        help="the format of the rows; guessed by default",
    )
    init.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help="which column is the prompt, the completion …",
    )
    init.add_argument("--model", metavar="MODEL", help="the base model: a Hub id, a directory or a `.gguf` file")
    init.add_argument("--name", metavar="NAME", help="the run's name")
    init.add_argument("--output", metavar="FILE", help="where the recipe goes; `-` prints it")
    init.add_argument("--force", action="store_true", help="overwrite what is there")
    init.add_argument("--yes", action="store_true", help="ask nothing, and take what is likeliest")

    validate = _with_recipe(verbs.add_parser("validate", help="say every fault of recipes"), several=True)
    validate.add_argument("--data", action="store_true", help="read and check the data as well")

    plan = _with_recipe(verbs.add_parser("plan", help="say what a run would do, and why"))
    plan.add_argument("--machine", metavar="NAME", help="plan for another machine: `h100:8`, `cpu:16:64`")
    plan.add_argument("--nodes", type=int, default=1, metavar="N", help="plan for so many of these machines")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")

    doctor = verbs.add_parser("doctor", help="look at this machine: packages, devices, memory, disks, container, Hub")
    _with_recipe(doctor, optional=True)
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument("--network", action="store_true", help="try to reach the Hub as well")

    preview = _with_recipe(verbs.add_parser("preview", help="show the tokens of a row, and which are learned"))
    preview.add_argument("--row", type=int, metavar="N", help="which training row, from 1")
    preview.add_argument(
        "--html", nargs="?", const="", metavar="FILE", help="write all rows to a page; NAME-preview.html by default"
    )

    rewards = verbs.add_parser("rewards", help="try the rewards of a recipe for `task: grpo`")
    actions = rewards.add_subparsers(title="what to do with them", required=True, metavar="ACTION", dest="action")
    check = _with_recipe(actions.add_parser("check", help="score completions, and say how far the scores spread"))
    check.add_argument("--prompts", type=int, metavar="N", help="sample completions of so many prompts; 8 by default")
    check.add_argument("--completions", metavar="FILE", help="score the completions of a file, and load no model")

    train = _with_recipe(verbs.add_parser("train", help="train, evaluate, and push the adapter"))
    train.add_argument("--time-limit", metavar="TIME", help="stop with a checkpoint before so long: `3h30m`")
    train.add_argument(
        "--allow-change", action="append", default=[], metavar="KEY", help="go on though this setting has changed"
    )
    train.add_argument("--nodes", type=int, metavar="N", help="how many machines train together")
    train.add_argument("--node-rank", type=int, metavar="N", help="which of them this one is, from 0")
    train.add_argument("--rendezvous", metavar="HOST:PORT", help="where node 0 listens, the same on all nodes")

    push = verbs.add_parser("push", help="push a finished run's adapter again")
    push.add_argument("directory", help="the run's directory, such as outputs/demo")
    push.add_argument("--format", choices=("text", "json", "github"), default="text", help="how faults are shown")

    report = verbs.add_parser("report", help="write the page of a run, `report.html`, at any time")
    report.add_argument("directory", help="the run's directory, such as outputs/demo")
    report.add_argument("--output", metavar="FILE", help="where the page goes")
    _with_price(report)
    report.add_argument("--format", choices=("text", "json", "github"), default="text", help="how faults are shown")

    compare = verbs.add_parser("compare", help="say what differs between runs: settings, curves, scores, time")
    compare.add_argument("directories", nargs="+", metavar="directory", help="two runs' directories or more")
    compare.add_argument("--html", metavar="FILE", help="write it as a page as well, with the curves over each other")
    compare.add_argument("--json", action="store_true", help="print it as one JSON object")
    _with_price(compare)
    compare.add_argument("--format", choices=("text", "json", "github"), default="text", help="how faults are shown")

    watch = verbs.add_parser("watch", help="show a run's progress, also from another terminal or before it begins")
    watch.add_argument("directory", help="the run's directory, such as outputs/demo")
    watch.add_argument(
        "--serve", nargs="?", type=int, const=0, metavar="PORT", help="show its page in a browser instead, on 127.0.0.1"
    )
    watch.add_argument("--format", choices=("text", "json", "github"), default="text", help="how faults are shown")

    generate = verbs.add_parser("generate", help="ask a trained adapter and its base model, side by side")
    generate.add_argument("subject", help="a run's directory, the directory of an adapter, or an adapter's Hub id")
    generate.add_argument("prompt", nargs="?", help="what to ask; `-` reads it from standard input")
    generate.add_argument("--chat", action="store_true", help="ask again and again, on a terminal")
    generate.add_argument("--system", metavar="TEXT", help="the system turn")
    generate.add_argument("--base", metavar="MODEL", help="the base model, where it is not the one that is named there")
    generate.add_argument("--adapter-only", action="store_true", help="do not ask the base model")
    generate.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="the longest answer; 256")
    generate.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token")
    generate.add_argument("--top-p", type=float, default=1.0, metavar="P", help="sample from the likeliest tokens")
    generate.add_argument("--seed", type=int, default=0, metavar="N", help="for a temperature above 0")
    generate.add_argument("--json", action="store_true", help="print the answers as one JSON object")

    _with_evaluation(verbs.add_parser("evaluate", help="score a trained adapter beside its base model"))

    schema = verbs.add_parser("schema", help="print the JSON Schema of recipes, for editors")
    schema.add_argument("--markdown", action="store_true", help="print a page of reference instead")

    completion = verbs.add_parser("completion", help="print a script that completes this command line in a shell")
    completion.add_argument("shell", choices=SHELLS, help="the shell")
    _explain(top)
    return top


def _explain(parser: argparse.ArgumentParser, path: str = "") -> None:
    """Put its examples under the help of each verb."""
    if path in EXAMPLES:
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        lines = "\n".join(f"  {example}" for example in EXAMPLES[path])
        parser.epilog = f"for example:\n{lines}"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                verb.description = next(each.help for each in action._choices_actions if each.dest == name)
                _explain(verb, f"{path} {name}".strip())


def _with_recipe(
    verb: argparse.ArgumentParser, several: bool = False, optional: bool = False
) -> argparse.ArgumentParser:
    if optional:
        verb.add_argument("recipe", nargs="?", help="a recipe, a YAML file: only what it needs can be a fault")
    elif several:
        verb.add_argument("recipes", nargs="+", metavar="recipe", help="a recipe, a YAML file")
    else:
        verb.add_argument("recipe", help="the recipe, a YAML file")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="lay a value over the recipe's")
    verb.add_argument("--format", choices=("text", "json", "github"), default="text", help="how faults are shown")
    return verb


def _with_price(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--price", type=float, metavar="PRICE", help="of a device for an hour: tells what a run has cost")


def _with_evaluation(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("subject", help="a run's directory, the directory of an adapter, or an adapter's Hub id")
    verb.add_argument(
        "--data", action="append", default=[], metavar="ROWS", help="rows to score on, as `dataset.train` names them"
    )
    verb.add_argument("--format", dest="row_format", metavar="NAME", help="the format of those rows; found by default")
    verb.add_argument("--task", metavar="NAME", help="the task of an adapter from elsewhere; sft by default")
    verb.add_argument("--base", metavar="MODEL", help="the base model, where it is not the one that is named there")
    verb.add_argument("--metrics", metavar="NAMES", help="what is measured, parted by commas; as the run by default")
    verb.add_argument("--samples", type=int, metavar="N", help="rows to write answers for")
    verb.add_argument("--max-new-tokens", type=int, metavar="N", help="the longest answer")
    verb.add_argument("--no-baseline", action="store_true", help="do not score the base model")
    verb.add_argument("--output", metavar="DIRECTORY", help="where the results go")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set keys of evaluation, dataset")
    verb.add_argument("--json", action="store_true", help="print the scores as one JSON object")
