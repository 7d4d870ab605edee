"""Questions on a terminal. Where there is none, or nobody wants to be asked, the default is the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runner.errors import Problem, RunError, printable
from runner.nearest import nearest


@dataclass(frozen=True)
class Asker:
    """`read` shows a prompt and gives a line, as `input` does; None asks nobody."""

    read: Callable[[str], str] | None
    say: Callable[[str], None]

    def choice(self, question: str, choices: Mapping[str, str], default: str) -> str:
        """One of the choices, which are shown with what each means."""
        if self.read is None:
            return default
        self.say(f"{question}:")
        width = max(map(len, choices))
        for number, (name, meaning) in enumerate(choices.items(), 1):
            self.say(f"  {number}  {printable(name).ljust(width)}  {printable(meaning)}".rstrip())
        while True:
            said = self._line(f"1 to {len(choices)}, or a name [{printable(default)}]: ") or default
            if said in choices:
                return said
            if said.isascii() and said.isdecimal() and 1 <= int(said) <= len(choices):
                return list(choices)[int(said) - 1]
            similar = nearest(said, choices)
            self.say(f"there is no `{printable(said)}`" + (f"; `{printable(similar)}` is a choice" if similar else ""))

    def text(self, question: str, default: str) -> str:
        """A line of text."""
        return default if self.read is None else self._line(f"{question} [{printable(default)}]: ") or default

    def agreed(self, question: str) -> bool:
        """Whether the answer is yes; nobody says no."""
        return self.read is not None and self._line(f"{question} [y/N]: ").lower() in ("y", "yes")

    def _line(self, prompt: str) -> str:
        assert self.read is not None
        try:
            return self.read(prompt).strip()
        except EOFError:
            unanswered = Problem("nothing is written: a question was not answered", hint="`--yes` asks none")
            raise RunError(unanswered) from None
