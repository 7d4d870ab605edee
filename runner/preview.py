"""Show what a model will see of a row, and which tokens it will learn, exactly as training takes them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from runner import corpus, model, prepare
from runner import show as pages
from runner.data import dataset, documents, origins
from runner.errors import Place, Problem, RecipeError
from runner.plan import Plan
from runner.text import encoding

SPACE_MARKS = {"\n": "⏎\n", "\t": "⇥"}
LONGEST_CHARACTER = 4  # tokens: the bytes of a character in UTF-8


def show(plan: Plan, number: int, console: Console) -> None:
    """Print one training row, counted from 1, token by token, and what became of all rows.

    Learned tokens are coloured on a terminal and stand in brackets elsewhere. Raises DataError, or RecipeError
    for a row that is not there.
    """
    if plan.recipe.task == "continued_pretraining":
        _document(plan, number, console)
        return
    data = dataset.read(plan.recipe.dataset, plan.recipe.training.seed)
    tokenizer = model.tokenizer(plan.recipe.model)
    train, evaluation = prepare.encode(plan, data, tokenizer)
    if not 1 <= number <= len(train.rows):
        raise RecipeError(
            Problem(f"there is no row {number}", Place("--row"), f"there are rows 1 to {len(train.rows)}")
        )
    row = train.rows[number - 1]
    console.print(Text(f"row {number} of {len(train.rows)}, from {row.place}", style="bold"), soft_wrap=True)
    console.print(_tokens(row, tokenizer, console.is_terminal and not console.no_color), soft_wrap=True)
    if train.asked:
        console.print(f"{len(row.ids)} tokens, none learned: completions are sampled behind them, and learned whole")
        console.print(Text(f"rewards see beside them: {train.asked[number - 1].columns}"), soft_wrap=True)
    else:
        share = 100 * row.learned / len(row.ids)
        console.print(f"{len(row.ids)} tokens, {row.learned} learned ({share:.0f} %)")
    console.print()
    console.print(Text("ledger", style="bold"))
    for name, samples, part in (("train", data.train, train), ("evaluation", data.evaluation, evaluation)):
        tokens, learned = sum(len(each.ids) for each in part.rows), sum(each.learned for each in part.rows)
        console.print(f"  {name}: {len(samples)} samples, {len(part.rows)} rows, {tokens} tokens, {learned} learned")
    whole = encoding.whole_ledger(data.ledger, (train, evaluation))
    console.print(f"  rows: {whole.read} read = {whole.kept} kept + {sum(whole.dropped.values())} dropped")
    for reason, count in whole.dropped.items():
        console.print(f"  dropped, {reason}: {count}")
    for line in pages.rows_read({file.file: file.format for file in whole.files}, whole.calls):
        console.print(Text(f"  {line}"), soft_wrap=True)


def _document(plan: Plan, number: int, console: Console) -> None:
    """Print one training document as it is learned, up to the length of a row, and what became of all documents."""
    settings = plan.recipe.dataset
    survey = documents.survey(settings, plan.recipe.training.seed)
    tokenizer = model.tokenizer(plan.recipe.model)
    total, length = survey.documents["train"], int(plan.max_length.value)
    if number > total:
        raise RecipeError(
            Problem(f"there is no document {number}", Place("--row"), f"there are documents 1 to {total}")
        )
    ids: list[int] = []
    seen = 1
    for tokens in corpus.encoded(documents.stream(settings, survey), tokenizer):
        if tokens.key.split == "train":
            ids += tokens.ids if seen == number else ()
            seen += tokens.ends
            if seen > number:
                break
    shown = ids[:length]
    wrapped = plan.packing.value == "wrapped"
    unseen = number == 1 or not wrapped  # nothing stands before its first token that it could be predicted from
    labels = [encoding.NOT_LEARNED, *shown[1:]] if unseen else shown
    row = encoding.TokenRow(shown, labels, tokens.key.place)
    console.print(Text(f"document {number} of {total}, from {row.place}", style="bold"), soft_wrap=True)
    console.print(_tokens(row, tokenizer, console.is_terminal and not console.no_color), soft_wrap=True)
    rest = f", the first {length} of them shown" if len(ids) > length else ""
    console.print(f"{len(ids)} tokens, {len(ids) - unseen} learned{rest}", soft_wrap=True)
    if wrapped:
        console.print(f"documents are laid end to end and cut into rows of {length} tokens")
    else:
        console.print(f"a row holds one document, and at most {length} tokens of it")
    console.print()
    console.print(Text("ledger", style="bold"))
    for name in origins.SPLITS:
        console.print(f"  {name}: {survey.documents[name]} documents, {survey.characters[name]} characters")
    ledger = survey.ledger
    console.print(f"  documents: {ledger.read} read = {ledger.kept} kept + {sum(ledger.dropped.values())} dropped")
    for reason, count in ledger.dropped.items():
        console.print(f"  dropped, {reason}: {count}")


def _tokens(row: encoding.TokenRow, tokenizer: Any, coloured: bool) -> Text:
    """The row token by token: learned ones on green, neighbours in two shades, or each in brackets."""
    shown = Text()
    shades = itertools.cycle(("black on green", "black on bright_green"))
    for piece, learned, _ in pieces(row, decoder(tokenizer)):
        for mark, visible in SPACE_MARKS.items():
            piece = piece.replace(mark, visible)
        if coloured:
            shown.append(piece, style=next(shades) if learned else "dim")
        else:
            shown.append(f"[{piece}]" if learned else piece)
    return shown


def decoder(tokenizer: Any) -> Callable[[tuple[int, ...]], str]:
    """Ids -> their text, each found once."""
    return functools.cache(lambda ids: str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)))


def pieces(row: encoding.TokenRow, decode: Callable[[tuple[int, ...]], str]) -> Iterator[tuple[str, bool, int]]:
    """Each token's text, whether it is learned, and 1; tokens that hold parts of a character come as one, counted."""
    held: tuple[int, ...] = ()
    for token, label in zip(row.ids, row.labels, strict=True):
        held += (token,)
        text = decode(held)
        if "\ufffd" not in text or len(held) > LONGEST_CHARACTER:
            yield text, label != encoding.NOT_LEARNED, len(held)
            held = ()
    if held:
        yield decode(held), row.labels[-1] != encoding.NOT_LEARNED, len(held)
