"""The preparation stage: data files in, token rows on the disk out, before any process group exists.

    prepared/train, prepared/evaluation   rows that every worker maps into memory: of documents as `token_rows` has them
    prepared/questions.json               held-out prompts, and the answers they should get
    prepared/prepared.json                what all this was made from, and how many rows and tokens there are
    ledger.json, rejects.jsonl            what became of every row

The same data, tokenizer, settings and code give the same rows, so a run that goes on does not prepare again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets

import runner
from runner import corpus, microbatch, model, secrets, token_rows
from runner.data import dataset, documents, held_out
from runner.data.dataset import Data, Rejected, Sample
from runner.data.examples import Chat, Document, Question
from runner.errors import DataError, Problem
from runner.events import tell
from runner.plan import Plan
from runner.text import conventions, encoding, questions, templates, tokens, turns
from runner.text.encoding import Encoded
from runner.text.templates import Refused


def run(plan: Plan, held_out_only: bool = False) -> None:
    """Prepare what the plan's run learns from and is scored on, unless that is there already. Raises DataError.

    With `held_out_only` there is nothing to learn: rows to train on are left out before they are encoded.
    """
    settings, directory = plan.recipe.dataset, Path(plan.directory)
    if plan.recipe.task == "continued_pretraining":
        tell({"event": "prepared", **_corpus(plan, directory, held_out_only)})
        return
    read = held_out.read if held_out_only else dataset.read
    data = read(settings, plan.recipe.training.seed)
    tokenizer = model.tokenizer(plan.recipe.model)
    key = _key(plan, data.sha256, tokenizer)
    target = directory / "prepared"
    facts = _facts(target)
    if facts is None or facts["key"] != key:
        facts = _prepare(plan, data, tokenizer, key, directory)
    tell({"event": "prepared", **facts})


def encode(plan: Plan, data: Data, tokenizer: Any) -> tuple[Encoded, Encoded]:
    """Both splits as token rows. Raises DataError with the faults of both."""
    settings, most = plan.recipe.dataset, int(plan.max_length.value)
    grpo = plan.recipe.grpo

    def encoded(samples: Sequence[Sample]) -> Encoded:
        if grpo is None:
            return encoding.encode(samples, tokenizer, settings, most)
        return questions.ask(samples, tokenizer, settings, grpo.prefill or "", most - grpo.max_completion_length)

    train, evaluation = encoded(data.train), encoded(data.evaluation)
    encoding.raise_faults((train, evaluation))
    if data.train and not train.rows:
        raise DataError(Problem("no row is left to learn from", hint="`rejects.jsonl` says why each was left out"))
    return train, evaluation


def packed(encoded: Encoded, most: int) -> datasets.Dataset:
    """Rows to train on, packed by TRL's best fit as a run has them; `seq_lengths` tells them apart."""
    return _packed(_table(encoded), most)


