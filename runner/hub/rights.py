"""What a token may do on the Hub, and sentences for what it may not.

In: a `Connection` and the name of a repository. Out: nothing, where the repository and the branch are there and may
be written to; they are created where they are missing. A `Refusal` that names the cause in any other case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from runner import recipe
from runner.errors import listed
from runner.hub.client import SET_TOKEN, Connection, Refusal, Trouble, understood

Person = Mapping[str, Any]  # what whoami answers


def whoami(connection: Connection) -> Person:
    """Whose token it is. Raises `Refusal` where the Hub does not accept it, or it can write nowhere."""
    with asking():
        person: Person = connection.api.whoami()
    if not isinstance(person, dict) or not isinstance(person.get("name"), str):
        raise Trouble("the answer is not one that a Hub gives")
    token = _access_token(person)
    if token.get("role") == "read":
        raise Refusal(f"the token of `{person['name']}` can only read", hint=SET_TOKEN)
    if token.get("role") == "fineGrained" and isinstance(rights := token.get("fineGrained"), dict):
        scopes = [scope.get("permissions") or () for scope in rights.get("scoped") or ()]
        given = {right for scope in (rights.get("global") or (), *scopes) for right in scope}
        if not any(right.startswith("repo.") and right.endswith("write") for right in given):
            raise Refusal(
                f"the fine-grained token of `{person['name']}` may write to no repository",
                hint="give it write access to the contents and settings of repositories; " + SET_TOKEN,
            )
    return person


def prepare(connection: Connection, hub: recipe.Hub, person: Person | None) -> None:
    """Create the repository and the branch where they are missing, and ask whether the token may write.

    `person` is the answer of whoami, or `None` to ask nothing about writing, where the commit will show it.
    """
    repository = hub.repository
    information = _look(connection, repository)
    if information is None:
        if person is not None:
            _check_owner(person, repository)
        try:
            with asking(repository, person):
                connection.api.create_repo(repository, private=hub.private)
        except Refusal as error:
            if error.status != 409:  # somebody was faster, or the answer to an earlier attempt was lost
                raise
        information = _look(connection, repository)
        if information is None:
            raise Trouble(f"`{repository}` was created, and the Hub does not show it yet")
    elif person is not None:
        _check_write(connection, repository, person)
    if hub.private and information.private is False:
        hint = f"make it private at {connection.endpoint}/{repository}/settings, or set `output.hub.private: false`"
        raise Refusal(f"`{repository}` is public, and the recipe asks for a private repository", hint=hint)
    if hub.revision != "main":
        _prepare_branch(connection, hub, person)


@contextmanager
def asking(repository: str = "", person: Person | None = None) -> Iterator[None]:
    """Around one call of the client: as `understood`, and a refusal names its cause where the status tells it."""
    try:
        with understood():
            yield
    except Refusal as error:
        who = f"the token of `{person['name']}`" if person else "the token"
        if error.status == 401:
            raise Refusal(f"the Hub does not accept the token: {error}", 401, SET_TOKEN) from error
        if error.status == 403:
            raise Refusal(f"{who} may not write to `{repository}`: {error}", 403, SET_TOKEN) from error
        if error.status == 404:
            hint = "check `output.hub`, and that the token can see the repository"
            raise Refusal(f"`{repository}` is not there, or {who} cannot see it: {error}", 404, hint) from error
        if error.status == 413:
            raise Refusal(f"the files are larger than the Hub takes: {error}", 413) from error
        raise


def _look(connection: Connection, repository: str) -> Any:
    """What the Hub knows about the repository, or None where it has none that this token can see."""
    try:
        with asking(repository):
            return connection.api.repo_info(repository)
    except Refusal as error:
        if error.status == 404:
            return None
        raise


def _prepare_branch(connection: Connection, hub: recipe.Hub, person: Person | None) -> None:
    with asking(hub.repository, person):
        branches = [branch.name for branch in connection.api.list_repo_refs(hub.repository).branches]
    if hub.revision in branches:
        return
    try:
        with asking(hub.repository, person):
            connection.api.create_branch(hub.repository, branch=hub.revision, exist_ok=True)
    except Refusal as error:
        if error.status != 400:
            raise
        hint = "set `output.hub.revision` to a name that a branch can have"
        raise Refusal(f"`{hub.revision}` is not a branch and cannot be made one: {error}", 400, hint) from error


def _check_owner(person: Person, repository: str) -> None:
    """Refuse to create a repository for an owner that whoami does not connect with the token."""
    owner = repository.split("/")[0]
    organisations = {entry.get("name"): entry for entry in person.get("orgs") or ()}
    if owner == person["name"]:
        return
    if owner not in organisations:
        own = listed([person["name"], *organisations])
        hint = f"set `output.hub.repository` to a name of one of: {own}"
        raise Refusal(f"`{owner}` is neither `{person['name']}` nor an organisation of theirs", hint=hint)
    if organisations[owner].get("roleInOrg") == "read":
        hint = "ask an administrator of the organisation for the role `write` or `contributor`"
        raise Refusal(f"`{person['name']}` may only read in the organisation `{owner}`", hint=hint)


def _check_write(connection: Connection, repository: str, person: Person) -> None:
    """Ask the Hub whether the token may write. A Hub that does not know the question leaves it to the commit."""
    try:
        with asking(repository, person):
            connection.api.auth_check(repository, write=True)
    except Refusal as error:
        if error.status != 404:
            raise


def _access_token(person: Person) -> Mapping[str, Any]:
    """What whoami says about the token itself; a token of another kind, such as OAuth, has nothing here."""
    authentication = person.get("auth")
    token = authentication.get("accessToken") if isinstance(authentication, dict) else None
    return token if isinstance(token, dict) else {}
