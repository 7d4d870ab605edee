"""A plan in, one HTML page out that shows rows as the model will see them: each token, whether it is learned, and where
rows that are packed into one begin. It loads nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import corpus, model, prepare, runfile, token_rows
from runner.data import dataset, documents
from runner.errors import Place, Problem, RecipeError, RunError
from runner.plan import Plan
from runner.preview import decoder, pieces
from runner.report import html
from runner.text.encoding import Encoded, TokenRow

MOST_ROWS = 500  # of a split
MOST_TOKENS = 200_000  # of a split: about 2 MB of page
SPLITS = {"train": "to train on", "evaluation": "held out"}


@dataclass(frozen=True)
class Shown:
    """A row on the page. `begins`: the token at which each row or document in it begins, and where that stands."""

    row: TokenRow
    title: str
    begins: tuple[tuple[int, str], ...] = ()
    note: str = ""


def write(settled: Plan, target: Path) -> Path:
    """Write the page and give its path. Raises DataError for the data, and RecipeError or RunError for `target`."""
    if target.suffix.lower() in (".yaml", ".yml") or (target.exists() and not target.is_file()):
        hint = "name a file that ends in `.html`, behind the recipe: `tunesmith preview recipe.yaml --html page.html`"
        raise RecipeError(Problem(f"the page is not written over `{target}`", Place("--html"), hint))
    page = render(settled)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        runfile.write(target, page)
    except OSError as error:
        raise RunError(Problem(f"cannot write `{target}`: {(error.strerror or str(error)).lower()}")) from error
    return target


def render(settled: Plan) -> str:
    """The page as HTML."""
    tokenizer = model.tokenizer(settled.recipe.model)
    shown, total = (_documents if settled.recipe.task == "continued_pretraining" else _rows)(settled, tokenizer)
    decode = decoder(tokenizer)
    packed = {split: [_packed_row(each, decode) for each in rows] for split, rows in shown.items()}
    counts = [(SPLITS[split], _share(len(rows), total[split])) for split, rows in shown.items() if rows]
    tokens = sum(len(each.row.ids) for rows in shown.values() for each in rows)
    learned = sum(each.row.learned for rows in shown.values() for each in rows)
    page: str = html.template("preview.html.jinja", os.environ).render(
        name=settled.recipe.name,
        sentence=_sentence(settled, shown),
        facts=[
            ("task", settled.recipe.task),
            ("model", settled.recipe.model.name),
            ("tokens of a row at most", str(settled.max_length.value)),
            *((f"rows {what}", number) for what, number in counts),
            ("tokens shown", f"{tokens:,}"),
            ("of them learned", f"{learned:,}"),
        ],
        learns=settled.recipe.grpo is None,
        data=html.as_json({"splits": {SPLITS[split]: rows for split, rows in packed.items() if rows}}),
        **html.own(("page.css", "preview.css"), script="preview.js"),
    )
    return page


def _share(shown: int, total: int | None) -> str:
    """How many rows are on the page; None where nobody has counted them all."""
    if total is None:
        return f"the first {shown}"
    return f"all {shown}" if shown == total else f"the first {shown} of {total}"


def _sentence(settled: Plan, shown: dict[str, list[Shown]]) -> str:
    packing = str(settled.packing.value)
    if settled.recipe.grpo is not None:
        return "Prompts as the model is asked them; completions are sampled behind each, and paid for."
    if packing == "wrapped":
        return "Documents are laid end to end and cut into full rows; a mark stands where one begins."
    if packing == "document":
        return "Each document has rows of its own; a mark stands where one begins."
    if packing == "bfd":
        return (
            "Short rows are packed into longer ones, and proved not to see each other; a mark stands where one begins."
        )
    if packing == "padding_free":
        return "Each row by itself; in a pass rows are laid end to end, and proved not to see each other."
    return "Each row as the model sees it, by itself."


def _rows(settled: Plan, tokenizer: Any) -> tuple[dict[str, list[Shown]], dict[str, int | None]]:
    """The first rows of both splits, packed as a run would have them, and how many there are."""
    data = dataset.read(settled.recipe.dataset, settled.recipe.training.seed)
    both = dict(zip(SPLITS, prepare.encode(settled, data, tokenizer), strict=True))
    if settled.packing.value == "bfd" and both["train"].rows:
        packed = prepare.packed(both["train"], int(settled.max_length.value))
        train = [_of_packed(row, number, both["train"]) for number, row in enumerate(packed, 1)]
    else:
        train = list(_plain(both["train"]))
    found = {"train": train, "evaluation": list(_plain(both["evaluation"]))}
    return {split: _first(rows) for split, rows in found.items()}, {split: len(rows) for split, rows in found.items()}


def _plain(encoded: Encoded) -> Iterator[Shown]:
    for number, row in enumerate(encoded.rows, 1):
        note = f"rewards see beside it: {encoded.asked[number - 1].columns}" if encoded.asked else ""
        yield Shown(row, f"row {number}, {row.place}", (), note)


def _of_packed(row: dict[str, Any], number: int, encoded: Encoded) -> Shown:
    """A row of several, each told by its tokens."""
    places: dict[tuple[int, ...], Place] = {tuple(each.ids): each.place for each in reversed(encoded.rows)}
    begins, start = [], 0
    for length in row["seq_lengths"]:
        place = places.get(tuple(row["input_ids"][start : start + length]))
        begins.append((start, "a part of a row" if place is None else str(place)))
        start += length
    return Shown(
        TokenRow(row["input_ids"], row["labels"], encoded.rows[0].place), f"packed row {number}", tuple(begins)
    )


def _documents(settled: Plan, tokenizer: Any) -> tuple[dict[str, list[Shown]], dict[str, int | None]]:
    """The first rows that documents make; how many all of them make is not known before they are tokenised."""
    settings, length = settled.recipe.dataset, int(settled.max_length.value)
    survey = documents.survey(settings, settled.recipe.training.seed)
    wrapped = settled.packing.value == "wrapped"
    with tempfile.TemporaryDirectory() as folder:
        begins = corpus.opening(settings, survey, tokenizer, length, wrapped, Path(folder), MOST_TOKENS)
        rows = token_rows.TokenRows(Path(folder) / "train")
        shown = [_of_documents(rows, number, begins) for number in range(min(len(rows), MOST_ROWS))]
        total = len(rows) if len(begins) == survey.documents["train"] else None
    return {"train": _first(shown)}, {"train": total}


def _of_documents(rows: token_rows.TokenRows, number: int, begins: Sequence[tuple[int, Place]]) -> Shown:
    row, start = rows[number], rows.starts[number]
    inside = tuple((at - start, str(place)) for at, place in begins if start <= at < start + row["length"])
    place = next((place for at, place in reversed(begins) if at <= start), Place(""))
    return Shown(TokenRow(row["input_ids"], row["labels"], place), f"row {number + 1}, {place}", inside)


def _first(rows: Sequence[Shown]) -> list[Shown]:
    """As many as a page holds: at least one, however long it is."""
    kept: list[Shown] = []
    tokens = 0
    for each in rows[:MOST_ROWS]:
        tokens += len(each.row.ids)
        if kept and tokens > MOST_TOKENS:
            break
        kept.append(each)
    return kept


def _packed_row(shown: Shown, decode: Any) -> list[Any]:
    """A row for the script: title, note, tokens, learned tokens, texts, where learning changes, where rows begin."""
    texts: list[str] = []
    changes: list[int] = []
    at_token: dict[int, int] = {}
    tokens, learning = 0, False
    for text, learned, count in pieces(shown.row, decode):
        if learned != learning:
            changes.append(len(texts))
            learning = learned
        at_token |= dict.fromkeys(range(tokens, tokens + count), len(texts))
        tokens += count
        texts.append(text)
    begins = [[at_token[at], place] for at, place in shown.begins]
    return [shown.title, shown.note, len(shown.row.ids), shown.row.learned, texts, changes, begins]
