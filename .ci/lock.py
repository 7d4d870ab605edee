"""Writes the hashed locks: what `make setup` installs, on Python 3.11 and 3.12, Linux x86_64.

    python3 .ci/lock.py python3.11 [python3.12 …]

In: `pyproject.toml` with its extras, and PyPI as it is today, asked through pip on each interpreter that is named.
Out, all of it sorted and pinned with the SHA-256 of every file that was chosen:

- `requirements.lock`: what a run needs beside torch;
- `requirements-dev.lock`: what tests and linters need beside that;
- `requirements-cuda.lock`: torch, the NVIDIA packages that PyPI's build of it needs, and bitsandbytes.

`requirements-cpu.lock` holds one wheel that PyPI does not have, and is kept by hand. The pin of torch is
read from it. The first interpreter, which should be the oldest, chooses the versions for all: one lock has to
serve every one of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CUDA_PACKAGES = ("torch", "triton", "nvidia-", "cuda-", "bitsandbytes")
RUN, ALL = "train,qlora,tracking", "train,qlora,tracking,dev"  # extras

Pins = dict[str, tuple[str, frozenset[str]]]  # name -> version, hashes of its files


def runs(interpreter: str) -> bool:
    """Whether there is such an interpreter; a shim of pyenv may be there without one behind it."""
    try:
        return not subprocess.run([interpreter, "--version"], capture_output=True, check=False).returncode
    except OSError:
        return False


def resolve(interpreter: str, extras: str, pins: Pins) -> Pins:
    """The pins with what pip would install of some extras into an empty environment of this interpreter.

    Fetches metadata only.
    """
    with tempfile.TemporaryDirectory() as directory:
        environment, report, constraints = (f"{directory}/{name}" for name in ("environment", "report", "constraints"))
        Path(constraints).write_text("".join(f"{name}=={version}\n" for name, (version, _) in pins.items()))
        made = subprocess.run([interpreter, "-m", "venv", environment], check=False)
        if made.returncode:
            sys.exit(f"error: `{interpreter}` cannot make a virtual environment")
        asked = subprocess.run(
            [f"{environment}/bin/pip", "install", "--quiet", "--quiet", "--dry-run", "--ignore-installed"]
            + ["--report", report, "--use-feature=fast-deps", "--constraint", constraints, f"{ROOT}[{extras}]"],
            check=False,
            # A machine's own indexes would put its own files into the lock.
            env=os.environ | {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": ""},
        )
        if asked.returncode:
            sys.exit(f"error: pip of `{interpreter}` finds no versions for `{extras}`, and the locks are as they were")
        chosen = json.loads(Path(report).read_text())["install"]
    merged = dict(pins)
    for package in chosen:
        name = re.sub(r"[-_.]+", "-", package["metadata"]["name"]).lower()
        if name != "tunesmith":
            digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
            merged[name] = (package["metadata"]["version"], merged.get(name, ("", frozenset()))[1] | {digest})
    return merged


def text(pins: Pins, heading: str) -> str:
    """One lock file."""
    lines = [f"# {heading} Written by `make lock`; installed with `--no-deps --require-hashes`."]
    for name in sorted(pins):
        version, hashes = pins[name]
        lines.append(
            " \\\n    ".join([f"{name}=={version}"] + [f"--hash=sha256:{digest}" for digest in sorted(hashes)])
        )
    return "\n".join(lines) + "\n"


def main(interpreters: list[str]) -> None:
    pinned = re.search(r"^torch==([\d.]+)", (ROOT / "requirements-cpu.lock").read_text(), re.MULTILINE)
    if not interpreters or pinned is None:
        sys.exit("error: name at least one interpreter, and keep `torch==` in `requirements-cpu.lock`")
    if missing := [interpreter for interpreter in interpreters if not runs(interpreter)]:
        sys.exit(
            f"error: `{missing[0]}` does not run here\n"
            'hint: name what does: `make lock PYTHONS="/path/to/python3.11 /path/to/python3.12"`'
        )
    pins: Pins = {"torch": (pinned[1], frozenset())}
    for interpreter in interpreters:
        pins = resolve(interpreter, RUN, pins)
    names = set(pins)
    for interpreter in interpreters:
        pins = resolve(interpreter, ALL, pins)
    cuda = {name: pin for name, pin in pins.items() if name.startswith(CUDA_PACKAGES)}
    run = {name: pin for name, pin in pins.items() if name in names - cuda.keys()}
    development = {name: pin for name, pin in pins.items() if name not in names}
    for file, chosen, heading in (
        ("requirements.lock", run, "What a run needs beside torch."),
        ("requirements-dev.lock", development, "What tests and linters need beside it."),
        ("requirements-cuda.lock", cuda, "torch for NVIDIA GPUs, as PyPI has it, and what needs them."),
    ):
        (ROOT / file).write_text(text(chosen, heading))
        print(f"{len(chosen)} packages in {file}")


if __name__ == "__main__":
    main(sys.argv[1:])
