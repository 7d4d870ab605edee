"""The image as it is run: read-only, by a user it does not know, without a network, and told to stop at any time."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from containers import (
    ALONE,
    ENGINE,
    IMAGE,
    NOBODY,
    ROOT,
    STRICT,
    Place,
    Started,
    engine,
    eventually,
    listens,
    place,
    run,
)
from hub_server import HubServer

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not (ENGINE and IMAGE), reason="`make test-image` names an image and what runs it"),
]


@dataclass(frozen=True)
class Trained:
    where: Place
    out: str


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run by the image's own command, under all restrictions at once, and what it printed."""
    tmp_path_factory.getbasetemp().chmod(0o755)
    where = place(tmp_path_factory.mktemp("trained"))
    done = run([*STRICT, *ALONE, "--env=HOME=", *where.mounts])
    assert done.code == 0, done.out + done.err
    return Trained(where, done.out)


def adapter(where: Place) -> bytes:
    return (where.run / "adapter" / "adapter_model.safetensors").read_bytes()


def steps(where: Place) -> list[int]:
    """The steps in a run's log, each as often as it stands there."""
    log = where.run / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    return [json.loads(line)["step"] for line in lines if '"loss"' in line and line.endswith("\n")]


def owners(folder: Path) -> set[int]:
    return {path.stat().st_uid for path in folder.rglob("*")}


# A run


def test_the_image_trains_what_is_mounted(trained: Trained) -> None:
    assert trained.where.state()["status"] == "done"
    assert adapter(trained.where)
    assert owners(trained.where.folder / "outputs") == {NOBODY}
    assert "/outputs/recipe/adapter" in trained.out and "in a container" in trained.out


def pushing(hub: HubServer, where: Place) -> tuple[list[str], list[object]]:
    """Options and words of the same run, which now has somewhere to be pushed to."""
    given = [f"--env={name}={value}" for name, value in hub.environment.items()]
    return [*STRICT, "--network=host", *given, *where.mounts], [
        "train",
        "/recipe.yaml",
        "--set=output.hub.repository=ann/demo",
    ]


def test_a_finished_run_is_pushed_and_not_trained_again(trained: Trained, hub_server: HubServer) -> None:
    where = trained.where
    before = (where.run / "metrics.jsonl").read_bytes()
    options, words = pushing(hub_server, where)
    commit = "POST .*/commit/"
    hub_server.fail(commit, "hang")
    with Started(options, *words) as container:
        eventually(lambda: hub_server.count(commit))
        engine("kill", "--signal", "TERM", container.name)
        assert container.wait() == 75, container.says()
        assert "stopped by SIGTERM" in container.says()
    assert where.state()["status"] == "not_pushed"
    done = run(options, *words)
    assert done.code == 0, done.out + done.err
    assert (where.run / "metrics.jsonl").read_bytes() == before
    assert "pushed: " in done.out and hub_server.environment["HF_TOKEN"] not in done.out + done.err


def test_a_run_that_is_stopped_goes_on_to_the_same_adapter(trained: Trained, tmp_path: Path) -> None:
    where = place(tmp_path / "stopped")
    with Started([*STRICT, *ALONE, *where.mounts]) as container:
        eventually(lambda: list(where.run.glob("checkpoints/step-*")))
        stopped = engine("stop", "--time", 300, container.name)
        assert stopped.code == 0, stopped.err
        assert container.wait() == 75, container.says()
        assert "error: stopped by SIGTERM, after the run had saved a checkpoint" in container.says()
    assert where.state()["status"] == "interrupted"
    assert where.run.glob("checkpoints/step-*") and not (where.run / "adapter").exists()
    done = run([*STRICT, *ALONE, *where.mounts])
    assert done.code == 0, done.out + done.err
    assert steps(where) == [1, 2, 3, 4] and adapter(where) == adapter(trained.where)


def test_a_run_that_is_ended_at_any_moment_goes_on_to_the_same_adapter(trained: Trained, tmp_path: Path) -> None:
    where, moments = place(tmp_path / "ended"), random.Random(1)
    codes = {"TERM": 75, "KILL": 137}
    for step, name in zip(sorted(moments.choices(range(5), k=4)), ("KILL", "TERM", "KILL", "TERM"), strict=True):
        delay = moments.uniform(0, 5)
        with Started([*STRICT, *ALONE, *where.mounts]) as container:
            process = container.process()
            eventually(partial(listens, process), 60)  # a signal before that is lost
            eventually(lambda step=step: len(steps(where)) >= step)
            time.sleep(delay)
            running = engine("kill", "--signal", name, container.name).code == 0
            code, told = container.wait(), f"{name} {delay:.1f} s after step {step}: {container.says()}"
            assert code == (codes[name] if running else 0) and "Traceback" not in told, told
    done = run([*STRICT, *ALONE, *where.mounts])
    assert done.code == 0, done.out + done.err
    assert steps(where) == [1, 2, 3, 4] and adapter(where) == adapter(trained.where)


