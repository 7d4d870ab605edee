"""One run from its recipe to its adapter: settle, check, start the workers, watch, push, and say how it ended.

This process never imports torch. What it knows of a run is in the output directory, so that the same command after any
end goes on from there, or says that nothing is left to do.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from runner import (
    architecture,
    changes,
    checkpoint,
    continued,
    errors,
    fetch,
    follow,
    machine,
    planfile,
    provenance,
    publishing,
    remedies,
    runfile,
    scoring,
    secrets,
    sharding,
    time_limit,
    trackers,
    workers,
)
from runner import plan as plans
from runner.choices import Conflict, Rows
from runner.doctor import examination, finding, needs
from runner.errors import (
    DONE,
    Halted,
    Interrupted,
    OutOfMemory,
    Place,
    Problem,
    PushError,
    RecipeError,
    UserError,
)
from runner.holding import alone
from runner.hub import repository, result_card
from runner.lead import Lead
from runner.nodes import Nodes
from runner.plan import Plan
from runner.reading.source import Source, closest
from runner.recipe import Hub, Recipe
from runner.report import page
from runner.rewards import confinement
from runner.show import Watcher
from runner.signals import Signals, stop
from runner.stopping import never
from runner.time_limit import Limit, Pace
from runner.workers import Stage, World

ENDING = 300.0  # seconds that an earlier start of a job may still hold its directory
TRAINED = ("done", "pushing", "not_pushed")  # what `run.json` says of a run that only has to be pushed, if anything


def settle(recipe: Recipe, places: Source, where: machine.Machine, rows: Rows | None) -> Plan:
    """The plan for a recipe on a machine. Raises RecipeError, with its place, for what cannot be done there."""
    try:
        shape = architecture.read(recipe.model.name, recipe.model.revision)
    except architecture.UnreadableModel as error:
        raise RecipeError(Problem(str(error), _place(places, ("model", "name")), error.hint)) from error
    try:
        recipe = replace(recipe, adapter=continued.settings(recipe.adapter))
        sharding.check(recipe.deepspeed.config)
        return plans.make(recipe, where, shape, rows)
    except Conflict as conflict:
        raise RecipeError(Problem(conflict.message, _place(places, conflict.path), conflict.hint)) from conflict


def train(
    recipe: Recipe,
    places: Source,
    watcher: Watcher,
    nodes: Nodes | None = None,
    limit: Limit | None = None,
    allowed: tuple[str, ...] = (),
) -> int:
    """Carry a recipe out, from wherever an earlier run of it ended. Raises UserError with its own exit code.

    `allowed` names settings that may have changed since then.

    On a node that is not the first of several, its share of the training is done, and all else waited for.
    """
    nodes = nodes or Nodes()
    facts = {
        "versions": provenance.versions(),
        "recipe": _comparable(asdict(recipe)) | {"output": recipe.output.directory},
        "devices": [[device.name, device.memory] for device in machine.here().devices],
    }
    if nodes.rank:
        return follow.run(recipe, nodes, facts, watcher.say)
    signals = Signals()
    with Lead(nodes, facts, signals, watcher.say) as lead:
        lead.gather()
        return _train(recipe, places, watcher, Session(signals, lead, nodes, limit, allowed))


@dataclass(frozen=True)
class Session:
    """What a run is told by while it goes on: signals, other nodes, the clock."""

    signals: Signals
    lead: Lead
    nodes: Nodes
    limit: Limit | None
    allowed: tuple[str, ...] = ()
    pace: Pace = field(default_factory=Pace)

    def machine(self) -> machine.Machine:
        """Where the run takes place."""
        return replace(machine.here(), nodes=self.nodes.count)

    def leave(self, error: Interrupted, directory: Path | None = None) -> NoReturn:
        """End this process here; `directory` is that of a run which is trained and not pushed.

        Nothing is raised: what is under way would wait for its threads, longer than a container is given.
        """
        if directory is not None:
            runfile.end(directory, "not_pushed", error)
        self.lead.end(error)
        os.write(sys.stderr.fileno(), f"{secrets.redact(errors.report(error), os.environ)}\n".encode())
        if directory is not None:
            page.attempt(directory, os.environ, lambda _: None)
        os._exit(error.exit_code)


def _train(recipe: Recipe, places: Source, watcher: Watcher, session: Session) -> int:
    with session.signals.ending(session.leave):
        if not Path(recipe.model.name).exists():
            watcher.say(f"getting {recipe.model.name} from the Hub, unless it is here")
        fetch.needed(recipe)
    where = session.machine()
    plan = settle(recipe, places, where, None)
    trackers.check(recipe.tracking, os.environ, Path.cwd(), machine.importable, lambda path: _place(places, path))
    directory = Path(plan.directory)
    confinement.protect_from_rewards()
    # A job that SLURM has started again may find its predecessor still ending, such as a container or on a lost node.
    patience = ENDING if os.environ.get("SLURM_RESTART_COUNT") else 0.0
    with alone(directory, patience=patience), ExitStack() as stack:
        before = runfile.read(directory)
        if _has_changed(before, plan.recipe, directory, session.allowed):
            before = {**before, "status": "training"}
        target = asdict(recipe.output.hub) if recipe.output.hub else None
        if before.get("status") == "done" and target in (None, before.get("pushed_to")):
            watcher.say(f"{directory} holds the finished run of this recipe: nothing to do")
            return DONE
        if recipe.output.hub and before.get("status") not in TRAINED:  # what is trained is pushed, and not asked about
            with session.signals.ending(session.leave):
                repository.preflight(recipe.output.hub, os.environ)
        stack.callback(page.attempt, directory, os.environ, watcher.say)  # at every end
        if before.get("status") not in TRAINED:
            for line in _surroundings(plan, where):
                watcher.say(line)
            _keep_time(plan, before, session, watcher, stack)
            _run(plan, places, directory, session, watcher)
        if recipe.output.hub:
            result_card.write(plan, directory, os.environ)  # it names the repository
            with session.signals.ending(lambda error: session.leave(error, directory)):
                _push(recipe.output.hub, directory, watcher)
        runfile.update(directory, status="done", exit_code=DONE)
    return DONE


def _keep_time(plan: Plan, before: Mapping[str, Any], session: Session, watcher: Watcher, stack: ExitStack) -> None:
    """Have the run told to stop before its limit, by what it measures and an earlier session has measured."""
    limit, pace = session.limit, session.pace
    pace.boundary = plan.recipe.grpo.num_iterations if plan.recipe.grpo else 1
    pace.parameters = plan.trainable or 0
    pace.remember(before.get("pace"))
    if limit is None:
        return
    pace.training = before.get("status") not in ("evaluating", "pushing")
    time_limit.check(limit, pace)
    watcher.say(f"time: stops by itself before {limit.name} is over")
    over = threading.Event()
    threading.Thread(target=time_limit.watch, args=(limit, pace, session.signals.stop, over), daemon=True).start()
    stack.callback(over.set)


def _surroundings(plan: Plan, where: machine.Machine) -> list[str]:
    """Where the run takes place in three lines, and a warning for each thing there that it will suffer from."""
    disk = (plan.checkpoint or 0) * plan.checkpoints
    wanted = replace(needs.of(plan.recipe, where), processes=plan.processes, disk=disk)
    lines, suffered = examination.at_start(finding.here(), where, wanted)
    return lines + [
        f"warning: {each.name}: {each.found}" + (f"; {each.hint}" if each.hint else "") for each in suffered
    ]


def push(directory: Path, recipe_of: Mapping[str, Any], watcher: Watcher) -> None:
    """Push a finished run's adapter again. Raises PushError."""
    hub_settings = recipe_of["output"]["hub"]
    if hub_settings is None:
        raise RecipeError(
            Problem(f"the recipe of `{directory}` names no repository", hint="set `output.hub.repository` and run it")
        )
    with alone(directory):
        pushed = repository.push(directory, Hub(**hub_settings), os.environ, watcher.say)
        runfile.update(directory, status="done", exit_code=DONE, hub=asdict(pushed), pushed_to=hub_settings)
        page.attempt(directory, os.environ, watcher.say)
    watcher.say(f"{'nothing new to push' if pushed.unchanged else 'pushed'}: {pushed.url}")


