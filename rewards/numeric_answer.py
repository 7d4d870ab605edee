"""Reward for the one right number: a completion and the row's number go in, 1 or 0 comes out."""

import math
import re
from fractions import Fraction
from typing import Any

MOST_DIGITS = 400  # of one number: more cost time and mean nothing
TIMES_TEN = r"(?:\s?(?:\\times|\\cdot|[×x*])\s?10\s?\^\s?\{?([+-]?\d{1,3})\}?)?"
# Groups: sign; whole and fraction of a mixed number; \frac; a decimal with its denominator, exponent and percent.
NUMBER = re.compile(
    r"(?:(?<![\w)}])([+-])(?:\\?[$€£])?)?(?<![A-Za-z_\d])(?<!\d\.)(?:"
    r"(?:(\d{1,9})\s?)?\\[dt]?frac\s?\{\s?([+-]?\d+)\s?\}\s?\{\s?(\d+)\s?\}"
    r"|(\d{1,9}) (\d{1,9})/(\d{1,9})(?![\d/])"
    r"|(\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|\.\d+)(?:[eE]([+-]?\d{1,3})(?!\d))?"
    + TIMES_TEN
    + r"(?:\s?/\s?(\d+))?"
    r")(\s?\\?%)?"
)


def numeric_answer(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    column: str = "answer",
    tag: str = "",
    pattern: str = "",
    prefill: str = "",
    absolute_tolerance: float = 0.0,
    relative_tolerance: float = 1e-6,
    decimal_comma: bool = False,
    percent_is_hundredth: bool = True,
) -> float:
    """Pay 1 for a completion whose number equals the row's within the tolerance, 0 for any other.

    One number is read: the last in the last LaTeX `\\boxed{…}`, or the last in the text where there is no box.
    It may have thousands separators (`1,234`, `1_234`, `1{,}234`, a thin space), a power of ten (`1.5e3`,
    `1.5 \\times 10^3`), be a fraction (`3/4`, `\\frac{3}{4}`, `1 1/2`) or a percentage. Digits right behind a
    letter (`x2`) are no number, and a hyphen between two numbers is no sign.

    Options:
    - `column`: the column of the right number; it is read like the completion, so `#### 72` or `\\boxed{72}` do.
    - `tag`: read between `<tag>` and `</tag>` alone, each of which must stand in the completion exactly once.
    - `pattern`: read in the first group of the last match of this regular expression, or in all of the match.
    - `prefill`: what the prompt already wrote of the answer, such as `<answer>`; it is put before the completion.
    - `absolute_tolerance`, `relative_tolerance`: how far off still is right: the larger of the first and of the
      second (0 to below 1) times the right number.
    - `decimal_comma`: numbers are written `1.234,5`.
    - `percent_is_hundredth`: `50%` is 0.5; false: the sign is dropped, and `50%` is 50.

    What can be gamed: one number alone is read, so writing all of them does not pay; but small whole numbers are
    often right by chance. A wide tolerance pays for a guess in the middle.

    Raises ValueError for a bad option, or a row without a right number.
    """
    if tag and pattern:
        raise ValueError("set one of `tag` and `pattern` at most")
    for name, value in {"absolute_tolerance": absolute_tolerance, "relative_tolerance": relative_tolerance}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"`{name}` must be a number of 0 or more")
    if relative_tolerance >= 1:
        raise ValueError("`relative_tolerance` must be below 1: 0 would be right for every row")
    try:
        expression = re.compile(pattern, re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the pattern `{pattern}` cannot be read: {error}") from error

    if column not in example:
        raise ValueError(f"the row has no column `{column}`")
    value = example[column]
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        right: Fraction | None = Fraction(repr(value))
    else:
        right = last_number(value, decimal_comma, percent_is_hundredth) if isinstance(value, str) else None
    if right is None or (isinstance(value, str) and value.strip()[:1] in ("[", "{")):
        raise ValueError(f"the column `{column}` must hold a number, or a text with one")

    text = prefill + completion
    if tag:
        text = between(text, f"<{tag}>", f"</{tag}>") or ""
    elif pattern:
        matches = list(expression.finditer(text))
        text = (matches[-1][1 if expression.groups else 0] or "") if matches else ""
    given = last_number(text, decimal_comma, percent_is_hundredth)
    if given is None:
        return 0.0
    tolerance = max(Fraction(absolute_tolerance), Fraction(relative_tolerance) * abs(right))
    return 1.0 if abs(given - right) <= tolerance else 0.0


def between(text: str, opening: str, closing: str) -> str | None:
    """What stands between two marks; None where one of them is missing, repeated or out of order."""
    if text.count(opening) != 1 or text.count(closing) != 1:
        return None
    start, end = text.index(opening) + len(opening), text.index(closing)
    return text[start:end] if start <= end else None


def last_number(text: str, decimal_comma: bool, percent_is_hundredth: bool) -> Fraction | None:
    """The last number in the last box, or in the text; None where there is none, or it is too large."""
    text = last_box(text)
    text = text.translate({0x2212: "-", 0x2013: "-"})
    if decimal_comma:
        text = text.translate({ord("."): ",", ord(","): "."})
    text = re.sub(r"(?<=\d)(?:\{,\}|\\[,!]|[_\u00a0\u2009\u202f])(?=\d{3}(?!\d))", ",", text)
    found = None
    for found in NUMBER.finditer(text):  # noqa: B007  the last is wanted
        pass
    if found is None or sum(map(str.isdigit, found[0])) > MOST_DIGITS:
        return None
    sign, frac_whole, frac_over, frac_under, whole, over, under, decimal, power, times, divisor, percent = (
        found.groups()
    )
    if frac_under:
        top, bottom, plus = int(frac_over), int(frac_under), int(frac_whole or 0)
    elif under:
        top, bottom, plus = int(over), int(under), int(whole)
    else:
        top, bottom, plus = 1, int(divisor or 1), 0
    if bottom == 0:
        return None
    number = plus + Fraction(top, bottom)
    if decimal:
        number *= Fraction(decimal.replace(",", "")) * Fraction(10) ** (int(power or 0) + int(times or 0))
    if percent and percent_is_hundredth:
        number /= 100
    return -number if sign == "-" else number


def last_box(text: str) -> str:
    """What the last closed `\\boxed{…}` holds, or the text where there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return text
    start += len("\\boxed{")
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start:at]
    return text[start:]
