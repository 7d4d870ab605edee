"""The command line: the verbs, what they print, and the exit codes. Nothing else prints or ends the process.

0 done · 1 failed · 2 recipe or data wrong · 3 trained, not pushed · 4 out of memory · 75 interrupted, run again
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runner
from runner import errors
from runner.errors import DONE, FAILED, Place, Problem, RecipeError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from runner.reading.source import Source
    from runner.recipe import Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; gives the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what cannot be encoded is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except UserError as error:
        style = getattr(options, "format", "text")
        stream = sys.stderr if style == "text" else sys.stdout
        print(errors.report(error, style, _colour(stream)), file=stream)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tunesmith", description="One YAML recipe in, one trained adapter out.")
    parser.add_argument("--version", action="version", version=f"tunesmith {runner.__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    validate = _with_recipe(verbs.add_parser("validate", help="say every fault of recipes"), several=True)
    validate.add_argument("--data", action="store_true", help="read and check the data as well")
    validate.set_defaults(run=_validate)

    plan = _with_recipe(verbs.add_parser("plan", help="say what a run would do, and why"))
    plan.add_argument("--machine", metavar="NAME", help="plan for another machine: `h100:8`, `cpu:16:64`")
    plan.add_argument("--nodes", type=int, default=1, metavar="N", help="plan for so many of these machines")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    plan.set_defaults(run=_plan)

    doctor = verbs.add_parser("doctor", help="look at this machine: packages, devices, memory, disks, container, Hub")
    _with_recipe(doctor, optional=True)
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.add_argument("--network", action="store_true", help="try to reach the Hub as well")
    doctor.set_defaults(run=_doctor)

    preview = _with_recipe(verbs.add_parser("preview", help="show the tokens of a row, and which are learned"))
    preview.add_argument("--row", type=int, default=1, metavar="N", help="which training row, from 1")
    preview.set_defaults(run=_preview)

    rewards = verbs.add_parser("rewards", help="try the rewards of a recipe for `task: grpo`")
    actions = rewards.add_subparsers(title="what to do with them", required=True, metavar="ACTION")
    check = _with_recipe(actions.add_parser("check", help="score completions, and say how far the scores spread"))
    check.add_argument("--prompts", type=int, metavar="N", help="sample completions of so many prompts; 8 by default")
    check.add_argument("--completions", metavar="FILE", help="score the completions of a file, and load no model")
    check.set_defaults(run=_check_rewards)

    train = _with_recipe(verbs.add_parser("train", help="train, evaluate, and push the adapter"))
    train.add_argument("--time-limit", metavar="TIME", help="stop with a checkpoint before so long: `3h30m`")
    train.add_argument("--nodes", type=int, metavar="N", help="how many machines train together")
    train.add_argument("--node-rank", type=int, metavar="N", help="which of them this one is, from 0")
    train.add_argument("--rendezvous", metavar="HOST:PORT", help="where node 0 listens, the same on all nodes")
    train.set_defaults(run=_train)

    push = verbs.add_parser("push", help="push a finished run's adapter again")
    push.add_argument("directory", help="the run's directory, such as outputs/demo")
    push.add_argument("--format", choices=("text", "json", "github"), default="text", help="how faults are shown")
    push.set_defaults(run=_push)

    report = verbs.add_parser("report", help="write the page of a run, `report.html`, at any time")
    report.add_argument("directory", help="the run's directory, such as outputs/demo")
    report.add_argument("--output", metavar="FILE", help="where the page goes")
    report.add_argument("--format", choices=("text", "json", "github"), default="text", help="how faults are shown")
    report.set_defaults(run=_report)

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
    generate.set_defaults(run=_generate)

    _with_evaluation(verbs.add_parser("evaluate", help="score a trained adapter beside its base model"))

    schema = verbs.add_parser("schema", help="print the JSON Schema of recipes, for editors")
    schema.set_defaults(run=_schema)
    return parser


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
    verb.set_defaults(run=_evaluate)


def _recipe(path: str, options: argparse.Namespace) -> tuple[Recipe, Source]:
    """The recipe in a file with what the command line lays over it, and where its values stand. Raises RecipeError."""
    from runner.reading import check, overrides, source

    written = overrides.apply(source.read(path), options.set)
    return check.settle(written, path), written


def _validate(options: argparse.Namespace) -> int:
    wrong: list[UserError] = []
    for path in options.recipes:
        try:
            found = _found(path, options)
        except UserError as error:
            wrong.append(error)
            continue
        if options.format == "text":
            print(errors.printable(found))
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        problems = [problem for error in wrong for problem in error.problems]
        raise RecipeError(problems, total=sum(error.total for error in wrong))
    return DONE


def _found(path: str, options: argparse.Namespace) -> str:
    """What there is to say of a good recipe. Raises UserError for another one."""
    recipe, _ = _recipe(path, options)
    found = f"`{path}` is a good recipe for `{recipe.task}`"
    if options.data:
        from runner.data import dataset, documents

        if recipe.task == "continued_pretraining":
            survey = documents.survey(recipe.dataset, recipe.training.seed)
            return f"{found}: {survey.documents['train']} documents, {survey.documents['evaluation']} held out"
        data = dataset.read(recipe.dataset, recipe.training.seed)
        found += f": {len(data.train)} training rows, {len(data.evaluation)} held out"
    return found


def _plan(options: argparse.Namespace) -> int:
    from runner import guess, machine, planfile, supervise

    try:
        where = machine.here() if options.machine is None else machine.named(options.machine)
    except machine.UnknownMachine as error:
        hint = f"known devices: {', '.join(machine.KNOWN_DEVICES)}, and `cpu:CORES:GIB`; `h100:8` is eight of them"
        raise RecipeError(Problem(str(error), Place("--machine"), hint)) from error
    if options.nodes < 1:
        raise RecipeError(Problem(f"there is no plan for {options.nodes} nodes", Place("--nodes")))
    where = dataclasses.replace(where, nodes=options.nodes)
    recipe, places = _recipe(options.recipe, options)
    settled = supervise.settle(recipe, places, where, guess.rows(recipe))
    if options.json:
        print(planfile.to_json(settled), end="")
    else:
        from runner import show

        console = _console()
        for text in options.set:
            console.print(f"set on the command line: {text}", soft_wrap=True)
        show.plan(settled, console)
    return DONE


def _doctor(options: argparse.Namespace) -> int:
    from runner import machine, show_findings
    from runner.doctor import examination, finding, needs

    if options.recipe is None and options.set:
        hint = "name the recipe, or leave `--set` out"
        raise RecipeError(Problem("there is no recipe to lay values over", Place("--set"), hint))
    recipe = None if options.recipe is None else _recipe(options.recipe, options)[0]
    where = machine.here()
    wanted = needs.of(recipe, where) if recipe else needs.without_recipe(Path.cwd(), where)
    facts = examination.ask_torch()
    found = examination.findings(finding.here(), where, wanted, facts, options.network)
    if options.json:
        print(json.dumps({"findings": [vars(each) for each in found]}, indent=2, ensure_ascii=False))
    else:
        show_findings.page(found, recipe.name if recipe else None, _console())
    return FAILED if any(each.status == "fault" for each in found) else DONE


def _preview(options: argparse.Namespace) -> int:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from runner import machine, supervise

    if options.row < 1:
        raise RecipeError(Problem(f"there is no row {options.row}", Place("--row"), "rows are counted from 1"))
    recipe, places = _recipe(options.recipe, options)
    settled = supervise.settle(recipe, places, machine.here(), None)
    from runner import preview

    preview.show(settled, options.row, _console())
    return DONE


def _check_rewards(options: argparse.Namespace) -> int:
    from runner import rewards_check, show, show_rewards

    if options.prompts is not None and options.completions is not None:
        hint = "leave one of the two out"
        raise RecipeError(Problem("`--completions` has its own prompts", Place("--prompts"), hint))
    prompts = 8 if options.prompts is None else options.prompts
    if prompts < 1:
        raise RecipeError(Problem(f"there are no completions of {prompts} prompts", Place("--prompts")))
    recipe, places = _recipe(options.recipe, options)
    console = _console()
    for text in options.set:
        console.print(f"set on the command line: {text}", soft_wrap=True)
    watcher = show.Watcher(console)
    if options.completions is None:
        found = rewards_check.sampled(recipe, places, prompts, watcher)
    else:
        found = rewards_check.given(recipe, places, options.completions, watcher)
    show_rewards.page(
        found.report, found.answers, rewards_check.warnings(found.report, recipe), found.directory, console
    )
    sys.stdout.flush()  # before what is wrong, which goes elsewhere
    rewards_check.judge(found.report, recipe, places)
    return DONE


def _train(options: argparse.Namespace) -> int:
    from runner import job_summary, nodes, show, supervise, time_limit

    directory = None
    limit = time_limit.find(options.time_limit, os.environ)
    among = nodes.find(options.nodes, options.node_rank, options.rendezvous, os.environ)
    try:
        recipe, places = _recipe(options.recipe, options)
        directory = Path(recipe.output.directory) / recipe.name
        console = _console()
        for text in options.set:
            console.print(f"set on the command line: {text}", soft_wrap=True)
        code = supervise.train(recipe, places, show.Watcher(console), among, limit)
        if among.rank:
            return code
        show.result(directory, console)
    except UserError as error:
        if not among.rank:
            job_summary.write(directory, error, os.environ)
        raise
    job_summary.write(directory, None, os.environ)
    return code


def _push(options: argparse.Namespace) -> int:
    from runner import runfile, show, supervise

    directory = Path(options.directory)
    recipe = runfile.read(directory).get("recipe")
    output = recipe.get("output") if isinstance(recipe, dict) else None
    if recipe is None or not isinstance(output, dict) or "hub" not in output:
        hint = "name the directory that `train` wrote to, such as `outputs/demo`"
        raise RecipeError(Problem(f"`{directory}` holds no run", hint=hint))
    supervise.push(directory, recipe, show.Watcher(_console()))
    return DONE


def _report(options: argparse.Namespace) -> int:
    from runner.report import page

    output = None if options.output is None else Path(options.output)
    print(errors.printable(str(page.write(Path(options.directory), os.environ, output))))
    return DONE


def _generate(options: argparse.Namespace) -> int:
    from runner import dialogue, machine, show_answers, subject

    numbers = (options.max_new_tokens, options.temperature, options.top_p, options.seed)
    manner = dialogue.manner(options.adapter_only, *numbers)
    if options.chat and options.prompt is not None:
        hint = "leave one of the two out"
        raise RecipeError(Problem("`--chat` asks for each prompt on the terminal", Place("--chat"), hint))
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if not options.chat and not (prompt and prompt.strip()):
        hint = f'`tunesmith generate {options.subject} "…"`, or `--chat` to be asked for it'
        raise RecipeError(Problem("there is no prompt", hint=hint))
    found = subject.find(options.subject, options.base, machine.here())
    console = _console()
    if not options.json:
        console.print(f"loading {found.plan.recipe.model.name} and the adapter", style="dim")
    with dialogue.answering(found, manner) as answerer:
        if options.chat:
            show_answers.chat(answerer, manner, options.system, console)
            return DONE
        asked = dialogue.turns(prompt, options.system) if options.system else prompt
        answers = answerer.ask(dict.fromkeys(manner.names, asked))
    if options.json:
        print(json.dumps({name: vars(answer) for name, answer in answers.items()}, ensure_ascii=False))
    else:
        show_answers.answers(answers, console)
    return DONE


def _evaluate(options: argparse.Namespace) -> int:
    from runner import evaluations, show
    from runner.evaluation_recipe import Asked

    asked = Asked(
        subject=options.subject,
        data=tuple(options.data),
        format=options.row_format,
        task=options.task,
        base=options.base,
        metrics=options.metrics,
        samples=options.samples,
        max_new_tokens=options.max_new_tokens,
        baseline=not options.no_baseline,
        output=options.output,
        overrides=tuple(options.set),
    )
    # Beside a JSON object, progress goes where errors go.
    directory = evaluations.run(asked, show.Watcher(_console(stderr=options.json)))
    if options.json:
        scores = json.loads((directory / "evaluation.json").read_text(encoding="utf-8"))
        print(json.dumps({"directory": str(directory), **scores}, ensure_ascii=False))
    else:
        show.result(directory, _console())
    return DONE


def _schema(options: argparse.Namespace) -> int:
    from runner.reading import schema_export

    print(json.dumps(schema_export.json_schema(), indent=2, ensure_ascii=False))
    return DONE


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, no_color=bool(os.environ.get("NO_COLOR")) or None, stderr=stderr)


def _colour(stream: Any) -> bool:
    """Colour on a terminal only, and never where NO_COLOR is set (https://no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


if __name__ == "__main__":
    sys.exit(main())
