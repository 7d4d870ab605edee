"""Writes the demo's rows: an order as a person types it, and the one line of JSON that it means.

    python3 recipes/demo/make_data.py [directory]

In: nothing but a seed. Out: `train.jsonl` (256 rows) and `evaluation.jsonl` (64 rows), each row with a
`prompt` and a `completion`; the same bytes every time and on every machine. No name and no thing
ordered in `evaluation.jsonl` occurs in `train.jsonl`: a model that scores there has learned the task,
not the rows.

What has to be learned: the keys and their order, number words as digits, days written out in full and
in lower case, one thing in the singular, names with a capital letter however they were typed.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

SEED = 2026
TRAIN_ROWS = 256
EVALUATION_ROWS = 64

INSTRUCTION = "Name, item, quantity and day as JSON: "

TRAIN_NAMES = """
    Ada Ahmed Alina Amir Anika Anton Arjun Bea Bilal Boris Carla Carmen Chen Chloe Cyril Dana Dario Diego Dora Edgar
    Elena Elif Emil Erik Esther Fatima Felix Fiona Freya Gita Greta Hana Hassan Helga Hugo Ibrahim Ida Igor Ines Ivan
    Jamal Jana Jonas Julia Kamal Karin Kenji Lara Leila Leon Lucia Luka Magda Malik Marta Mateo Mei Milan Mira Nadia
    Naomi Nico Nina Olga Omar Oscar Pablo Paula Pedro Petra Priya Rafael Ravi Rosa Samir Sara Sofia Stefan Sven Tara
    Tariq Theo Tomas Ursula Vera Victor Wanda Yara Yusuf Zoe
""".split()
EVALUATION_NAMES = """
    Agnes Andrei Bruno Celia Dmitri Farah Gustav Hilda Jorge Kofi Lydia Miguel Nora Otto Rania Simon Tilda Uma Viola
    Walter
""".split()

KINDS = """
    black blue brown cheap cotton glass green grey large leather metal plastic red round silver small white wooden
""".split()
TRAIN_THINGS = """
    bag basket blanket bottle bowl candle carpet chair clock coat cup curtain desk door drawer folder fork hammer
    helmet jacket lamp mirror mug notebook pan pen pencil pillow plate pot ring rope rug scarf shirt sofa spoon stool
    table towel tray umbrella vase wallet
""".split()
EVALUATION_THINGS = "apron belt bucket button cushion guitar hat ladder magnet sandal ticket wheel".split()

NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()

PHRASINGS = (
    "{name} here, I need {amount} by {day}",
    "hi, this is {name}. Can you send {amount} on {day}?",
    "please put {amount} aside for {name}, pick-up {day}",
    "{amount} for {name}, {day}",
    "order for {day}: {amount}. {name}",
    "{day} delivery please, {amount}, name is {name}",
    "could {name} have {amount} this {day}",
    "{name} called and wants {amount} on {day}",
    "I'd like {amount}. It's {name}, I come on {day}",
    "we are out of them! {amount} until {day}, thanks, {name}",
    "{amount}, to be delivered {day}. Regards, {name}",
    "book {amount} for {day} under {name}",
)
NOISE = ("", "", "", " thanks!", " please", " :)", " it is urgent", " cheers", " no rush")


def rows(count: int, names: list[str], things: list[str], draw: random.Random) -> list[dict[str, str]]:
    """`count` different rows about these names and these things."""
    made: dict[str, str] = {}
    while len(made) < count:
        prompt, completion = _row(draw.choice(names), draw.choice(KINDS), draw.choice(things), draw)
        made.setdefault(prompt, completion)
    return [{"prompt": prompt, "completion": completion} for prompt, completion in made.items()]


def write(directory: Path) -> None:
    """Write both files into `directory`, which is made if it is not there."""
    draw = random.Random(SEED)
    directory.mkdir(parents=True, exist_ok=True)
    for name, count, names, things in (
        ("train.jsonl", TRAIN_ROWS, TRAIN_NAMES, TRAIN_THINGS),
        ("evaluation.jsonl", EVALUATION_ROWS, EVALUATION_NAMES, EVALUATION_THINGS),
    ):
        lines = "".join(json.dumps(row) + "\n" for row in rows(count, names, things, draw))
        (directory / name).write_bytes(lines.encode())


def _row(name: str, kind: str, thing: str, draw: random.Random) -> tuple[str, str]:
    quantity = draw.randint(1, len(NUMBERS))
    day = draw.choice(DAYS)
    item = f"{kind} {thing}"
    number = draw.choice((str(quantity), NUMBERS[quantity - 1]))
    amount = f"{number} {item}" + ("s" if quantity > 1 else "")
    written_day = draw.choice((day, day.capitalize(), day[:3], day[:3].capitalize()))
    written_name = draw.choice((name, name, name.lower()))
    order = draw.choice(PHRASINGS).format(name=written_name, amount=amount, day=written_day) + draw.choice(NOISE)
    answer = {"name": name, "item": item, "quantity": quantity, "day": day}
    return INSTRUCTION + order, json.dumps(answer)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
