"""Node 0 and the other nodes of a run: they come, do what they are told, and tell how it ended.

Node 0 alone decides. Each order (`look`, `fetch`, `train`) is answered by `done` or by a fault; the last one, `end`,
has the run's exit code. A node that is lost or fails ends the work of all.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from runner import checkpoint, errors, link
from runner.errors import DONE, FAILED, Crashed, Halted, Interrupted, OutOfMemory, Problem, RunError, UserError, listed
from runner.link import Message, Peer
from runner.nodes import OPTIONS, RENDEZVOUS, Nodes
from runner.signals import Signals
from runner.workers import GRACE

SAVING = 600.0  # seconds within which the others have ended a training that ended here
LOST_HINT = "look at its output and its machine; the same command goes on from the newest checkpoint"


@dataclass
class Other:
    """Another node as node 0 knows it."""

    host: str
    peer: Peer
    busy: bool = False
    fault: UserError | None = None


class Lead:
    """The other nodes of a run, as a context: they are told its end. Without others nothing is waited for.

    `facts` are what all nodes must have in common: name -> values.
    """

    def __init__(self, nodes: Nodes, facts: Mapping[str, Any], signals: Signals, say: Callable[[str], None]) -> None:
        self.nodes, self.facts, self.signals, self.say = nodes, facts, signals, say
        self.others: dict[int, Other] = {}
        self.refused: UserError | None = None
        self.listener: socket.socket | None = None
        self.changed = threading.Condition()

    def __enter__(self) -> Lead:
        if self.nodes.count > 1:
            try:
                self.listener = link.listen(self.nodes.host, self.nodes.port)
            except OSError as error:
                where = f"{self.nodes.host}:{self.nodes.port}"
                hint = f"name another port in `{OPTIONS[RENDEZVOUS]}`, the same one on all nodes"
                raise RunError(
                    Problem(f"node 0 cannot listen at `{where}`: {error.strerror or error}", hint=hint)
                ) from error
            threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Tell the other nodes how the run ended, and hang up."""
        code, message = DONE if error is None else FAILED, None
        if isinstance(error, UserError):
            code, message = error.exit_code, error.problems[0].message
        for other in self.others.values():
            other.peer.send({"say": "end", "code": code, "message": message})
        with self.changed:  # they hang up, or what was just sent might be thrown away with what they sent
            self.changed.wait_for(lambda: all(other.peer.lost for other in self.others.values()), link.BEAT)
        for other in self.others.values():
            other.peer.close()
        if self.listener is not None:
            self.listener.close()

    def gather(self) -> None:
        """Wait until every node is there. Raises RunError where one does not come, or has another recipe or version."""
        if self.nodes.idle:
            idle = f"{self.nodes.idle} more nodes of this SLURM job are not used"
            self.say(f"warning: {idle}; `srun --ntasks-per-node=1 tunesmith train …` trains on all of them")
        if self.nodes.count == 1:
            return
        self.say(f"nodes: waiting for {self.nodes.count - 1} of {self.nodes.count} at port {self.nodes.port}")
        came = self._wait(lambda: len(self.others) == self.nodes.count - 1, self.nodes.patience)
        if not came:
            missing = [f"node {rank}" for rank in range(1, self.nodes.count) if rank not in self.others]
            raise RunError(
                Problem(
                    f"{', '.join(missing)} did not come to `{self.nodes.host}:{self.nodes.port}` "
                    f"within {self.nodes.patience:.0f} seconds",
                    hint="start the same command on every node, and see in its output why it did not; "
                    "the nodes must reach that port",
                )
            )
        self.say("nodes: " + ", ".join(f"{rank} is {other.host}" for rank, other in sorted(self.others.items())))

    def order(self, what: str, **facts: Any) -> None:
        """Have every node do something."""
        for other in self.others.values():
            other.busy = True
            other.peer.send({"say": what, **facts})

    def done(self) -> None:
        """Wait until every node has done it. Raises the fault of one that could not."""
        self._wait(lambda: not any(other.busy for other in self.others.values()))

    def failed(self) -> bool:
        """Whether a node is lost or has failed, so that no other can go on."""
        return any(other.fault and not isinstance(other.fault, Interrupted) for other in self.others.values())

    def trained(self, own: UserError | None) -> None:
        """Wait until training has ended on every node. Raises why it failed; `own` is how it failed here."""
        if not self.others:
            if own is not None:
                raise own
            return
        stopped = own is None or isinstance(own, Interrupted)
        if not stopped:
            for other in self.others.values():
                other.peer.send({"say": "halt"})
        with self.changed:
            self.changed.wait_for(
                lambda: not any(other.busy for other in self.others.values()) or (stopped and self.failed()),
                SAVING if stopped else GRACE + link.BEAT,
            )
        faults = ([own] if own else []) + [other.fault for other in self.others.values() if other.fault]
        faults = [fault for fault in faults if not isinstance(fault, Halted)]
        if faults:
            # A node that is gone takes the others with it, which can but say that they lost a connection.
            first = min(faults, key=_rank)
            same = [fault for fault in faults if type(fault) is type(first)] if isinstance(first, Crashed) else [first]
            problems = [problem for fault in same for problem in fault.problems]
            raise type(first)(problems)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            _Caller(self, connection)

    def came(self, peer: Peer, hello: Message) -> int | None:
        """Take in a node that says hello; its rank, or None where it is refused."""
        with self.changed:
            rank = hello.get("node")
            sure = secrets.compare_digest(str(hello.get("token")).encode(), self.nodes.token.encode())
            known = type(rank) is int and rank in self.others
            if not sure or type(rank) is not int or not 0 < rank < self.nodes.count or known:
                reason = f"there is a node {rank} already" if sure and known else "it leads another run"
                peer.send({"say": "refused", "message": reason})
                return None
            host = str(hello.get("host"))
            fault = self._unlike(f"node {rank} (`{host}`)", hello)
            self.others[rank] = Other(host, peer)
            if fault is not None:
                self.refused = self.refused or RunError(fault)
            self.changed.notify_all()
            return rank

    def said(self, rank: int, message: Message | None) -> None:
        """Take in what a node says; None: it is lost."""
        with self.changed:
            other = self.others[rank]
            name = f"node {rank} (`{other.host}`)"
            if message is None:
                other.busy = False
                other.fault = other.fault or Lost(Problem(f"{name} was lost", hint=LOST_HINT))
            elif message.get("say") == "stop":
                self.signals.stop(f"{message.get('reason')} on {name}")
            elif message.get("say") == "done":
                other.busy = False
            elif message.get("say") == "failed":
                other.busy = False
                other.fault = _told(name, message.get("fault"))
            self.changed.notify_all()

    def _wait(self, over: Callable[[], bool], patience: float | None = None) -> bool:
        """Wait for something, if need be for so many seconds; False where it did not come.

        Raises the fault of a node, and Interrupted where the run was told to stop.
        """
        deadline = None if patience is None else time.monotonic() + patience
        while True:
            with self.changed:
                if self.refused is not None:
                    raise self.refused
                for other in self.others.values():
                    if other.fault is not None:
                        raise other.fault
                if over():
                    return True
                if self.signals.reason is not None:
                    raise Interrupted(Problem(f"{self.signals.reason}; run the same command again to go on"))
                if deadline is not None and time.monotonic() > deadline:
                    return False
                self.changed.wait(link.TICK)

    def _unlike(self, name: str, hello: Message) -> Problem | None:
        """What a node does not have in common with this one."""
        for what, ours in self.facts.items():
            theirs = hello.get(what)
            if theirs == ours:
                continue
            if what == "devices":
                found, own = (_devices(each) for each in (theirs, ours))
                hint = "take nodes of one kind; `deepspeed.processes` can leave devices unused, the same number on each"
                return Problem(f"{name} has {found}, and node 0 has {own}", hint=hint)
            changed = f": {listed(checkpoint.differences(ours, theirs))}" if isinstance(theirs, dict) else ""
            other = "another recipe than node 0" if what == "recipe" else "other packages than node 0"
            hint = "give all nodes the same " + ("file and `--set`" if what == "recipe" else "image or environment")
            return Problem(f"{name} has {other}; these differ{changed}", hint=hint)
        return None