@pytest.mark.parametrize(
    ("number", "delay"),
    [
        ("TERM", 0.0),
        ("TERM", 0.1),
        ("TERM", 0.3),
        ("TERM", 1.0),
        ("TERM", 3.0),
        ("TERM", 8.0),
        ("INT", 0.0),
        ("INT", 2.0),
        ("USR1", 1.0),
    ],
)
def test_a_signal_at_the_start_ends_the_run_as_interrupted(tmp_path: Path, number: str, delay: float) -> None:
    where = place(tmp_path / "early")
    with Started([*STRICT, *ALONE, *where.mounts]) as container:
        process = container.process()
        eventually(lambda: listens(process), 60)
        time.sleep(delay)
        began = time.monotonic()
        engine("kill", "--signal", number, container.name)
        assert container.wait() == 75, container.says()
        assert time.monotonic() - began < 60
        assert f"stopped by SIG{number}" in container.says() and "Traceback" not in container.says()


def test_orphans_leave_no_zombies(tmp_path: Path) -> None:
    where = place(tmp_path / "orphans", {"training": {"max_steps": 400}})
    orphan = "import os, time\nif os.fork() == 0:\n    os.setsid(); os.fork() or time.sleep(0.5)"
    with Started([*STRICT, *ALONE, *where.mounts]) as container:
        eventually(lambda: (where.run / "logs" / "train-0.log").exists())
        for _ in range(3):
            assert engine("exec", container.name, "python", "-c", orphan).code == 0
        process = container.process()

        def children() -> list[str]:
            found = subprocess.run(
                ["ps", "--no-headers", "-o", "stat", "--ppid", str(process)], capture_output=True, text=True
            )
            return found.stdout.split()

        time.sleep(1.5)
        assert not [state for state in children() if state.startswith("Z")]
        engine("kill", "--signal", "TERM", container.name)
        assert container.wait() == 75


# What people get wrong


def test_no_recipe() -> None:
    done = run([*STRICT, *ALONE])
    assert done.code == 2
    assert "error: `/recipe.yaml` does not exist" in done.err
    assert (
        'hint: mount the recipe and what it names: `docker run --gpus all -v "$PWD/recipe.yaml:/recipe.yaml:ro"'
        in done.err
    )


def test_a_directory_in_place_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").mkdir()
    done = run([*STRICT, *ALONE, f"-v={tmp_path}/recipe.yaml:/recipe.yaml:ro"])
    assert done.code == 2
    assert "error: `/recipe.yaml` is a directory" in done.err
    assert "hint: docker makes one where the host has no such file" in done.err


def test_a_recipe_that_may_not_be_read(tmp_path: Path) -> None:
    where = place(tmp_path / "private")
    (where.folder / "recipe.yaml").chmod(0o600)
    done = run([*STRICT, *ALONE, *where.mounts])
    assert done.code == 2
    assert "error: `/recipe.yaml` cannot be read: permission denied" in done.err
    assert f"hint: this is user {NOBODY}: on the host `chmod a+r` the file" in done.err


def test_outputs_that_may_not_be_written(tmp_path: Path) -> None:
    where = place(tmp_path / "foreign")
    (where.folder / "outputs").chmod(0o755)
    done = run([*STRICT, *ALONE, *where.mounts])
    assert done.code == 1
    assert "error: cannot write to `/outputs/recipe`: Permission denied" in done.err
    assert f"hint: this is user {NOBODY}: on the host `mkdir -p outputs`" in done.err and "Traceback" not in done.err


def test_outputs_that_are_not_mounted(tmp_path: Path) -> None:
    where = place(tmp_path / "forgotten")
    mounts = where.mounts[:3]
    done = run([*STRICT, *ALONE, *mounts])
    assert done.code == 1 and "error: cannot write to `/outputs/recipe`: " in done.err
    with Started([*ALONE, *mounts]) as container:
        warning = "warning: output: `/outputs/recipe` is in the container, and is lost with it; mount a folder"
        eventually(lambda: warning in container.says(), 120)


