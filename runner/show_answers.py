"""Answers as a person sees them: the base model's and the adapter's, one below the other; and a conversation."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from runner import dialogue
from runner.dialogue import Answer, Answerer, Manner
from runner.errors import printable

LEAVE = ("/exit", "/quit")
ANEW = "/new"


def answers(found: Mapping[str, Answer], console: Console) -> None:
    """Each answer under the name of who gave it."""
    for name, answer in found.items():
        speed = f"{answer.tokens} tokens, {answer.seconds:.1f} s" + (", cut" if answer.cut else "")
        console.print(f"{name}  ({speed})", style="bold" if name == dialogue.ADAPTER else "dim", soft_wrap=True)
        console.print(printable(answer.text) or "(nothing)", soft_wrap=True)


def chat(answerer: Answerer, manner: Manner, system: str | None, console: Console) -> None:
    """Ask for prompts until there are no more. Each model goes on with its own answers."""
    console.print(f"{ANEW} begins a new conversation, {LEAVE[0]} or Ctrl-D ends", style="dim")
    said: dict[str, list[tuple[str, str]]] = {name: [] for name in manner.names}
    while True:
        try:
            prompt = console.input("> ").strip()
        except EOFError:
            console.print()
            return
        if prompt in LEAVE:
            return
        if prompt == ANEW:
            said = {name: [] for name in manner.names}
        elif prompt:
            found = answerer.ask({name: dialogue.turns(prompt, system, said[name]) for name in manner.names})
            answers(found, console)
            for name, answer in found.items():
                said[name].append((prompt, answer.text))
