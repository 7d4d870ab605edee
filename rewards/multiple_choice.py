"""Reward for the right one of several choices: a completion and the row's answer go in, 1 or 0 comes out."""

import json
import re
from typing import Any

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# `The answer is **(B)**`, `Option: B`, `\boxed{\text{B}}`; what comes behind the letter is looked at apart.
STATEMENT = re.compile(
    r"(?:\b(?i:answer|choice|option)\b|\\boxed\{)"
    r"(?:[\s:=*_(\[{$\-\"'`]|\bis\b|\bshould be\b|\bmust be\b|\bwould be\b|\b(?i:option|choice)\b|\\text|\\boxed){0,20}"
    r"(?<![A-Za-z])([A-Za-z])(?![A-Za-z'’])"
)
LABEL = re.compile(r"[\s*_(\[{`\"'$>]{0,9}([A-Za-z])(?:[\s*_)\]}`\"'$]{0,9}(?:[.:,)\]-]|$))[\s*_)\]}`\"'$]{0,9}")
PROSE_BEHIND = re.compile(r" +(?!or\b|and\b|nor\b)[a-z]")


def multiple_choice(
    prompt: str,
    completion: str,
    example: dict[str, Any],
    *,
    column: str = "answer",
    choices_column: str = "",
    letters: str = "ABCD",
    answer_is: str = "auto",
    first_index: int = 0,
    tag: str = "",
    prefill: str = "",
) -> float:
    """Pay 1 for a completion that makes the right choice, 0 for any other. There is no partial credit.

    One choice is read, from the last statement such as `The answer is (B)`, `Option B` or `\\boxed{B}`; where there
    is none, from the last line that is not blank: `B`, `(B)`, `B.`, `**B**`, `B) text`, `B text` where that is its
    text, or the text of a choice alone. A statement or line that names a second choice (`A or B`), or a letter with
    another choice's text, is no choice.

    Options:
    - `column`: the column of the right choice: its letter, its index or its text.
    - `choices_column`: the column of the choices: a list of texts, an object of letters and texts, or an object of
      the lists `label` and `text`; or the JSON text of one of these. Needed to read choices by their text.
    - `letters`: the letters in order, where no column has them.
    - `answer_is`: `letter`, `index` or `text`; `auto` takes the one that fits and refuses a row where two do.
    - `first_index`: the index of the first choice, 0 or 1.
    - `tag`: read between `<tag>` and `</tag>` alone, each of which must stand in the completion exactly once.
    - `prefill`: what the prompt already wrote of the answer, such as `<answer>`; it is put before the completion.

    What can be gamed: naming all choices does not pay; but a blind guess is right once in as many times as there
    are choices, and more often where the rows favour one letter. Shuffle the choices of the rows.

    Raises ValueError for a bad option, or a row whose choices or answer cannot be read.
    """
    if not isinstance(letters, str) or not re.fullmatch("[A-Z]{2,26}", letters) or len(set(letters)) < len(letters):
        raise ValueError("`letters` must be two or more different capital letters, such as `ABCD`")
    if answer_is not in ("auto", "letter", "index", "text"):
        raise ValueError("`answer_is` must be `auto`, `letter`, `index` or `text`")
    if first_index not in (0, 1) or isinstance(first_index, bool):
        raise ValueError("`first_index` must be 0 or 1")
    choices = read_choices(example, choices_column, letters) if choices_column else dict.fromkeys(letters, "")
    right = right_letter(example, column, choices, answer_is, first_index)

    text = prefill + completion
    if tag:
        text = between(text, f"<{tag}>", f"</{tag}>") or ""
    return 1.0 if chosen_letter(text.strip(), choices) == right else 0.0