def _run(plan: Plan, places: Source, directory: Path, session: Session, watcher: Watcher) -> None:
    """Prepare, train, evaluate. Every end is written to `run.json` before it is raised."""
    runfile.update(
        directory,
        status="preparing",
        exit_code=None,
        name=plan.recipe.name,
        started=runfile.read(directory).get("started") or provenance.now(),
        recipe=asdict(plan.recipe),
        overrides=list(places.overrides),
        versions=provenance.versions(),
        commit=provenance.commit(Path(plan.recipe.file)),
        model={"name": plan.recipe.model.name, "revision": plan.recipe.model.revision},
    )
    runfile.write(directory / "recipe.yaml", secrets.redact("\n".join(places.lines), os.environ))
    try:
        plan = _stages(plan, places, directory, session, watcher)
    except UserError as error:
        runfile.end(directory, "interrupted" if isinstance(error, Interrupted) else "failed", error)
        raise
    finally:
        watcher.close()
    result_card.write(plan, directory, os.environ)


def _stages(plan: Plan, places: Source, directory: Path, session: Session, watcher: Watcher) -> Plan:
    """The three stages, each in processes of its own; gives the plan as it was carried out."""
    seen: dict[str, Any] = {}

    def note(event: dict[str, Any]) -> None:
        seen[event["event"]] = event
        session.pace.note(event)
        watcher(event)

    lead = session.lead

    def stage(name: str, settled: Plan, world: World | None = None) -> None:
        session.pace.training = name == "train"
        runfile.write(directory / "plan.json", planfile.to_json(settled))
        processes = settled.processes_here if name == "train" else 1
        needed = lead.failed if name != "evaluate" else never  # what is trained needs no other node any more
        started = time.monotonic()
        try:
            patience = settled.recipe.training.stall_timeout if name == "train" else None
            begun = Stage(name, processes, settled.device, directory, world, patience)
            workers.run(begun, session.signals, note, needed)
        finally:
            timings = runfile.read(directory).get("timings", {})
            timings[name] = round(timings.get(name, 0.0) + time.monotonic() - started, 2)
            runfile.update(directory, timings=timings, pace=session.pace.state)

    def order(what: str, *files: str, **facts: Any) -> None:
        if lead.others:
            lead.order(what, directory=str(directory), sums=follow.sums(directory, files), **facts)

    order("look", "recipe.yaml", "run.json")
    lead.done()
    rewards = (*plan.recipe.rewards, *plan.recipe.evaluation.rewards)
    if any(reward.requirements or reward.requirements_file for reward in rewards):
        watcher.say("preparing: installing what the rewards require, unless it is there")
        with session.signals.ending(stop):
            scoring.install(plan.recipe, directory)
    watcher.say("preparing: reading the data, loading the tokenizer")
    try:
        stage("prepare", plan)
    except Halted:
        lead.done()  # which says whose fault it was
        raise
    facts = seen["prepared"]
    longest = max(facts["train"]["longest"], facts["evaluation"]["longest"])
    rows = Rows(facts["train"]["rows"], facts["evaluation"]["rows"], longest, tuple(facts["lengths"]))
    plan = replace(settle(plan.recipe, places, session.machine(), rows), allowed=session.allowed)
    if plan.recipe.training.early_stopping and not rows.evaluation:
        raise RecipeError(
            Problem(
                "`training.early_stopping` needs held-out rows, and there are none",
                _place(places, ("training", "early_stopping")),
                "set `dataset.evaluation`, or give rows the `split` `evaluation`",
            )
        )
    runfile.update(directory, status="training", data=facts["data"])
    runfile.write(directory / "plan.json", planfile.to_json(plan))
    order("fetch", "plan.json", "prepared/prepared.json")
    lead.done()
    watcher.say("training: loading the model")
    with publishing.beside(plan.recipe.output.hub, directory, watcher.say, session.signals) as pushes:
        try:
            _train_everywhere(plan, session, order, stage)
        except OutOfMemory as error:
            where = session.machine()
            raise remedies.told(error, plan, lambda recipe: settle(recipe, places, where, rows)) from error
        pushes.finish()
        runfile.update(directory, status="evaluating", rewards=scoring.hashes(plan.recipe))
        watcher.say("evaluating: reading the adapter back")
        stage("evaluate", plan)
    runfile.update(directory, result=seen["reloaded"] | {"event": None})
    return plan


