"""One run on a node that is not its first: its share of the training, as node 0 says, and the same end."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from runner import errors, fetch, link, machine, planfile, workers
from runner.errors import DONE, Interrupted, Problem, RunError, UserError
from runner.link import Message, Peer
from runner.nodes import Nodes
from runner.recipe import Recipe
from runner.rewards import confinement
from runner.signals import Signals, stop
from runner.workers import Stage, World

SHARED_WITHIN = 60.0  # seconds in which a file system shows on one node what another has written


class Follower:
    """This node's end of the link to node 0."""

    def __init__(self, nodes: Nodes, signals: Signals) -> None:
        self.nodes, self.signals = nodes, signals
        self.orders: Queue[Message | None] = Queue()
        self.halted = threading.Event()

    @contextmanager
    def connected(self, facts: Mapping[str, Any]) -> Iterator[Peer]:
        """The connection to node 0, which is told of every signal. Raises RunError where node 0 does not answer."""
        where = f"{self.nodes.host}:{self.nodes.port}"
        try:
            connection = link.connect(
                self.nodes.host, self.nodes.port, self.nodes.patience, lambda: self.signals.reason is not None
            )
        except OSError as error:
            self._check_stopped()
            raise RunError(
                Problem(
                    f"node 0 did not answer at `{where}` within {self.nodes.patience:.0f} seconds: "
                    f"{error.strerror or error}",
                    hint="see in the output of node 0 whether it runs, and whether the nodes may reach that port",
                )
            ) from error
        peer = Peer(connection, self._heard)
        peer.start()
        peer.send({"say": "hello", "node": self.nodes.rank, "token": self.nodes.token, "host": _host(), **facts})
        over = threading.Event()
        threading.Thread(target=self._tell_signals, args=(peer, over), daemon=True).start()
        try:
            yield peer
        finally:
            over.set()
            peer.close()

    def next_order(self) -> Message:
        """What node 0 wants next. Raises RunError where it is lost, and what it refuses this node for."""
        while True:
            try:
                order = self.orders.get(timeout=link.TICK)
            except Empty:
                continue
            if order is None:
                self._check_stopped()
                raise RunError(
                    Problem(
                        f"node 0 (`{self.nodes.host}`) was lost",
                        hint="its output says why; the same command on all nodes goes on from the newest checkpoint",
                    )
                )
            if order.get("say") == "refused":
                raise RunError(
                    Problem(
                        f"node 0 at `{self.nodes.host}:{self.nodes.port}` refused this node: {order.get('message')}",
                        hint="give each run a port of its own in `--rendezvous`, and each node its own `--node-rank`",
                    )
                )
            return order

    def _heard(self, message: Message | None) -> None:
        if message is None or message.get("say") in ("halt", "end"):
            self.halted.set()
        if message is None or message.get("say") != "halt":
            self.orders.put(message)

    def _tell_signals(self, peer: Peer, over: threading.Event) -> None:
        while not over.wait(link.TICK):
            if self.signals.reason is not None:
                peer.send({"say": "stop", "reason": self.signals.reason})
                return

    def _check_stopped(self) -> None:
        if self.signals.reason is not None:
            raise Interrupted(Problem(f"{self.signals.reason}; run the same command again on all nodes to go on"))


def run(recipe: Recipe, nodes: Nodes, facts: Mapping[str, Any], say: Callable[[str], None]) -> int:
    """Do this node's share of a run. Raises UserError as the run ends on node 0, with its exit code."""
    signals = Signals()
    confinement.protect_from_rewards()
    follower = Follower(nodes, signals)
    say(f"node {nodes.rank} of {nodes.count}: looking for node 0 at {nodes.host}:{nodes.port}")
    with follower.connected(facts) as peer:
        while (order := follower.next_order())["say"] != "end":
            try:
                _obey(order, recipe, follower, say)
            except UserError as error:
                peer.send({"say": "failed", "fault": errors.packed(error)})
            else:
                peer.send({"say": "done"})
    if order["code"] == DONE:
        say(f"node {nodes.rank}: done")
        return DONE
    kind = Interrupted if order["code"] == errors.INTERRUPTED else RunError
    ended = kind(Problem(f"node 0 ended the run: {order['message'] or 'it failed'}"))
    ended.exit_code = int(order["code"])
    raise ended


def _obey(order: Message, recipe: Recipe, follower: Follower, say: Callable[[str], None]) -> None:
    directory, rank = Path(order["directory"]), follower.nodes.rank
    device = "cuda" if machine.here().devices else "cpu"
    if order["say"] == "look":
        see(directory, order["sums"])
        say(f"node {rank}: works in {directory}")
    elif order["say"] == "fetch":
        see(directory, order["sums"])
        with follower.signals.ending(stop):
            fetch.needed(recipe)
        if recipe.model.name.endswith(".gguf"):  # once here, and not in every process that trains
            apart = World(follower.nodes.count, rank, "127.0.0.1", workers.free_port())
            workers.run(
                Stage("locate", 1, device, directory, apart), follower.signals, _nothing, follower.halted.is_set
            )
    elif order["say"] == "train":
        see(directory, order["sums"])
        plan = planfile.from_json((directory / "plan.json").read_text(encoding="utf-8"))
        here = plan.processes_here
        say(f"node {rank}: training with {here} of {plan.processes} processes; they write to {directory / 'logs'}")
        world = World(plan.processes, rank * here, follower.nodes.host, int(order["port"]))
        stage = Stage("train", here, device, directory, world, plan.recipe.training.stall_timeout)
        workers.run(stage, follower.signals, _nothing, follower.halted.is_set)
    else:
        raise RunError(Problem(f"node 0 wants `{order['say']}`, which this version does not know"))


def sums(directory: Path, names: tuple[str, ...]) -> dict[str, str]:
    """The SHA-256 of files in a run's directory, by which another node knows that it sees the same ones."""
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names}


def see(directory: Path, wanted: Mapping[str, str]) -> None:
    """Wait until this node sees files as node 0 has them. Raises RunError where it does not."""
    deadline = time.monotonic() + SHARED_WITHIN
    while True:
        try:
            if sums(directory, tuple(wanted)) == wanted:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise RunError(
                Problem(
                    f"`{directory}` is not the directory of node 0",
                    hint="set `output.directory` to a folder on a file system that all nodes share, and mount it "
                    "by the same path on each",
                )
            )
        time.sleep(link.TICK)


def _host() -> str:
    return socket.gethostname()


def _nothing(event: dict[str, Any]) -> None:
    """What the first process tells is told on node 0."""
