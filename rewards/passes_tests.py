"""Reward for code that works: a completion with Python code and the row's tests go in, 0 to 1 comes out.

Runs the completion's code. It is for use inside of the confinement that reward functions have, and nowhere else.
"""

import ast
import contextlib
import json
import math
import operator
import os
import re
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_OUTPUT = 1_000_000  # bytes a test; more fails it
FENCE = re.compile(r"```([^\s`]*)[^\n]*\n(.*?)```", re.DOTALL)
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: lambda one, other: type(one) is type(other) and one == other,
    ast.IsNot: lambda one, other: type(one) is not type(other) or one != other,
    ast.In: lambda one, other: one in other,
    ast.NotIn: lambda one, other: one not in other,
}

# Runs one test, in an interpreter of its own. It is never told what result is right.
HARNESS = r"""
import json, os, resource, sys, types
task = json.load(sys.stdin)
source = os.memfd_create("input")
os.write(source, task["input"].encode("utf-8", "surrogatepass"))
os.lseek(source, 0, os.SEEK_SET)
os.dup2(source, 0)
os.close(source)
results = os.dup(1)
if task["expression"] is not None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)
for kind, most in (
    (resource.RLIMIT_AS, task["memory"]),
    (resource.RLIMIT_CPU, task["seconds"]),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_NPROC, 0),
):
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))

def plain(value):
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        kind = next(one for one in (bool, int, float, complex, str, bytes, type(None)) if isinstance(value, one))
        return value if value is None else kind(value)
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return (set if kind is frozenset else kind)(map(plain, value))
    if isinstance(value, dict):
        return {plain(key): plain(one) for key, one in value.items()}
    raise TypeError("not plain data")

def main(task, results):
    name = "__main__" if task["expression"] is None else "solution"
    module = sys.modules[name] = types.ModuleType(name)
    space = module.__dict__
    exec(compile(task["code"], "<completion>", "exec"), space)
    if task["expression"] is None:
        return
    exec(compile(task["before"], "<test>", "exec"), space)
    value = eval(compile(task["expression"], "<test>", "eval"), space)
    text = repr(plain(value) if task["ship"] else bool(value))
    data = (task["nonce"] + text).encode("utf-8", "surrogatepass")
    while data:
        data = data[os.write(results, data):]
    os._exit(0)

main(task, results)
"""


@dataclass(frozen=True)
class Test:
    """One test: either an expression and what its value must be, or an input and the output that must follow.

    The expression's value is sent back where `ship` is set, and only whether it is true where not.
    """

    right: Callable[[Any], bool]
    before: str = ""
    expression: str | None = None
    ship: bool = False
    input: str = ""


def passes_tests(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    column: str = "tests",
    setup_column: str = "",
    all_or_nothing: bool = False,
    seconds_per_test: float = 2.0,
    seconds: float = 10.0,
    memory_megabytes: int = 512,
) -> float:
    """Pay the share of the row's tests that the completion's Python code passes.

    The code is the last fenced block that is Python or not labelled, or the whole completion where there is no
    fence; what stands before the last `</think>` is not looked at. It has the standard library and nothing else,
    may start no threads or processes (the system holds root alone to neither) and write no files, and each test
    runs it anew in a process of its own.

    Options:
    - `column`: the column of the tests, or of their JSON text: a list of texts of Python that hold `assert …`, or
      of objects `{"input": …, "output": …}` of what a program is given to read and must print (white space at the
      ends of lines does not count), or one object of the lists `inputs` and `outputs`. A text that is no JSON is
      read as Python, and each `assert` in it is one test.
    - `setup_column`: a column of Python that stands before each test, such as its imports.
    - `all_or_nothing`: pay 1 where all tests pass, else 0.
    - `seconds_per_test`, `seconds`: of wall clock, for each test and for all; what is not done by then has failed.
    - `memory_megabytes`: the memory of a test's process.

    What does not pay: ending early, printing what looks like success, changing `assert` or `==`. The result of
    a test is sent back under a random word and is compared here, in another process: of `assert f(2) == 4` the
    code's process is told `f(2)` and never `4`.

    What can be gamed: tests that stand in the prompt can be learned by heart, so keep some from it. `return True`
    passes half of the tests that ask yes or no: set `all_or_nothing`. An `assert` without a comparison with a plain
    value (`assert is_close(f(2), 4)`) is judged in the code's process, where code that knows this file could look
    the random word up; write `assert f(2) == 4` where you can.

    Raises RuntimeError outside of the confinement, which sets `TUNESMITH_REWARD_SANDBOX`; ValueError for a bad
    option, or a row whose tests cannot be read.
    """
    if not os.environ.get("TUNESMITH_REWARD_SANDBOX"):
        raise RuntimeError(
            "`passes_tests` runs code that a model wrote, and only does so where reward functions are confined"
        )
    for name, limit in {
        "seconds_per_test": seconds_per_test,
        "seconds": seconds,
        "memory_megabytes": memory_megabytes,
    }.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < 1e6:
            raise ValueError(f"`{name}` must be a number above 0")
    for needed in (column, setup_column):
        if needed and needed not in example:
            raise ValueError(f"the row has no column `{needed}`")
    setup = example[setup_column] if setup_column else ""
    if not isinstance(setup, str):
        raise ValueError(f"the column `{setup_column}` must hold Python code")
    tests = read_tests(example[column], column, setup)

    code = find_code(completion)
    if not code.strip():
        return 0.0
    end = time.monotonic() + seconds
    passed = 0
    for test in tests:
        left = min(seconds_per_test, end - time.monotonic())
        if left <= 0:
            break
        right = passes(code, test, left, int(memory_megabytes * 2**20))
        if all_or_nothing and not right:
            return 0.0
        passed += right
    share = passed / len(tests)
    return float(share == 1) if all_or_nothing else share


