"""Which node this is: by the command line, by the environment, by SLURM; and what is said where that is not clear."""

from __future__ import annotations

import pytest

from runner import errors, nodes, slurm
from runner.nodes import Nodes

STEP = {
    "SLURM_JOB_ID": "1234", "SLURM_STEP_NUM_NODES": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NODEID": "2",
    "SLURM_STEP_NODELIST": "gpu[03-05,9],login1", "SLURM_JOB_NUM_NODES": "4",
}  # fmt: skip


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("gpu[03-05,9],login1", "gpu03"), ("node7", "node7"), ("a,b", "a"), ("rack[2-3]n[1-4]", "rack2n1"),
        ("a-[1]-x.example", "a-1-x.example"), ("", ""),
    ],
)  # fmt: skip
def test_the_first_host_of_a_list(hosts: str, first: str) -> None:
    assert slurm.first_host(hosts) == first


def test_one_node_needs_nothing() -> None:
    assert nodes.find(None, None, None, {}) == Nodes()
    assert nodes.find(1, None, None, {}).count == 1


def test_the_command_line_wins_over_the_environment_and_that_over_slurm() -> None:
    told = {"TUNESMITH_NODES": "3", "TUNESMITH_NODE_RANK": "1", "TUNESMITH_RENDEZVOUS": "b:1", **STEP}
    assert nodes.find(2, 1, "[::1]:29400", told) == Nodes(2, 1, "::1", 29400)
    assert nodes.find(None, None, None, told) == Nodes(3, 1, "b", 1)
    assert nodes.find(None, None, None, STEP) == Nodes(4, 2, "gpu03", 29400 + 234)


def test_a_token_and_the_patience_come_from_the_environment() -> None:
    found = nodes.find(2, 0, "a:1", {nodes.TOKEN: "x", nodes.SECONDS: "20"})
    assert (found.token, found.patience) == ("x", 20.0)


def test_a_job_without_srun_leaves_nodes_idle() -> None:
    assert (
        nodes.find(None, None, None, {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NODEID": "0"}).idle == 1
    )
    assert nodes.find(None, None, None, {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"}).idle == 0


@pytest.mark.parametrize(
    ("given", "environment", "message", "hint"),
    [
        ((2, None, None), {}, "several nodes, but not `--node-rank`", "--rendezvous host-of-node-0:29400"),
        ((2, 0, None), {}, "several nodes, but not `--rendezvous`", None),
        ((None, 0, "a:1"), {}, "several nodes, but not `--nodes`", None),
        ((None, None, None), {"TUNESMITH_NODES": "2"}, "environment tells of several nodes", None),
        ((0, None, None), {}, "`0` is no number of nodes", None),
        ((2, 2, "a:1"), {}, "there is no node 2 of 2", "from 0 to 1"),
        ((2, -1, "a:1"), {}, "`-1` is no number of a node", None),
        ((None, 1, None), {}, "but not `--nodes`", None), ((1, 1, None), {}, "there is no node 1 of 1", "from 0 to 0"),
        ((2, 0, "a"), {}, "`a` is no host and port", "`host:29400`"),
        ((2, 0, "a:0"), {}, "`a:0` is no host and port", None),
        ((2, 0, "a:99999"), {}, "`a:99999` is no host and port", None),
        ((2, 0, "::1:5"), {}, "`::1:5` is no host and port", "`[address]:29400`"),
        ((2, 0, "a:1"), {nodes.SECONDS: "soon"}, "`soon`, which is no number of seconds", None),
        ((None, None, None), {"TUNESMITH_NODES": "two"}, "`two` is no number of nodes", None),
        (
            (None, None, None), STEP | {"SLURM_STEP_NUM_TASKS": "32"},
            "`srun` started 32 processes on 4 nodes", "`srun --ntasks-per-node=1`",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong(
    given: tuple[int | None, int | None, str | None], environment: dict[str, str], message: str, hint: str | None
) -> None:
    with pytest.raises(errors.UserError) as caught:
        nodes.find(*given, environment)
    (problem,) = caught.value.problems
    assert message in problem.message
    assert hint is None or hint in (problem.hint or "")
