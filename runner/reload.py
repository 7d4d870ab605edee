"""The run's result, proved: the chosen checkpoint's adapter in a folder of its own, read back with plain PEFT.

The adapter is done only when the model that anybody else would load has the loss that training saw.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from runner import checkpoint, model
from runner.errors import Problem, RunError
from runner.learned_head import token_losses
from runner.plan import Plan
from runner.text.encoding import NOT_LEARNED

Trained: TypeAlias = PeftModel | PreTrainedModel  # an adapter on its base, or a model all of whose weights were trained

logger = logging.getLogger(__name__)

COPIES = (".modules_to_save.", ".original_module.")  # in names of tensors
TOLERANCE = 0.02  # of the loss, relative (absolute below 1): what bfloat16 and another grouping of rows can make


def assemble(plan: Plan, tokenizer: PreTrainedTokenizerBase) -> checkpoint.Manifest:
    """Make `adapter/` of the chosen checkpoint, and give that checkpoint's manifest. Nothing half-made is left."""
    directory = Path(plan.directory)
    folder = checkpoint.chosen(directory)
    manifest = checkpoint.read(folder) if folder else None
    if folder is None or manifest is None:
        raise RunError(Problem("the checkpoint that training chose is damaged", hint="run again: it goes on before it"))
    unfinished, target = directory / "adapter.unfinished", directory / "adapter"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    full = plan.recipe.adapter.type == "full"
    names = checkpoint.MODEL_FILES if full else checkpoint.ADAPTER_FILES
    for path in (path for name in names for path in folder.glob(name)):
        shutil.copyfile(path, unfinished / path.name)
    checkpoint.name_base(unfinished, plan)  # the checkpoint may be older than the name
    if plan.recipe.model.add_tokens and not full:
        _without_copies(unfinished / checkpoint.ADAPTER_FILES[1])
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return manifest


def _without_copies(adapter: Path) -> None:
    """Take out of an adapter's weights what PEFT saves of embeddings that have grown: two more copies of them."""
    tensors = load_file(adapter)
    kept = {name: tensor for name, tensor in tensors.items() if not any(part in name for part in COPIES)}
    save_file(kept, adapter, metadata={"format": "pt"})


def load(plan: Plan, adapter: str | None = None) -> Trained:
    """What was trained as anybody would load it: with `PeftModel.from_pretrained` on its base, or by itself if full.

    `adapter` is a directory; the run's own by default.
    """
    device_map = "auto" if plan.device == "cuda" else None
    folder = Path(adapter or Path(plan.directory) / "adapter")
    if plan.recipe.adapter.type == "full":
        return model.weights(plan, device_map, folder).eval()
    base = model.weights(plan, device_map)
    return PeftModel.from_pretrained(base, str(folder), autocast_adapter_dtype=False).eval()


@contextmanager
def base_of(plan: Plan, trained: Trained) -> Iterator[Trained]:
    """The model as it was before training: without its adapter, or loaded again where all weights were trained."""
    if isinstance(trained, PeftModel):
        with trained.disable_adapter():
            yield trained
    else:
        yield model.weights(plan, "auto" if plan.device == "cuda" else None).eval()


def plain(trained: Trained) -> PreTrainedModel:
    """The model itself, under its adapter if it has one."""
    return trained.get_base_model() if isinstance(trained, PeftModel) else trained


def prove(adapted: Trained, rows: Any, manifest: checkpoint.Manifest, batch: int) -> float:
    """The reloaded adapter's loss on the probe rows. Raises RunError where it is not the one training saw."""
    loss = float(mean_loss(adapted, rows, batch))
    logger.info("loss of the probe rows: %.6f in training, %.6f reloaded", manifest.loss, loss)
    if abs(loss - manifest.loss) > TOLERANCE * max(manifest.loss, 1.0):
        raise RunError(
            Problem(
                f"the adapter read back from the disk has a loss of {loss:.4f}, and training saw {manifest.loss:.4f}",
                hint="the adapter is not what was trained; its checkpoints are kept",
            )
        )
    return loss


def mean_loss(adapted: Trained, rows: Any, batch: int) -> float:
    """The mean loss of the learned tokens in prepared rows, in batches of like length."""
    losses = row_losses(adapted, rows, batch)
    total, learned = (sum(parts) for parts in zip(*losses, strict=True)) if losses else (0.0, 0)
    return float(total / max(learned, 1))


@torch.no_grad()
def row_losses(adapted: Trained, rows: Any, batch: int) -> list[tuple[float, int]]:
    """Of each prepared row, in order: the summed loss of its learned tokens, and how many those are."""
    base = plain(adapted)
    found: dict[int, tuple[float, int]] = {}
    single = _longest_first(rows)
    while numbered := list(itertools.islice(single, batch)):
        ids, mask, labels = padded([row for _, row in numbered], base.device)
        hidden = base.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
        learned = labels[:, 1:] != NOT_LEARNED
        each = token_losses(base.get_output_embeddings(), hidden[learned], labels[:, 1:][learned]).double()
        row_of = learned.nonzero()[:, 0]
        sums = each.new_zeros(len(numbered)).index_add(0, row_of, each)
        for (number, _), loss, tokens in zip(numbered, sums.tolist(), learned.sum(1).tolist(), strict=True):
            found[number] = (loss, tokens)
    return [found[number] for number in range(len(found))]


def _longest_first(rows: Any) -> Iterator[tuple[int, dict[str, list[int]]]]:
    """Prepared rows unpacked, each with its place, the longest first; those that are not packed are read one by one."""
    if "seq_lengths" in rows.column_names:
        yield from sorted(enumerate(unpacked(rows)), key=lambda numbered: -len(numbered[1]["input_ids"]))
        return
    lengths = list(rows["length"])
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        yield from ((number, row) for row in unpacked([rows[number]]))


def unpacked(rows: Any) -> Iterator[dict[str, list[int]]]:
    """Prepared rows one by one; a packed row gives each of those that it was made of."""
    for row in rows:
        start = 0
        for length in row.get("seq_lengths") or [len(row["input_ids"])]:
            part = slice(start, start + length)
            labels = [NOT_LEARNED, *row["labels"][part][1:]]
            yield {"input_ids": row["input_ids"][part], "labels": labels}
            start += length


def padded(rows: list[dict[str, list[int]]], device: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, attention mask and labels of rows, padded on the right; each is (rows, longest)."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    labels = torch.full((len(rows), longest), NOT_LEARNED, dtype=torch.long)
    for number, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[number, :length] = torch.tensor(row["input_ids"])
        labels[number, :length] = torch.tensor(row["labels"])
        mask[number, :length] = 1
    return ids.to(device), mask.to(device), labels.to(device)
