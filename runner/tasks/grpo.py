"""Group relative policy optimization: completions are sampled, scored, and made likelier where they score better.

The method is GRPO (https://arxiv.org/abs/2402.03300), in TRL's trainer and with TRL's losses. What is ours is where the
completions come from (`generation`), where their scores come from (reward processes that cannot hurt the run), the
order of the prompts, and that rows which move nothing are not computed.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from torch import distributed
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, GRPOTrainer

from runner import answering, generation, learned_head, measuring, moving, reload, rollouts, rounds, scoring, training
from runner.adapters.attached import attached
from runner.drawing import Sampling
from runner.engine import Engine
from runner.errors import Place, Problem, RunError
from runner.plan import Plan
from runner.rewards.contract import Scores
from runner.scores.metrics import BY_REWARDS, of_reward
from runner.stopping import never

COLUMNS = ["prompt", "asked", "columns", "input_ids", "file", "line"]  # of a prepared prompt


class Trainer(GRPOTrainer):
    """TRL's trainer over prompts that are tokenised already, with our decoder and our reward processes.

    Completions are scored while the log-probabilities that the loss needs are computed.
    """

    def __init__(
        self, plan: Plan, rank: int, judge: scoring.Judge, log: rollouts.Log, *positional: Any, **named: Any
    ) -> None:
        super().__init__(*positional, **named)
        assert plan.recipe.grpo is not None
        self.plan, self.rank, self.settings = plan, rank, plan.recipe.grpo
        self.judge, self.log_of_rollouts = judge, log
        self.engine: Engine | None = None
        base = self.model.get_base_model()
        self.learned_only = plan.device == "cpu" and learned_head.fits(base)
        if self.learned_only:
            learned_head.add_scores(base, self.temperature)
        self.sampling = sampling(plan, self.eos_token_ids)
        self.guard = scoring.Watch(self.settings.guard)
        self.rows: list[dict[str, Any]] = []  # of the completions that are being sampled and scored
        self.ids: list[list[int]] = []
        self.scores: Scores | None = None
        self.followed = -1  # the step whose adapter the engine has
        self.spent = {"generation": 0.0, "rewards": 0.0}  # seconds since the last report, here
        self.reward_seconds = 0.0  # and of the reward processes, while this one may do other things
        self.reported: dict[str, Any] = {}
        self.losses: list[torch.Tensor] = []
        self.told: Callable[[], bool] = never  # whether to give up what is being sampled, or waited for

    def get_train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_dataset, batch_sampler=rounds.Rounds(self.plan, self.rank), collate_fn=list)

    def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
        self.losses.append(super().training_step(*given, **named))
        return self.losses[-1]

    def rows_of(self, step: int, micro: int) -> list[str]:
        """Where the prompts stand whose completions this process learns from: TRL shuffles them over micro-batches."""
        return list(dict.fromkeys(str(Place(row["file"], row["line"])) for row in self.rows))

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [row["input_ids"] for row in self.rows], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: Any, multimodal_fields: Any, *more: Any, **named: Any
    ) -> tuple[list[list[int]], Any]:
        started = time.monotonic()
        seed = _seed(self.plan.recipe.training.seed, self._step, self.rank)
        prompts, copies = _once(prompt_ids)
        unwrapped = self.accelerator.unwrap_model(self.model)
        chances: list[list[float]] | None = None
        with training.left_together(self.args.device):
            if self.engine is None:
                found = generation.sample(unwrapped, prompts, copies, self.sampling, seed, self.told)
            else:
                if self.followed != self.state.global_step:
                    self.engine.follow(unwrapped, prompts[0])
                    self.followed = self.state.global_step
                found, chances = self.engine.sample(prompts, copies, self.sampling, seed, self.told)
        self.ids = [completion.tokens for completion in found]
        self.spent["generation"] += time.monotonic() - started
        step, epoch = self.state.global_step + 1, float(self.state.epoch or 0.0)
        texts = self._tokenizer.batch_decode(self.ids, skip_special_tokens=True)
        self.judge.begin(scoring.batch(self.rows, texts, self.ids, step, epoch), self.told)
        return self.ids, chances

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.rows, self.scores = inputs, None
        # The order in which TRL shuffles what it has sampled is that of this generation, whenever the run began.
        torch.manual_seed(_seed(self.plan.recipe.training.seed, self._step, 0))
        found: dict[str, Any] = super()._generate_and_score_completions(inputs)
        scored: Scores | None = self.scores
        assert scored is not None
        self.reward_seconds += scored.seconds
        failed = [float(score.fault is not None) for reward in scored.rewards for score in reward.scores]
        everywhere = self.accelerator.gather(torch.tensor(failed, device=self.accelerator.device))
        self._metrics["train"]["faults"].append(everywhere.mean().item())
        self._keep(scored, found["advantages"].tolist())
        return found

    def score(self) -> Scores:
        """The scores of the completions that were just sampled, from all rewards; waits for those still to come."""
        if self.scores is None:
            started = time.monotonic()
            with training.left_together(self.args.device):
                self.scores = self.judge.scores()
            self.spent["rewards"] += time.monotonic() - started
        return self.scores

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **more: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """As TRL's, on a CPU without what it would throw away: the head over prompts, and columns of padding alone."""
        if not self.learned_only or compute_aux_loss:
            return super()._get_per_token_logps_and_entropies(  # type: ignore[no-any-return]
                model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, compute_aux_loss, **more
            )
        shape = (len(input_ids), logits_to_keep)
        chances, entropies = input_ids.new_zeros(shape, dtype=torch.float32), torch.zeros(shape)
        at_once = batch_size or len(input_ids)
        for start in range(0, len(input_ids), at_once):
            rows = slice(start, start + at_once)
            mask = attention_mask[rows]
            scored = mask.bool()
            scored[:, :-logits_to_keep] = False
            used = mask.any(0).nonzero()
            span = slice(int(used.min()), int(used.max()) + 1)
            with self.accelerator.autocast():
                found = model(input_ids=input_ids[rows, span], attention_mask=mask[:, span], scored=scored[:, span])
            place = torch.zeros(shape, dtype=torch.bool)
            place[rows] = scored[:, -logits_to_keep:]
            chances = chances.masked_scatter(place, found[0])
            entropies = entropies.masked_scatter(place, found[1])
        return chances, entropies if compute_entropy else None, None

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        kept, share = moving.rows(inputs, self)
        return super()._compute_loss(model, kept) * share

    def _keep(self, scored: Scores, advantages: list[float]) -> None:
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        for number, (row, ids) in enumerate(zip(self.rows, self.ids, strict=True)):
            each = {reward.name: reward.scores[number] for reward in scored.rewards}
            faults = {name: score.fault for name, score in each.items() if score.fault}
            self.log_of_rollouts.completion(
                {
                    "step": self.state.global_step + 1,
                    "prompt": row["prompt"],
                    "completion": self._tokenizer.decode(ids, skip_special_tokens=True),
                    "file": row["file"],
                    "line": row["line"],
                    "scores": {name: score.value for name, score in each.items()},
                    "total": scored.total(number),
                    "advantage": advantages[number],
                    "tokens": len(ids),
                    "cut": ids[-1] not in ends,
                    **({"faults": faults} if faults else {}),
                }
            )

    def mean_loss(self, rows: Any) -> float:
        """The mean loss of prompts' own tokens: what the adapter is known by when it is read back."""
        was_training = self.model.training
        self.model.eval()
        loss: float = reload.mean_loss(self.accelerator.unwrap_model(self.model), rows, self.plan.batch.micro)
        self.model.train(was_training)
        if distributed.is_initialized():
            distributed.barrier()
        return loss

    @training.undisturbed()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The mean total of one greedy answer to each held-out prompt, and that of each reward, over all processes."""
        asked = range(min(self.plan.recipe.evaluation.samples, len(self.eval_dataset)))
        rows = [self.eval_dataset[number] for number in asked[self.rank :: self.plan.processes]]
        names = [BY_REWARDS, *(of_reward(reward.name) for reward in self.plan.recipe.rewards)]
        with training.left_together(self.args.device):
            paid = self._paid(rows)
        means = measuring.means(paid, names, self.args.device)
        if means[training.stopping_metric(self.plan)] is None:
            message = f"no held-out prompt could be scored at step {self.state.global_step}"
            raise RunError(Problem(message, hint="`rewards.jsonl` says where and why rewards failed"))
        metrics = {f"{training.HELD_OUT}{name}": mean for name, mean in means.items() if mean is not None}
        transformers.Trainer.log(self, dict(metrics))  # TRL's own would add what it has gathered for training
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _paid(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, float | None]]:
        """The scores of a greedy answer to each of some prompts, by the names of metrics."""
        if not rows:
            return []
        model, was_training = self.accelerator.unwrap_model(self.model), self.model.training
        self.model.eval()
        ids = answering.tokens(model, [row["input_ids"] for row in rows], self.sampling, self.told)
        self.model.train(was_training)
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        batch = scoring.batch(rows, texts, ids, self.state.global_step, float(self.state.epoch or 0.0))
        self.judge.begin(batch, self.told)
        return measuring.by_row(self.judge.scores(), len(rows))

    def described(self, first: int, last: int, logs: dict[str, Any]) -> dict[str, Any]:
        """What is reported of the steps after `first` up to `last`, beside their loss; a warning where it is due."""
        # Steps on the same completions sample none, and what was logged of those stands for them too.
        logs = self.reported = self.reported | logs
        tokens = round(logs["completions/mean_length"] * self.plan.batch.effective * (last - first))
        spent, self.spent = self.spent, dict.fromkeys(self.spent, 0.0)
        reward_seconds, self.reward_seconds = self.reward_seconds, 0.0
        shares = {
            "without_signal": logs["frac_reward_zero_std"],
            "cut": logs["completions/clipped_ratio"],
            "faults": logs["faults"],
        }
        return {
            "tokens": tokens,
            "learned_tokens": tokens,
            "reward": logs["reward"],
            "reward_std": logs["reward_std"],
            "rewards": {
                reward.name: {"mean": logs[f"rewards/{reward.name}/mean"], "std": logs[f"rewards/{reward.name}/std"]}
                for reward in self.plan.recipe.rewards
            },
            "kl": logs.get("kl"),
            "entropy": logs.get("entropy"),
            "length": logs["completions/mean_length"],
            **shares,
            "seconds_of": {**spent, "update": logs["step_time"] * (last - first) - sum(spent.values())},
            "reward_seconds": reward_seconds,
            "warnings": self.guard.look(shares),
        }

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """A checkpoint needs no card; the adapter gets ours."""


class CountOn(TrainerCallback):
    """Counts generations from the start of the run, wherever this process began."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.trainer._step = state.global_step * args.gradient_accumulation_steps


