"""The command line's grammar in, a script that completes it in bash, zsh or fish out.

A script is made once, and starts no Python at a press of a key.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

FILES = ("FILE", "MODEL", "ROWS", "recipe", "recipes", "files", "subject")  # what names a file or a directory
DIRECTORIES = ("DIRECTORY", "directory")


@dataclass(frozen=True)
class Word:
    """An option or an argument. `takes`: `files`, `directories`, `choices`, `text`, or nothing."""

    names: tuple[str, ...]  # of an option; an argument has none
    help: str
    takes: str
    choices: tuple[str, ...] = ()
    needs: bool = True  # whether an option's value has to be there
    many: bool = False  # whether an argument may be given again and again


@dataclass(frozen=True)
class Verb:
    """A verb, or one of the actions of a verb: `rewards check`."""

    path: tuple[str, ...]
    help: str
    words: tuple[Word, ...]


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """The script for a shell, one of `SHELLS`."""
    return SHELLS[shell](list(verbs(parser)))


def verbs(parser: argparse.ArgumentParser, path: tuple[str, ...] = (), help_text: str = "") -> Iterator[Verb]:
    """Every verb of the grammar, the command itself first."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    yield Verb(path, help_text, tuple(_word(action) for action in parser._actions if action not in below))
    for action in below:
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, verb in action.choices.items():
            yield from verbs(verb, (*path, name), helps[name])


def _word(action: argparse.Action) -> Word:
    names = tuple(action.option_strings)
    shown = action.metavar if isinstance(action.metavar, str) else action.dest
    takes = "text"
    if names and action.nargs == 0:
        takes = ""
    elif action.choices:
        takes = "choices"
    elif shown in FILES or action.dest in FILES:
        takes = "files"
    elif shown in DIRECTORIES:
        takes = "directories"
    choices = tuple(map(str, action.choices or ()))
    return Word(names, action.help or "", takes, choices, action.nargs != "?", action.nargs in ("*", "+"))


def _below(found: list[Verb], path: tuple[str, ...]) -> list[Verb]:
    """The verbs right below a path."""
    return [verb for verb in found if verb.path and verb.path[:-1] == path]


def _bash(found: list[Verb]) -> str:
    paths = "|".join(
        f'"{" ".join(("", *verb.path)) if len(verb.path) == 1 else " ".join(verb.path)}"' for verb in found[1:]
    )
    values, lines = [], []
    for verb in found:
        name = " ".join(verb.path)
        for word in verb.words:
            if word.names and word.takes:
                heads = "|".join(f'"{name} {each}"' for each in word.names)
                values.append(f"        {heads}) {_bash_values(word)} return ;;" if word.needs else "")
        options = " ".join(each for word in verb.words for each in word.names)
        below = " ".join(each.path[-1] for each in _below(found, verb.path))
        argument = next((word for word in verb.words if not word.names), None)
        words = f'_tunesmith_words "{below}"' if below else _bash_values(argument).rstrip(";") if argument else ":"
        lines.append(
            f'        "{name}") if [[ $current == -* ]]; then _tunesmith_words "{options}"; else {words}; fi ;;'
        )
    return BASH.format(paths=paths, values="\n".join(filter(None, values)), verbs="\n".join(lines))


def _bash_values(word: Word) -> str:
    if word.takes == "choices":
        return f'_tunesmith_words "{" ".join(word.choices)}";'
    return {"files": "_tunesmith_files -f;", "directories": "_tunesmith_files -d;"}.get(word.takes, ":;")


BASH = """\
# Completion of `tunesmith` for bash, made by `tunesmith completion bash`.
_tunesmith_words() {{
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}}
_tunesmith_files() {{
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$current")
}}
_tunesmith() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD - 1]}}" path="" index
    COMPREPLY=()
    if [[ $current == = ]]; then current=""; fi
    if [[ $previous == = ]]; then previous="${{COMP_WORDS[COMP_CWORD - 2]}}"; fi
    for ((index = 1; index < COMP_CWORD; index++)); do
        case "$path ${{COMP_WORDS[index]}}" in
        {paths}) path="${{path:+$path }}${{COMP_WORDS[index]}}" ;;
        esac
    done
    case "$path $previous" in
{values}
    esac
    case "$path" in
{verbs}
    esac
}}
complete -F _tunesmith tunesmith
"""


