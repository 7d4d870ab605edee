"""Supervised fine-tuning: the loss of answers, given what came before them."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from runner import asked, batches, isolation, learned_head, measuring, training
from runner.adapters import embeddings
from runner.adapters.attached import attached
from runner.batches import FILLER, MicroBatches, Order
from runner.choices import LAID_TOGETHER
from runner.errors import Place, Problem, RunError
from runner.plan import Plan
from runner.scores.metrics import OF_A_REWARD, needs_answers
from runner.stopping import GivenUp, never
from runner.text.encoding import NOT_LEARNED
from runner.token_rows import TokenRows

FIRST_TOKENS = 24  # of a row that stands in no line of a file


class Trainer(SFTTrainer):
    """TRL's trainer over rows that are tokenised already, in the order that `batches` lays down."""

    def __init__(self, plan: Plan, rank: int, train: Any, evaluation: Any, **named: Any) -> None:
        # TRL takes a `datasets.Dataset` and nothing else, of which it looks at the first row alone.
        first = Dataset.from_list([{name: train[0][name] for name in ("input_ids", "labels")}])
        super().__init__(train_dataset=first, eval_dataset=None if evaluation is None else first, **named)
        self.train_dataset, self.eval_dataset = train, evaluation
        self.plan, self.rank = plan, rank
        self.counted: Iterator[tuple[int, int]] | None = None  # tokens and learned tokens of the steps to come
        self.losses: list[torch.Tensor] = []
        self.told: Callable[[], bool] = never  # whether to give up an evaluation
        # The loss is divided by the learned tokens of the whole step here, whatever the model's forward accepts.
        self.model_accepts_loss_kwargs = True
        base = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        self.learned_only = plan.device == "cpu" and learned_head.fits(base)
        if self.learned_only:
            learned_head.add(base)

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.train_dataset, MicroBatches(order(self.plan, self.train_dataset), self.rank))

    def create_optimizer(self, model: Any = None) -> Any:
        new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if new and self.plan.recipe.adapter.train_embeddings:
            embeddings.give_rate(optimizer, model or self.model, embeddings.rate(self.plan.recipe.training))
        return optimizer

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        self.losses.append(super().training_step(*given, **named))
        return self.losses[-1]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        if not self.learned_only or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        assert num_items_in_batch is not None, "a step's learned tokens are always counted"
        # DeepSpeed averages the gradients over the processes; the tokens counted are those of all of them.
        return model(**inputs, learned_only=True) * self.accelerator.num_processes / num_items_in_batch.clamp(min=1)

    def rows_of(self, step: int, micro: int) -> list[str]:
        """Where the rows stand that this process takes in a micro-batch of a step, both counted from 0; or how they
        begin, where they are made of several."""
        all_rows = order(self.plan, self.train_dataset)
        rows = next(itertools.islice(batches.steps(all_rows), step, None))
        dealt = batches.deal(rows, all_rows.lengths, all_rows.micro, all_rows.processes, self.plan.batch.accumulation)
        return [self._told(self.train_dataset[row]) for row in dealt[self.rank][micro] if row != FILLER]

    def _told(self, row: dict[str, Any]) -> str:
        if "file" in row:
            return str(Place(row["file"], row["line"]))
        return f"{self.processing_class.decode(row['input_ids'][:FIRST_TOKENS])!r}"

    def described(self, first: int, last: int, logs: dict[str, Any]) -> dict[str, Any]:
        """The tokens that the steps after `first` up to `last` held, and how many of them were learned."""
        if self.counted is None:
            self.counted = itertools.islice(_tokens(self.plan, self.train_dataset), first, None)
        done = list(itertools.islice(self.counted, last - first))
        return {"tokens": sum(tokens for tokens, _ in done), "learned_tokens": sum(learned for _, learned in done)}

    def mean_loss(self, rows: Any, leave: Callable[[], bool] | None = None) -> float:
        """The mean loss of a dataset's learned tokens, computed by all processes together.

        `leave` is asked before each micro-batch; raises GivenUp in all processes where it says so in one.
        """
        shares = batches.evaluation_batches(rows["length"], self.plan.batch.micro, self.plan.processes, self.rank)
        wrapped, was_training = self.model_wrapped, self.model.training
        wrapped.eval()
        total = count = 0.0
        with torch.no_grad():
            for batch in self._loader(rows, shares):
                if leave is not None and training.any_of((leave(),), self.args.device)[0]:
                    raise GivenUp
                inputs = self._prepare_inputs(batch)
                learned = (inputs["labels"][:, 1:] != NOT_LEARNED).sum()
                loss = self.compute_loss(wrapped, inputs, num_items_in_batch=learned) / self.accelerator.num_processes
                total, count = total + loss.item() * learned.item(), count + learned.item()
        wrapped.train(was_training)
        self._metrics["eval"].clear()
        total, count = training.over_processes(self.args.device, total, count)
        return total / count

    def mean_score(self, metric: str) -> float:
        """The mean of a metric over the answers to the held-out questions, written by all processes together.

        Raises RunError where no row counts for it, so that nothing could be told from it.
        """
        model, tokenizer = self.accelerator.unwrap_model(self.model), self.processing_class
        rewarded = metric.startswith(OF_A_REWARD)
        whole = asked.read(self.plan, model, tokenizer, () if rewarded else (metric,))
        mine = replace(whole, questions=whole.questions[self.rank :: self.plan.processes])
        with training.left_together(self.args.device):
            found = asked.answered(mine, model, tokenizer, self.plan.recipe.evaluation.max_new_tokens, self.told)
            scores: list[dict[str, Any]] = [scored.values for _, scored in found]
            if rewarded:
                with measuring.scorer(self.plan, self.state.global_step, self.rank, self.told) as paid:
                    scores = paid(mine.questions, [answer for answer, _ in found])
        mean = measuring.means(scores, [metric], self.args.device)[metric]
        if mean is None and metric != "no_call_precision":  # of answers that all call, none is right not to
            message = f"no held-out row counts for `{metric}`, and the run is to stop by it"
            raise RunError(Problem(message, hint="name another `training.early_stopping.metric`"))
        return mean or 0.0

    def prove_isolation(self) -> None:
        """Raise RunError where rows that are laid together see each other. Runs on the wrapped model."""
        rows = Rows(self.train_dataset)
        vocabulary = self.model.config.get_text_config().vocab_size
        isolation.prove(rows[0], rows[1 % len(rows)], vocabulary, self.data_collator, self._batch_loss)

    def _batch_loss(self, batch: dict[str, Any]) -> float:
        inputs = self._prepare_inputs(batch)
        learned = (inputs["labels"][:, 1:] != NOT_LEARNED).sum()
        self.model_wrapped.eval()
        with torch.no_grad():
            loss = self.compute_loss(self.model_wrapped, inputs, num_items_in_batch=learned)
        self.model_wrapped.train()
        self._metrics["eval"].clear()
        return float(loss.item())

    @training.undisturbed()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The loss of the held-out rows: every learned token counts the same, in whichever row it stands."""
        loss = self.mean_loss(self.eval_dataset, self.told)
        metrics = {"eval_loss": loss, "eval_perplexity": math.exp(min(loss, 700.0))}
        metric = training.stopping_metric(self.plan)
        if needs_answers(metric):
            metrics[f"eval_{metric}"] = self.mean_score(metric)
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A checkpoint needs no card; the adapter gets ours."""

    def _loader(self, rows: Any, micro_batches: MicroBatches | list[list[int]]) -> DataLoader[Any]:
        return DataLoader(Rows(rows), batch_sampler=micro_batches, collate_fn=self.data_collator)


