"""Reward for a length within bounds: a completion goes in, 0 to 1 comes out by how far outside it is."""

from typing import Any


def length_between(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    minimum: int = 1,
    maximum: int | None = None,
    unit: str = "words",
    edge: int = 0,
) -> float:
    """Pay 1 for a completion of `minimum` to `maximum` words or characters, and less the further outside it is.

    Outside, the score falls in a straight line and is 0 from `edge` units away. A blank completion pays 0.

    Options:
    - `minimum`, `maximum`: the bounds, which are themselves inside; without a `maximum` there is no upper one.
    - `unit`: `words`, which are what white space separates and which have a letter or a digit, or `characters`,
      of which a run of white space counts as one and white space at the ends as none.
    - `edge`: how many units outside still pay something; 0 is a hard bound.

    What can be gamed: the words are not read, so any filler of the right length pays. Set it beside a reward for
    the content, with a small weight, and `repetition_penalty` where the filler repeats itself.

    Raises ValueError for a bad option.
    """
    for name, value in {"minimum": minimum, "maximum": maximum, "edge": edge}.items():
        unset = value is None and name == "maximum"
        if not unset and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ValueError(f"`{name}` must be a whole number of 0 or more")
    if maximum is not None and maximum < max(minimum, 1):
        raise ValueError("`maximum` must be 1 or more and not below `minimum`")
    if unit not in ("words", "characters"):
        raise ValueError("`unit` must be `words` or `characters`")

    words = completion.split()
    if not words:
        return 0.0
    counted = [word for word in words if any(sign.isalnum() for sign in word)]
    length = len(counted) if unit == "words" else len(" ".join(words))
    outside = max(minimum - length, 0 if maximum is None else length - maximum, 0)
    if not outside:
        return 1.0
    return max(0.0, 1 - outside / edge) if edge else 0.0
