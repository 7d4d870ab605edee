"""Pushes of a small finished run to a Hub on this machine, and what a person sees of their faults."""

from pathlib import Path

import pytest
from hub_server import TOKEN, HubServer

from runner import recipe
from runner.errors import PushError, UserError, report
from runner.hub import repository as hub
from runner.hub.client import Patience
from runner.hub.repository import Pushed

QUICK = Patience(silence=2.0, answer=4.0, first_wait=0.02, longest_wait=0.1, deadline=5.0)
SHORT = Patience(silence=0.5, answer=1.0, first_wait=0.02, longest_wait=0.05, deadline=0.6)
FILES = {
    "adapter_config.json": b'{"peft_type": "LORA"}',
    "adapter_model.safetensors": bytes(range(256)) * 300,
    "README.md": b"---\nlibrary_name: peft\n---\n# a card\n",
    "empty.txt": b"",
    "deep/er/tokenizer.json": b'{"a": 1}',
}
COMMIT = "POST .*/commit/"


def _held(run_directory: Path) -> dict[str, bytes]:
    files = (run_directory / "adapter").rglob("*")
    return {str(file): file.read_bytes() for file in files if file.is_file()}


def ours(repository: str = "ann/adapter", private: bool = False, revision: str = "main") -> recipe.Hub:
    return recipe.Hub(repository, private, revision)


def shown(error: UserError) -> str:
    """Everything of an error that a person can see, and a check that the token is not in it."""
    text = "".join(report(error, style) for style in ("text", "json", "github")) + str(error) + repr(error)
    assert TOKEN not in text
    return report(error)


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    """The directory of a finished run."""
    directory = tmp_path / "outputs" / "support"
    for path, content in FILES.items():
        file = directory / "adapter" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (directory / "checkpoints").mkdir()
    (directory / "checkpoints" / "optimizer.pt").write_bytes(b"not to be pushed")
    (directory / "run.json").write_text('{"status": "not_pushed"}')
    return directory


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def pushed(hub_server: HubServer, run_directory: Path, lines: list[str]):
    """Push as a test asks, gather what is announced, and see that no token is in it.

    Where it fails, the adapter is as it was, the exit code says so, and the next command is named.
    """

    def push(where: recipe.Hub | None = None, patience: Patience = QUICK, **options: bool) -> Pushed:
        before = _held(run_directory)
        try:
            return hub.push(
                run_directory, where or ours(), hub_server.environment, lines.append, patience=patience, **options
            )
        except PushError as error:
            assert error.exit_code == 3
            assert f"`tunesmith push {run_directory}`" in shown(error)
            raise
        finally:
            assert _held(run_directory) == before
            assert TOKEN not in "".join(lines)

    return push
