"""Nodes that do not find each other, or do not fit: two real supervisors, and none of them trains."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_runs import ended, free_port, start, two_nodes
from runs import write_recipe

from runner import follow, link
from runner.errors import RunError
from runner.lead import Lead
from runner.nodes import Nodes
from runner.signals import Signals, heard

SOON = {"TUNESMITH_RENDEZVOUS_SECONDS": "3"}
FACTS: dict[str, Any] = {"versions": {"torch": "1"}, "recipe": {"training": {"seed": 1}}, "devices": []}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe whose model cannot train: what is wrong with it is found after the nodes have met."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return write_recipe(tmp_path, tmp_path / "model")


@pytest.fixture
def signals() -> Iterator[Signals]:
    with heard() as found:
        yield found


def test_the_first_node_names_the_one_that_does_not_come(recipe: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    code, output = ended(start(recipe, "--nodes", 3, "--node-rank", 0, "--rendezvous", address, **SOON))
    assert code == 1, output
    assert f"error: node 1, node 2 did not come to `{address}` within 3 seconds\nhint: start the same" in output


def test_another_node_says_that_the_first_does_not_answer(recipe: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    code, output = ended(start(recipe, "--nodes", 2, "--node-rank", 1, "--rendezvous", address, **SOON))
    assert code == 1, output
    assert f"error: node 0 did not answer at `{address}` within 3 seconds: Connection refused\nhint: " in output
    address = "no-such-host.invalid:29400"
    code, output = ended(start(recipe, "--nodes", 2, "--node-rank", 1, "--rendezvous", address, **SOON))
    assert code == 1 and f"`{address}` within 3 seconds: " in output and "Traceback" not in output, output


def test_a_port_that_is_taken(recipe: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        code, output = ended(start(recipe, "--nodes", 2, "--node-rank", 0, "--rendezvous", address, **SOON))
    assert code == 1 and f"error: node 0 cannot listen at `{address}`: Address already in use" in output, output


def test_nodes_with_different_recipes_say_what_differs(recipe: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    first = start(recipe, "--nodes", 2, "--node-rank", 0, "--rendezvous", address)
    second = start(recipe, "--nodes", 2, "--node-rank", 1, "--rendezvous", address, "--set", "training.seed=9")
    for node, prefix in ((first, "error: node 1 (`"), (second, "error: node 0 ended the run: node 1 (`")):
        code, output = ended(node)
        assert code == 1 and prefix in output, output
        assert "has another recipe than node 0; these differ: `training.seed`\n" in output, output


def test_a_fault_on_the_first_node_ends_the_other_with_its_code(recipe: Path) -> None:
    with two_nodes(recipe) as nodes:
        (code, output), (other_code, other_output) = map(ended, nodes)
    assert code == other_code != 0, output + other_output
    message = output.split("error: ", 1)[1].splitlines()[0]
    assert f"error: node 0 ended the run: {message}" in other_output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"versions": {"torch": "2"}}, "has other packages than node 0; these differ: `torch`"),
        ({"devices": [["H100", 80]]}, "has 1 × `H100`, and node 0 has no device"),
        ({"recipe": None}, "has another recipe than node 0; these differ"),
    ],
)
def test_nodes_that_do_not_fit(signals: Signals, changes: dict[str, Any], message: str) -> None:
    nodes = Nodes(2, 0, "127.0.0.1", free_port(), "secret")
    with Lead(nodes, FACTS, signals, lambda text: None) as lead:
        hello = {"say": "hello", "node": 1, "token": "secret", "host": "b", **FACTS, **changes}
        with Caller(nodes.port, hello), pytest.raises(RunError) as caught:
            lead.gather()
    assert message in caught.value.problems[0].message and caught.value.problems[0].hint


@pytest.mark.parametrize(
    "line",
    [
        {"say": "hello", "node": 1, "token": "guessed", "host": "b", **FACTS}, {"say": "hello"}, {"say": "done"}, [1],
        {"say": "hello", "node": 7, "token": "secret"}, {"say": "hello", "node": 0, "token": "secret"},
        {"say": "hello", "node": [1], "token": "secret"}, {"say": "stop", "reason": "x"},
        b"GET / HTTP/1.1\r\n\r\n", b"",
    ],
)  # fmt: skip
def test_strangers_are_not_let_in(signals: Signals, line: Any) -> None:
    nodes = Nodes(2, 0, "127.0.0.1", free_port(), "secret", patience=1.0)
    with Lead(nodes, FACTS, signals, lambda text: None) as lead:
        with Caller(nodes.port, line), pytest.raises(RunError, match="node 1 did not come"):
            lead.gather()
        assert lead.others == {} and signals.reason is None


def test_a_node_that_falls_silent_is_lost(signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "LOST", 1.5)
    nodes = Nodes(2, 0, "127.0.0.1", free_port())
    with Lead(nodes, FACTS, signals, lambda text: None) as lead:
        with Caller(nodes.port, {"say": "hello", "node": 1, "token": "", "host": "b", **FACTS}):
            lead.gather()
            lead.order("train")
            began = time.monotonic()
            with pytest.raises(RunError, match=r"node 1 \(`b`\) was lost"):
                lead.done()
            assert 1 < time.monotonic() - began < 20
        assert lead.failed()


def test_a_directory_that_is_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SHARED_WITHIN", 0.5)
    (tmp_path / "run.json").write_text("{}")
    wanted = follow.sums(tmp_path, ("run.json",))
    follow.see(tmp_path, wanted)
    (tmp_path / "run.json").write_text("another run")
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match=f"`{directory}` is not the directory of node 0"):
            follow.see(directory, wanted)
    threading.Timer(0.2, lambda: (tmp_path / "run.json").write_text("{}")).start()
    follow.see(tmp_path, wanted)  # a file system may take a while to show it


class Caller:
    """A connection to node 0 that says one thing and is silent then."""

    def __init__(self, port: int, line: Any) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port))
        self.connection.sendall(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.connection.close()