def _zsh(found: list[Verb]) -> str:
    return ZSH.format(functions="\n".join(_zsh_function(found, verb) for verb in reversed(found)))


def _zsh_function(found: list[Verb], verb: Verb) -> str:
    """A function that completes what stands behind a verb."""
    below = _below(found, verb.path)
    arguments = []
    place = 0
    for word in verb.words:
        values, text = _zsh_values(word), _zsh_text(word.help)
        for name in word.names:
            optional = "" if word.needs else ":"
            arguments.append(
                f"{'*' if values else ''}{name}[{text}]" + (f"{optional}:value:{values}" if values else "")
            )
        if not word.names and not below:
            place += 1
            arguments.append(f"{'*' if word.many else place}:{text}:{values}")
    lines = [f"{_zsh_name(verb)}() {{", "    local context state state_descr line", "    typeset -A opt_args"]
    if below:
        names = " ".join(shlex.quote(f"{each.path[-1]}:{each.help}") for each in below)
        cases = " ".join(f"{each.path[-1]}) {_zsh_name(each)} ;;" for each in below)
        lines.append(f"    _arguments -C {' '.join(map(shlex.quote, arguments))} '1: :->verb' '*:: :->rest'")
        lines.append(f"    case $state in\n    verb) local -a names=({names}); _describe verb names ;;")
        lines.append(f"    rest) case $words[1] in {cases} esac ;;\n    esac")
    else:
        lines.append(f"    _arguments {' '.join(map(shlex.quote, arguments))}")
    return "\n".join([*lines, "}"])


def _zsh_values(word: Word) -> str:
    if word.takes == "choices":
        return f"({' '.join(word.choices)})"
    return {"files": "_files", "directories": "_files -/", "text": " "}.get(word.takes, "")


def _zsh_name(verb: Verb) -> str:
    return "_".join(("_tunesmith", *verb.path))


def _zsh_text(text: str) -> str:
    return text.replace("\\", "").replace("[", "(").replace("]", ")").replace(":", "\\:")


ZSH = """\
#compdef tunesmith
# Completion of `tunesmith` for zsh, made by `tunesmith completion zsh`.
{functions}
if [[ $funcstack[1] == _tunesmith ]]; then _tunesmith "$@"; else compdef _tunesmith tunesmith; fi
"""


def _fish(found: list[Verb]) -> str:
    lines = ["# Completion of `tunesmith` for fish, made by `tunesmith completion fish`.", "complete -c tunesmith -f"]
    for verb in found:
        below = _below(found, verb.path)
        seen = [f"__fish_seen_subcommand_from {name}" for name in verb.path]
        deeper = [f"not __fish_seen_subcommand_from {' '.join(each.path[-1] for each in below)}"] if below else []
        when = f"-n {shlex.quote('; and '.join([*seen, *deeper]))}" if seen or deeper else ""
        for each in below:
            lines.append(f"complete -c tunesmith {when} -a {each.path[-1]} -d {shlex.quote(each.help)}")
        for word in verb.words:
            flags = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in word.names)
            lines.append(f"complete -c tunesmith {when} {flags} {_fish_values(word)} -d {shlex.quote(word.help)}")
    return "\n".join(" ".join(line.split()) for line in lines if line) + "\n"


def _fish_values(word: Word) -> str:
    if word.takes == "choices":
        return f"{'-x ' if word.names else ''}-a {shlex.quote(' '.join(word.choices))}"
    needs = "-r " if word.names and word.needs else ""
    directories = "-x -a '(__fish_complete_directories)'" if word.names else "-a '(__fish_complete_directories)'"
    return {"files": f"{needs}-F", "directories": directories, "text": "-x" if word.names else ""}.get(word.takes, "")


SHELLS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
