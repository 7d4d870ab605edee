"""Ids and masks of rendered rows: one way from text to ids, exact at the edges, checked by decoding."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.data.examples import Chat, Instruction, Message
from runner.errors import RecipeError
from runner.text import templates, tokens
from runner.text.templates import Refused, Rendered


def plain(prompt: str, completion: str, tokenizer: Any, learn: str = "completions") -> Rendered:
    return templates.render(Instruction(prompt, completion), tokenizer, learn, use_template=False)


def learned(rendered: Rendered, tokenizer: Any) -> list[str]:
    return [run for run, yes in tokens.runs(tokens.encode(rendered, tokenizer), tokenizer) if yes]


def ids(text: str, tokenizer: Any) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


# prompt and completion as they are


def test_a_completion_and_its_end_are_learned(tokenizer: Any) -> None:
    encoded = tokens.encode(plain("Question: 2 + 2\nAnswer:", " 4", tokenizer), tokenizer)
    prompt = ids("Question: 2 + 2\nAnswer:", tokenizer)
    assert encoded.ids == prompt + ids(" 4", tokenizer) + [tokenizer.eos_token_id]
    assert encoded.learned == [False] * len(prompt) + [True] * (len(encoded.ids) - len(prompt))


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [("ab", "cd"), ("a ", "b"), ("a\n", "\nb"), ("a", " b"), ("", "b"), ("a", "\u0301b"), ("9", "9")],
)
def test_a_prompt_has_the_ids_that_a_server_gives_it(prompt: str, completion: str, tokenizer: Any) -> None:
    encoded = tokens.encode(plain(prompt, completion, tokenizer), tokenizer)
    asked = templates.prompt(Instruction(prompt, completion), tokenizer, use_template=False)
    assert asked.answer == completion
    before = tokens.encode_prompt(asked.text, tokenizer)
    assert encoded.ids[: len(before)] == before
    assert not any(encoded.learned[: len(before)])
    assert all(encoded.learned[len(before) :])


def test_padding_with_the_end_token_does_not_hide_it(tokenizer: Any) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    encoded = tokens.encode(plain("a", "b", tokenizer), tokenizer)
    assert (encoded.ids[-1], encoded.learned[-1]) == (tokenizer.pad_token_id, True)


def test_the_end_is_not_written_twice(tokenizer: Any) -> None:
    assert plain("a", "b<|im_end|>", tokenizer).text == "ab<|im_end|>"
    assert plain("a<|im_end|>", "b", tokenizer).text == "a<|im_end|>b<|im_end|>"
    assert plain("a", "b<|endoftext|>", tokenizer).text == "ab<|endoftext|><|im_end|>"


def test_special_tokens_inside_a_completion_are_refused(tokenizer: Any) -> None:
    with pytest.raises(Refused, match="holds the special token `<|im_start|>` before its end"):
        plain("a", "b<|im_start|>c<|im_end|>", tokenizer)


def test_all_means_the_whole_text(tokenizer: Any) -> None:
    encoded = tokens.encode(plain("a", "b", tokenizer, "all"), tokenizer)
    assert encoded.learned == [True] * 3


def test_a_tokenizer_without_an_end_is_refused(dressed: Callable[..., Any]) -> None:
    other = dressed(None)
    other.eos_token = None
    with pytest.raises(RecipeError, match="never learn to stop"):
        plain("a", "b", other)


# the beginning of the sequence


def starting(text: str, tokenizer: Any) -> Any:
    """The tokenizer with `<s>` put in front of every text, as Llama's and Gemma's do."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{text} $A", special_tokens=[(text, tokenizer.convert_tokens_to_ids(text))]
    )
    return tokenizer


def test_the_beginning_is_written_once(dressed: Callable[..., Any]) -> None:
    llama = starting("<s>", dressed(None, bos_token="<s>", eos_token="</s>"))
    assert llama("a")["input_ids"][0] == llama.bos_token_id
    assert plain("a", "b", llama).text == "<s>ab</s>"
    assert plain("<s>a", "b", llama).text == "<s>ab</s>"
    encoded = tokens.encode(plain("a", "b", llama), llama)
    assert encoded.ids == [llama.bos_token_id, *ids("a", llama), *ids("b", llama), llama.eos_token_id]
    assert templates.prompt(Instruction("a", "b"), llama, use_template=False).text == "<s>a"


def test_the_beginning_is_not_added_to_what_a_template_wrote(dressed: Callable[..., Any]) -> None:
    template = "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + ']' + m.content + eos_token }}{% endfor %}"
    template += "{% if add_generation_prompt %}[assistant]{% endif %}"
    llama = starting("<s>", dressed(template, bos_token="<s>", eos_token="</s>"))
    rendered = templates.render(Instruction("a", "b"), llama, "completions", use_template=True)
    assert tokens.encode(rendered, llama).ids.count(llama.bos_token_id) == 1
    llama.chat_template = "{{ bos_token }}" + template
    with pytest.raises(Refused, match="two beginning-of-sequence tokens"):
        tokens.encode(templates.render(Instruction("a", "b"), llama, "completions", use_template=True), llama)