class Rows(torch.utils.data.Dataset[Any]):
    """The prepared rows, and one from which nothing is learned where a process has none."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        self.packed = "seq_lengths" in rows.column_names

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, list[int]]:
        if number == FILLER:
            token = self.rows[0]["input_ids"][0]
            filler = {"input_ids": [token, token], "labels": [NOT_LEARNED] * 2}
            return filler | ({"seq_lengths": [2]} if self.packed else {})
        row = self.rows[number]
        return {name: row[name] for name in ("input_ids", "labels", "seq_lengths") if name in row}


def _tokens(plan: Plan, rows: Any) -> Iterator[tuple[int, int]]:
    """For each step, the tokens that its rows hold and how many of them are learned."""
    ordered, learned = order(plan, rows), array("I", rows["learned"])
    for step in batches.steps(ordered):
        yield sum(ordered.lengths[row] for row in step), sum(learned[row] for row in step)


def order(plan: Plan, rows: Any) -> Order:
    """The order in which a run takes its prepared rows."""
    assert plan.steps is not None
    return Order(
        lengths=array("I", rows["length"]),  # a column is slow to ask row by row
        batch_size=plan.batch.effective,
        micro=plan.batch.micro,
        processes=plan.processes,
        total_steps=plan.steps.total,
        seed=plan.recipe.training.seed,
        shuffle=plan.recipe.dataset.shuffle,
    )


def trainer(
    plan: Plan,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset | TokenRows,
    evaluation: Dataset | TokenRows | None,
    folder: Path,
    rank: int,
    step: int,
    stack: ExitStack,
) -> Trainer:
    """A trainer that is ready to run: base model, new or continued adapter, DeepSpeed's settings."""
    packed = plan.packing.value in LAID_TOGETHER
    settings = SFTConfig(
        **training.arguments(plan, folder),
        max_length=None,
        packing=False,  # rows are laid together by `batches` and the collator; TRL would tokenise them again
        padding_free=packed,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    base, adapter = attached(plan)
    return Trainer(
        plan,
        rank,
        model=base,
        args=settings,
        train=train,
        evaluation=evaluation,
        processing_class=tokenizer,
        peft_config=adapter,
        callbacks=training.callbacks(plan),
    )
