"""The memory that a corpus costs: peaks of preparing and of training, for corpora of several sizes.

    .venv/bin/python benchmarks/corpus_memory.py --model models/SmolLM2-135M-Instruct.Q4_1.gguf --sizes 1 100 200

A corpus is made from a seed: half of it as rows of a JSONL file, half as one text file, which is one document. Each
size is trained for two steps of four rows of 512 tokens. Of the prepare process and of the train process the peak of
all resident memory is shown, and that of the part that is no file's: pages of mapped files are the page cache's, which
all workers share and the kernel takes back. The smallest size stands for what the libraries and the model take.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MIB = 2**20
STAGES = ("prepare", "train")
SECONDS_BETWEEN = 0.1
RECIPE = """\
task: continued_pretraining
model: {{name: {model}}}
dataset: {{train: [{folder}/rows.jsonl, {folder}/book.txt], max_length: 512}}
training: {{max_steps: 2, batch_size: 4}}
output: {{directory: {folder}/outputs}}
"""


def main() -> None:
    """Train on a corpus of each size and print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 100, 200], help="MiB, ascending")
    options = parser.parse_args()
    print(f"{'MiB of text':>12}{'tokens':>14}{'s':>7}" + "".join(f"{f'{stage}, MiB':>20}" for stage in STAGES))
    least: dict[str, float] = {}
    for size in options.sizes:
        folder = Path(tempfile.mkdtemp(prefix="corpus-memory-"))
        try:
            write(folder, size * MIB)
            tokens, seconds, peaks = measured(folder, str(Path(options.model).resolve()))
        finally:
            shutil.rmtree(folder)
        shown = ""
        for stage in STAGES:
            whole, anonymous = (peak / MIB for peak in peaks[stage])
            above = anonymous - least.setdefault(stage, anonymous)
            shown += f"{f'{whole:.0f} ({anonymous:.0f}, {above:+.0f})':>20}"
        print(f"{size:>12}{tokens:>14}{seconds:>7.0f}{shown}", flush=True)
    print("peak of all resident memory (of that which is no file's, and how much more than with the smallest size)")


def write(folder: Path, size: int) -> None:
    """A corpus of about so many bytes: sentences of made-up words, a text of some hundred words a row."""
    chance = random.Random(7)
    syllables = [first + vowel for first in "bdfgklmnprst" for vowel in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(20_000)]

    def paragraph() -> str:
        return " ".join(chance.choices(words, k=chance.randint(40, 400))).capitalize() + ".\n\n"

    for name in ("rows.jsonl", "book.txt"):
        written = 0
        with (folder / name).open("w", encoding="utf-8") as file:
            while written < size // 2:
                text = paragraph()
                written += file.write(json.dumps({"text": text}) + "\n" if name == "rows.jsonl" else text)


def measured(folder: Path, model: str) -> tuple[int, float, dict[str, tuple[int, int]]]:
    """Tokens, seconds, and of each stage the peaks of resident memory and of its anonymous part, in bytes."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=model, folder=folder), encoding="utf-8")
    peaks = {stage: (0, 0) for stage in STAGES}
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.cli", "train", str(recipe)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    ended = threading.Event()
    watching = threading.Thread(target=_watch, args=(process.pid, peaks, ended))
    watching.start()
    output, _ = process.communicate()
    ended.set()
    watching.join()
    if process.returncode:
        sys.exit(output)
    facts = json.loads((folder / "outputs" / "recipe" / "prepared" / "prepared.json").read_text(encoding="utf-8"))
    tokens = facts["train"]["tokens"] + facts["evaluation"]["tokens"]
    return tokens, time.monotonic() - started, peaks


def _watch(supervisor: int, peaks: dict[str, tuple[int, int]], ended: threading.Event) -> None:
    """Note the peaks of the supervisor's workers until it ends."""
    while not ended.wait(SECONDS_BETWEEN):
        try:
            children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
            for child in children:
                words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
                stage = next((name for name in STAGES if name in words), None)
                lines = Path(f"/proc/{child}/status").read_text().splitlines()
                facts = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
                if stage and "VmHWM" in facts:
                    whole, anonymous = peaks[stage]
                    now = int(facts["VmHWM"]) * 1024, int(facts["RssAnon"]) * 1024
                    peaks[stage] = max(whole, now[0]), max(anonymous, now[1])
        except OSError:
            continue  # a process that has just ended


if __name__ == "__main__":
    main()
