"""Greedy answers and per-row losses of a small model, beside what transformers and plain PyTorch give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from runner import answering, reload
from runner.text.encoding import NOT_LEARNED

MOST = 24
VOCABULARY = 300


@pytest.fixture(scope="module")
def adapted(tokenizer: Any) -> PeftModel:
    """A random model in float32 with an adapter that changes what it writes."""
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.4,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        head_dim=8,
    )
    model = get_peft_model(LlamaForCausalLM(config).float(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.fixture(scope="module")
def questions(tokenizer: Any) -> list[list[int]]:
    texts = ["One", "A longer question, with words", "Two words", "Why?", "x " * 40, "The sky is " * 3, "Say it"]
    return [[token % VOCABULARY for token in tokenizer(text)["input_ids"]] for text in texts]


def one_by_one(model: Any, questions: list[list[int]], ends: list[int]) -> list[list[int]]:
    """What transformers' own `generate` gives, one question at a time and so without any filling."""
    settings = GenerationConfig(max_new_tokens=MOST, do_sample=False, eos_token_id=ends, pad_token_id=0)
    found = []
    for ids in questions:
        whole = model.generate(input_ids=torch.tensor([ids]), generation_config=settings)
        found.append(whole[0, len(ids) :].tolist())
    return found


@pytest.mark.parametrize("most_at_once", [1, 3, 64])
@pytest.mark.parametrize("which", ["base", "adapter"])
def test_answers_are_those_of_generate_in_batches_of_any_size(
    adapted: PeftModel, tokenizer: Any, questions: list[list[int]], monkeypatch: Any, most_at_once: int, which: str
) -> None:
    monkeypatch.setattr(answering, "MOST_AT_ONCE", most_at_once)
    free = one_by_one(adapted, questions, [tokenizer.eos_token_id])
    ends = sorted({tokenizer.eos_token_id, free[0][3], free[4][0]})  # some answers end early, one at once
    if which == "base":
        with adapted.disable_adapter():
            expected = one_by_one(adapted, questions, ends)
            found = answering.answers(adapted, tokenizer, questions, ends, MOST)
    else:
        expected = one_by_one(adapted, questions, ends)
        found = answering.answers(adapted, tokenizer, questions, ends, MOST)
        assert len({len(answer.ids) for answer in found}) > 1
    assert [answer.ids for answer in found] == expected


def test_an_answer_is_told_without_the_token_that_ends_it(tokenizer: Any) -> None:
    end, start = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])
    word = tokenizer("word", add_special_tokens=False)["input_ids"]
    ended, cut, empty = answering.told(tokenizer, [[start, *word, end], [start, *word], [end]], frozenset({end}))
    assert (ended.text, ended.marked) == ("word", "<|im_start|>word") == (cut.text, cut.marked)
    assert ended.ids == [start, *word, end]
    assert (empty.text, empty.marked) == ("", "")
    (word_ends,) = answering.told(tokenizer, [[*word, *word]], frozenset(word))  # an end need not be a special token
    assert word_ends.text == "word"


def test_no_question_has_no_answer(adapted: PeftModel, tokenizer: Any) -> None:
    assert answering.answers(adapted, tokenizer, [], [0], MOST) == []


def test_as_many_are_asked_at_once_as_fit(adapted: PeftModel, monkeypatch: Any) -> None:
    of_token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, groups, their size, bytes of float32
    monkeypatch.setattr(answering, "_free", lambda device: 2 * of_token * 1000)
    assert answering.at_once(adapted, 100) == 10
    assert answering.at_once(adapted, 10) == answering.MOST_AT_ONCE
    assert answering.at_once(adapted, 100_000) == 1


def rows(packed: bool) -> Dataset:
    found = []
    for number in range(7):
        ids = [(number * 31 + place * 7) % VOCABULARY for place in range(3 + number * 5 % 11)]
        labels = [NOT_LEARNED] * 2 + ids[2:] if number != 3 else [NOT_LEARNED] * len(ids)
        found.append({"input_ids": ids, "labels": labels, "length": len(ids)})
    if packed:
        lengths = [len(row["input_ids"]) for row in found]
        whole = {key: [token for row in found for token in row[key]] for key in ("input_ids", "labels")}
        return Dataset.from_list([{**whole, "seq_lengths": lengths}])
    return Dataset.from_list(found)


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("packed", [False, True])
def test_each_row_has_its_own_loss(adapted: PeftModel, batch: int, packed: bool) -> None:
    expected = []
    for row in rows(packed=False):
        labels = torch.tensor(row["labels"][1:])
        with torch.no_grad():
            logits = adapted(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1].double()
        summed = functional.cross_entropy(logits, labels, ignore_index=NOT_LEARNED, reduction="sum").item()
        expected.append((summed, int((labels != NOT_LEARNED).sum())))
    found = reload.row_losses(adapted, rows(packed), batch)
    assert [tokens for _, tokens in found] == [tokens for _, tokens in expected]
    assert [loss for loss, _ in found] == pytest.approx([loss for loss, _ in expected], rel=1e-5)
    assert found[3] == (0.0, 0)
    mean = sum(loss for loss, _ in expected) / sum(tokens for _, tokens in expected)
    assert reload.mean_loss(adapted, rows(packed), batch) == pytest.approx(mean, rel=1e-6)


def test_no_row_has_no_loss(adapted: PeftModel) -> None:
    none = rows(packed=False).select([])
    assert reload.row_losses(adapted, none, 4) == [] and reload.mean_loss(adapted, none, 4) == 0.0
    assert reload.mean_loss(adapted, rows(packed=False).select([3]), 4) == 0.0
