"""Answers that are read before they are compared: the number of a text, the choice that it names.

They are read by the functions of the rewards that ship here, so that an adapter is measured as it would be paid.
"""

from __future__ import annotations

import re

from runner.scores.shipped import reward

LETTERS = "ABCD"  # of a question that lists no choices
# `A) text`, `(B) text`, `C. text`, `**D:** text`: one choice on a line of its own.
LISTED = re.compile(r"^[ \t]*[(\[*]{0,3}([A-Z])[)\]*]{0,3}[.:)\]*]{1,3}[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
# What a chat template may put right behind the last choice: `<|im_end|>`, `</s>`, `[/INST]`.
MARKS = re.compile(r"(?:\s*(?:<[^<>\s]{1,40}>|\[/?[A-Z]{2,12}\]))+$")


def numeric_match(got: str, wanted: str) -> float | None:
    """Whether the last number of the answer is that of the wanted one, within a millionth. None: no number is wanted.

    A number may have thousands separators, an exponent or a percent sign, and be a fraction, or stand in LaTeX's
    `\\boxed{}`.
    """
    try:
        return float(reward("numeric_answer").numeric_answer("", got, {"answer": wanted}))
    except ValueError:
        return None


def choice_accuracy(got: str, wanted: str, prompt: str) -> float | None:
    """Whether the answer names the choice that the wanted one names, by letter or text. None: none is wanted.

    The choices are those that the prompt lists last, from `A` on, a line each; or the letters A to D.
    """
    choices = listed_choices(prompt) or dict.fromkeys(LETTERS, "")
    chosen = reward("multiple_choice").chosen_letter
    right = chosen(wanted.strip(), choices)
    return None if right is None else float(chosen(got.strip(), choices) == right)


def listed_choices(prompt: str) -> dict[str, str]:
    """Letter -> text of the choices that a prompt lists last, in order; empty where it lists fewer than two."""
    lists: list[dict[str, str]] = []
    for found in LISTED.finditer(prompt):
        letter, text = found[1], MARKS.sub("", found[2])
        if letter == "A":
            lists.append({"A": text})
        elif lists and letter == chr(ord("A") + len(lists[-1])):
            lists[-1][letter] = text
    whole = [each for each in lists if len(each) > 1]
    return whole[-1] if whole else {}
