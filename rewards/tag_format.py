"""Reward for a completion laid out in tags: a completion goes in, 0 to 1 comes out by how much of it is right."""

import re
from collections.abc import Sequence
from typing import Any


def tag_format(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    tags: Sequence[str] = ("think", "answer"),
    prefill: str = "",
    only: bool = True,
    least_characters: int = 1,
) -> float:
    """Pay for `<think>…</think><answer>…</answer>`: each tag once, in order, and filled.

    With n opening and closing tags to write there are n + 1 equal steps:
    - one for each tag that stands in the text exactly once and after all tags that come before it; a closing
      tag also needs its section filled, so that empty sections pay for their opening tags alone;
    - the last for the whole: every tag is right, and (with `only`) nothing else stands outside of the sections.

    Options:
    - `tags`: the names of the sections, in order.
    - `prefill`: what the prompt already wrote of the answer, such as `<think>`. The completion goes on from there,
      and tags in the prefill pay nothing.
    - `only`: text before, between and after the sections costs the last step.
    - `least_characters`: how many characters, not counting white space at the ends, fill a section.

    What can be gamed: the content is not read, so `<think>.</think><answer>.</answer>` pays in full. Set it beside
    a reward for the right answer, and raise `least_characters` where sections stay empty of thought.

    Raises ValueError for a bad option.
    """
    if isinstance(tags, str) or not tags or len(set(tags)) < len(tags):
        raise ValueError("`tags` must be a list of different names, with at least one")
    if not all(isinstance(tag, str) and re.fullmatch(r"[A-Za-z_][\w.:-]*", tag) for tag in tags):
        raise ValueError("each of `tags` must be a name without angle brackets, such as `answer`")
    if isinstance(least_characters, bool) or not isinstance(least_characters, int) or least_characters < 1:
        raise ValueError("`least_characters` must be a whole number of 1 or more")
    if not isinstance(prefill, str):
        raise ValueError("`prefill` must be a text")
    marks = [mark for tag in tags for mark in (f"<{tag}>", f"</{tag}>")]
    if all(mark in prefill for mark in marks):
        raise ValueError("`prefill` holds all of the tags: nothing is left to pay for")

    text = prefill + completion
    outside = ""
    right = 0  # of the tags that are to be written
    every = True
    position = 0  # behind the last tag that is right
    opened = -1  # behind the opening tag of this section, where that is right
    for mark in marks:
        start = text.find(mark)
        fits = start >= position and text.count(mark) == 1
        if mark.startswith("</"):
            fits = fits and (opened < 0 or len(text[opened:start].strip()) >= least_characters)
        elif fits:
            outside += text[position:start]
        opened = -1
        every = every and fits
        if fits:
            position = start + len(mark)
            opened = position if not mark.startswith("</") else -1
            right += mark not in prefill
    outside += text[position:]

    steps = sum(mark not in prefill for mark in marks)
    whole = every and not (only and outside.strip())
    return (right + whole) / (steps + 1)