def sampling(plan: Plan, ends: Sequence[int]) -> Sampling:
    """How completions are sampled; a completion ends at any of the tokens `ends`."""
    grpo = plan.recipe.grpo
    assert grpo is not None
    return Sampling(
        new_tokens=grpo.max_completion_length,
        ends=frozenset(ends),
        temperature=grpo.temperature,
        top_p=grpo.top_p,
        top_k=grpo.top_k,
        min_p=grpo.min_p or 0.0,
        repetition_penalty=grpo.repetition_penalty,
    )


def _once(prompts: Sequence[list[int]]) -> tuple[list[list[int]], int]:
    """Prompts that stand next to their equals, each once; and how often each is there. A group may be cut in two."""
    runs = [(prompt, len(list(equal))) for prompt, equal in groupby(prompts)]
    copies = math.gcd(*(times for _, times in runs))
    return [prompt for prompt, times in runs for _ in range(times // copies)], copies


def _seed(seed: int, step: int, rank: int) -> int:
    """A seed of its own for each generation and process, which nothing but these three numbers decides."""
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def _paid(name: str, number: int, of: list[Trainer]) -> Callable[..., list[float | None]]:
    """A reward function as TRL calls one, that gives the scores of one of the pool's."""

    def reward(**_: Any) -> list[float | None]:
        return of[0].score().rewards[number].values

    reward.__name__ = name
    return reward


def trainer(
    plan: Plan,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    evaluation: Dataset | None,
    folder: Path,
    rank: int,
    step: int,
    stack: ExitStack,
) -> Trainer:
    """A trainer that is ready to run: base model, new or continued adapter, DeepSpeed's settings, reward processes.

    `step` is the one that the run goes on from; `stack` ends the reward processes. Raises UserError for rewards that
    cannot be run.
    """
    recipe, grpo = plan.recipe, plan.recipe.grpo
    assert grpo is not None
    settings = GRPOConfig(
        **training.arguments(plan, folder),
        num_generations=grpo.num_generations,
        num_generations_eval=1,
        steps_per_generation=plan.batch.accumulation,
        num_iterations=grpo.num_iterations,
        max_completion_length=grpo.max_completion_length,
        beta=grpo.beta,
        temperature=grpo.temperature,
        top_p=grpo.top_p,
        top_k=grpo.top_k,
        min_p=grpo.min_p,
        repetition_penalty=grpo.repetition_penalty,
        loss_type=grpo.loss_type,
        scale_rewards=grpo.scale_rewards,
        importance_sampling_level=grpo.importance_sampling_level,
        epsilon=grpo.epsilon,
        epsilon_high=grpo.epsilon_high,
        delta=grpo.delta,
        mask_truncated_completions=grpo.mask_truncated_completions,
        top_entropy_quantile=grpo.top_entropy_quantile,
        reward_weights=[reward.weight for reward in recipe.rewards],
        # The loss corrects for what vLLM computes otherwise; vespo takes that by the token alone.
        vllm_importance_sampling_mode="token_truncate" if grpo.loss_type == "vespo" else "sequence_mask",
        log_completions=False,
        shuffle_dataset=False,
    )
    base, adapter = attached(plan)
    directory = Path(plan.directory)
    if rank == 0:
        rollouts.truncate(directory, step)
    if distributed.is_initialized():
        distributed.barrier()
    log = stack.enter_context(closing(rollouts.Log(directory)))
    judge = stack.enter_context(scoring.Judge(scoring.pool(recipe, directory, plan.processes_here, rank, log.told)))
    made: list[Trainer] = []
    ready = Trainer(
        plan,
        rank,
        judge,
        log,
        model=base,
        reward_funcs=[_paid(reward.name, number, made) for number, reward in enumerate(recipe.rewards)],
        args=settings,
        train_dataset=train.select_columns(COLUMNS),
        eval_dataset=evaluation.select_columns(COLUMNS) if evaluation is not None else None,
        callbacks=training.callbacks(plan),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    made.append(ready)
    ready.add_callback(CountOn(ready))
    if plan.engine is not None and plan.engine.value == "vllm":
        engine = Engine(plan, rank, directory / "scratch" / f"engine-{rank}")
        ready.engine, ready.use_vllm = stack.enter_context(closing(engine)), True
    return ready
