"""What workers print reaches their logs: all of it, without secrets, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner import logs

VALUE = "correct-horse-battery"
SHAPED = "hf_" + "A1b2" * 9


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", VALUE)


def printing(script: str, *files: Path) -> tuple[logs.Logs, list[subprocess.Popen[bytes]]]:
    """A process a file that runs the script, as workers are started."""
    begun = logs.begin(files)
    command = [sys.executable, "-c", script]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=to, stderr=to) for to in begun.writing]
    begun.begun()
    return begun, processes


def test_secrets_are_masked_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "train-0.log"
    file.write_text("an earlier session\n")
    script = f"""
import os, sys
print("token {SHAPED} and {VALUE}", file=sys.stderr)
sys.stdout.flush()
os.write(1, b"half a charact\\xc3"); os.write(1, b"\\xa9r, a stray \\xff, {VALUE[:7]}"); os.write(1, b"{VALUE[7:]}\\n")
print("https://ann:{VALUE}2@host/x", end="")
"""
    begun, (process,) = printing(script, file)
    process.wait()
    begun.end(20)
    expected = "an earlier session\ntoken [redacted] and [redacted]\nhalf a charactér, a stray \udcff, [redacted]\n"
    assert file.read_text(errors="surrogateescape") == expected + "https://[redacted]@host/x"


def test_the_last_lines_of_a_killed_worker_are_there(tmp_path: Path) -> None:
    files = [tmp_path / f"train-{rank}.log" for rank in range(2)]
    script = """
import os, signal
for number in range(20_000):
    print("line", number, flush=True)
os.write(1, b"without an end")
os.kill(os.getpid(), signal.SIGKILL)
"""
    begun, processes = printing(script, *files)
    assert [process.wait() for process in processes] == [-signal.SIGKILL] * 2
    begun.end(60)
    for file in files:
        lines = file.read_text().split("\n")
        assert len(lines) == 20_001 and lines[-1] == "without an end"


def test_a_worker_prints_on_where_its_supervisor_is_killed(tmp_path: Path) -> None:
    file, marker = tmp_path / "train-0.log", tmp_path / "marker"
    worker = f"""
import os, time
from pathlib import Path
print("before", flush=True)
while not Path({str(marker)!r}).exists():
    time.sleep(0.02)
for number in range(50_000):
    print("after", number)
print("{SHAPED}", flush=True)
Path({str(marker)!r}).write_text("done")
"""
    supervisor = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_logs import printing
printing({worker!r}, Path({str(file)!r}))
print("begun", flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.kill()
    process.communicate()
    marker.write_text("")
    until = time.monotonic() + 120
    while not (file.exists() and file.read_text().endswith("[redacted]\n")):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert marker.read_text() == "done"
    assert file.read_text().count("after") == 50_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_to_every_process_of_a_run_are_none_to_it(tmp_path: Path, number: int) -> None:
    file = tmp_path / "train-0.log"
    begun, (process,) = printing("import sys; print('first', flush=True); sys.stdin.read(); print('last')", file)
    os.kill(begun.process.pid, number)  # in its first moments
    while not file.exists() or not file.read_text():
        time.sleep(0.05)
    os.kill(begun.process.pid, number)
    assert begun.process.poll() is None
    process.communicate()
    begun.end(20)
    assert file.read_text() == "first\nlast\n" and process.returncode == 0
    assert begun.process.wait(10) == 0


def test_a_line_that_does_not_end_is_shown_after_a_moment(tmp_path: Path) -> None:
    file = tmp_path / "train-0.log"
    begun, (process,) = printing("import os, time; os.write(1, b'waiting for the others'); time.sleep(600)", file)
    until = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.wait()
    begun.end(20)


def test_what_outlives_a_worker_holds_nobody_up_and_is_read_on(tmp_path: Path) -> None:
    file = tmp_path / "train-0.log"
    script = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3); print('late')"], start_new_session=True)
print("the worker is done")
"""
    begun, (process,) = printing(script, file)
    process.wait()
    started = time.monotonic()
    begun.end(60)
    assert time.monotonic() - started < 3
    assert file.read_text() == "the worker is done\n"
    until = time.monotonic() + 60
    while "late" not in file.read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    begun.process.wait(20)


@pytest.mark.parametrize("file", ["/dev/full", "/nowhere/at/all"])
def test_a_log_that_cannot_be_written_keeps_nobody_waiting(file: str) -> None:
    begun, (process,) = printing("print('x' * 5_000_000, flush=True)", Path(file))
    assert process.wait(60) == 0
    begun.end(20)


def test_it_starts_without_what_training_needs() -> None:
    script = (
        "import sys, runner.logs, runner.rewards.confinement; print([n for n in ('torch', 'rich') if n in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=True)
    assert ended.stdout == "[]\n"
