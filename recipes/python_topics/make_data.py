"""Writes some of Python's own help texts as documents, for continued pretraining.

    python3 recipes/python_topics/make_data.py [directory]

In: `pydoc_data.topics`, what `help("with")` shows, which is on every machine that has Python. Out: `train.jsonl` and
`evaluation.jsonl`, one topic a row: its `text`, and its name as `topic`, which nobody learns. No topic is in both. The
files beside this script are those of Python 3.11; another version words its topics a little differently.

The texts are part of Python's documentation, copyright of the Python Software Foundation, under the PSF licence:
https://docs.python.org/3/license.html
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from pydoc_data.topics import topics

SHORTEST, LONGEST = 1000, 9000  # characters of a topic that is taken
HELD_OUT = 6  # every so many topics, one is held out
MOST_TRAINED = 60_000  # characters


def documents() -> dict[str, list[dict[str, str]]]:
    """The rows of each file, in the order of their names."""
    found: dict[str, list[dict[str, str]]] = {"train": [], "evaluation": []}
    chosen = [name for name, text in sorted(topics.items()) if SHORTEST <= len(text) <= LONGEST]
    characters = 0
    for number, name in enumerate(chosen):
        row = {"topic": name, "text": topics[name].strip("\n") + "\n"}
        if number % HELD_OUT == HELD_OUT - 1:
            found["evaluation"].append(row)
        elif characters + len(row["text"]) <= MOST_TRAINED:
            found["train"].append(row)
            characters += len(row["text"])
    return found


def main(directory: Path) -> None:
    """Write both files into the directory."""
    for name, rows in documents().items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (directory / f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
