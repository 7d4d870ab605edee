"""The command line completed in real shells, and the examples of its help."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from runner import arguments, cli, completion
from runner.reading.keys import TASKS

STARTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config"],
}
SETUP = {
    "bash": "bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; PS1=; source ./c.bash",
    "zsh": "unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -d ./dump; source ./c.zsh",
}
# What is typed, where `\t` completes, and the words that come of it.
TYPED = {
    "val\t good\t": ["validate", "good.yaml"],
    "init --ta\tconti\t a\\ f\t": ["init", "--task", "continued_pretraining", "a file.csv"],
    "rew\tch\tgood\t --prom\t3": ["rewards", "check", "good.yaml", "--prompts", "3"],
    "plan good.yaml --form\tgi\t": ["plan", "good.yaml", "--format", "github"],
    "report --out\tgood\t fol\t": ["report", "--output", "good.yaml", "folder"],
}


@pytest.fixture
def folder(here: Path) -> Path:
    for shell in completion.SHELLS:
        (here / f"c.{shell}").write_text(completion.script(shell, arguments.parser()))
    for name in ("good.yaml", "a file.csv"):
        (here / name).touch()
    (here / "folder").mkdir()
    return here


def typed(shell: str, keys: str) -> list[str]:
    """The words that an interactive shell hands to `tunesmith` after these keys."""
    leader, follower = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "HOME": os.getcwd(), "TERM": "dumb", "LANG": "C.UTF-8"}
    process = subprocess.Popen(
        STARTS[shell], stdin=follower, stdout=follower, stderr=follower, env=environment, start_new_session=True
    )
    os.close(follower)
    said = ""

    def until(words: str) -> None:
        nonlocal said
        deadline = time.monotonic() + 60
        while words not in said:
            assert time.monotonic() < deadline, said
            if select.select([leader], [], [], 1)[0]:
                said += os.read(leader, 4096).decode(errors="replace")

    try:
        os.write(
            leader, f"{SETUP[shell]}; tunesmith() {{ printf '<%s>' \"$@\"; echo e''nd; }}; echo rea''dy\n".encode()
        )
        until("ready")
        for part in re.split("(\t)", f"tunesmith {keys}"):
            os.write(leader, part.encode())
            time.sleep(0.1)  # a shell takes what comes at once for a paste
        os.write(leader, b"\n")
        until("end")
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    return re.findall("<(.*?)>", said[: said.index("end")].rsplit("\n", 1)[-1])


@pytest.mark.parametrize("keys", TYPED)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_keys_become_words(shell: str, keys: str, folder: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    assert [word.rstrip("/") for word in typed(shell, keys)] == TYPED[keys]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("val", {"validate"}),
        ("init --task ", set(TASKS)),
        ("rewards ", {"check"}),
        ("rewards check --compl", {"--completions"}),
        ("plan good.yaml --format ", {"text", "json", "github"}),
        ("validate go", {"good.yaml"}),
        ("report fol", {"folder/"}),
        ("completion ", set(arguments.SHELLS)),
    ],
)
def test_what_fish_offers(line: str, offered: set[str], folder: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("needs fish")
    script = f"source c.fish; complete -C {shlex.quote(f'tunesmith {line}')}"
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert {each.split("\t")[0] for each in done.stdout.splitlines()} == offered


@pytest.mark.parametrize("shell", arguments.SHELLS)
def test_a_shell_takes_the_script(shell: str, folder: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    done = subprocess.run([shell, "-n", f"c.{shell}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_verb_and_option_is_known_to_every_shell() -> None:
    found = list(completion.verbs(arguments.parser()))
    assert {verb.path[0] for verb in found if verb.path} == set(cli.VERBS)
    for shell in completion.SHELLS:
        script = completion.script(shell, arguments.parser())
        for verb in found:
            assert all(name in script for name in verb.path)
            for name in (name for word in verb.words for name in word.names):
                short = name.lstrip("-")
                in_fish = f"-l {short}" if name.startswith("--") else f"-s {short}"
                assert (in_fish if shell == "fish" else name) in script, name
    assert set(completion.SHELLS) == set(arguments.SHELLS)


@pytest.mark.parametrize("path", arguments.EXAMPLES)
def test_the_examples_of_the_help_can_be_run(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments.parser().parse_args([*path.split(), "--help"])
    shown = capsys.readouterr().out
    for example in arguments.EXAMPLES[path]:
        assert f"  {example}\n" in shown
        command = example.removeprefix('eval "$(').removesuffix(')"').split(" > ")[0]
        program, *words = shlex.split(command)
        assert program == "tunesmith"
        assert arguments.parser().parse_args(words).verb == path.split()[0]


def test_every_verb_has_examples() -> None:
    actions = {" ".join(verb.path) for verb in completion.verbs(arguments.parser()) if verb.path}
    assert actions - {"rewards"} == set(arguments.EXAMPLES)
