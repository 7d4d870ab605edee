"""Which of the nodes of a run this one is, and where they meet: from the command line, the environment, or SLURM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from runner import slurm
from runner.errors import Place, Problem, RecipeError, RunError

NODES, RANK, RENDEZVOUS = "TUNESMITH_NODES", "TUNESMITH_NODE_RANK", "TUNESMITH_RENDEZVOUS"
TOKEN = "TUNESMITH_RENDEZVOUS_TOKEN"  # environment variable with what only the nodes of one run know
SECONDS = "TUNESMITH_RENDEZVOUS_SECONDS"  # environment variable: how long nodes wait for each other
OPTIONS = {NODES: "--nodes", RANK: "--node-rank", RENDEZVOUS: "--rendezvous"}
PORT = 29400  # from which on the jobs of SLURM have theirs, so that two on one node do not meet
PORTS = 1000
PATIENCE = 600.0  # seconds that nodes wait for each other: an image may still be unpacked on some
MOST = 4096


@dataclass(frozen=True)
class Nodes:
    """The nodes of a run, this one's rank among them, and where node 0 listens. `patience` is in seconds."""

    count: int = 1
    rank: int = 0
    host: str = ""
    port: int = 0
    token: str = ""
    patience: float = PATIENCE
    idle: int = 0  # nodes of the SLURM job that a run without `srun` leaves unused


def find(count: int | None, rank: int | None, rendezvous: str | None, environment: Mapping[str, str]) -> Nodes:
    """The nodes as the command line has them, else the environment, else the `srun` that this process is of.

    Raises RecipeError for what is wrong or missing, and RunError for several processes on one node.
    """
    asked = {NODES: count, RANK: rank, RENDEZVOUS: rendezvous}
    told = {name: str(value) for name, value in asked.items() if value is not None}
    if not told and environment.get(NODES):
        told = {name: environment[name] for name in asked if environment.get(name)}
    given = "the command line" if any(value is not None for value in asked.values()) else "the environment"
    step = slurm.step(environment)
    if not told and step is not None:
        if step.tasks > step.nodes:
            raise RunError(
                Problem(
                    f"`srun` started {step.tasks} processes on {step.nodes} nodes, and each would be a run of its own",
                    hint="start one a node, which starts one a device itself: `srun --ntasks-per-node=1`",
                )
            )
        port = PORT + step.job % PORTS
        told = {NODES: str(step.nodes), RANK: str(step.node), RENDEZVOUS: f"{step.first_host}:{port}"}
    if not told:
        return Nodes(idle=_idle(environment))
    whole = _whole(told[NODES], NODES, 1) if NODES in told else 0
    alone = whole == 1 and RENDEZVOUS not in told
    missing = [] if alone else [name for name in asked if name not in told]
    if missing:
        hint = "each node is told all three: `--nodes 2 --node-rank 0 --rendezvous host-of-node-0:29400`"
        raise _wrong(missing[0], f"{given} tells of several nodes, but not `{OPTIONS[missing[0]]}`", hint)
    own = _whole(told.get(RANK, "0"), RANK, 0)
    if own >= whole:
        raise _wrong(RANK, f"there is no node {own} of {whole}", f"nodes are counted from 0 to {whole - 1}")
    if whole == 1:
        return Nodes()
    host, port = _address(told[RENDEZVOUS])
    return Nodes(whole, own, host, port, environment.get(TOKEN, ""), _patience(environment))


def _idle(environment: Mapping[str, str]) -> int:
    text = environment.get("SLURM_JOB_NUM_NODES", "")
    return int(text) - 1 if slurm.step(environment) is None and re.fullmatch(r"[1-9]\d{0,5}", text) else 0


def _whole(text: str, name: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not least <= int(text) <= MOST:
        raise _wrong(name, f"`{text}` is no number of nodes" if name == NODES else f"`{text}` is no number of a node")
    return int(text)


def _address(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:\s]+)):([0-9]{1,5})", text)
    if not match or not 0 < int(match[3]) < 65536:
        raise _wrong(RENDEZVOUS, f"`{text}` is no host and port", "write `host:29400`, or `[address]:29400` for IPv6")
    return match[1] or match[2], int(match[3])


def _patience(environment: Mapping[str, str]) -> float:
    text = environment.get(SECONDS, "")
    if not text:
        return PATIENCE
    if not re.fullmatch(r"[0-9]{1,6}", text) or not int(text):
        raise RecipeError(Problem(f"`{SECONDS}` is `{text}`, which is no number of seconds"))
    return float(text)


def _wrong(name: str, message: str, hint: str | None = None) -> RecipeError:
    return RecipeError(Problem(message, Place(OPTIONS[name]), hint))