def read_choices(example: dict[str, Any], column: str, letters: str) -> dict[str, str]:
    """Letter -> text of the row's choices, in order."""
    if column not in example:
        raise ValueError(f"the row has no column `{column}`")
    value = example[column]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the column `{column}` is no JSON: {error}") from error
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels = value.get("label") or list(letters if len(value["text"]) <= len(letters) else ALPHABET)
        texts = value["text"]
        if not isinstance(labels, list) or ("label" in value and len(labels) != len(texts)):
            raise ValueError(f"the column `{column}` must have as many labels as texts")
        if "label" in value and all(str(label).isdigit() for label in labels):
            labels = list(ALPHABET)  # some rows of a set count their choices where others letter them
        value = dict(zip(map(str, labels), texts, strict=False))
    elif isinstance(value, list):
        value = dict(zip(letters if len(value) <= len(letters) else ALPHABET, value, strict=False))
    if not isinstance(value, dict) or not 2 <= len(value) <= 26:
        raise ValueError(f"the column `{column}` must hold 2 to 26 choices, as a list or an object")
    choices = {str(letter).strip().upper(): as_text(text) for letter, text in value.items()}
    if len(choices) < len(value) or not all(letter in ALPHABET and len(letter) == 1 for letter in choices):
        raise ValueError(f"the choices in the column `{column}` must have different single letters")
    return choices


def right_letter(
    example: dict[str, Any], column: str, choices: dict[str, str], answer_is: str, first_index: int
) -> str:
    if column not in example:
        raise ValueError(f"the row has no column `{column}`")
    answer = as_text(example[column])
    letters = list(choices)
    readings = {
        "letter": [letter for letter in letters if letter == answer.strip(" ().").upper()],
        "index": letters[int(answer) - first_index :][:1]
        if re.fullmatch("[0-9]{1,2}", answer) and int(answer) >= first_index
        else [],
        "text": [letter for letter in letters if plain(choices[letter]) and plain(choices[letter]) == plain(answer)],
    }
    if answer_is == "auto" and isinstance(example[column], int):
        readings["text"] = []
    found = {letter for kind in readings if answer_is in ("auto", kind) for letter in readings[kind]}
    if len(found) != 1:
        what = "can be read as more than one" if found else "is none"
        raise ValueError(f"the answer `{answer[:80]}` in the column `{column}` {what} of the choices")
    return found.pop()


def chosen_letter(text: str, choices: dict[str, str]) -> str | None:
    """The letter of the one choice that a text makes, or None."""
    letter, behind = None, ""
    for found in STATEMENT.finditer(text):
        if found[1].upper() in choices and not PROSE_BEHIND.match(text, found.end()):
            letter, behind = found[1].upper(), text[found.end() :].split("\n", 1)[0]
    if letter is None:
        line = re.split(r"[\r\n]", text)[-1]
        label = LABEL.match(line)
        if label and label[1].upper() in choices:
            letter, behind = label[1].upper(), line[label.end() :]
        elif plain(line[:1]) and plain(choices.get(line[0], "")) and plain(line[1:]) == plain(choices[line[0]]):
            letter = line[0]
    if letter is not None:
        others = {
            other for other in choices if other != letter and plain(choices[other]) not in ("", plain(choices[letter]))
        }
        if named_letters(behind, choices) - {letter} or plain(behind) in {plain(choices[other]) for other in others}:
            return None
        return letter
    said = plain(re.sub(r"(?i)^.{0,40}\banswer\b(?: is|:)+", "", re.split(r"[\r\n]", text)[-1]))
    fitting = [letter for letter, choice in choices.items() if said and plain(choice) == said]
    return fitting[0] if len(fitting) == 1 else None


def named_letters(text: str, choices: dict[str, str]) -> set[str]:
    """The choices that a text names; a letter with a word behind it (`A whale`, `C is wrong`) is prose."""
    found = re.finditer(r"(?<![A-Za-z'’])([A-Z])(?![A-Za-z'’])", text)
    return {one[1] for one in found if one[1] in choices and not PROSE_BEHIND.match(text, one.end())}


def between(text: str, opening: str, closing: str) -> str | None:
    """What stands between two marks; None where one of them is missing, repeated or out of order."""
    if text.count(opening) != 1 or text.count(closing) != 1:
        return None
    start, end = text.index(opening) + len(opening), text.index(closing)
    return text[start:end] if start <= end else None


def as_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a choice or answer must be a text or a number")
    return str(value).strip()


def plain(text: str) -> str:
    """A text as it is compared: no case, no marks of emphasis, no punctuation at the ends."""
    return " ".join(text.casefold().split()).strip(" .,;:!*_`\"'()[]")
