"""The decoder against transformers' own, and what it draws against the distribution it must draw from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from runner import decoding, generation
from runner.drawing import Sampling
from runner.generation import Completion
from runner.stopping import GivenUp

VOCABULARY = 40
NO_END: frozenset[int] = frozenset()
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14], [5, 6]]


def llama(vocabulary: int = VOCABULARY, spread: float = 0.3, **more: Any) -> LlamaForCausalLM:
    torch.manual_seed(3)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            initializer_range=spread,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            **more,
        )
    ).eval()


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(3)
    sizes = {
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
    }
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, **sizes)).eval()


def bloom() -> BloomForCausalLM:
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3, "tie_word_embeddings": False}
    return BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, **sizes)).eval()


def gemma() -> Gemma3ForCausalLM:
    """Every second layer sees four tokens only: the cache of those layers is cut while rows leave the batch."""
    torch.manual_seed(3)
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=4,
            tie_word_embeddings=False,
            layer_types=["sliding_attention", "full_attention"],
            initializer_range=0.3,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).eval()


def mamba() -> MambaForCausalLM:
    torch.manual_seed(3)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "state_size": 4,
        "initializer_range": 0.3,
        "tie_word_embeddings": False,
    }
    return MambaForCausalLM(MambaConfig(vocab_size=VOCABULARY, pad_token_id=0, eos_token_id=2, **sizes)).eval()


def hybrid() -> Qwen3NextForCausalLM:
    """Layers that keep keys and values, and layers that keep a state which does not divide into tokens."""
    torch.manual_seed(3)
    return Qwen3NextForCausalLM(
        Qwen3NextConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            layer_types=["linear_attention", "full_attention"],
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            num_experts=0,
            initializer_range=0.3,
            pad_token_id=0,
            eos_token_id=2,
        )
    ).eval()


def convolution() -> Lfm2ForCausalLM:
    """A model that does not call itself stateful, and whose cache holds more than keys and values."""
    torch.manual_seed(3)
    return Lfm2ForCausalLM(
        Lfm2Config(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            layer_types=["conv", "full_attention"],
            initializer_range=0.3,
            pad_token_id=0,
            eos_token_id=2,
        )
    ).eval()


def adapted(model: PreTrainedModel, dropout: float = 0.0, **options: Any) -> nn.Module:
    """The model with an adapter that has learned something."""
    settings = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", lora_dropout=dropout, **options)
    result = get_peft_model(model, settings)
    torch.manual_seed(5)
    for name, weight in result.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.2)
    return result


def by_generate(model: Any, prompts: list[list[int]], ends: frozenset[int], new_tokens: int, **more: Any) -> list[Any]:
    """Greedy completions of each prompt on its own by transformers, nothing to fill up."""
    settings = GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, eos_token_id=sorted(ends) or None, pad_token_id=0, **more
    )
    if not ends:
        model.generation_config.eos_token_id = None
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        whole = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
        found.append(whole[0, len(prompt) :].tolist())
    return found


@pytest.mark.parametrize("make", [llama, gpt2, bloom, gemma])
def test_the_likeliest_tokens_are_those_of_transformers(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    settings = Sampling(new_tokens=20, ends=NO_END, temperature=0)
    ours = generation.sample(model, PROMPTS, 2, settings, seed=1)
    theirs = by_generate(model, PROMPTS, NO_END, 20)
    assert len({tuple(tokens) for tokens in theirs}) == len(PROMPTS), "the prompts must lead to different texts"
    assert [completion.tokens for completion in ours] == [tokens for tokens in theirs for _ in range(2)]


def until(tokens: list[int], ends: frozenset[int]) -> Completion:
    end = next((place for place, token in enumerate(tokens) if token in ends), None)
    return Completion(tokens if end is None else tokens[: end + 1], end is None)


def spread(whole: list[list[int]], ends: frozenset[int]) -> int:
    """At how many different places the rows end; 0 where none goes on to the limit."""
    rows = [until(tokens, ends) for tokens in whole]
    return len({len(row.tokens) for row in rows}) if any(row.cut for row in rows) else 0


@pytest.mark.parametrize("make", [llama, gemma])
def test_rows_end_on_their_own_and_leave_the_others_as_they_were(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    prompts = [[first] * (1 + first % 4) for first in range(4, 14)]
    whole = by_generate(model, prompts, NO_END, 20)
    ends = max((frozenset(pair) for pair in combinations(range(VOCABULARY), 2)), key=lambda pair: spread(whole, pair))
    assert spread(whole, ends) > 3, "rows must end at different places, and not all of them"
    expected = [until(tokens, ends) for tokens in whole]
    assert generation.sample(model, prompts, 1, Sampling(20, ends, temperature=0), seed=1) == expected


def test_a_repetition_penalty_is_that_of_transformers() -> None:
    model = llama()
    plain, penalised = (by_generate(model, PROMPTS, NO_END, 12, repetition_penalty=much) for much in (1.0, 1.8))
    assert plain != penalised
    settings = Sampling(12, NO_END, temperature=0, repetition_penalty=1.8)
    assert [row.tokens for row in generation.sample(model, PROMPTS, 1, settings, seed=1)] == penalised


def test_tokens_are_drawn_as_often_as_the_model_says() -> None:
    model = llama(vocabulary=12, spread=0.5)
    prompt, many = [3, 4, 5], 6000
    settings = Sampling(2, NO_END, temperature=0.7, top_p=0.9)
    drawn = [tuple(row.tokens) for row in generation.sample(model, [prompt], many, settings, seed=11)]
    expected = pairs(model, prompt, temperature=0.7, top_p=0.9)
    assert unlike(drawn, expected) < critical(expected)
    for other in (pairs(model, prompt, 1.0, 0.9), pairs(model, prompt, 0.7, 1.0)):
        assert unlike(drawn, other) > 2 * critical(other), "the settings must make a difference that is seen"


def pairs(model: PreTrainedModel, prompt: list[int], temperature: float, top_p: float) -> dict[tuple[int, int], float]:
    """How likely each two tokens are to follow, computed by transformers' own rules."""
    rules = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_p < 1:
        rules.append(TopPLogitsWarper(top_p))

    def following(tokens: list[int]) -> list[float]:
        ids = torch.tensor([tokens])
        with torch.no_grad():
            return list(rules(ids, model(ids).logits[:, -1])[0].double().softmax(-1).tolist())

    found = {}
    for first, likely in enumerate(following(prompt)):
        if likely > 0:
            for second, then in enumerate(following([*prompt, first])):
                found[first, second] = likely * then
    return {pair: share for pair, share in found.items() if share > 0}


