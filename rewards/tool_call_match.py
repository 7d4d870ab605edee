"""Reward for the right tool calls: a completion and the row's calls go in, 0 to 1 comes out by how near they are."""

import ast
import json
import re
import warnings
from dataclasses import dataclass
from typing import Any

MOST_CALLS = 64  # in a completion: more pay nothing
MOST_MATCHED_EXACTLY = 10  # calls on the shorter side
TAGGED = re.compile(r"<tool_call>(.*?)(</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
FENCED = re.compile(r"```([^\s`]*)\s(.*?)```", re.DOTALL)
PLAIN_NAME = re.compile(r"\s*([A-Za-z_][\w./-]*)\s*\(")
LISTED_NAME = re.compile(r"\s*([A-Za-z_/][^()\[\]{}<>\"'`=,;:\n]{0,99}?)\s{0,3}\(")


@dataclass(frozen=True)
class Call:
    """A call of a tool; arguments are JSON values by name."""

    name: str
    arguments: dict[str, Any]


def tool_call_match(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    column: str = "answer",
    ordered: bool = False,
    ignore_case: bool = False,
) -> float:
    """Pay for calling the tools that the row calls, in these steps:

    - 0.1 when the completion has calls and all of them can be read.
    - 0.9 times the share of right calls: each of the row's calls is matched with one of the completion's so that
      the total is highest, in any order. The share is that total, divided by the number of calls on the longer
      side: missing and surplus calls cost alike, and one that cannot be read counts as surplus.
    - A matched pair pays 0 for another name. For the right name it pays 0.25, and by arguments, as shares of all
      arguments that either side has: 0.25 for those that both have, 0.2 for values of the same JSON type (`3` and
      `3.0` are alike), 0.3 for equal values. Without any arguments the right name is all.
    - A row that expects no call (an empty list or text, or null) pays 1 for an answer in words, and 0 for a call,
      for a call that cannot be read, and for a blank completion.

    Calls are read from `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, which go before all others; from
    JSON (an object or list, fenced or the whole completion), also as `{"function": {"name": …}}`, with
    arguments as JSON text or under `parameters`; or from `[name(argument=value), …]` and `name(argument=value)`,
    the whole completion or fenced. What stands before the last `</think>` is not looked at, and nothing is run.

    Options:
    - `column`: the column of the right calls: a list of `{"name", "arguments"}` or `{"function": {…}}`, one such
      object, or the JSON text of these.
    - `ordered`: calls must come in the row's order: the first is matched with the first, and so on.
    - `ignore_case`: upper and lower case are the same in argument values. Names are always compared exactly.

    Up to 10 calls on the shorter side the matching is the best one; above, pairs are taken from the best down.

    What can be gamed: without rows that expect no call, the policy learns to always call; have a fifth of them. A
    call that is named in the prompt pays its name, whatever the arguments. Only what the row says is right:
    an optional argument that the row leaves out costs.

    Raises ValueError for a bad option, or a row whose calls cannot be read.
    """
    for name, value in {"ordered": ordered, "ignore_case": ignore_case}.items():
        if not isinstance(value, bool):
            raise ValueError(f"`{name}` must be true or false")
    right = expected_calls(example, column)
    text = completion.rsplit("</think>", 1)[-1].strip()
    try:
        given = read_calls(text)
        if not right:
            return 1.0 if text and not given else 0.0
        if not given or len(given) > MOST_CALLS:
            return 0.0
        scores = [[pair_score(one, other, ignore_case) if other else 0.0 for other in given] for one in right]
    except RecursionError:
        return 0.0
    longer = max(len(right), len(given))
    in_order = sum(scores[at][at] for at in range(min(len(right), len(given))))
    total = in_order if ordered else best_total(scores)
    return 0.1 * (None not in given) + 0.9 * (total / longer)


def pair_score(right: Call, given: Call, ignore_case: bool) -> float:
    if right.name != given.name:
        return 0.0
    every = right.arguments.keys() | given.arguments.keys()
    if not every:
        return 1.0
    both = [(right.arguments[name], given.arguments[name]) for name in right.arguments if name in given.arguments]
    typed: int = sum(json_type(one) == json_type(other) for one, other in both)
    equal: int = sum(comparable(one, ignore_case) == comparable(other, ignore_case) for one, other in both)
    if equal == len(every):
        return 1.0  # not left to the rounding of the sum below
    return 0.25 + (0.25 * len(both) + 0.2 * typed + 0.3 * equal) / len(every)


def json_type(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else "object"


def comparable(value: Any, ignore_case: bool) -> Any:
    """A form in which equal values are equal and others are not: true is not 1, and 1 is 1.0."""
    if isinstance(value, dict):
        return "object", {name: comparable(one, ignore_case) for name, one in value.items()}
    if isinstance(value, list):
        return "list", [comparable(one, ignore_case) for one in value]
    if isinstance(value, str):
        value = " ".join(value.split())
        return "text", value.casefold() if ignore_case else value
    return json_type(value), value


def best_total(scores: list[list[float]]) -> float:
    """The highest total over all ways to match rows with columns, each once."""
    if len(scores) > len(scores[0]):
        scores = [list(column) for column in zip(*scores, strict=True)]
    rows, columns = len(scores), len(scores[0])
    if rows > MOST_MATCHED_EXACTLY:
        pairs = sorted((scores[row][column], row, column) for row in range(rows) for column in range(columns))
        free_rows, free_columns, total = set(range(rows)), set(range(columns)), 0.0
        for score, row, column in reversed(pairs):
            if row in free_rows and column in free_columns:
                total += score
                free_rows.remove(row)
                free_columns.remove(column)
        return total
    # best[used]: the highest total over the columns so far, with the rows that are bits of `used` matched.
    best = [0.0] + [-1.0] * (2**rows - 1)
    for column in range(columns):
        useful = [(1 << row, scores[row][column]) for row in range(rows) if scores[row][column] > 0]
        for used in range(2**rows - 1, -1, -1):
            for bit, score in useful:
                if used & bit and best[used ^ bit] >= 0:
                    best[used] = max(best[used], best[used ^ bit] + score)
    return max(best)


def expected_calls(example: dict[str, Any], column: str) -> list[Call]:
    """The row's calls; ValueError where they cannot be read."""
    if column not in example:
        raise ValueError(f"the row has no column `{column}`")
    value = example[column]
    if isinstance(value, str):
        value = row_value(value, f"the column `{column}`")
    values = value if isinstance(value, list) else [] if value is None else [value]
    calls = []
    for one in values:
        inner = one.get("function", one) if isinstance(one, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get("arguments"), str):
            arguments = row_value(inner["arguments"], f"`arguments` in the column `{column}`")
            inner = {**inner, "arguments": {} if arguments is None else arguments}
        call = as_call(inner)
        if call is None:
            raise ValueError(f"the column `{column}` must hold calls with a `name` and `arguments`, not `{one!r:.80}`")
        calls.append(call)
    return calls


def row_value(text: str, what: str) -> Any:
    """The value of JSON text, or of the single-quoted objects that some data sets have; None for a blank text."""
    if not text.strip():
        return None
    for read in (json.loads, literal):
        try:
            return read(text)
        except (ValueError, RecursionError):
            continue
    raise ValueError(f"{what} is neither JSON nor a plain value: `{text:.80}`")


def literal(text: str) -> Any:
    """The plain value of a Python literal, with JSON's names too; ValueError for all else. Nothing is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return plain_value(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, MemoryError, TypeError) as error:
            raise ValueError("no literal") from error


def plain_value(node: ast.expr) -> Any:
    names = {"true": True, "false": False, "null": None}
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.List | ast.Tuple):
        return [plain_value(one) for one in node.elts]
    if isinstance(node, ast.Dict):
        keys = [plain_value(key) if key else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
            raise ValueError("keys must be different texts")
        return dict(zip(keys, map(plain_value, node.values), strict=True))
    value = ast.literal_eval(node)
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError("not a JSON value")
    return value


def read_calls(text: str) -> list[Call | None]:
    """The calls that a completion makes; None stands for one that cannot be read."""
    if "<tool_call>" in text:
        blocks = TAGGED.findall(text)
        return [call for body, end in blocks for call in (calls_of_json(body) or [None] if end else [None])]
    fenced = [body for label, body in FENCED.findall(text) if label.lower() in ("", "json", "python", "tool_code")]
    calls = [call for body in fenced for call in calls_of_json(body) or calls_of_python(body)]
    return calls or calls_of_json(text) or calls_of_python(text)


def calls_of_json(text: str) -> list[Call | None]:
    """The calls in a text that is a JSON object or list; empty where it is something else."""
    text = text.strip()
    if text[:1] not in ("{", "["):
        return []

    def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=no_key_twice)
    except (ValueError, RecursionError):
        return [None] if re.search(r'^[\[{\s]+"(?:name|function|type|id|arguments)"\s*:', text) else []
    calls = [as_call(one) for one in (value if isinstance(value, list) else [value])]
    return calls if any(calls) else []


def as_call(value: Any) -> Call | None:
    """An object with a name and arguments as a call, None for anything else."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    if "arguments" not in value and "parameters" not in value and value.keys() - {"name", "id", "type"}:
        return None  # some other object that has a name
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    return Call(value["name"], arguments) if isinstance(arguments, dict) else None


def calls_of_python(text: str) -> list[Call | None]:
    """The calls in `[name(argument=value), …]` or `name(argument=value)`; empty where the text is something else."""
    text = text.strip()
    listed = text.startswith("[")
    at, end = (1, len(text) - 1) if listed else (0, len(text))
    calls: list[Call | None] = []
    while at < end:
        name = (LISTED_NAME if listed else PLAIN_NAME).match(text, at)
        close = closing(text, name.end()) if name else -1
        arguments = read_arguments(text[name.end() : close]) if name and close > 0 else None
        if name is None or arguments is None:
            # An attempt at calls is not an answer in words.
            return [*calls, None] if calls or (listed and name and "=" in text[name.end() :]) else []
        calls.append(Call(name[1], arguments))
        behind = re.compile(r"\s*[,;]?\s*").match(text, close + 1)
        at = behind.end() if behind else close + 1
        if not listed and at < end:
            return [] if len(calls) == 1 and not PLAIN_NAME.match(text, at) else [*calls, None]
    return calls if not listed or text.endswith("]") else [*calls, None]


def closing(text: str, start: int) -> int:
    """Where the bracket closes that was opened before `start`, brackets in quotes aside; -1 where it does not."""
    depth, quote, at = 1, "", start
    while at < len(text):
        sign = text[at]
        if quote:
            at += sign == "\\"
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "()[]{}":
            depth += 1 if sign in "([{" else -1
            if depth == 0:
                return at
        at += 1
    return -1


def read_arguments(text: str) -> dict[str, Any] | None:
    """The values of `name=value, …`; None where one has no name, stands twice or is not a plain value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call = ast.parse(f"f({text}\n)", mode="eval").body
            if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
                return None
            values = {keyword.arg: plain_value(keyword.value) for keyword in call.keywords}
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None
    if len(values) < len(call.keywords):
        return None
    return {name: value for name, value in values.items() if name is not None} if None not in values else None
