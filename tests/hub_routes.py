"""The Hub's protocol for the server in `hub_server`: what each request does to a `Hub` in memory, and its answer.

Who a token belongs to, repositories and branches, pushes through LFS (single and multipart), and downloads.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import yaml

LARGE = (".safetensors", ".bin", ".gguf", ".pt")  # what the .gitattributes of a new repository send to LFS
HUB_ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass
class User:
    name: str
    role: str = "write"  # read | write | fineGrained
    organisations: dict[str, str] = field(default_factory=dict)  # name -> role in it
    scopes: dict[str, list[str]] = field(default_factory=dict)  # owner or repository -> permissions (fineGrained)


@dataclass(frozen=True)
class Commit:
    oid: str
    title: str
    files: dict[str, bytes]
    large: frozenset[str]  # paths that are LFS files


@dataclass
class Repository:
    private: bool
    branches: dict[str, list[Commit]]  # oldest first


@dataclass(frozen=True)
class Reply:
    status: int = 200
    content: Any = None  # bytes as they are, anything else as JSON
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.reply = Reply(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message})


class Hub:
    """Everything one Hub holds."""

    def __init__(self) -> None:
        self.url = ""
        self.users: dict[str, User] = {}  # token -> user
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}  # LFS files by their SHA-256
        self.parts: dict[tuple[str, int], bytes] = {}
        self.corrupted: set[str] = set()  # paths whose hash is told wrong
        self.largest_regular = 10_000_000  # bytes; larger files go through LFS
        self.part_size = 1 << 62  # bytes; larger LFS files go up in parts
        self.page = 1000  # entries of a tree in one answer
        self._oids = (hashlib.sha1(f"commit {number}".encode()).hexdigest() for number in itertools.count())

    def history(self, repository: str, branch: str = "main") -> list[str]:
        """The titles of a branch's commits, oldest first."""
        return [commit.title for commit in self.repositories[repository].branches[branch]]

    def files(self, repository: str, branch: str = "main") -> dict[str, bytes]:
        """What a branch holds, without the `.gitattributes` that each repository starts with."""
        newest = self.repositories[repository].branches[branch][-1]
        return {path: content for path, content in newest.files.items() if path != ".gitattributes"}

    def create(self, repository: str, private: bool = False) -> Repository:
        attributes = "".join(f"*{suffix} filter=lfs\n" for suffix in LARGE).encode()
        first = Commit(next(self._oids), "initial commit", {".gitattributes": attributes}, frozenset())
        self.repositories[repository] = Repository(private, {"main": [first]})
        return self.repositories[repository]

    def commit(
        self, repository: str, files: dict[str, bytes], branch: str = "main", title: str = "by hand", **changes: Any
    ) -> Commit:
        """Add a commit with these files laid over the newest one; `gone` and `large` are sets of paths."""
        commits = self.repositories[repository].branches[branch]
        gone, large = changes.get("gone", set()), changes.get("large", set())
        kept = {path: content for path, content in commits[-1].files.items() if path not in gone}
        still_large = (commits[-1].large - files.keys() - gone) | large
        commits.append(Commit(next(self._oids), title, {**kept, **files}, frozenset(still_large)))
        return commits[-1]


@dataclass(frozen=True)
class Request:
    """What a route is given, and what it may ask of it."""

    hub: Hub
    authorization: str
    headers: Any
    query: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def user(self) -> User:
        user = self.hub.users.get(self.authorization.removeprefix("Bearer "))
        if user is None:
            raise Refused(401, "", "Invalid credentials in Authorization header")
        return user

    def may_write(self, owner: str, name: str) -> bool:
        user = self.user()
        if user.role == "fineGrained":
            rights = [*user.scopes.get(owner, ()), *user.scopes.get(f"{owner}/{name}", ())]
            if "repo.write" not in rights:
                return False
        return user.role != "read" and (owner == user.name or user.organisations.get(owner, "read") != "read")

    def repository(self, repository: str, write: bool = False) -> Repository:
        owner, name = repository.split("/")
        found = self.hub.repositories.get(repository)
        if found is None or (found.private and owner not in {self.user().name, *self.user().organisations}):
            if not self.authorization:
                raise Refused(401, "RepoNotFound", "Repository not found")
            self.user()
            raise Refused(404, "RepoNotFound", "Repository not found")
        if write and not self.may_write(owner, name):
            raise Refused(403, "", "You don't have the required permissions to perform this operation")
        return found

    def at(self, repository: str, revision: str) -> Commit:
        found = self.repository(repository)
        if revision in found.branches:
            return found.branches[revision][-1]
        for commit in itertools.chain(*found.branches.values()):
            if commit.oid == revision:
                return commit
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def whoami(request: Request) -> Reply:
    user = request.user()
    token: dict[str, Any] = {"displayName": "for tests", "role": user.role}
    if user.role == "fineGrained":
        scoped = [{"entity": {"name": name}, "permissions": given} for name, given in user.scopes.items()]
        token["fineGrained"] = {"global": [], "scoped": scoped}
    organisations = [{"name": name, "type": "org", "roleInOrg": role} for name, role in user.organisations.items()]
    return Reply(200, {"type": "user", "name": user.name, "orgs": organisations, "auth": {"accessToken": token}})