def unlike(drawn: list[tuple[int, ...]], expected: dict[tuple[int, int], float]) -> float:
    """Pearson's statistic; what should never be drawn and was counts as infinitely unlike."""
    if any(pair not in expected for pair in drawn):
        return float("inf")
    counts = {pair: 0 for pair in expected}
    for first, second in drawn:
        counts[first, second] += 1
    return sum((counts[pair] - len(drawn) * share) ** 2 / (len(drawn) * share) for pair, share in expected.items())


def critical(expected: dict[tuple[int, int], float]) -> float:
    """What the statistic exceeds about once in ten thousand (Wilson and Hilferty's approximation)."""
    freedom = len(expected) - 1
    return float(freedom * (1 - 2 / (9 * freedom) + 3.72 * (2 / (9 * freedom)) ** 0.5) ** 3)


def test_the_same_seed_gives_the_same_texts_whatever_else_was_drawn() -> None:
    model, settings = llama(), Sampling(10, frozenset({2}))
    first = generation.sample(model, PROMPTS, 3, settings, seed=7)
    torch.rand(5)
    state = torch.get_rng_state()
    assert generation.sample(model, PROMPTS, 3, settings, seed=7) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert generation.sample(model, PROMPTS, 3, settings, seed=8) != first
    assert len({tuple(completion.tokens) for completion in first[:3]}) == 3, "copies are drawn on their own"


