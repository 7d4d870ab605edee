"""Reward for a text of a certain form: a completion and a regular expression go in, 1 or 0 comes out."""

import re
from typing import Any


def matches_pattern(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    pattern: str = "",
    column: str = "",
    full: bool = True,
    ignore_case: bool = False,
    dot_matches_newline: bool = True,
) -> float:
    """Pay 1 for a completion that a regular expression matches, 0 for any other. There is no partial credit.

    White space at both ends of the completion is not looked at. A blank completion pays 0, whatever the pattern.

    Options:
    - `pattern`: a regular expression as Python's `re` has them.
    - `column`: the column that holds the pattern of each row, in place of `pattern`.
    - `full`: the whole completion must match; false: a match anywhere in it is enough.
    - `ignore_case`: upper and lower case are the same.
    - `dot_matches_newline`: `.` stands for a newline as well.

    What can be gamed: with `full: false` the model may write anything around the match, and every pattern is met
    by the shortest text that it allows. A pattern that needs exponential time runs into the pool's time limit.

    Raises ValueError for a bad option, or a row without its column or with a pattern that cannot be read.
    """
    if bool(pattern) == bool(column):
        raise ValueError("set one of `pattern` and `column`")
    if column and column not in example:
        raise ValueError(f"the row has no column `{column}`")
    asked = example[column] if column else pattern
    if not isinstance(asked, str) or not asked:
        raise ValueError("the pattern must be a text, and not empty")
    flags = (re.IGNORECASE if ignore_case else 0) | (re.DOTALL if dot_matches_newline else 0)
    try:
        expression = re.compile(asked, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the pattern `{asked}` cannot be read: {error}") from error

    text = completion.strip()
    found = expression.fullmatch(text) if full else expression.search(text)
    return 1.0 if text and found else 0.0
