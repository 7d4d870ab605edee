"""Data files as people have them, by name; each is written to the working directory."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

COLOURS = ("red", "green", "blue", "black", "white", "brown")
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
    },
}


def lines(path: str, rows: Iterable[Any]) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def table(path: str, header: list[str], rows: Iterable[list[Any]], separator: str = ",", mark: str = "") -> str:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(mark)
        csv.writer(file, delimiter=separator).writerows([header, *rows])
    return path


def alpaca() -> str:
    rows = [
        {
            "instruction": f"Say the colour of thing {n} in one word.",
            "input": f"It looks {COLOURS[n % 6]}." if n % 2 else "",
            "output": f"I would say that thing {n} is {COLOURS[n % 6]}, going by how it looks in daylight.",
        }
        for n in range(40)
    ]
    Path("alpaca.json").write_text(json.dumps(rows, indent=1))
    return "alpaca.json"


def sharegpt() -> str:
    return lines(
        "sharegpt.jsonl",
        (
            {
                "id": f"x{n}",
                "conversations": [
                    {"from": "human", "value": f"What is {n} plus one?"},
                    {"from": "gpt", "value": f"It is {n + 1}, since one comes after {n}."},
                    {"from": "human", "value": "Thank you!"},
                    {"from": "gpt", "value": "You are welcome. Is there anything else that I can do?"},
                ],
            }
            for n in range(30)
        ),
    )


def openai_chat() -> str:
    return lines(
        "chat.jsonl",
        (
            {
                "messages": [
                    {"role": "system", "content": "You are terse."},
                    {"role": "user", "content": f"Name colour {n}."},
                    {"role": "assistant", "content": COLOURS[n % 6]},
                ]
            }
            for n in range(30)
        ),
    )


def odd_headers() -> str:
    rows = [[n, f"How do I fix fault {n}, please?", f"Turn it off and on again, {n} times."] for n in range(30)]
    return table("support.csv", ["Ticket #", "Customer question (EN)", "Our reply"], rows, mark="\ufeff")


def reviews_in_tabs() -> str:
    rows = [[n, f'A film of "{n}" minutes; I was {"moved" if n % 2 else "bored"}.', n % 2] for n in range(60)]
    return table("reviews.tsv", ["id", "review", "label"], rows, separator="\t")


def reviews_by_word() -> str:
    return lines(
        "sentiment.jsonl",
        (
            {"text": f"Film {n} was {'fine' if n % 2 else 'dull'}.", "sentiment": ("bad", "good")[n % 2]}
            for n in range(60)
        ),
    )


def preferences() -> str:
    return lines(
        "pairs.jsonl",
        (
            {
                "prompt": f"Write about {COLOURS[n % 6]} in a few words, number {n}.",
                "chosen": f"{COLOURS[n % 6].title()} is a colour that I have liked since I was {n}, in any weather.",
                "rejected": "No.",
            }
            for n in range(30)
        ),
    )


def preferences_in_turns() -> str:
    def told(n: int, answer: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": answer}]

    return lines(
        "dpo.jsonl", ({"prompt": f"Say {n}.", "chosen": told(n, str(n)), "rejected": told(n, "?")} for n in range(30))
    )


def texts() -> str:
    Path("handbook/more").mkdir(parents=True)
    for n in range(8):
        folder = Path("handbook/more" if n % 2 else "handbook")
        (folder / f"chapter{n}.{'md' if n % 3 else 'txt'}").write_text(
            f"# Chapter {n}\n\n" + f"It rained on day {n}. " * 40
        )
    return "handbook"


def openai_calls() -> str:
    def row(n: int) -> dict[str, Any]:
        call = {
            "id": "a",
            "type": "function",
            "function": {"name": "weather", "arguments": json.dumps({"town": f"T{n}"})},
        }
        turns = [
            {"role": "user", "content": f"Is it raining in T{n}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]
        return {"messages": turns, "tools": [WEATHER]}

    return lines("calls.jsonl", map(row, range(30)))


def sharegpt_calls() -> str:
    def row(n: int) -> dict[str, Any]:
        turns = [
            {"from": "human", "value": f"Is it raining in T{n}?"},
            {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": {"town": f"T{n}"}})},
            {"from": "observation", "value": '{"rain": true}'},
            {"from": "gpt", "value": "Yes, it is."},
        ]
        return {"conversations": turns, "tools": json.dumps([WEATHER["function"]])}

    return lines("sharegpt_calls.jsonl", map(row, range(30)))


def xlam_calls() -> str:
    def row(n: int) -> dict[str, Any]:
        tool = {"name": "weather", "description": "x", "parameters": {"town": {"type": "str", "description": "y"}}}
        return {
            "id": n,
            "query": f"Is it raining in T{n}?",
            "tools": json.dumps([tool]),
            "answers": json.dumps([{"name": "weather", "arguments": {"town": f"T{n}"}}]),
        }

    return lines("xlam.jsonl", map(row, range(30)))


def sums() -> str:
    return lines(
        "gsm.jsonl",
        (
            {
                "question": f"Ann has {n} pens and buys {n + 2} more. How many has she?",
                "answer": f"She had {n}, now {n} + {n + 2} = <<{n}+{n + 2}={2 * n + 2}>>.\n#### {2 * n + 2}",
            }
            for n in range(40)
        ),
    )


def chats_in_parquet() -> str:
    import pyarrow
    import pyarrow.parquet

    rows = [
        {
            "uuid": str(n),
            "conversation": [
                {"role": "user", "content": f"Tell me of {n}.", "name": None},
                {"role": "assistant", "content": f"{n} is a number, and there are many like it.", "name": None},
            ],
        }
        for n in range(30)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "chats.parquet")
    return "chats.parquet"


def prompts_alone() -> str:
    return lines("prompts.jsonl", ({"prompt": f"Write a line about {n} {COLOURS[n % 6]} cats."} for n in range(30)))


def nested() -> str:
    return lines(
        "squad.jsonl",
        (
            {
                "id": n,
                "data": {
                    "context": f"The house of number {n} is {COLOURS[n % 6]}.",
                    "question": f"Which colour has house {n}?",
                },
                "meta": {"answer": {"text": COLOURS[n % 6]}},
            }
            for n in range(60)
        ),
    )


def dolly() -> str:
    return lines(
        "dolly.jsonl",
        (
            {
                "instruction": f"Count to {n % 5 + 1}.",
                "response": " ".join(map(str, range(1, n % 5 + 2))),
                "category": "sums",
                **({"context": "Begin at one."} if n % 3 else {}),
            }
            for n in range(60)
        ),
    )


def json_answers() -> str:
    rows = [
        [f"{n} {COLOURS[n % 6]} cups, please", json.dumps({"count": n, "colour": COLOURS[n % 6]})] for n in range(60)
    ]
    return table("orders.csv", ["query", "target"], rows)


def choices() -> str:
    return lines(
        "choices.jsonl",
        (
            {
                "problem": f"Which is {COLOURS[n % 4]}?\nA. red\nB. green\nC. blue\nD. black\nAnswer:",
                "solution": "ABCD"[n % 4],
            }
            for n in range(40)
        ),
    )


def listed_choices() -> str:
    return lines(
        "mmlu.jsonl",
        (
            {"question": f"Which is {COLOURS[n % 4]} in picture {n}?", "choices": list(COLOURS[:4]), "answer": n % 4}
            for n in range(40)
        ),
    )


def system_texts() -> str:
    told = "Yes, and it has been so for as long as anybody in this house can remember it."
    return lines(
        "orca.jsonl",
        (
            {"system_prompt": "Be kind." if n % 2 else "", "question": f"Is it {n}?", "response": told}
            for n in range(40)
        ),
    )


FILES: dict[str, Callable[[], str]] = {
    made.__name__: made
    for made in (
        alpaca, sharegpt, openai_chat, odd_headers, reviews_in_tabs, reviews_by_word, preferences, preferences_in_turns,
        texts, openai_calls, sharegpt_calls, xlam_calls, sums, chats_in_parquet, prompts_alone, nested, dolly,
        json_answers, choices, listed_choices, system_texts,
    )
}  # fmt: skip