@pytest.mark.parametrize("make", [mamba, hybrid, convolution])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_keeps_other_state_goes_through_its_own_generate(
    make: Callable[[], PreTrainedModel], temperature: float
) -> None:
    model, prompts = make(), [[5, 6, 7], [8, 9, 10]]
    settings = Sampling(8, frozenset({2}), temperature=temperature)
    state = torch.get_rng_state()
    found = generation.sample(model, prompts, 2, settings, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    assert found == generation.sample(model, prompts, 2, settings, seed=7)
    assert all(completion.cut == (completion.tokens[-1] != 2) for completion in found)
    if temperature == 0:
        expected = by_generate(model, prompts, frozenset({2}), 8)
        assert [completion.tokens for completion in found] == [tokens for tokens in expected for _ in range(2)]
    else:
        assert found != generation.sample(model, prompts, 2, settings, seed=8)


@pytest.mark.parametrize("make", [llama, mamba])
def test_it_is_given_up_at_the_next_token(make: Callable[[], PreTrainedModel]) -> None:
    asked = 0

    def told() -> bool:
        nonlocal asked
        asked += 1
        return asked == 4

    settings = Sampling(new_tokens=20, ends=NO_END, temperature=1.0)
    with pytest.raises(GivenUp):
        generation.sample(make(), PROMPTS, 2, settings, 0, told)
    assert asked == 4


def test_an_adapter_takes_part_and_the_model_is_afterwards_as_it_was() -> None:
    model = adapted(llama(), dropout=0.5)
    model.train()
    model.get_base_model().lm_head.eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    settings = Sampling(16, NO_END, temperature=0)
    ours = [row.tokens for row in generation.sample(model, PROMPTS, 2, settings, seed=1)]

    assert [module.training for module in model.modules()] == modes
    assert not any("forward" in vars(module) for module in model.modules())
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    without = by_generate(llama(), PROMPTS, NO_END, 16)
    merged = by_generate(model.merge_and_unload().eval(), PROMPTS, NO_END, 16)
    assert merged != without
    assert ours == [tokens for tokens in merged for _ in range(2)]


@pytest.mark.parametrize("options", [{"use_dora": True}, {"use_rslora": True}, {"lora_bias": True}])
def test_every_kind_of_adapter_decodes_like_its_own_forward(options: dict[str, Any]) -> None:
    model = adapted(llama(), **options).eval()
    settings = Sampling(12, NO_END, temperature=0)
    ours = [row.tokens for row in generation.sample(model, PROMPTS, 1, settings, seed=1)]
    model.get_base_model().generation_config.eos_token_id = None
    assert ours == by_generate(model, PROMPTS, NO_END, 12)


def test_a_disabled_adapter_takes_no_part() -> None:
    model = adapted(llama())
    settings = Sampling(12, NO_END, temperature=0)
    with model.disable_adapter():
        ours = [row.tokens for row in generation.sample(model, PROMPTS, 1, settings, seed=1)]
    assert ours == by_generate(llama(), PROMPTS, NO_END, 12)


@pytest.mark.parametrize("biased", [False, True])
def test_half_precision_weights_decode_what_mixed_precision_training_computes(biased: bool) -> None:
    """The logits, with the short way, are as near to exact ones as PEFT's own forward is."""
    model = llama(attention_bias=biased, mlp_bias=biased)
    torch.manual_seed(4)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight)
    model = adapted(model.to(torch.bfloat16))
    assert {weight.dtype for name, weight in model.named_parameters() if "lora_" in name} == {torch.float32}
    ids = torch.tensor([PROMPTS[2]])
    model.eval()
    with torch.no_grad():
        own = model(ids).logits.float()
        with decoding.decoding(model):
            short = model(ids).logits.float()
        exact = model.float()(ids).logits
    assert not torch.equal(short, own)
    assert exact.std() > 0.1
    assert (short - exact).abs().mean() < 1.5 * (own - exact).abs().mean()


def test_an_error_inside_leaves_the_adapter_as_it_was() -> None:
    model = adapted(llama()).train()
    with pytest.raises(ZeroDivisionError), decoding.decoding(model):
        assert not model.training
        assert any("forward" in vars(module) for module in model.modules())
        raise ZeroDivisionError
    assert all(module.training for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())