class Lost(RunError):
    """A node is not there any more."""


class _Caller:
    """A connection that was made to node 0: of nobody, until it has said which node it is."""

    def __init__(self, lead: Lead, connection: socket.socket) -> None:
        self.lead = lead
        self.rank: int | None = None
        self.peer = Peer(connection, self.said)
        self.peer.start()

    def said(self, message: Message | None) -> None:
        if self.rank is not None:
            self.lead.said(self.rank, message)
        elif message is not None and message.get("say") == "hello":
            self.rank = self.lead.came(self.peer, message)
        elif message is not None:
            self.peer.close()


def _told(name: str, fault: Any) -> UserError:
    """A fault of another node, with its name."""
    try:
        told = errors.unpacked(fault)
    except (TypeError, KeyError, ValueError):
        return RunError(Problem(f"{name} failed"))
    return type(told)([Problem(f"{name}: {each.message}", each.place, each.hint) for each in told.problems])


def _rank(fault: UserError) -> int:
    """The likelier a fault is the cause of the others, the lower."""
    order: tuple[type[UserError], ...] = (OutOfMemory, Lost, Crashed, Interrupted)
    return next((2 * number for number, kind in enumerate(order) if isinstance(fault, kind)), 3)


def _devices(found: Any) -> str:
    names = [str(each[0]) for each in found] if isinstance(found, list) else []
    if not names:
        return "no device"
    return ", ".join(f"{names.count(name)} × `{name}`" for name in dict.fromkeys(names))
