"""A run's steps -> the prompts that each process samples completions for, every prompt as often as it is answered."""

from __future__ import annotations

from collections.abc import Iterator

from runner import batches
from runner.batches import Order
from runner.plan import Plan


class Rounds:
    """One process's rows for each micro-batch, as a batch sampler: those of the whole generation, every time.

    TRL samples at the first micro-batch of a generation, and only counts through the others.
    """

    def __init__(self, plan: Plan, rank: int) -> None:
        assert plan.recipe.grpo is not None and plan.steps is not None and plan.rows is not None
        self.plan, self.rank, self.group = plan, rank, plan.recipe.grpo.num_generations
        self.times = plan.batch.accumulation * plan.recipe.grpo.num_iterations
        self.generations = -(-plan.steps.total // plan.recipe.grpo.num_iterations)
        self.order = Order(
            lengths=[0] * plan.rows.train,
            batch_size=plan.batch.effective // self.group,
            micro=1,
            processes=1,
            total_steps=self.generations,
            seed=plan.recipe.training.seed,
            shuffle=plan.recipe.dataset.shuffle,
        )

    def __len__(self) -> int:
        return self.generations * self.times

    def __iter__(self) -> Iterator[list[int]]:
        share = self.plan.batch.effective // self.plan.processes
        for rows in batches.steps(self.order):
            # The last step of an epoch may hold fewer prompts: some are sampled as often again to fill it.
            filled = [rows[number % len(rows)] for number in range(self.order.batch_size)]
            repeated = [row for row in filled for _ in range(self.group)]
            mine = repeated[self.rank * share : (self.rank + 1) * share]
            for _ in range(self.times):
                yield mine