def find_code(completion: str) -> str:
    text = completion.rsplit("</think>", 1)[-1]
    blocks = [body for label, body in FENCE.findall(text) if label.lower() in ("", "python", "python3", "py")]
    return blocks[-1] if blocks else "" if "```" in text else text


def read_tests(value: Any, column: str, setup: str) -> list[Test]:
    """The row's tests, at least one."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = [value]
    if isinstance(value, dict) and isinstance(value.get("inputs"), list) and isinstance(value.get("outputs"), list):
        if len(value["inputs"]) != len(value["outputs"]):
            raise ValueError(f"the column `{column}` must have as many outputs as inputs")
        pairs = zip(value["inputs"], value["outputs"], strict=True)
        value = [{"input": given, "output": wanted} for given, wanted in pairs]
    tests: list[Test] = []
    for one in value if isinstance(value, list) else []:
        if isinstance(one, str):
            tests += read_asserts(one, column, setup)
        elif isinstance(one, dict) and isinstance(one.get("input"), str) and isinstance(one.get("output"), str):
            tests.append(output_test(one["input"], one["output"]))
        else:
            raise ValueError(
                f"a test in the column `{column}` must be Python code, or an object of `input` and `output`"
            )
    if not tests:
        raise ValueError(f"the column `{column}` must hold a list with a test at least")
    return tests


def output_test(given: str, wanted: str) -> Test:
    def lines(text: str) -> list[str]:
        return [line.rstrip() for line in text.rstrip().split("\n")]

    return Test(lambda printed: lines(printed) == lines(wanted), input=given)


def read_asserts(source: str, column: str, setup: str) -> list[Test]:
    """A test for each `assert` of some Python code; its other statements stand before those that come later."""
    try:
        statements = ast.parse(source).body
        ast.parse(setup)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"the tests in the column `{column}` are no Python: {error}") from error
    tests = []
    before = setup + "\n"
    for statement in statements:
        if isinstance(statement, ast.Assert):
            tests.append(assert_test(statement.test, before))
        else:
            before += ast.unparse(statement) + "\n"
    if not tests:
        raise ValueError(f"a test in the column `{column}` has no `assert` that stands by itself")
    return tests


def assert_test(test: ast.expr, before: str) -> Test:
    """The test of one assertion. Where one side is a plain value, the comparison is made here and not there."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        compare = COMPARISONS[type(test.ops[0])]
        sides = [test.left, test.comparators[0]]
        for at, side in enumerate(sides):
            try:
                value = ast.literal_eval(side)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue

            def right(given: Any, value: Any = value, first: bool = at == 0) -> bool:
                return bool(compare(value, given) if first else compare(given, value))

            return Test(right, before, ast.unparse(sides[1 - at]), ship=True)
    return Test(lambda given: given is True, before, ast.unparse(test))


def passes(code: str, test: Test, seconds: float, memory: int) -> bool:
    nonce = secrets.token_hex(16)
    task = {
        "code": code,
        "before": test.before,
        "expression": test.expression,
        "ship": test.ship,
        "input": test.input,
        "nonce": nonce,
        "memory": memory,
        "seconds": math.ceil(seconds) + 1,
    }
    data, ended_well = run(json.dumps(task).encode(), seconds)
    if data is None:
        return False
    if test.expression is None:
        return ended_well and test.right(data.decode("utf-8", "replace"))
    text = data.decode("utf-8", "surrogatepass") if data.startswith(nonce.encode()) else ""
    try:
        return bool(text) and test.right(ast.literal_eval(text.removeprefix(nonce)))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False


def run(task: bytes, seconds: float) -> tuple[bytes | None, bool]:
    """What the harness wrote, or None where it was too slow or wrote too much; and whether it ended with 0."""
    end = time.monotonic() + seconds
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", HARNESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        start_new_session=True,
    )
    assert process.stdin and process.stdout
    output: bytes | None = b""
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(task)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while output is not None:
                ready = selector.select(max(0.0, end - time.monotonic()))
                piece = os.read(process.stdout.fileno(), 65536) if ready else None
                if piece == b"":
                    break
                output = None if piece is None or len(output) + len(piece) > MOST_OUTPUT else output + piece
    finally:
        # Before the leader is waited for: until then nobody else can have its number. A process that only closed
        # its output has until the end of its time.
        if output is not None:
            wait_unreaped(process.pid, end)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()
    return output, process.returncode == 0


def wait_unreaped(number: int, end: float) -> None:
    """Wait until a child has ended or the time has come, and leave its status to be read."""
    while os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < end:
        time.sleep(0.002)