def _train_everywhere(
    plan: Plan, session: Session, order: Callable[..., None], stage: Callable[[str, Plan, World | None], None]
) -> None:
    """The training stage on all nodes. Raises the fault that ended it, wherever it was."""
    world = None
    if session.nodes.count > 1:
        world = World(plan.processes, 0, session.nodes.host, workers.free_port(""))
        order("train", "plan.json", "prepared/prepared.json", port=world.port)
    own: UserError | None = None
    try:
        stage("train", plan, world)
    except UserError as error:
        own = error
    session.lead.trained(own)


def _push(target: Hub, directory: Path, watcher: Watcher) -> None:
    runfile.update(directory, status="pushing")
    page.attempt(directory, os.environ, watcher.say)
    try:
        pushed = repository.push(directory, target, os.environ, watcher.say, check_status=False)
    except PushError as error:
        runfile.end(directory, "not_pushed", error)
        raise
    runfile.update(directory, hub=asdict(pushed), pushed_to=asdict(target))
    watcher.say(f"pushed: {pushed.url}")


def _has_changed(before: Mapping[str, Any], recipe: Recipe, directory: Path, allowed: tuple[str, ...]) -> bool:
    """Whether a finished run is to be gone on with, with settings that may change. Raises RunError for others: nothing
    is written over a finished run."""
    if before.get("status") not in TRAINED:
        return False
    changed = checkpoint.differences(
        _comparable(before["recipe"]), _comparable(secrets.cleaned(asdict(recipe), os.environ))
    )
    changes.judge(f"`{directory}` holds the finished run of another recipe; these differ", changed, allowed)
    return bool(changed)


def _comparable(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values as JSON gives them back, less what does not change the adapter."""
    values: dict[str, Any] = json.loads(json.dumps(recipe))
    for key in ("file", "output", "tracking"):
        values.pop(key, None)
    return values


def _place(places: Source, path: tuple[str, ...]) -> Place | None:
    written = closest(places.places, path)
    return written.value if written else Place(places.file)
