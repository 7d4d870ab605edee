"""Writes small sums as questions, each with its answer, for reinforcement fine-tuning.

    python3 recipes/arithmetic/make_data.py [directory]

In: nothing but a seed. Out: `train.jsonl` (112 rows) and `evaluation.jsonl` (32 rows), each row with a `prompt` and an
`answer`; the same bytes every time and on every machine. No sum is in both.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

SEED = 7
LARGEST = 12
EVALUATION_ROWS = 32


def rows() -> list[dict[str, object]]:
    """Every sum of two numbers up to the largest, in an order that the seed decides."""
    pairs = [(first, second) for first in range(1, LARGEST + 1) for second in range(1, LARGEST + 1)]
    random.Random(SEED).shuffle(pairs)
    return [
        {"prompt": f"What is {first} + {second}? Answer with the number alone.", "answer": first + second}
        for first, second in pairs
    ]


def main(directory: Path) -> None:
    """Write both files into the directory."""
    made = rows()
    for name, part in (("train", made[:-EVALUATION_ROWS]), ("evaluation", made[-EVALUATION_ROWS:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (directory / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
