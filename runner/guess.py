"""How many rows a recipe has and how long they are, guessed from their characters, before a tokenizer is loaded."""

from __future__ import annotations

import math

from runner import architecture, microbatch
from runner.choices import Rows, max_length
from runner.data import dataset, documents
from runner.data.examples import Document, Example, Instruction, Question
from runner.recipe import Recipe

CHARACTERS_A_TOKEN = 3.0  # before the tokenizer has been loaded; English has about four
TEMPLATE_TOKENS = 32  # that a chat template adds to a row, where nobody has counted them yet


def rows(recipe: Recipe) -> Rows:
    """How many rows the data has, and a cautious guess at the tokens of the longest. Raises DataError."""
    if recipe.task == "continued_pretraining":
        return _guess_rows_of_text(recipe)
    data = dataset.read(recipe.dataset, recipe.training.seed)
    lengths = [guessed_tokens(sample.example) for sample in data.train]
    longest = max((*lengths, *(guessed_tokens(sample.example) for sample in data.evaluation)), default=0)
    return Rows(len(data.train), len(data.evaluation), longest, microbatch.quantiles(lengths))


def _guess_rows_of_text(recipe: Recipe) -> Rows:
    """The rows that documents make when they are laid end to end, by the length that the recipe or the model says."""
    found = documents.survey(recipe.dataset, recipe.training.seed)
    shape = architecture.read(recipe.model.name, recipe.model.revision)
    length = int(max_length(recipe, shape).value)
    counts = {
        split: math.ceil(characters / CHARACTERS_A_TOKEN / length) for split, characters in found.characters.items()
    }
    longest = min(length, math.ceil(sum(found.characters.values()) / CHARACTERS_A_TOKEN))
    if recipe.training.packing == "document":
        counts = {split: max(counts[split], found.documents[split]) for split in counts}
        longest = min(length, math.ceil(found.longest / CHARACTERS_A_TOKEN))
    return Rows(counts["train"], counts["evaluation"], longest, (longest,))


def guessed_tokens(example: Example) -> int:
    """The tokens of an example, with what a chat template adds; rather too many than too few."""
    if isinstance(example, Instruction):
        characters = len(example.prompt) + len(example.completion)
    elif isinstance(example, Question):
        turns = [example.prompt] if isinstance(example.prompt, str) else [turn.content for turn in example.prompt]
        characters = sum(map(len, turns))
    elif isinstance(example, Document):
        characters = len(example.text)
    else:
        characters = sum(len(message.content) for message in example.messages)
    return math.ceil(characters / CHARACTERS_A_TOKEN) + TEMPLATE_TOKENS
