"""What the command line names in, a recipe that has been checked, and what is to be told of it, out."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from runner import guess
from runner.data import dataset, documents
from runner.errors import DataError, Place, Problem, RecipeError, RunError, listed
from runner.init import answers, columns, fitting, looking, models, proposals, writing
from runner.init.asking import Asker
from runner.init.fitting import Fit
from runner.init.looking import Looked
from runner.init.proposals import Wanted
from runner.init.writing import Draft
from runner.machine import Machine
from runner.reading import check, source
from runner.recipe import Recipe

MOST_BYTES = 256 * 2**20  # of data that is checked to its last row
SHARES = ((200, 0.2), (2000, 0.1), (10_000, 0.05))  # rows below which so much is held out
SHARE = 0.02  # of more
STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class Asked:
    """The command line. What is None is guessed."""

    paths: tuple[str, ...]
    task: str | None = None
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    name: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class Drafted:
    """A recipe to be written to `output`, and what there is to say of it: each a word and a sentence."""

    text: str
    output: str
    task: str
    notes: list[tuple[str, str]]


def draft(asked: Asked, asker: Asker, machine: Machine) -> Drafted:
    """A recipe for the data. Raises DataError or RecipeError, also for one that could not be checked."""
    looked = looking.look(asked.paths)
    held = columns.of_rows(looked.rows)
    found = _fits(looked, held, asked, asker)
    by_task: dict[str, Fit] = {}
    for each in found:
        by_task.setdefault(each.proposal.task, each)
    task = found[0].proposal.task
    if len(by_task) > 1:
        meanings = {name: _meaning(each) for name, each in by_task.items()}
        task = asker.choice("what the model is to be trained for", meanings, task)
    chosen = by_task[task]
    answered = answers.of(chosen.proposal, chosen.examples)
    default_model, why = models.default(task, machine)
    model = asked.model or asker.text("base model", default_model)
    name = asked.name or _name(looked.train[0])
    output = asked.output or f"{name}.yaml"
    place = os.path.join(os.getcwd(), "recipe.yaml") if output == STANDARD_OUTPUT else output
    if any(os.path.exists(place) and os.path.samefile(place, path) for path in looked.files):
        raise RecipeError(Problem(f"`{output}` is one of the data files", Place("--output"), "name another file"))
    rows = sum(not row.more for row in looked.rows)
    apart = any(row.split == "evaluation" for row in looked.rows)
    share = None if apart or looked.evaluation or rows < 2 else _share(rows)
    made = Draft(
        name=name,
        proposal=chosen.proposal,
        model=writing.relative(model, place),
        why_model=why if model == default_model else "",
        train=tuple(writing.relative(path, place) for path in looked.train),
        evaluation=tuple(writing.relative(path, place) for path in looked.evaluation) or share,
        held_out=max(round(rows * share), 1) if share else 0,
        answers=answered,
        rows=looked.total,
        skip=len(chosen.problems) + len(looked.faults),
        longer=_longer(chosen),
        model_on_disk=os.path.exists(os.path.expanduser(model)),
        shows_tools=models.shows_tools(model) if task == "function_calling" else None,
    )
    made, whole = _checked(made, place, looked)
    told = _notes(made, looked, chosen, held, whole)
    others = [f"`--task {name}`" for name in by_task if name != task]
    if others and task != "function_calling":
        told.append(("also", f"{' and '.join(others)} could be made of these rows"))
    return Drafted(writing.text(made), output, task, told)


def _fits(looked: Looked, held: list[columns.Column], asked: Asked, asker: Asker) -> list[Fit]:
    """The ways to read the rows; where the columns do not tell, whoever sits at the terminal is asked for them."""
    wanted = Wanted(asked.task, asked.format, asked.columns)
    offered = proposals.propose(held, wanted)
    if not offered and not asked.columns and looking.mixed(looked.rows) is None:
        names = {each.name: f"as in: {_example(looked, each)}" for each in held if each.kind == "text"}
        if asker.read is not None and len(names) > 1:
            prompt = asker.choice("the column that asks", names, next(iter(names)))
            others = {name: meaning for name, meaning in names.items() if name != prompt}
            completion = asker.choice("the column that answers", others, next(iter(others)))
            wanted = replace(wanted, columns={"prompt": prompt, "completion": completion})
            offered = proposals.propose(held, wanted)
    if not offered and (asked.task or asked.format):
        possible = proposals.propose(held, Wanted(columns=asked.columns))
        if possible:
            flag, value = ("--task", asked.task) if asked.task else ("--format", asked.format)
            could = dict.fromkeys(each.task for each in possible)
            hint = f"they could be for {listed(could)}, since {possible[0].because}"
            message = (
                f"the rows cannot be read for `{flag} {value}`; they have {listed([each.name for each in held][:10])}"
            )
            raise RecipeError(Problem(message, Place(flag), hint))
    return fitting.fitting(looked.rows, offered, held)


def _checked(made: Draft, place: str, looked: Looked) -> tuple[Draft, str]:
    """The draft, and what its check found of the data. What a recipe would be refused for is raised here."""

    def settle(draft: Draft) -> Recipe:
        return check.settle(source.recipe(writing.text(draft), place), place)

    try:
        os.makedirs(os.path.dirname(place) or ".", exist_ok=True)
    except OSError as error:
        raise RunError(Problem(f"cannot make the folder of `{place}`: {(error.strerror or '').lower()}")) from error
    settled = settle(made)
    if looked.bytes > MOST_BYTES:
        return made, f"only {looked.total} rows were looked at; `tunesmith validate --data` reads all"
    try:
        return made, _counted(settled)
    except DataError as error:
        if made.skip or any(problem.place is None or not problem.place.line for problem in error.problems):
            raise
        made = replace(made, skip=error.total, counted=False)
        return made, _counted(settle(made))


def _counted(recipe: Recipe) -> str:
    """How many rows there are of each split, by the reader that a run has. Raises DataError."""
    if recipe.task == "continued_pretraining":
        found = documents.survey(recipe.dataset, recipe.training.seed).documents
        return f"{_many(found['train'], 'document')} to train on, {found['evaluation']} held out"
    data = dataset.read(recipe.dataset, recipe.training.seed)
    return f"{_many(len(data.train), 'row')} to train on, {len(data.evaluation)} held out"


def _notes(made: Draft, looked: Looked, chosen: Fit, held: list[columns.Column], whole: str) -> list[tuple[str, str]]:
    proposal = chosen.proposal
    notes = [("data", whole), ("task", f"`{proposal.task}`, since {proposal.because}")]
    if wrong := [*looked.faults, *chosen.problems]:
        notes.append(
            ("skipped", f"{len(wrong)} of {looked.total} rows; the first, `{wrong[0].place}`: {wrong[0].message}")
        )
    if made.longer:
        notes.append(("long", f"rows of more than {writing.LONGEST} tokens are left out: about {made.longer}"))
    unused = [each.name for each in held if each.name not in proposal.used and each.parts[0] not in proposal.used]
    if unused and proposal.task != "grpo":
        notes.append(("not used", listed(unused[:10]) + (f" and {len(unused) - 10} more" if len(unused) > 10 else "")))
    notes.append(
        ("model", f"`{made.model}`" + (f", {made.why_model}; `--model` names another" if made.why_model else ""))
    )
    if made.answers is not None and proposal.task == "grpo":
        paid = listed(reward["use"] for reward in made.answers.rewards)
        why = (
            "which look at the form alone"
            if made.answers.doubt == answers.FORM_ALONE
            else f"since answers are {made.answers.what}"
        )
        notes.append(("rewards", f"{paid}, {why}"))
    elif made.answers is not None:
        notes.append(("measured", f"{listed(made.answers.metrics)}, since answers are {made.answers.what}"))
    doubts = [*proposal.doubts, *([made.answers.doubt] if made.answers and made.answers.doubt else [])]
    if made.evaluation is None and not any(row.split for row in looked.rows):
        doubts.append("one row cannot be parted into two: nothing is held out, and so nothing measured")
    return [*notes, *(("not known", doubt) for doubt in doubts)]


def _meaning(found: Fit) -> str:
    meanings = {
        "sft": "learn the answers that the rows give",
        "function_calling": "learn to call tools as the rows do",
        "grpo": "sample answers, and learn from what rewards pay for them",
        "continued_pretraining": "learn the text, every token of it",
    }
    return f"{meanings[found.proposal.task]}; {found.proposal.because}"


def _example(looked: Looked, column: columns.Column) -> str:
    value: object = looked.rows[0].values
    for part in column.parts:
        value = value.get(part) if isinstance(value, dict) else None
    return " ".join(str(value).split())[:60]


def _longer(chosen: Fit) -> int:
    """How many rows are likely too long for a small machine, where the task has rows of their own length."""
    if chosen.proposal.task not in ("sft", "function_calling"):
        return 0
    return sum(guess.guessed_tokens(example) > writing.LONGEST for example in chosen.examples)


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _share(rows: int) -> float:
    return next((share for below, share in SHARES if rows < below), SHARE)


def _name(path: str) -> str:
    """A run's name from the first file's, or from its folder's where the file is called after its role."""
    path = os.path.abspath(os.path.expanduser(path))
    stem = re.sub(r"[*?\[\]]+", "", os.path.splitext(os.path.basename(path))[0])
    if stem.lower() in ("", "train", "data", "rows"):
        stem = os.path.basename(os.path.dirname(path)) or stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")[:96] or "recipe"