def create_repository(request: Request) -> Reply:
    asked = request.json()
    owner, hub = asked.get("organization") or request.user().name, request.hub
    repository = f"{owner}/{asked['name']}"
    if not request.may_write(owner, asked["name"]):
        raise Refused(403, "", f"You don't have the rights to create a model under the namespace {owner!r}")
    if repository in hub.repositories:
        return Reply(409, {"error": "You already created this model repo", "url": f"{hub.url}/{repository}"})
    hub.create(repository, asked.get("visibility") == "private")
    return Reply(200, {"url": f"{hub.url}/{repository}", "name": repository})


def validate_yaml(request: Request) -> Reply:
    faults = card_faults(request.json()["content"])
    return Reply(400 if faults else 200, {"errors": [{"message": fault} for fault in faults], "warnings": []})


def card_faults(card: str) -> list[str]:
    """What the Hub would not take in the metadata of a model card."""
    found = re.match(r"---\r?\n(.*?)\r?\n---(\r?\n|$)", card, re.DOTALL)
    try:
        data = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        return [f"YAML: {error}"]
    faults = [] if isinstance(data, dict) else ["the metadata is not a mapping"]
    for key in ("base_model", "datasets"):
        values = data.get(key, [])
        for value in [values] if isinstance(values, str) else values:
            if not isinstance(value, str) or not HUB_ID.fullmatch(value):
                faults.append(f'"{key}" with value {value!r} is not valid')
    for index in data.get("model-index", []):
        if not isinstance(index.get("name"), str):
            faults.append('"model-index[0].name" must be a string')
        for result in index.get("results", []):
            if not result.get("task", {}).get("type") or not result.get("dataset", {}).get("type"):
                faults.append('"model-index[0].results[0]" needs a task type and a dataset type')
            if not all(isinstance(metric.get("value"), int | float | str) for metric in result["metrics"]):
                faults.append('"model-index[0].results[0].metrics[0].value" is required')
    return faults


def information(request: Request, repository: str, revision: str = "main") -> Reply:
    commit = request.at(repository, revision)
    names = [{"rfilename": path} for path in commit.files]
    private = request.repository(repository).private
    return Reply(200, {"id": repository, "sha": commit.oid, "private": private, "tags": [], "siblings": names})


def check_access(request: Request, repository: str, write: str = "") -> Reply:
    request.repository(repository, write=bool(write))
    return Reply(200, {})


def references(request: Request, repository: str) -> Reply:
    branches = request.repository(repository).branches
    listed = [{"name": b, "ref": f"refs/heads/{b}", "targetCommit": c[-1].oid} for b, c in branches.items()]
    return Reply(200, {"branches": listed, "converts": [], "tags": []})


def create_branch(request: Request, repository: str, branch: str) -> Reply:
    branches = request.repository(repository, write=True).branches
    if branch in branches:
        raise Refused(409, "", "Reference already exists")
    if branch.startswith("refs/") or ".." in branch:
        raise Refused(400, "", "Invalid reference for a branch")
    branches[branch] = list(branches["main"])
    return Reply(200, {})


def tree(request: Request, repository: str, revision: str) -> Reply:
    commit, hub, first = request.at(repository, revision), request.hub, int(request.query.get("cursor", 0))
    entries = [described(hub, commit, path) for path in sorted(commit.files)]
    more = f'<{hub.url}/api/models/{repository}/tree/{revision}?recursive=True&cursor={first + hub.page}>; rel="next"'
    headers = {"Link": more} if first + hub.page < len(entries) else {}
    return Reply(200, entries[first : first + hub.page], headers)


def described(hub: Hub, commit: Commit, path: str) -> dict[str, Any]:
    content = commit.files[path] + (b"!" if path in hub.corrupted else b"")
    entry = {"type": "file", "path": path, "size": len(commit.files[path]), "oid": git_blob(content)}
    if path in commit.large:
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": entry["size"], "pointerSize": 134}
        entry["oid"] = git_blob(b"the pointer of " + content)
    return entry


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def prepare_upload(request: Request, repository: str, revision: str) -> Reply:
    request.repository(repository, write=True)
    commit, files = request.at(repository, revision), []
    for file in request.json()["files"]:
        large = file["path"].endswith(LARGE) or file["size"] > request.hub.largest_regular
        entry = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if (there := commit.files.get(file["path"])) is not None:
            entry["oid"] = hashlib.sha256(there).hexdigest() if large else git_blob(there)
        files.append(entry)
    return Reply(200, {"files": files})