# tokenizers with habits


CORPUS = ["the cat sat on the mat and the dog ran [INST] yes no [/INST] answer question 1 2 3 4 , . ! ? \n \n\n é"] * 4


def sentencepiece(kind: str) -> Any:
    """A small tokenizer in the manner of SentencePiece, with bytes for what it does not know."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=specials, show_progress=False)
    inner.train_from_iterator(CORPUS, trainer)
    if kind == "prepend":  # Llama 2: a space before every stretch between special tokens
        inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        inner.pre_tokenizer = pre_tokenizers.Sequence([])
    else:  # `first`: a space at the beginning of the text alone; `never`: nowhere; `always`: before each stretch
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    inner.decoder = decoders.Sequence(parts if kind == "never" else [*parts, decoders.Strip(" ", 1, 0)])
    built = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    built.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    )
    return built


@pytest.mark.parametrize("kind", ["prepend", "first", "never", "always"])
@pytest.mark.parametrize("answer", ["yes", "the cat, sat!", "é 👋 好", "two\nlines"])
def test_tokenizers_that_write_spaces_of_their_own(kind: str, answer: str) -> None:
    """The learned ids are those of the answer inside the whole text: no space stands at a cut."""
    tokenizer = sentencepiece(kind)
    turns = (Message("user", "the question"), Message("assistant", answer))
    rendered = templates.render(Chat((*turns, *turns)), tokenizer, "completions", use_template=True)
    encoded = tokens.encode(rendered, tokenizer)
    assert encoded.ids == ids(rendered.text, tokenizer)
    for run in (run for run, yes in tokens.runs(encoded, tokenizer) if yes):
        assert run.strip() == answer + "</s>"
    asked = templates.prompt(Chat((*turns, *turns)), tokenizer, use_template=True)
    before = tokens.encode_prompt(asked.text, tokenizer)
    assert encoded.ids[: len(before)] == before


@pytest.mark.parametrize("kind", ["prepend", "always"])
@pytest.mark.parametrize(("prompt", "completion"), [("the c", "at sat"), ("the ", "cat")])
def test_a_token_that_must_reach_across_the_edge_is_refused(kind: str, prompt: str, completion: str) -> None:
    tokenizer = sentencepiece(kind)
    with pytest.raises(Refused, match="does not break where a prompt ends"):
        tokens.encode(plain(prompt, completion, tokenizer), tokenizer)


@pytest.mark.parametrize("kind", ["prepend", "first", "never", "always"])
@pytest.mark.parametrize(("prompt", "completion"), [("the", " cat"), ("the", "cat"), ("[INST] a [/INST]", " yes")])
def test_no_space_is_learned_that_the_text_does_not_have(kind: str, prompt: str, completion: str) -> None:
    tokenizer = sentencepiece(kind)
    encoded = tokens.encode(plain(prompt, completion, tokenizer), tokenizer)
    assert encoded.ids == ids(prompt + completion + "</s>", tokenizer)
    assert encoded.ids[: encoded.learned.index(True)] == ids(prompt, tokenizer)


def test_two_beginnings_are_refused_in_such_a_tokenizer_too() -> None:
    tokenizer = sentencepiece("prepend")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    rendered = templates.render(Instruction("a", "b"), tokenizer, "completions", use_template=True)
    with pytest.raises(Refused, match="two beginning-of-sequence tokens"):
        tokens.encode(rendered, tokenizer)


def test_composed_accents_are_let_pass(dressed: Callable[..., Any]) -> None:
    from tokenizers.normalizers import NFC

    qwen = dressed(None)
    qwen.backend_tokenizer.normalizer = NFC()
    assert learned(plain("e\u0301 cafe\u0301", " e\u0301te\u0301", qwen), qwen) == [" été<|im_end|>"]


def test_text_that_a_tokenizer_loses_is_refused(dressed: Callable[..., Any]) -> None:
    from tokenizers.normalizers import Lowercase

    lower = dressed(None)
    lower.backend_tokenizer.normalizer = Lowercase()
    with pytest.raises(Refused, match=r"'aSome Words<\|im_end\|>' comes back as 'asome words"):
        tokens.encode(plain("a", "Some Words", lower), lower)


def test_a_control_character_that_is_lost_is_not_taken_for_white_space(tokenizer: Any) -> None:
    assert "\x1d".isspace()
    with pytest.raises(Refused, match="does not give the text back"):
        tokens.encode(plain("a", "b\x1d", tokenizer), tokenizer)


def test_special_tokens_that_swallow_white_space(dressed: Callable[..., Any]) -> None:
    from tokenizers import AddedToken

    swallowing = tuple(AddedToken(text, rstrip=True, lstrip=True, special=True) for text in ("<|user|>", "<|end|>"))
    template = (
        "{% for m in messages %}{{ ('<|user|>\n' if m.role == 'user' else '') + m.content + '<|end|>\n' }}{% endfor %}"
    )
    phi = dressed(template, swallowing)
    turns = (Message("user", " a "), Message("assistant", " b "))
    rendered = templates.render(Chat((*turns, *turns)), phi, "completions", use_template=True)
    assert learned(rendered, phi) == [" b<|end|>", " b<|end|>"]


def test_offsets_without_leading_white_space(dressed: Callable[..., Any]) -> None:
    """Llama 3 reports a token of white space as covering nothing; it must not fall out of the mask, or into it."""
    from tokenizers.processors import ByteLevel

    llama = dressed(None)
    llama.backend_tokenizer.post_processor = ByteLevel(trim_offsets=True)
    rendered = Rendered("a \n\n b \n<|im_end|>\n\n<|im_end|>", ((2, 18),), (2,))
    assert learned(rendered, llama) == ["\n\n b \n<|im_end|>"]


def test_a_tokenizer_that_cannot_place_its_tokens_is_refused(dressed: Callable[..., Any]) -> None:
    class Slow:
        """What a tokenizer written in Python looks like."""

        is_fast = False
        bos_token = eos_token = None

        def __len__(self) -> int:
            return 1

    with pytest.raises(RecipeError, match="does not tell which characters a token covers"):
        tokens.encode_prompt("a", dressed(None)) and tokens.encode_many([Rendered("a", ((0, 1),))], Slow())


def test_special_tokens_added_later_are_seen(dressed: Callable[..., Any]) -> None:
    other = dressed(None)
    assert learned(plain("a", "b[X]c", other), other) == ["b[X]c<|im_end|>"]
    other.add_tokens(["[X]"], special_tokens=True)
    with pytest.raises(Refused, match=r"special token `\[X\]`"):
        plain("a", "b[X]c", other)


# the check itself


def test_a_mask_that_is_off_by_one_token_is_noticed(tokenizer: Any) -> None:
    rendered = plain("Question one two", " three four", tokenizer)
    right = tokens.encode(rendered, tokenizer)
    tokens.check(rendered, right, tokenizer)
    first = right.learned.index(True)
    for wrong in (
        right.learned[1:] + [True],
        [False, *right.learned[:-1]],
        right.learned[:-1] + [False],
        [False] * len(right.ids),
        [True] * len(right.ids),
        right.learned[: first + 1] + [False] + right.learned[first + 2 :],
    ):
        with pytest.raises(Refused):
            tokens.check(rendered, tokens.Tokens(right.ids, wrong), tokenizer)
    with pytest.raises(Refused):
        tokens.check(rendered, tokens.Tokens([*right.ids[:-2], 7, right.ids[-1]], right.learned), tokenizer)


# many rows


def test_many_rows_are_as_one_row_each_and_keep_their_order(tokenizer: Any) -> None:
    rows = [plain("a", f" {number} " * number + "x", tokenizer) for number in range(20)]
    rows.insert(3, Rendered("lost \x06", ((0, 6),)))
    rows.insert(5, Rendered("no boundary", ((0, 11),)))
    found = tokens.encode_many(rows, tokenizer)
    assert isinstance(found[3], Refused)
    for row, outcome in zip(rows, found, strict=True):
        assert isinstance(outcome, Refused) or outcome == tokens.encode(row, tokenizer)
    assert tokens.encode_many([], tokenizer) == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.text(max_size=20), completion=st.text(max_size=20))
def test_any_prompt_and_completion_keep_their_ids_or_are_refused(prompt: str, completion: str, tokenizer: Any) -> None:
    try:
        rendered = plain(prompt, completion, tokenizer)
        encoded = tokens.encode(rendered, tokenizer)
    except Refused:
        whole = (prompt + completion).encode("utf-8", "replace").decode()
        assert tokenizer.decode(ids(whole, tokenizer)) != prompt + completion
    else:
        completion = completion.removesuffix(tokenizer.eos_token)  # it is not written twice
        assert encoded.ids == [*ids(prompt, tokenizer), *ids(completion, tokenizer), tokenizer.eos_token_id]
        assert encoded.learned == [False] * len(ids(prompt, tokenizer)) + [True] * (len(ids(completion, tokenizer)) + 1)


def test_a_thousand_short_rows_take_about_a_second(tokenizer: Any) -> None:
    """The aim is 1000 rows a second; the limit is wide, because other work may share the cores."""
    example = Chat((Message("user", "What is the capital of France?"), Message("assistant", "It is Paris. " * 5)))
    started = time.process_time()
    rows = [templates.render(example, tokenizer, "completions", use_template=True) for _ in range(500)]
    encoded = tokens.encode_many(rows, tokenizer)
    assert len(encoded) == 500
    assert time.process_time() - started < 2
