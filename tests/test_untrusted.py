"""Files that somebody else has made: nothing in them is run, nothing in them takes all memory, none leads elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hub_server import HubServer
from small_recipe import SMALLEST, write

from runner import checkpoint, continued, fetch, pickles, recipe, weights
from runner.checkpoint import Manifest
from runner.errors import RecipeError, RunError, report
from runner.reading import check

RUNNER = Path(__file__).parent.parent / "runner"


class Evil:
    """What runs a command when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def model_settings(name: str) -> recipe.Model:
    return check.bare("sft", name).model


def test_no_file_switches_code_of_models_on() -> None:
    told = re.compile(r"trust_remote_code\s*=\s*(?!settings\.trust_remote_code|plan\.recipe\.model\.trust_remote_code)")
    for path in RUNNER.rglob("*.py"):
        assert not told.search(path.read_text(encoding="utf-8")), path
    assert model_settings("owner/name").trust_remote_code is False


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    from runner import model

    marker = tmp_path / "ran"
    folder = tmp_path / "model"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
    for name in ("configuration_own.py", "modeling_own.py", "tokenization_own.py"):
        (folder / name).write_text(code)
    mapped = {"AutoConfig": "configuration_own.Own", "AutoModelForCausalLM": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": mapped}))
    tokenizer = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    with pytest.raises(RecipeError, match="Python code of its own, which is not run") as raised:
        model.tokenizer(model_settings(str(folder)))
    assert "model.trust_remote_code: true" in report(raised.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.pth", "m.ckpt"]
)
def test_a_model_of_pickles_is_refused_before_anything_is_read(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / name).write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    text = f"task: sft\nmodel: {{name: {folder}}}\ndataset: {{train: rows.jsonl}}\n"
    (tmp_path / "recipe.yaml").write_text(text)
    command = [sys.executable, "-m", "runner.cli", "plan", str(tmp_path / "recipe.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"}, check=False)
    assert ended.returncode == 2
    assert f"has its weights as a pickle, `{name}`" in ended.stderr and "save_pretrained" in ended.stderr
    assert "recipe.yaml:2:15" in ended.stderr
    assert not (tmp_path / "ran").exists()
    (folder / "model.safetensors").write_bytes(b"")
    assert weights.pickled_in(folder) is None


def test_an_adapter_of_pickles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 8}')
    (tmp_path / "adapter_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    adapter = check.bare("sft", "owner/name").adapter
    with pytest.raises(RecipeError, match="`adapter_model.bin`"):
        continued.settings(adapter.__class__(**vars(adapter) | {"continue_from": str(tmp_path)}))
    with pytest.raises(RecipeError, match="`adapter_model.bin`"):
        fetch.adapter(str(tmp_path))
    assert not (tmp_path / "ran").exists()


FETCH = """
import os, sys
from runner import fetch
from runner.errors import UserError, report
from runner.reading import check
try:
    (fetch.model if sys.argv[1] == "model" else fetch.adapter)(
        check.bare("sft", sys.argv[2]).model if sys.argv[1] == "model" else sys.argv[2]
    )
except UserError as error:
    print(report(error))
    sys.exit(error.exit_code)
"""


def fetched(hub: HubServer, tmp_path: Path, what: str, name: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | hub.environment | {"HF_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", FETCH, what, name]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(("what", "file"), [("model", "pytorch_model.bin"), ("adapter", "adapter_model.bin")])
def test_pickles_of_the_hub_are_not_fetched(hub_server: HubServer, tmp_path: Path, what: str, file: str) -> None:
    hub_server.create("ann/pickled")
    hub_server.commit("ann/pickled", {"config.json": b"{}", "adapter_config.json": b"{}", file: b"x"})
    ended = fetched(hub_server, tmp_path, what, "ann/pickled")
    assert ended.returncode == 2 and f"`{file}`" in ended.stdout, ended.stdout + ended.stderr
    assert hub_server.count(f"/resolve/.*{file}") == 0


@pytest.mark.parametrize("path", ["../../../../evil.json", "a/../../../../../evil.json", "..\\..\\evil.json"])
def test_file_names_of_the_hub_lead_nowhere_else(hub_server: HubServer, tmp_path: Path, path: str) -> None:
    hub_server.create("ann/names")
    hub_server.commit("ann/names", {"config.json": b"{}", path: b"evil", "model.safetensors": b"x"})
    ended = fetched(hub_server, tmp_path, "model", "ann/names")
    assert "Traceback" not in ended.stderr, ended.stderr
    inside = tmp_path / "cache"
    outside = [found for found in tmp_path.rglob("*evil*") if inside not in found.parents]
    assert not outside and not (tmp_path.parent / "evil.json").exists()


def sealed(folder: Path, name: str, content: bytes) -> Path:
    """A checkpoint with a file that somebody put there, and a manifest that vouches for it."""
    written = folder / "checkpoint-3"
    (written / "global_step3").mkdir(parents=True)
    (written / name).write_bytes(content)
    checkpoint.publish(written, folder / "step-3", Manifest(3, 0.1, {}, checkpoint.hashes(written)))
    assert checkpoint.read(folder / "step-3") is not None
    return folder / "step-3"


@pytest.mark.parametrize("name", ["rng_state.pth", "global_step3/mp_rank_00_model_states.pt", "optimizer.bin"])
@pytest.mark.parametrize("form", ["torch", "pickle", "none"])
def test_a_checkpoint_that_names_code_is_not_read(tmp_path: Path, name: str, form: str) -> None:
    import torch

    file, marker = tmp_path / "evil", tmp_path / "ran"
    if form == "torch":
        torch.save({"state": Evil(marker)}, file)
    else:
        file.write_bytes(pickle.dumps(Evil(marker)) if form == "pickle" else b"nothing that was ever a pickle")
    folder = sealed(tmp_path / "checkpoints", name, file.read_bytes())
    with pytest.raises(RunError, match=Path(name).name) as raised:
        pickles.admit(folder)
    assert "delete its folder" in report(raised.value)
    assert not marker.exists()


def test_what_deepspeed_and_transformers_save_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy
    import torch
    from deepspeed.utils.tensor_fragment import fragment_address

    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0")
    torch.save({"map": fragment_address(numel=3, start=1), "random": numpy.arange(3)}, tmp_path / "state.pt")
    pickles.admit(tmp_path)
    read = torch.load(tmp_path / "state.pt", weights_only=False)  # as DeepSpeed asks for it
    assert read["map"].numel == 3 and read["random"].tolist() == [0, 1, 2]
    torch.save({"state": Evil(tmp_path / "ran")}, tmp_path / "other.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "other.pt", weights_only=False)
    assert not (tmp_path / "ran").exists()


NINE = "&a [x,x,x,x,x,x,x,x,x]"
BOMBS = {
    "aliases": f"a: {NINE}\n" + "".join(f"{b}: &{b} [{f'*{a},' * 9}]\n" for a, b in pairwise("abcdefghij")),
    "merges": "a: &a {x: 1}\n" + "".join(f"k{n}: {{<<: *a}}\n" for n in range(30_000)),
    "flow": "task: " + "[" * 300_000,
    "mappings": "task: " + "{a: " * 200_000,
    "dashes": "- " * 400_000 + "x",
    "indentation": "".join(" " * n + f"k{n}:\n" for n in range(1300)),
    "long scalar": "name: " + "x" * 990_000,
    "long quoted": 'name: "' + "\\u0041" * 160_000 + '"',
    "long key": "x" * 990_000 + ": 1",
    "question": "? " * 400_000,
    "many keys": "".join(f"key{n}: {n}\n" for n in range(70_000)),
    "many documents": "---\n" * 240_000,
    "comments": "#\n" * 490_000 + "task: sft",
    "digits": "version: " + "9" * 990_000,
    "sexagesimal": "version: " + "1" + ":59" * 300_000,
    "exponent": "training: {learning_rate: 1e" + "9" * 900_000 + "}",
    "directives": "%TAG ! x\n" * 100_000,
    "bom": "\ufeff" * 300_000,
    "large": "x" * 30_000_000,
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_recipe_that_is_a_bomb_costs_little(tmp_path: Path, name: str) -> None:
    (tmp_path / "bomb.yaml").write_text(BOMBS[name], encoding="utf-8")
    # The kernel's `VmHWM` is of this program alone; `ru_maxrss` keeps the size of the one that started it.
    script = (
        "import resource, sys; from runner import cli; code = cli.main(['validate', sys.argv[1]])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM:'))\n"
        "print(code, used.ru_utime + used.ru_stime, peak)"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    command = [sys.executable, "-c", script, str(tmp_path / "bomb.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    code, seconds, kibibytes = ended.stdout.split()
    assert code == "2" and "Traceback" not in ended.stderr and len(ended.stderr) < 100_000
    assert float(seconds) < 20 and int(kibibytes) < 400_000, (seconds, kibibytes)


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "a/b", "/etc", "a\\nb", "-x", "~", "a b", "a\\u202eb", "x" * 97, ""]
)
def test_a_name_is_a_name_and_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="`name`"):
        check.read(write(tmp_path, SMALLEST + f'name: "{name}"\n'))


@pytest.mark.parametrize(
    "repository", ["../x", "a/../b", "a/b/c", "a/..", "a/.git", "a/b.git", "a/b?x", "a/b#x", "a//b"]
)
def test_a_repository_is_no_path(tmp_path: Path, repository: str) -> None:
    with pytest.raises(RecipeError, match="output.hub.repository"):
        check.read(write(tmp_path, SMALLEST + f'output: {{hub: {{repository: "{repository}"}}}}\n'))


@pytest.mark.parametrize("step", ["../../elsewhere", "1/../../x", None, [], 1e400, True])
def test_a_choice_that_leads_elsewhere_is_none(tmp_path: Path, step: object) -> None:
    (tmp_path / "chosen.json").write_text(json.dumps({"step": step, "settings": {}}))
    assert checkpoint.chosen(tmp_path) is None


def test_links_in_what_is_read_are_followed_and_in_what_is_pushed_are_not(tmp_path: Path) -> None:
    """The Hub's own cache is made of links; what they lead to is what the person who started the run may read."""
    from runner.hub.client import Refusal
    from runner.hub.files import fingerprints

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / "rows.jsonl").symlink_to(tmp_path / "elsewhere" / "rows.jsonl")
    text = "task: sft\nmodel: {name: owner/model}\ndataset: {train: rows.jsonl}\n"
    assert check.read(write(folder, text)).dataset.train[0].path == str(folder / "rows.jsonl")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_text("{}")
    shutil.copy(folder / "rows.jsonl", adapter / "card.jsonl", follow_symlinks=False)
    with pytest.raises(Refusal, match=r"`card.jsonl` cannot be pushed"):
        fingerprints(adapter)
