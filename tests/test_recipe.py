"""No key of a recipe is accepted and ignored."""

from __future__ import annotations

import ast
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

import runner
from runner import recipe


def read_attributes() -> set[str]:
    """Names that are read as an attribute, or taken whole by name, where recipes are carried out."""
    only_pass_on = {"recipe.py", "check.py", "show.py", "rules.py", "keys.py", "schema.py", "paths.py"}
    files = [path for path in Path(runner.__file__).parent.rglob("*.py") if path.name not in only_pass_on]
    assert len(files) > 30
    found: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
    return found


def leaves(kind: Any) -> list[str]:
    return [field.name for field in fields(kind)]


BLOCKS = [value for value in vars(recipe).values() if isinstance(value, type) and is_dataclass(value)]


# `version` says how a recipe is read and nothing of what is done; trackers are gone through by their names.
NOT_BY_NAME = {"version"}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_key_of_a_recipe_is_read_somewhere(block: Any) -> None:
    unread = set(leaves(block)) - read_attributes() - NOT_BY_NAME
    assert not unread, f"accepted in a recipe, and ignored: {sorted(unread)}"


def test_a_key_that_nobody_reads_would_be_found() -> None:
    assert "a_key_that_nobody_reads" not in read_attributes()
    assert len(BLOCKS) == 16
