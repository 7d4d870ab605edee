"""Checkpoints of a run in, one commit each on a branch of the Hub out: a process beside the training.

    python -m runner.hub.checkpoints RUN_DIRECTORY

It is given the settings of `output.hub` as a line of JSON on standard input, then `finish` when no more checkpoints
will come, and ends by itself when that input does. What becomes of each checkpoint it tells as lines of JSON:
`{"pushed": step, "commit": …, "url": …}`, `{"passed_over": step}`, `{"failed": step, "fault": …}`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner import recipe, runfile, secrets
from runner.hub.client import Patience, Refusal, Trouble, connect
from runner.hub.files import fingerprints
from runner.hub.repository import Load, Pushed, send
from runner.hub.shelf import Shelf, Staged
from runner.rewards import confinement

RECORD = "pushed_checkpoints.json"
PATIENCE = Patience(deadline=60.0)  # with one checkpoint; then a newer one may be there
NICE = 10  # training comes first
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BEFORE_ANOTHER_TRY = 30.0

Tell = Callable[[dict[str, Any]], None]


def branch(hub: recipe.Hub) -> recipe.Hub:
    """Where checkpoints go: beside `main` to `checkpoints`, beside another branch to one that is named after it."""
    return replace(hub, revision="checkpoints" if hub.revision == "main" else f"{hub.revision}-checkpoints")


def main(run_directory: Path) -> None:
    """Push until told to finish, and then what still waits."""
    with suppress(OSError):
        os.nice(NICE)
    confinement.protect_from_rewards()
    hub = branch(recipe.Hub(**json.loads(sys.stdin.readline())))
    finish = threading.Event()
    threading.Thread(target=_obey, args=(finish,), daemon=True).start()
    shelf = Shelf(run_directory, _pushed_before(run_directory, hub), os.environ)
    threading.Thread(target=_watch, args=(shelf, finish), daemon=True).start()
    told = 0
    while True:
        finishing = finish.is_set()
        if finishing:
            shelf.look()
        staged = shelf.take()
        again = False
        if staged is not None:
            again = not _pushed(run_directory, hub, shelf, staged, _tell)
        for step in shelf.passed_over[told:]:
            told += 1
            _tell({"passed_over": step})
        if finishing and shelf.waiting is None:
            return
        if finishing and again:
            return
        finish.wait(SECONDS_BEFORE_ANOTHER_TRY if again else SECONDS_BETWEEN_LOOKS)


def _pushed(run_directory: Path, hub: recipe.Hub, shelf: Shelf, staged: Staged, tell: Tell) -> bool:
    """Push one checkpoint. False where another try may help."""
    try:
        files = fingerprints(staged.folder)
        with connect(os.environ, PATIENCE) as connection:
            title = f"Checkpoint of step {staged.step} of {run_directory.name}"
            pushed = send(connection, hub, Load(staged.folder, files, title), run_directory, lambda _: None)
    except Refusal as error:
        tell({"failed": staged.step, "fault": str(error)})
        if isinstance(error.__cause__, Trouble):
            shelf.give_back(staged)
            return False
    else:
        _note(run_directory, hub, staged.step, pushed)
        tell({"pushed": staged.step, "commit": pushed.commit, "url": pushed.url})
    shelf.drop(staged)
    return True


def _obey(finish: threading.Event) -> None:
    """Note the word to finish, and end with the supervisor whatever is under way."""
    for line in sys.stdin:
        if line.strip() == "finish":
            finish.set()
    os._exit(0)


def _watch(shelf: Shelf, finish: threading.Event) -> None:
    while not finish.wait(SECONDS_BETWEEN_LOOKS):
        shelf.look()


def _tell(line: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):
        print(json.dumps(line), flush=True)


def _pushed_before(run_directory: Path, hub: recipe.Hub) -> int:
    """The last step that this run has pushed to this branch; 0 for none."""
    try:
        step = json.loads((run_directory / RECORD).read_text(encoding="utf-8"))[_key(hub)]["step"]
    except (OSError, ValueError, LookupError, TypeError):
        return 0
    return step if isinstance(step, int) else 0


def _note(run_directory: Path, hub: recipe.Hub, step: int, pushed: Pushed) -> None:
    record = {_key(hub): {"step": step, "commit": pushed.commit}}
    with suppress(OSError):  # the next session then compares this step with the Hub, and finds it there
        runfile.write(run_directory / RECORD, json.dumps(record) + "\n")


def _key(hub: recipe.Hub) -> str:
    return f"{hub.repository}@{hub.revision}"


if __name__ == "__main__":
    with secrets.masked_output(os.environ):
        main(Path(sys.argv[1]))