def _prepare(plan: Plan, data: Data, tokenizer: Any, key: str, directory: Path) -> dict[str, Any]:
    try:
        train, evaluation = encode(plan, data, tokenizer)
    except DataError:
        _write_rejects(directory, data.rejected)
        raise
    unfinished, target = directory / "prepared.unfinished", directory / "prepared"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    rows = _table(train)
    if plan.packing.value == "bfd" and train.rows:
        rows = _packed(rows, int(plan.max_length.value))
    if train.rows:
        rows.save_to_disk(str(unfinished / "train"))
    if evaluation.rows:
        _table(evaluation).save_to_disk(str(unfinished / "evaluation"))
    asked = {} if plan.recipe.grpo else _questions(plan, data.evaluation, tokenizer)
    (unfinished / "questions.json").write_text(json.dumps(asked, ensure_ascii=False), encoding="utf-8")
    facts = {
        "key": key,
        "rows": _fingerprint((train, evaluation)),
        "data": data.sha256,
        "prompts_only": plan.recipe.grpo is not None,
        "formats": {file.file: file.format for file in data.ledger.files},
        "calls": data.ledger.calls,
        "template": encoding.uses_template(plan.recipe.dataset, tokenizer),
        "train": _counts(train, len(rows)),
        "lengths": microbatch.quantiles(rows["length"] if train.rows else [len(row.ids) for row in evaluation.rows]),
        "evaluation": _counts(evaluation, len(evaluation.rows)),
    }
    (unfinished / "prepared.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    ledger = _ledger(data, train, evaluation)
    (directory / "ledger.json").write_text(json.dumps(ledger, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _write_rejects(directory, [*data.rejected, *train.rejected, *evaluation.rejected])
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return facts


def _corpus(plan: Plan, directory: Path, held_out_only: bool) -> dict[str, Any]:
    """Documents as token rows, prepared in constant memory unless they are there already."""
    settings, seed = plan.recipe.dataset, plan.recipe.training.seed
    try:
        hashes = documents.hashes(settings)
    except DataError:
        documents.survey(settings, seed)  # it tells all faults, where the hashes meet the first
        raise
    tokenizer = model.tokenizer(plan.recipe.model)
    key, target = _key(plan, hashes, tokenizer), directory / "prepared"
    facts = _facts(target)
    if facts is not None and facts["key"] == key:
        return facts
    survey = documents.survey(settings, seed, held_out_only)
    unfinished = directory / "prepared.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _write_rejects(directory, survey.rejected)
    length, wrapped = int(plan.max_length.value), plan.packing.value == "wrapped"
    made = corpus.write(settings, survey, tokenizer, length, wrapped, unfinished)
    if not made.facts["evaluation"]["rows"]:
        shutil.rmtree(unfinished / "evaluation", ignore_errors=True)
    _write_rejects(directory, [*survey.rejected, *made.rejected])
    rows = token_rows.TokenRows(unfinished / ("evaluation" if held_out_only else "train"))
    facts = {
        "key": key,
        "rows": made.fingerprint,
        "data": hashes,
        "prompts_only": False,
        "template": False,
        "train": made.facts["train"],
        "lengths": microbatch.quantiles(rows["length"]),
        "evaluation": made.facts["evaluation"],
    }
    (unfinished / "questions.json").write_text(json.dumps({"questions": [], "stops": []}), encoding="utf-8")
    (unfinished / "prepared.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    ledger = json.dumps(made.ledger, indent=1, ensure_ascii=False)
    (directory / "ledger.json").write_text(ledger + "\n", encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return facts


def _table(encoded: Encoded) -> datasets.Dataset:
    rows = encoded.rows
    columns: dict[str, list[Any]] = {
        "input_ids": [row.ids for row in rows],
        "labels": [row.labels for row in rows],
        "length": [len(row.ids) for row in rows],
        "learned": [row.learned for row in rows],
        "file": [row.place.file for row in rows],
        "line": [row.place.line for row in rows],
    }
    if encoded.asked:
        # The model's loss on its prompts is what an adapter is known by when it is read back; nobody learns from it.
        columns["labels"] = [[encoding.NOT_LEARNED, *row.ids[1:]] for row in rows]
        asked = encoded.asked
        columns |= {"prompt": [each.text for each in asked], "asked": [each.prompt for each in asked]}
        columns |= {"columns": [each.columns for each in asked]}
    return datasets.Dataset.from_dict(columns)


def _packed(rows: datasets.Dataset, most: int) -> datasets.Dataset:
    """Rows laid end to end into longer ones, by TRL's best fit; `seq_lengths` says where each begins."""
    from trl import pack_dataset  # it imports trainers and takes seconds, and few runs need it

    packed = pack_dataset(rows.select_columns(["input_ids", "labels"]), most, "bfd")
    lengths = [len(ids) for ids in packed["input_ids"]]
    learned = [sum(label != encoding.NOT_LEARNED for label in labels) for labels in packed["labels"]]
    return packed.add_column("length", lengths).add_column("learned", learned)


def _questions(plan: Plan, samples: Sequence[Sample], tokenizer: Any) -> dict[str, Any]:
    """The first held-out rows as a server would be asked them, as many as the recipe wants; and what ends an answer.

    A row with tools has them beside its question, and the calls that are wanted; `syntax` is how to read calls.
    """
    settings = plan.recipe.dataset
    with_template = encoding.uses_template(settings, tokenizer)
    found: list[dict[str, Any]] = []
    stops: set[str] = set()
    syntax: dict[str, str] = {}  # of the calls that are to be read from the answers, where rows have tools
    for sample in samples:
        if len(found) == plan.recipe.evaluation.samples:
            break
        example = sample.example
        assert not isinstance(example, Question | Document), "the answers of bare prompts are scored, and not compared"
        try:
            prompts = templates.prompts(example, tokenizer, settings.learn, with_template)
            stops.update(templates.render(example, tokenizer, settings.learn, with_template).stops)
        except Refused:
            continue  # a row without a question, or one that was left out above
        place = {"file": sample.place.file, "line": sample.place.line}
        calling = isinstance(example, Chat) and turns.calls_tools(example)
        if calling:
            syntax = {"syntax": conventions.of(tokenizer).syntax}
        for prompt in prompts[: plan.recipe.evaluation.samples - len(found)]:
            ids = tokens.encode_prompt(prompt.text, tokenizer)
            if len(ids) < int(plan.max_length.value):
                wanted: dict[str, Any] = {"answer": prompt.answer}
                if calling:
                    wanted["calls"] = [{"name": call.name, "arguments": call.arguments} for call in prompt.calls]
                    wanted["tools"] = list(prompt.tools)
                found.append({"prompt": prompt.text, "ids": ids, **wanted, **place})
    return {"questions": found, "stops": sorted(stops), **syntax}


def _counts(encoded: Encoded, rows: int) -> dict[str, int]:
    lengths = [len(row.ids) for row in encoded.rows]
    return {
        "rows": rows,
        "tokens": sum(lengths),
        "learned_tokens": sum(row.learned for row in encoded.rows),
        "longest": max(lengths, default=0),
    }


def _ledger(data: Data, train: Encoded, evaluation: Encoded) -> dict[str, Any]:
    """Rows of the files: read = kept + dropped, by reason. What follows counts samples, repeats included."""
    whole = encoding.whole_ledger(data.ledger, (train, evaluation))
    return {
        "read": whole.read,
        "kept": whole.kept,
        "dropped": whole.dropped,
        "files": [asdict(file) for file in whole.files],
        "repeats": data.ledger.repeats,
        "in_both_splits": data.ledger.leaked,
        "ending_on_a_question": data.ledger.unanswered,
        "calls": data.ledger.calls,
        "splits": {
            name: {
                "samples": len(samples),
                "dropped": dict(part.dropped),
                "truncated": part.truncated,
                "windows": part.windows,
                "rewritten_turns": part.rewritten,
                **_counts(part, len(part.rows)),
            }
            for name, samples, part in (
                ("train", data.train, train),
                ("evaluation", data.evaluation, evaluation),
            )
        },
    }


def _write_rejects(directory: Path, rejected: Sequence[Rejected]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "rejects.jsonl").open("w", encoding="utf-8") as file:
        for each in rejected:
            line = {
                "file": each.place.file,
                "line": each.place.line,
                "reason": each.problem.message,
                "row": each.raw,
            }
            file.write(secrets.redact(json.dumps(line, ensure_ascii=False), os.environ) + "\n")


def _fingerprint(parts: Sequence[Encoded]) -> str:
    """A hash of the rows themselves: what a checkpoint was trained on, whatever version prepared it."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"|")
        for row in part.rows:
            digest.update(json.dumps([row.ids, row.labels]).encode())
    return digest.hexdigest()


def _key(plan: Plan, hashes: Mapping[str, str], tokenizer: Any) -> str:
    """A hash of everything that the rows depend on."""
    code = hashlib.sha256()
    for path in sorted(Path(runner.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    depends_on = {
        "code": code.hexdigest(),
        "data": hashes,
        "settings": asdict(plan.recipe.dataset),
        "samples": plan.recipe.evaluation.samples,
        "seed": plan.recipe.training.seed,
        "max_length": plan.max_length.value,
        "prefill": plan.recipe.grpo.prefill if plan.recipe.grpo else None,
        "max_completion": plan.recipe.grpo.max_completion_length if plan.recipe.grpo else 0,
        "packing": plan.packing.value,
        "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "ends": [tokenizer.bos_token, tokenizer.eos_token],
        "template": str(tokenizer.chat_template),
    }
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()


def _facts(target: Path) -> dict[str, Any] | None:
    """What an earlier preparation left; None where there is none."""
    try:
        facts = json.loads((target / "prepared.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None
