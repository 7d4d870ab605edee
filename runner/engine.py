"""Completions by vLLM, which runs in the trainer's own process and on its device.

vLLM keeps the frozen weights of its own and is given the adapter alone, a few megabytes, after each optimizer step.
Nothing is merged: TRL adds the adapter into the trained weights and takes it out again, which rounds them in 16 bits at
every step. A canary tells after each step whether vLLM has taken the adapter up. That it had not, while everything else
looked right, is how others have lost weeks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn

from runner import model
from runner.drawing import Sampling
from runner.errors import Problem, RunError
from runner.generation import Completion
from runner.memory import VLLM_SHARE
from runner.plan import Plan
from runner.stopping import GivenUp

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM lays its memory out for
AT_ONCE = 4096  # tokens of prompts that are read together; with more, vLLM measures too little memory left
CANARY_TOKENS = 128
NOISE = 0.1  # the mean distance of log-probabilities that two programs may have in 16 bits


class Engine:
    """vLLM with the adapter of one trainer process. `folder` is for the adapter's files; an old one is replaced."""

    def __init__(self, plan: Plan, rank: int, folder: Path) -> None:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from vllm import LLM  # it takes many seconds, and few runs need it

        shutil.rmtree(folder, ignore_errors=True)
        self.folder, self.version, self.request = folder, 0, None
        self.canary: list[int] = []
        self.base: torch.Tensor | None = None
        self.llm = LLM(
            model=model.locate(plan.recipe.model),
            revision=plan.recipe.model.revision,
            dtype=str(plan.precision.value),
            quantization="bitsandbytes" if plan.quantization == "nf4" else None,
            trust_remote_code=plan.recipe.model.trust_remote_code,
            enable_lora=True,
            max_loras=1,
            max_lora_rank=next(most for most in RANKS if most >= plan.recipe.adapter.rank),
            max_model_len=int(plan.max_length.value),
            max_num_seqs=min(plan.batch.effective // plan.processes, 256),
            max_num_batched_tokens=max(AT_ONCE, int(plan.max_length.value)),
            gpu_memory_utilization=VLLM_SHARE,
            distributed_executor_backend="external_launcher",
            logprobs_mode="processed_logprobs",  # those that were drawn from, which the loss corrects by
            seed=rank,
        )

    def close(self) -> None:
        """Remove the adapter's files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def follow(self, adapted: PeftModel, prompt: Sequence[int]) -> None:
        """Take the adapter up as it is now. Raises RunError where vLLM then answers as another model.

        `prompt` are token ids to compare the two on; the first ones given are kept. All processes come here together.
        """
        from vllm.lora.request import LoRARequest

        with _whole(adapted):
            weights = {
                name: value.detach().contiguous().cpu() for name, value in get_peft_model_state_dict(adapted).items()
            }
        target = self.folder / str(self.version + 1)
        target.mkdir(parents=True)
        save_file(weights, target / "adapter_model.safetensors")
        adapted.peft_config[adapted.active_adapter].save_pretrained(str(target))
        if self.request is not None:
            self.llm.llm_engine.remove_lora(self.request.lora_int_id)
        self.version += 1
        self.request = LoRARequest(str(self.version), self.version, str(target))
        self.llm.llm_engine.add_lora(self.request)
        self.llm.reset_prefix_cache()
        shutil.rmtree(self.folder / str(self.version - 1), ignore_errors=True)
        self._compare(adapted, prompt)

    def sample(
        self, prompts: Sequence[Sequence[int]], copies: int, settings: Sampling, seed: int, told: Callable[[], bool]
    ) -> tuple[list[Completion], list[list[float]]]:
        """`copies` completions of each prompt, next to each other, and the log-probability that each token had.

        `told` is asked before each token; raises GivenUp where it says so, and is of no use after that.
        """
        from vllm import SamplingParams

        drawn = [
            SamplingParams(
                n=copies,
                seed=(seed + number) % 2**63,
                max_tokens=settings.new_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                top_k=settings.top_k,
                min_p=settings.min_p,
                repetition_penalty=settings.repetition_penalty,
                stop_token_ids=sorted(settings.ends),
                logprobs=0,
                detokenize=False,
            )
            for number in range(len(prompts))
        ]
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        with _asking(self.llm.llm_engine, told):
            answers = self.llm.generate(asked, drawn, use_tqdm=False, lora_request=self.request)
        found = [answer for each in answers for answer in sorted(each.outputs, key=lambda answer: answer.index)]
        completions = [Completion(list(answer.token_ids), answer.finish_reason == "length") for answer in found]
        chances = [
            [place[token].logprob for token, place in zip(answer.token_ids, answer.logprobs, strict=True)]
            for answer in found
        ]
        return completions, chances

    def _compare(self, adapted: PeftModel, prompt: Sequence[int]) -> None:
        if self.base is None:
            self.canary = list(prompt[:CANARY_TOKENS])
            with adapted.disable_adapter():
                self.base = chances(adapted, self.canary)
        ours, theirs = chances(adapted, self.canary), torch.tensor(self._chances(self.canary))
        check(self.base, ours, theirs)

    def _chances(self, tokens: Sequence[int]) -> list[float]:
        """vLLM's log-probability of each token but the first."""
        from vllm import SamplingParams

        settings = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        asked = [{"prompt_token_ids": list(tokens)}]
        (answer,) = self.llm.generate(asked, settings, use_tqdm=False, lora_request=self.request)
        return [place[token].logprob for token, place in zip(tokens[1:], answer.prompt_logprobs[1:], strict=True)]


def check(base: torch.Tensor, trained: torch.Tensor, engine: torch.Tensor) -> None:
    """Raise RunError where the engine's log-probabilities are not those of the weights that are trained.

    Each holds one number a token: without the adapter, with it, and as the engine has it. The engine may be as far off
    as 16 bits explain, and half as far as the adapter has moved the model.
    """
    moved, distance = float((trained - base).abs().mean()), float((engine - trained).abs().mean())
    if distance <= max(NOISE, moved / 2):
        return
    message = f"vLLM's log-probabilities are {distance:.2f} apart from those of the weights that are trained"
    if float((engine - base).abs().mean()) < distance:
        message += ": it answers without the adapter"
    hint = "what it samples is not what is learned from: use `grpo.engine: transformers`"
    raise RunError(Problem(message, hint=hint))


@torch.no_grad()
def chances(adapted: nn.Module, tokens: Sequence[int]) -> torch.Tensor:
    """The model's log-probability of each token but the first: float32, on the CPU."""
    was_training = adapted.training
    adapted.eval()
    ids = torch.tensor([list(tokens)], device=next(adapted.parameters()).device)
    logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, :-1].float()
    adapted.train(was_training)
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].cpu()


@contextmanager
def _whole(adapted: PeftModel) -> Iterator[None]:
    """Within it, the adapter's weights are here; DeepSpeed's stage 3 spreads them over the processes."""
    spread = [value for value in adapted.parameters() if value.requires_grad and hasattr(value, "ds_id")]
    if not spread:
        yield
        return
    from deepspeed.zero import GatheredParameters

    with GatheredParameters(spread):
        yield


@contextmanager
def _asking(engine: Any, told: Callable[[], bool]) -> Iterator[None]:
    """Within it, vLLM's engine asks before each of its steps whether to give up. It steps in this process."""
    step = engine.step

    def asked() -> Any:
        if told():
            raise GivenUp
        return step()

    engine.step = asked
    try:
        yield
    finally:
        engine.step = step
