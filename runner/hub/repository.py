"""A finished run in, one commit on the Hugging Face Hub out; and, before training, the proof that it will be taken.

`preflight` finds what would stop the push while nothing has been paid for yet. `push` sends the adapter, and holds
to three things: the adapter on disk is never touched, the same files pushed again make no second commit, and what
it reports as pushed has been read back. What the client does of itself, and what is done about it: `client.py`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from runner import recipe
from runner.errors import Problem, PushError, RecipeError, RunError, UserError, listed
from runner.hub.client import Connection, Patience, Refusal, Trouble, connect, persist
from runner.hub.files import Fingerprint, changes, fingerprints, remember, remembered
from runner.hub.rights import asking, prepare, whoami

MAY_BE_PUSHED = ("done", "not_pushed", "pushing")  # the last where a push was killed
BEFORE_TRAINING = Patience(silence=20.0, answer=40.0, deadline=60.0)
WITHOUT_HUB = "or take `output.hub` out of the recipe, and push later with `tunesmith push`"


@dataclass(frozen=True)
class Pushed:
    """Where the adapter is: `url` of the repository, `commit` that holds it, and whether it was there already."""

    url: str
    commit: str
    unchanged: bool


def _silently(message: str) -> None:
    """Announces nothing."""


def preflight(hub: recipe.Hub, environment: Mapping[str, str], patience: Patience = BEFORE_TRAINING) -> None:
    """Make sure that this token may push to this repository, which is created where it is missing.

    To create it is the only proof of the right to create it; where it is there already, the Hub is asked whether
    the token may write. A missing branch is created too. Raises `RecipeError` for what the person has to change
    (no token, one that may not write, a wrong owner, a public repository that should be private), and `RunError`
    where the Hub cannot be asked.
    """
    try:
        with connect(environment, patience) as connection:
            person = persist(lambda: whoami(connection), patience, _silently)
            persist(lambda: prepare(connection, hub, person), patience, _silently)
    except Refusal as error:
        if isinstance(error.__cause__, Trouble):
            raise RunError(Problem(f"cannot check the push: {error}", hint=f"try again, {WITHOUT_HUB}")) from error
        hint = error.hint or f"change `output.hub`, {WITHOUT_HUB}"
        raise RecipeError(Problem(f"cannot push to `{hub.repository}`: {error}", hint=hint)) from error


def push(
    run_directory: Path,
    hub: recipe.Hub,
    environment: Mapping[str, str],
    announce: Callable[[str], None] = _silently,
    *,
    check_status: bool = True,
    patience: Patience | None = None,
) -> Pushed:
    """Push `run_directory/adapter`, all of it and nothing else, as one commit.

    Files go through `create_commit` and LFS, as open files so that the client cannot choose its other path, xet:
    that one sends the commit again by itself when an answer is lost, and so makes the same commit twice; LFS sends
    it once. The retry is here instead: each attempt first compares the Hub with the disk, so a commit whose answer
    was lost is found, and names the parent it expects, so a commit that is still under way makes the Hub refuse the
    second with 412. Files that an earlier push of this run left there, and that are gone from the disk, are removed;
    files of other people stay.

    `check_status=False` is for the supervisor, which pushes before it writes the status. `announce` is given one
    line for each thing worth a line. Raises `PushError` where the push failed and the adapter is safe, and
    `UserError` where there is no finished run to push.
    """
    if check_status:
        _check_finished(run_directory)
    adapter = run_directory / "adapter"
    try:
        files = fingerprints(adapter)
        with connect(environment, patience or Patience()) as connection:
            masked = connection.masked

            def say(message: str) -> None:
                announce(masked(message))

            load = Load(adapter, files, f"Push {run_directory.name} with Tunesmith")
            pushed = send(connection, hub, load, run_directory, say)
            say(
                f"nothing to push: {pushed.url} has these files already"
                if pushed.unchanged
                else f"pushed to {pushed.url}"
            )
            return pushed
    except Refusal as error:
        todo = f"the adapter is safe at `{adapter}`; to push it, run `tunesmith push {run_directory}`"
        hint = f"{error.hint}; {todo}" if error.hint else todo
        raise PushError(Problem(f"not pushed to `{hub.repository}`: {error}", hint=hint)) from error


@dataclass(frozen=True)
class Load:
    """What one push sends: the files of a folder, all of them and nothing else, under a title."""

    folder: Path
    files: Mapping[str, Fingerprint]
    title: str


def send(
    connection: Connection, hub: recipe.Hub, load: Load, run_directory: Path, announce: Callable[[str], None]
) -> Pushed:
    """Make a branch hold a folder's files, as `push` tells it; what was sent is noted in the run's directory.

    Raises `Refusal`.
    """
    url = f"{connection.endpoint}/{hub.repository}" + ("" if hub.revision == "main" else f"/tree/{hub.revision}")
    files, earlier = load.files, remembered(run_directory, hub)
    sent = False

    def attempt() -> Pushed:
        nonlocal sent
        prepare(connection, hub, None)
        head, there = _remote(connection, hub, hub.revision)
        add, remove = changes(files, there, earlier)
        if not add and not remove:
            return Pushed(url, head, unchanged=not sent)
        megabytes = sum(files[path].size for path in add) / 1e6
        announce(f"pushing {len(add)} of {len(files)} files ({megabytes:.1f} MB) to {url}")
        sent = True
        commit = _commit(connection, hub, load, add, remove, head, announce)
        _, there = _remote(connection, hub, commit)
        wrong, left = changes(files, there, earlier)
        if wrong or left:
            raise Refusal(f"commit `{commit}` was made, and does not hold what was sent: {listed([*wrong, *left])}")
        return Pushed(url, commit, unchanged=False)

    # Before the push, because a push that is cut off may have left files there all the same.
    remember(run_directory, hub, {**earlier, **files}, announce)
    pushed = persist(attempt, connection.patience, announce)
    remember(run_directory, hub, files, announce)
    return pushed


def _remote(connection: Connection, hub: recipe.Hub, revision: str) -> tuple[str, dict[str, Fingerprint]]:
    """The commit that a revision stands for, and the files in it."""
    from huggingface_hub.hf_api import RepoFile

    api = connection.api
    with asking(hub.repository):
        commit = str(api.repo_info(hub.repository, revision=revision).sha)
        tree = list(api.list_repo_tree(hub.repository, revision=commit, recursive=True))
    there = {}
    for entry in tree:
        if isinstance(entry, RepoFile):
            # The blob of an LFS file is that of its pointer, and says nothing about the file.
            sha256, blob = (entry.lfs.sha256, None) if entry.lfs else (None, entry.blob_id)
            there[entry.path] = Fingerprint(entry.size, sha256, blob)
    return commit, there


def _commit(
    connection: Connection,
    hub: recipe.Hub,
    load: Load,
    add: list[str],
    remove: list[str],
    parent: str,
    announce: Callable[[str], None],
) -> str:
    """Make one commit on top of `parent`, and return its id."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    with ExitStack() as stack, warnings.catch_warnings(record=True) as remarks:
        try:
            with asking(hub.repository):
                opened = [(path, stack.enter_context((load.folder / path).open("rb"))) for path in add]
                commit = connection.api.create_commit(
                    hub.repository,
                    [
                        *(CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in opened),
                        *(CommitOperationDelete(path_in_repo=path, is_folder=False) for path in remove),
                    ],
                    commit_message=load.title,
                    revision=hub.revision,
                    parent_commit=parent,
                )
        except Refusal as error:
            if error.status in {409, 412}:
                raise Trouble("the branch has moved while the push was under way") from error
            raise
    for remark in remarks:
        if issubclass(remark.category, UserWarning):
            announce(" ".join(str(remark.message).split()))
    return str(commit.oid)


def _check_finished(run_directory: Path) -> None:
    """Refuse a run that has not ended well: an unfinished adapter must not pass for a finished one."""
    file = run_directory / "run.json"
    try:
        status = json.loads(file.read_text("utf-8"))["status"]
    except FileNotFoundError:
        hint = "name the directory that `tunesmith train` wrote to"
        problem = Problem(f"`{run_directory}` has no `run.json`: it is not the directory of a run", hint=hint)
        raise UserError(problem) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(Problem(f"`{file}` cannot be read as the record of a run")) from error
    if status not in MAY_BE_PUSHED:
        hint = "run the same `tunesmith train` again to finish it"
        raise UserError(Problem(f"the run in `{run_directory}` is `{status}`: there is nothing to push", hint=hint))
