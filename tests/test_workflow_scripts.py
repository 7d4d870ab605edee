"""The scripts of the workflows, run by bash in the environment of a step, with a docker that notes what it is told."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / ".github" / "scripts"
GOOD = "task: sft\nmodel: {name: owner/model}\ndataset: {train: rows.jsonl}\n"

# Notes each call with its environment; `run` then does what stands in the file `does`, with the image's arguments.
DOCKER = r"""#!/usr/bin/env bash
here=$(dirname "$0")
printf '%s\0' "$@" >>"$here/calls"; printf '\n' >>"$here/calls"
case $1 in
  run) while [[ $1 != ghcr.io/* ]]; do shift; done; shift; source "$here/does" ;;
  kill) touch "$here/killed" ;;
  ps) cat "$here/running" ;;
  buildx) [[ $2 != imagetools ]] || cat "$here/base" ;;
esac
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    output: dict[str, str]
    summary: str
    calls: list[list[str]]

    @property
    def run(self) -> list[str]:
        (call,) = (call for call in self.calls if call[0] == "run")
        return call

    def given(self, option: str) -> list[str]:
        """The values of an option of `docker run`."""
        return [value for name, value in zip(self.run, self.run[1:], strict=False) if name == option]


Step = Callable[..., Ended]


@pytest.fixture
def step(tmp_path: Path) -> Step:
    """A function that runs a script as a step does, in a workspace with a recipe."""
    workspace, tools, home = (tmp_path / name for name in ("workspace", "tools", "home"))
    for folder in (workspace / "recipes", tools, home):
        folder.mkdir(parents=True)
    (workspace / "recipes" / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (workspace / "recipes" / "good.yaml").write_text(GOOD)
    (tools / "docker").write_text(DOCKER)
    (tools / "docker").chmod(0o755)
    (tools / "running").touch()
    (tools / "does").touch()

    def run(script: str, does: str = "", **environment: str) -> Ended:
        (tools / "calls").write_text("")
        if does:
            (tools / "does").write_text(does)
        for name in ("output", "summary"):
            (tmp_path / name).write_text("")
        ended = subprocess.run(
            [SCRIPTS / script],
            env=step_environment(tmp_path) | environment,
            cwd=workspace, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return seen(tmp_path, ended.returncode, ended.stdout + ended.stderr)

    return run


def step_environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{folder / 'tools'}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "GITHUB_WORKSPACE": str(folder / "workspace"),
        "GITHUB_REPOSITORY": "Ann/Recipes",
        "GITHUB_RUN_ID": "7",
        "GITHUB_RUN_ATTEMPT": "2",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        "RECIPE": "recipes/good.yaml",
        "IMAGE": "ghcr.io/owner/tunesmith:0.1.0",
    }


def seen(folder: Path, code: int, out: str) -> Ended:
    lines = (folder / "output").read_text().splitlines()
    calls = (folder / "tools" / "calls").read_text().split("\0\n")[:-1]
    output = dict(line.split("=", 1) for line in lines)
    return Ended(code, out, output, (folder / "summary").read_text(), [call.split("\0") for call in calls])


# validate.sh, with the real command


def test_a_good_recipe_passes(step: Step) -> None:
    ended = step("validate.sh")
    assert (ended.code, ended.out) == (0, "`recipes/good.yaml` is a good recipe\n")


def test_faults_are_annotations_of_their_lines(step: Step) -> None:
    ended = step("validate.sh", SET="training.epoch=2\n\n  adapter.rank=0\r\n")
    assert ended.code == 2
    first, second = ended.out.splitlines()
    assert first.startswith("::error file=--set,") and "unknown key `epoch`" in first
    assert second.startswith("::error file=--set,") and "adapter.rank" in second


def test_a_fault_names_the_file_as_the_pull_request_does(step: Step, tmp_path: Path) -> None:
    (tmp_path / "workspace/recipes/good.yaml").write_text(GOOD + "training: {epoch: 2}\n")
    assert "::error file=recipes/good.yaml,line=4,col=12,endColumn=17::unknown key" in step("validate.sh").out


def test_data_of_the_other_machine_is_not_missed(step: Step) -> None:
    changes = {"SET": 'dataset.train=/data/rows.jsonl\nmodel.name="/data/models/x"'}
    assert step("validate.sh", **changes).code == 2
    ended = step("validate.sh", **changes, DATA="/other\n/data/\n")
    assert (ended.code, ended.out) == (
        0,
        "::notice title=Tunesmith::2 paths of `recipes/good.yaml` are looked for where it trains, "
        "since they are not on this machine\n`recipes/good.yaml` is a good recipe\n",
    )
    worse = step("validate.sh", SET=changes["SET"] + "\ndataset.evaluation=/date/rows.jsonl", DATA="/data")
    assert worse.code == 2 and "/date/rows.jsonl" in worse.out and "::error file=--set" in worse.out
    assert "`/data/rows.jsonl` does not exist" not in worse.out


@pytest.mark.parametrize("recipe", ["", "none.yaml", "../outside.yaml", "recipes", "/etc/passwd", "--help", "$(id)"])
@pytest.mark.parametrize("script", ["validate.sh", "container.sh"])
def test_a_recipe_is_a_file_of_the_repository(step: Step, tmp_path: Path, script: str, recipe: str) -> None:
    (tmp_path / "outside.yaml").write_text(GOOD)
    ended = step(script, RECIPE=recipe)
    assert ended.code == 2
    assert ended.out.startswith("::error title=Tunesmith::") and ended.out.count("\n") == 1
    assert "repository" in ended.out and ended.calls == []


def test_an_input_is_never_a_command(step: Step, tmp_path: Path) -> None:
    nasty = f"name=$(touch {tmp_path}/done)`touch {tmp_path}/done`; touch {tmp_path}/done\n::error::made up"
    ended = step("container.sh", SET=nasty, ARGS=nasty)
    assert ended.code == 0 and not (tmp_path / "done").exists()
    assert ended.run.count("--set=" + nasty.splitlines()[0]) == 1
    assert ended.run.count("--set=::error::made up") == 1
    refused = step("container.sh", RECIPE="a%0A::error::b\n::add-mask::c")
    assert refused.out.count("\n") == 1 and "a%250A" in refused.out and "%0A::add-mask" in refused.out


# container.sh


def test_the_container_can_do_little(step: Step, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    ended = step("container.sh", SET="training.epochs=1", DATA=f"{data}\n", HF_TOKEN="hf-secret")
    assert ended.code == 0, ended.out
    workspace, summary, home = (tmp_path / name for name in ("workspace", "summary", "home"))
    directory = ended.output["directory"]
    assert Path(directory).is_relative_to(home / "tunesmith/runs/Ann/Recipes") and Path(directory).is_dir()
    run = ended.run
    image = run.index("ghcr.io/owner/tunesmith:0.1.0")
    assert run[image + 1 :] == [
        "train", "--set=training.epochs=1", f"--set=output.directory={directory}", "--", "recipes/good.yaml",
    ]  # fmt: skip
    assert {"--rm", "--init", "--read-only"} <= set(run)
    assert ended.given("--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert ended.given("--cap-drop") == ["ALL"] and ended.given("--security-opt") == ["no-new-privileges"]
    assert ended.given("--gpus") == ["all"] and ended.given("--shm-size") == ["16g"]
    assert ended.given("--workdir") == [str(workspace)]
    assert ended.given("--mount") == [
        f"type=bind,source={workspace},target={workspace},readonly",
        f"type=bind,source={home}/tunesmith/cache,target=/cache",
        f"type=bind,source={data},target={data},readonly",
        f"type=bind,source={directory},target={directory}",
        f"type=bind,source={summary},target={summary}",
    ]
    assert "HF_TOKEN" in ended.given("--env") and "WANDB_API_KEY" not in ended.given("--env")
    assert "hf-secret" not in " ".join(run) + ended.out
    assert ended.output | {"directory": ""} == {
        "container": ended.given("--name")[0], "directory": "", "key": Path(directory).name, "exit-code": "0",
    }  # fmt: skip


def test_without_gpus(step: Step) -> None:
    assert "--gpus" not in step("container.sh", GPUS="none").run


def test_a_recipe_finds_its_folder_again_and_another_has_its_own(step: Step, tmp_path: Path) -> None:
    def directory(**changes: str) -> str:
        return step("container.sh", **changes).output["directory"]

    first = directory()
    assert directory(GITHUB_RUN_ID="8") == first
    others = {directory(SET="training.epochs=2"), directory(GITHUB_REPOSITORY="ann/other")}
    (tmp_path / "workspace/recipes/good.yaml").write_text(GOOD + "training: {epochs: 2}\n")
    assert len({first, *others, directory()}) == 4
    assert Path(first).name.startswith("recipes-good-")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (2, "the recipe or the data is wrong"),
        (3, "it pushes and does not train. By hand on the runner: `tunesmith push`"),
        (4, "out of memory"),
        (75, "interrupted with a checkpoint saved: *Re-run failed jobs* goes on from there"),
        (125, "docker could not start `ghcr.io/owner/tunesmith:0.1.0`"),
        (137, "killed, mostly for want of memory"),
        (1, "failed with exit code 1"),
    ],
)
def test_each_exit_code_says_what_to_do(step: Step, code: int, message: str) -> None:
    ended = step("container.sh", does=f"exit {code}")
    assert ended.code == code and ended.output["exit-code"] == str(code)
    assert ended.out.splitlines()[-1].startswith("::error title=Tunesmith::") and message in ended.out
    assert ended.summary.startswith("## Tunesmith\n\n") and message in ended.summary
    told = step("container.sh", does=f'echo "## ours" >>"$GITHUB_STEP_SUMMARY"; exit {code}')
    assert told.summary == "## ours\n"


def test_what_a_model_writes_is_no_command_of_the_workflow(step: Step) -> None:
    lines = step("container.sh", does="echo '::error::by the model'; printf 'no end of line'; exit 1").out.splitlines()
    stopped = next(line for line in lines if line.startswith("::stop-commands::"))
    token = stopped.removeprefix("::stop-commands::")
    assert len(token) == 32
    assert lines.index(stopped) < lines.index("::error::by the model") < lines.index(f"::{token}::") < len(lines) - 1


def test_a_run_that_a_lost_runner_left_is_stopped_first(step: Step, tmp_path: Path) -> None:
    (tmp_path / "tools/running").write_text("abc\n")
    ended = step("container.sh")
    assert [call[0] for call in ended.calls] == ["ps", "stop", "run"]
    assert ended.calls[0][-1] == f"label=tunesmith.run={ended.output['directory']}"
    assert ended.calls[0][-1].removeprefix("label=") in ended.given("--label")
    assert ended.calls[1] == ["stop", "-t", "300", "abc"]
    assert "::notice title=Tunesmith::an earlier run" in ended.out


def test_a_cancelled_job_waits_for_the_checkpoint(step: Step, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    (tools / "does").write_text(
        'touch "$here/started"; while [[ ! -e $here/killed ]]; do sleep 0.05; done; sleep 0.5; exit 75'
    )
    for name in ("output", "summary", "tools/calls"):
        (tmp_path / name).write_text("")
    process = subprocess.Popen(
        [SCRIPTS / "container.sh"],
        env=step_environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    until(lambda: (tools / "started").exists())
    process.send_signal(signal.SIGINT)
    until(lambda: (tools / "killed").exists())
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    ended = seen(tmp_path, process.returncode, out)
    assert ended.code == 75, out
    assert [call for call in ended.calls if call[0] == "kill"] == [
        ["kill", "--signal", "TERM", ended.output["container"]]
    ]
    assert "interrupted with a checkpoint saved" in ended.out


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"IMAGE": ""}, "no image is given"),
        ({"IMAGE": "--privileged"}, "`--privileged` is no name of an image"),
        ({"VERB": "push"}, "`push` is no verb for a workflow"),
        ({"DATA": "/"}, "`data` `/` is no absolute path"),
        ({"DATA": "data"}, "`data` `data` is no absolute path"),
        ({"DATA": "/a,readonly=false"}, "is no absolute path"),
        ({"DATA": "/no/such/place"}, "`data` `/no/such/place` is no directory of this runner"),
        ({"OUTPUTS": "outputs"}, "`outputs` is an absolute path of the runner, not `outputs`"),
        ({"OUTPUTS": "/proc/x"}, "of the runner cannot write to `/proc/x`"),
    ],
)
def test_wrong_inputs_are_told(step: Step, changes: dict[str, str], message: str) -> None:
    ended = step("container.sh", **changes)
    assert (ended.code, ended.calls) == (2, [])
    assert ended.out.startswith("::error title=Tunesmith::") and message in ended.out, ended.out


def test_outputs_outlive_the_next_checkout(step: Step, tmp_path: Path) -> None:
    ended = step("container.sh", OUTPUTS=str(tmp_path / "workspace/outputs"))
    assert ended.code == 2 and "which the next checkout empties" in ended.out


def test_the_check_in_a_container_sees_no_network_and_shows_lines(step: Step) -> None:
    ended = step("container.sh", does='tunesmith "$@"', VERB="validate", SET="training.epoch=2", HF_TOKEN="hf-secret")
    assert ended.code == 2
    assert ended.given("--network") == ["none"] and "--gpus" not in ended.run
    assert "HF_TOKEN" not in ended.run and "::stop-commands" not in ended.out
    assert ended.out.startswith("::error file=--set,")


# stop.sh, image.sh


def test_what_a_cancelled_step_left_is_stopped(step: Step, tmp_path: Path) -> None:
    assert step("stop.sh").calls == []
    assert [call[0] for call in step("stop.sh", CONTAINER="tunesmith-7").calls] == ["ps"]
    (tmp_path / "tools/running").write_text("abc\n")
    assert step("stop.sh", CONTAINER="tunesmith-7").calls == [
        ["ps", "--quiet", "--filter", "name=^tunesmith-7$"],
        ["stop", "-t", "240", "abc"],
    ]


def release(folder: Path) -> dict[str, str]:
    """What a step of a release has, with the files that it reads; its image gets a digest."""
    workspace, digest = folder / "workspace", "sha256:" + "0123456789abcdef" * 4
    for name in ("Dockerfile", "pyproject.toml", "requirements.lock", "requirements-cuda.lock", "image/labels.sh"):
        (workspace / name).parent.mkdir(exist_ok=True)
        (workspace / name).write_bytes((SCRIPTS.parent.parent / name).read_bytes())
    (folder / "tools/base").write_text("")
    (folder / "image.json").write_text(
        f'{{\n  "containerimage.config.digest": "x",\n  "containerimage.digest": "{digest}"\n}}'
    )
    return {
        "GITHUB_SHA": "a" * 40,
        "GITHUB_ACTOR": "ann",
        "RUNNER_TEMP": str(folder),
        "REGISTRY_TOKEN": "secret-token",
        "GITHUB_REF_NAME": "v0.1.0",
    }


def test_an_image_is_built_of_its_own_tag_alone(step: Step, tmp_path: Path) -> None:
    given = release(tmp_path)
    wrong = step("image.sh", **given | {"GITHUB_REF_NAME": "v0.2.0"})
    assert (wrong.code, wrong.calls) == (2, [])
    assert wrong.out == "::error title=Tunesmith::the tag `v0.2.0` is not that of version `0.1.0`\n"
    ended = step("image.sh", **given)
    assert ended.code == 0, ended.out
    digest = "sha256:" + "0123456789abcdef" * 4
    assert ended.output == {"name": "ghcr.io/ann/recipes", "digest": digest}
    login, *_, build = ended.calls
    assert login == ["login", "ghcr.io", "--username", "ann", "--password-stdin"]
    assert {"--push", "--sbom=true", "--provenance=mode=max"} <= set(build)
    assert build[build.index("--tag") + 1] == "ghcr.io/ann/recipes:0.1.0"
    assert f"docker pull ghcr.io/ann/recipes@{digest}" in ended.summary
    assert "secret-token" not in ended.out + str(ended.calls)


def test_an_image_is_built_on_digests_and_says_what_of(step: Step, tmp_path: Path) -> None:
    given = release(tmp_path)
    ended = step("image.sh", **given)
    build = ended.calls[-1]
    given_as = {
        name: [after for before, after in zip(build, build[1:], strict=False) if before == name] for name in build
    }
    lock = b"".join((tmp_path / f"workspace/requirements{name}.lock").read_bytes() for name in ("", "-cuda"))
    base, devel = pinned((tmp_path / "workspace/Dockerfile").read_text())
    assert given_as["--build-arg"] == ["WITH_FLASH_ATTN=1"]
    assert set(given_as["--label"]) == {
        "org.opencontainers.image.source=https://github.com/Ann/Recipes",
        "org.opencontainers.image.version=0.1.0",
        f"org.opencontainers.image.revision={'a' * 40}",
        f"org.opencontainers.image.base.name={base}",
        f"tunesmith.lock.sha256={hashlib.sha256(lock).hexdigest()}",
    }
    wheel = step("image.sh", **given, FLASH_ATTN_WHEEL="https://example.org/flash_attn.whl").calls[-1]
    assert {"WITH_FLASH_ATTN=wheel", "FLASH_ATTN_WHEEL=https://example.org/flash_attn.whl"} <= set(wheel)
    looked_up = [call[3] for call in ended.calls if call[:3] == ["buildx", "imagetools", "inspect"]]
    assert looked_up == [base.partition("@")[0], devel.partition("@")[0]]


def pinned(dockerfile: str) -> list[str]:
    """The bases of a Dockerfile, which are named by tag and digest."""
    return re.findall(r"^ARG \w+_IMAGE=(docker\.io/nvidia/cuda:[\w.-]+@sha256:[0-9a-f]{64})$", dockerfile, re.MULTILINE)


def test_a_release_tells_of_a_base_whose_tag_has_moved_and_is_built_on_what_is_pinned(
    step: Step, tmp_path: Path
) -> None:
    given = release(tmp_path)
    base, devel = pinned((tmp_path / "workspace/Dockerfile").read_text())
    (tmp_path / "tools/base").write_text(base.partition("@")[2] + "\n")  # the stand-in tells it of either
    ended = step("image.sh", **given)
    tag, _, digest = devel.partition("@")
    moved = f"::warning title=Tunesmith::`{tag}` is `{base.partition('@')[2]}` today; the Dockerfile pins `{digest}`\n"
    assert ended.code == 0 and ended.out.count("::") == 2 and moved in ended.out


def test_a_release_is_not_built_on_a_tag_alone(step: Step, tmp_path: Path) -> None:
    given = release(tmp_path)
    dockerfile = tmp_path / "workspace/Dockerfile"
    dockerfile.write_text(re.sub(r"(ARG DEVEL_IMAGE=\S+)@\S+", r"\1", dockerfile.read_text()))
    ended = step("image.sh", **given)
    assert ended.code == 2 and "`DEVEL_IMAGE` of the Dockerfile is not pinned: `docker.io/nvidia/cuda:" in ended.out
    assert not any("--push" in call for call in ended.calls)
