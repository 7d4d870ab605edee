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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import arguments, errors, secrets
from runner.errors import DONE, FAILED, Place, Problem, RecipeError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from runner.reading.source import Source
    from runner.recipe import Recipe


def main(given: Sequence[str] | None = None) -> int:
    """Run one verb; gives the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what cannot be encoded is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    with secrets.masked_output(os.environ):
        return _main(given)


def _main(given: Sequence[str] | None) -> int:
    options = arguments.parser().parse_args(given)
    try:
        code = VERBS[options.verb](options)
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


def _recipe(path: str, options: argparse.Namespace) -> tuple[Recipe, Source]:
    """The recipe in a file with what the command line lays over it, and where its values stand. Raises RecipeError."""
    from runner.reading import check, overrides, source

    written = overrides.apply(source.read(path), options.set)
    return check.settle(written, path), written


def _init(options: argparse.Namespace) -> int:
    from runner import show_drafts
    from runner.init import shipped

    if options.list:
        show_drafts.listing(shipped.recipes(), _console())
    elif not options.files:
        hint = "`tunesmith init rows.jsonl` writes a recipe for a file, `tunesmith init --list` shows those that ship"
        raise RecipeError(Problem("no data is named", hint=hint))
    elif len(options.files) == 1 and shipped.is_one(options.files[0]):
        show_drafts.write_shipped(options, _console())
    else:
        show_drafts.write_draft(options, _console(stderr=options.output == "-"))
    return DONE


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
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    from runner import machine, supervise

    row = 1 if options.row is None else options.row
    if row < 1:
        raise RecipeError(Problem(f"there is no row {row}", Place("--row"), "rows are counted from 1"))
    if options.row is not None and options.html is not None:
        raise RecipeError(Problem("`--html` shows all rows", Place("--row"), "leave one of the two out"))
    recipe, places = _recipe(options.recipe, options)
    settled = supervise.settle(recipe, places, machine.here(), None)
    if options.html is not None:
        from runner import preview_page

        written = preview_page.write(settled, Path(options.html or f"{recipe.name}-preview.html"))
        print(errors.printable(str(written)))
        return DONE
    from runner import preview

    preview.show(settled, row, _console())
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
    from runner import changes, job_summary, nodes, show, supervise, time_limit

    directory = None
    changes.check(options.allow_change)
    limit = time_limit.find(options.time_limit, os.environ)
    among = nodes.find(options.nodes, options.node_rank, options.rendezvous, os.environ)
    try:
        recipe, places = _recipe(options.recipe, options)
        directory = Path(recipe.output.directory) / recipe.name
        console = _console()
        for text in options.set:
            console.print(f"set on the command line: {text}", soft_wrap=True)
        code = supervise.train(recipe, places, show.Watcher(console), among, limit, tuple(options.allow_change))
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
    print(errors.printable(str(page.write(Path(options.directory), os.environ, output, _price(options)))))
    return DONE


def _compare(options: argparse.Namespace) -> int:
    from runner.compare import comparison, page, runs

    price = _price(options)
    found = comparison.make(runs.read([Path(each) for each in options.directories], os.environ), price)
    if options.html is not None:
        page.write(found, Path(options.html), os.environ)
    if options.json:
        print(json.dumps(comparison.as_json(found), indent=2, ensure_ascii=False))
        return DONE
    from runner import show_compare

    show_compare.comparison(found, _console())
    if options.html is not None:
        print(errors.printable(options.html))
    return DONE


def _watch(options: argparse.Namespace) -> int:
    from runner import show, watch

    directory = Path(options.directory)
    if options.serve is not None:
        from runner import serve

        serve.run(directory, options.serve, lambda address: print(errors.printable(address), flush=True))
        return DONE
    watch.follow(directory, show.Watcher(_console()))
    show.result(directory, _console())
    return DONE


def _price(options: argparse.Namespace) -> float | None:
    price: float | None = options.price
    if price is not None and not 0 <= price < float("inf"):
        hint = "give it as a number, such as `--price 2.5`"
        raise RecipeError(Problem(f"`{price}` is no price", Place("--price"), hint))
    return price


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
    from runner.reading import reference, schema_export

    if options.markdown:
        print(reference.text(), end="")
        return DONE
    print(json.dumps(schema_export.json_schema(), indent=2, ensure_ascii=False))
    return DONE


def _completion(options: argparse.Namespace) -> int:
    from runner import completion

    print(completion.script(options.shell, arguments.parser()), end="")
    return DONE


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, no_color=bool(os.environ.get("NO_COLOR")) or None, stderr=stderr)


def _colour(stream: Any) -> bool:
    """Colour on a terminal only, and never where NO_COLOR is set (https://no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "init": _init,
    "validate": _validate,
    "plan": _plan,
    "doctor": _doctor,
    "preview": _preview,
    "rewards": _check_rewards,
    "train": _train,
    "push": _push,
    "report": _report,
    "compare": _compare,
    "watch": _watch,
    "generate": _generate,
    "evaluate": _evaluate,
    "schema": _schema,
    "completion": _completion,
}


if __name__ == "__main__":
    sys.exit(main())