def lfs_batch(request: Request, repository: str) -> Reply:
    request.repository(repository, write=True)
    hub, objects = request.hub, []
    for asked in request.json()["objects"]:
        entry, address = dict(asked), f"{hub.url}/lfs/{asked['oid']}"
        if asked["oid"] not in hub.objects:
            upload: dict[str, Any] = {"href": address}
            if asked["size"] > hub.part_size:
                count = -(-asked["size"] // hub.part_size)
                parts = {str(number): f"{address}/{number}" for number in range(1, count + 1)}
                upload = {"href": f"{address}/complete", "header": {"chunk_size": str(hub.part_size), **parts}}
            verify = {"href": f"{hub.url}/{repository}.git/info/lfs/objects/verify"}
            entry["actions"] = {"upload": upload, "verify": verify}
        objects.append(entry)
    return Reply(200, {"transfer": "multipart", "objects": objects}, {"Content-Type": "application/vnd.git-lfs+json"})


def lfs_put(request: Request, oid: str, part: str = "") -> Reply:
    if request.authorization:
        raise Refused(400, "", "the token must not leave the Hub")
    if part:
        request.hub.parts[oid, int(part)] = request.body
        return Reply(200, b"", {"ETag": git_blob(request.body)})
    return lfs_store(request.hub, oid, request.body)


def lfs_complete(request: Request, oid: str) -> Reply:
    parts = [(request.hub.parts[oid, part["partNumber"]], part["etag"]) for part in request.json()["parts"]]
    if any(git_blob(content) != etag for content, etag in parts):
        raise Refused(400, "", "a part is not the one that was sent")
    return lfs_store(request.hub, oid, b"".join(content for content, _ in parts))


def lfs_store(hub: Hub, oid: str, content: bytes) -> Reply:
    if hashlib.sha256(content).hexdigest() != oid:
        raise Refused(400, "", "the content does not have this hash")
    hub.objects[oid] = content
    return Reply(200, b"")


def lfs_verify(request: Request, repository: str) -> Reply:
    request.repository(repository, write=True)
    asked = request.json()
    if len(request.hub.objects.get(asked["oid"], b"")) != asked["size"]:
        raise Refused(404, "", "Object does not exist")
    return Reply(200, {})


def commit(request: Request, repository: str, revision: str) -> Reply:
    branches, hub = request.repository(repository, write=True).branches, request.hub
    if revision not in branches:
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    header: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    large, gone = set(), set()
    for key, value in ((item["key"], item["value"]) for item in map(json.loads, request.body.splitlines())):
        if key == "header":
            header = value
        elif key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            if value["oid"] not in hub.objects:
                raise Refused(400, "", f"LFS pointer of {value['path']} points to a file that does not exist")
            files[value["path"]] = hub.objects[value["oid"]]
            large.add(value["path"])
        elif key == "deletedFile":
            if value["path"] not in branches[revision][-1].files:
                raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
            gone.add(value["path"])
    if header.get("parentCommit") not in {None, branches[revision][-1].oid}:
        raise Refused(412, "", "A commit has happened since. Please refresh and try again.")
    made = hub.commit(repository, files, revision, header["summary"], large=large, gone=gone)
    return Reply(
        200, {"success": True, "commitOid": made.oid, "commitUrl": f"{hub.url}/{repository}/commit/{made.oid}"}
    )


def download(request: Request, repository: str, revision: str, path: str) -> Reply:
    found = request.at(repository, revision)
    if path not in found.files:
        raise Refused(404, "EntryNotFound", "Entry not found")
    entry, content = described(request.hub, found, path), found.files[path]
    headers = {"X-Repo-Commit": found.oid, "ETag": f'"{entry["oid"]}"', "Content-Type": "application/octet-stream"}
    if "lfs" in entry:
        headers |= {"X-Linked-Etag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Size": str(len(content))}
    if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
        first, last = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return Reply(206, content[first : last + 1], headers)
    return Reply(200, content, headers)


ID = r"(?P<repository>[^/]+/[^/]+)"
REPOSITORY = rf"/api/(?:models|datasets)/{ID}"
ROUTES = [
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/repos/create", create_repository),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("GET", rf"{REPOSITORY}(?:/revision/(?P<revision>[^/]+))?", information),
    ("GET", rf"{REPOSITORY}/auth-check(?P<write>/write)?", check_access),
    ("GET", rf"{REPOSITORY}/refs", references),
    ("POST", rf"{REPOSITORY}/branch/(?P<branch>[^/]+)", create_branch),
    ("GET", rf"{REPOSITORY}/tree/(?P<revision>[^/]+)", tree),
    ("POST", rf"{REPOSITORY}/preupload/(?P<revision>[^/]+)", prepare_upload),
    ("POST", rf"{REPOSITORY}/commit/(?P<revision>[^/]+)", commit),
    ("POST", rf"/{ID}\.git/info/lfs/objects/batch", lfs_batch),
    ("POST", rf"/{ID}\.git/info/lfs/objects/verify", lfs_verify),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})(?:/(?P<part>\d+))?", lfs_put),
    ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/complete", lfs_complete),
    ("GET HEAD", rf"(?:/datasets)?/{ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", download),
]


def answered(request: Request, method: str, path: str) -> Reply:
    """What the Hub answers to one request. Raises `Refused`."""
    for methods, pattern, handle in ROUTES:
        if method in methods.split() and (found := re.fullmatch(pattern, path)):
            words = {name: unquote(word) for name, word in found.groupdict().items() if word is not None}
            return handle(request, **words)
    return Reply(404, {"error": "Not Found"})