def test_data_that_is_not_mounted(tmp_path: Path) -> None:
    where = place(tmp_path / "nothing")
    done = run([*STRICT, *ALONE, where.mounts[0], where.mounts[2]])
    assert done.code == 2
    assert "error: `data/train.jsonl` does not exist" in done.err
    assert 'hint: nothing is mounted at `/data`: pass `-v "$PWD/data:/data:ro"`' in done.err


# Other verbs


def test_help_and_a_word_that_is_none() -> None:
    done = run(["--read-only"], "--help")
    assert done.code == 0 and "validate" in done.out
    wrong = run([], "trian", "/recipe.yaml")
    assert wrong.code == 2 and "Traceback" not in wrong.err


def test_a_recipe_is_validated(tmp_path: Path) -> None:
    where = place(tmp_path / "checked")
    good = run([*STRICT, *ALONE, *where.mounts], "validate", "--data", "/recipe.yaml")
    assert (good.code, good.out) == (0, "`/recipe.yaml` is a good recipe for `sft`: 8 training rows, 8 held out\n")
    wrong = run([*STRICT, *ALONE, *where.mounts], "validate", "--set=training.epoch=1", "/recipe.yaml")
    assert wrong.code == 2 and "epoch" in wrong.err


def test_the_doctor_finds_a_container_that_can_train(tmp_path: Path) -> None:
    where = place(tmp_path / "examined")
    done = run([*STRICT, *ALONE, "--env=HOME=", *where.mounts], "doctor", "--json", "/recipe.yaml")
    assert done.code == 0, done.out + done.err
    found = {each["name"]: each for each in json.loads(done.out)["findings"]}
    assert found["container"]["found"] == ENGINE
    assert found["root file system"]["found"].startswith("read-only")
    assert found["shared memory"]["found"].startswith("64 MiB")
    assert found["user"]["found"].startswith(f"user id {NOBODY}, which has no entry")
    assert found["C++ compiler"]["status"] == found["C compiler"]["status"] == "missing"
    faults = [name for name, each in found.items() if each["status"] == "fault"]
    warnings = [name for name, each in found.items() if each["status"] == "warning"]
    assert (faults, warnings) == ([], ["home"])


def test_the_doctor_says_what_to_pass() -> None:
    done = run([*STRICT, *ALONE, "--tmpfs=/cache:ro", "--tmpfs=/tmp:noexec,mode=1777"], "doctor", "--json")
    found = {each["name"]: each for each in json.loads(done.out)["findings"]}
    assert found["Hub cache"]["hint"].startswith("pass `-v tunesmith-cache:/cache`")
    assert 'pass `-v "$PWD/outputs:/outputs"`' in found["output"]["hint"]
    assert done.code == 1


# What is in it


def test_nothing_of_the_build_is_left() -> None:
    look = "import shutil, importlib.util as u, os\n"
    look += "print([n for n in ('gcc', 'cc', 'g++', 'make', 'git', 'nvcc') if shutil.which(n)])\n"
    look += "print([n for n in ('pytest', 'mypy', 'ruff', 'hypothesis') if u.find_spec(n)])\n"
    look += "print([p for p in ('/build', '/source', '/runner', '/wheels', '/root/.cache') if os.path.exists(p)])\n"
    done = engine("run", "--rm", "--entrypoint=python", IMAGE, "-c", look)
    assert done.out == "[]\n[]\n[]\n", done.out + done.err


def test_its_code_is_that_of_the_tree() -> None:
    """A builder's cache may not see that it has changed."""
    look = "import hashlib, json, pathlib, runner\n"
    look += "at = pathlib.Path(runner.__file__).parent\n"
    look += "digests = {str(p.relative_to(at)): hashlib.sha256(p.read_bytes()).hexdigest() for p in at.rglob('*.py')}\n"
    look += "print(json.dumps(digests))"
    done = engine("run", "--rm", "--entrypoint=python", IMAGE, "-c", look)
    here = {str(path.relative_to(ROOT / "runner")): path for path in (ROOT / "runner").rglob("*.py")}
    assert json.loads(done.out) == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in here.items()}


def test_the_labels_say_what_it_was_made_of() -> None:
    labels = json.loads(engine("image", "inspect", "--format", "{{json .Config.Labels}}", IMAGE).out)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert labels["org.opencontainers.image.revision"].startswith(head)
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert len(labels["tunesmith.lock.sha256"]) == 64


def test_the_report_names_each_layer() -> None:
    done = subprocess.run(
        [ROOT / "image" / "report.sh", IMAGE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (
        "GB, without compression" in done.stdout and "COPY" in done.stdout and "tunesmith.lock.sha256=" in done.stdout
    )
