"""Reward for the one right answer: a completion and the row's answer go in, 1 or 0 comes out."""

import json
import re
import unicodedata
from typing import Any


def exact_answer(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    column: str = "answer",
    tag: str = "",
    pattern: str = "",
    whole: bool = False,
    prefill: str = "",
    ignore_case: bool = True,
    ignore_whitespace: bool = True,
    ignore_punctuation: bool = False,
) -> float:
    """Pay 1 for a completion whose answer equals the row's, 0 for any other. There is no partial credit.

    Where the answer stands in the completion (set one at most; without any it is the last line that is not blank):
    - `tag`: between `<tag>` and `</tag>`, each of which must stand in the completion exactly once.
    - `pattern`: in the first group of the last match of this regular expression, or in the match if it has no group.
    - `whole`: the completion is the answer.

    Options:
    - `column`: the column of the right answer. A list (or the JSON text of one) names several right answers.
    - `prefill`: what the prompt already wrote of the answer, such as `<answer>`; it is put before the completion.
    - `ignore_case`: upper and lower case are the same.
    - `ignore_whitespace`: any run of white space is one space.
    - `ignore_punctuation`: punctuation is no difference, but a point, comma or hyphen before a digit stays.

    What can be gamed: one answer alone is read, so listing many does not pay; but where few answers are possible,
    the most frequent one pays without any thought. Balance the rows, or use longer answers.

    Raises ValueError for a bad option, or a row without an answer that a completion could give.
    """
    if sum(map(bool, (tag, pattern, whole))) > 1:
        raise ValueError("set one of `tag`, `pattern` and `whole` at most")
    try:
        expression = re.compile(pattern, re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the pattern `{pattern}` cannot be read: {error}") from error

    def plain(text: str) -> str:
        return normalised(text, ignore_case, ignore_whitespace, ignore_punctuation)

    accepted = right_answers(example, column)
    for answer in accepted:
        if not plain(answer):
            raise ValueError(f"a right answer in the column `{column}` is empty: an empty completion would pay")
        if not (tag or pattern or whole) and re.search(r"[\r\n]", answer.strip()):
            raise ValueError(f"the answer in the column `{column}` has several lines: set `tag`, `pattern` or `whole`")
        if tag and re.search(f"</?{re.escape(tag)}>", answer):
            raise ValueError(f"the answer in the column `{column}` holds the tag `{tag}` itself")

    text = prefill + completion
    given: str | None = text
    if tag:
        given = between(text, f"<{tag}>", f"</{tag}>")
    elif pattern:
        matches = list(expression.finditer(text))
        given = matches[-1][1 if expression.groups else 0] if matches else None
    elif not whole:
        given = re.split(r"[\r\n]", text.strip())[-1]
    return 1.0 if given is not None and plain(given) in {plain(answer) for answer in accepted} else 0.0


def right_answers(example: dict[str, Any], column: str) -> list[str]:
    """The row's right answers as texts; a text that is the JSON of a list counts as itself and as the list."""
    if column not in example:
        raise ValueError(f"the row has no column `{column}`")
    value = example[column]
    values = value if isinstance(value, list) else [value]
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            inner = []
        values = [value] + [one for one in inner if isinstance(one, str | int | float)]
    if not values or not all(isinstance(one, str | int | float) for one in values):
        raise ValueError(f"the column `{column}` must hold a text, a number, or a list of these")
    texts = []
    for one in values:
        texts.append(one if isinstance(one, str) else json.dumps(one))
        if isinstance(one, float) and one.is_integer():
            texts.append(str(int(one)))
    return texts


def between(text: str, opening: str, closing: str) -> str | None:
    """What stands between two marks; None where one of them is missing, repeated or out of order."""
    if text.count(opening) != 1 or text.count(closing) != 1:
        return None
    start, end = text.index(opening) + len(opening), text.index(closing)
    return text[start:end] if start <= end else None


def normalised(text: str, ignore_case: bool, ignore_whitespace: bool, ignore_punctuation: bool) -> str:
    text = unicodedata.normalize("NFC", text)
    if ignore_case:
        text = unicodedata.normalize("NFC", text.casefold())
    if ignore_punctuation:
        text = re.sub(r"['’]", "", text)
        text = "".join(
            " " if unicodedata.category(sign).startswith("P") and not (sign in ".,-" and after.isdigit()) else sign
            for sign, after in zip(text, text[1:] + " ", strict=True)
        )
    if ignore_whitespace or ignore_punctuation:
        text = " ".join(text.split())
    return text.strip()
