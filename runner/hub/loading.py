"""The facts of an adapter in, how a stranger loads it out: with transformers and PEFT, and with vLLM."""

from __future__ import annotations

import json
import shlex
from pathlib import PurePath
from typing import Any

from runner.hub.facts import FULL, Facts, base_is_on_hub, base_name
from runner.hub.markdown import code, fenced

LOCAL = "path/to/this/directory"
HELLO = {"role": "user", "content": "Hello"}
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM can be made ready for
# How vLLM calls what reads a syntax of calls.
PARSERS = {
    "hermes": "hermes", "mistral": "mistral", "llama": "llama3_json", "xml": "qwen3_coder", "pythonic": "pythonic",
}  # fmt: skip


def sections(facts: Facts) -> list[str]:
    """The parts of a card that say how to load what it is of."""
    return [
        "## Use it with transformers",
        _needs(facts),
        _base_remark(facts),
        fenced(snippet(facts), "python"),
        "## Use it with vLLM",
        *_vllm(facts),
    ]


def _needs(facts: Facts) -> str:
    packages = ["transformers", "torch", *(["peft"] if facts.adapter_type != FULL else [])]
    packages += ["gguf"] if _base_is_gguf(facts) and facts.adapter_type != FULL else []
    return f"It needs {code('pip install ' + ' '.join(packages))}."


def _base_is_gguf(facts: Facts) -> bool:
    return not base_is_on_hub(facts) and facts.base_model.endswith(".gguf")


def _base_remark(facts: Facts) -> str:
    if base_is_on_hub(facts) or facts.adapter_type == FULL:
        return ""
    name = code(base_name(facts))
    return f"The base model is a local copy, {name}, which is not on the Hub: put its place into the code."


def snippet(facts: Facts) -> str:
    """Python that loads the adapter and generates from it."""
    place = facts.repository or LOCAL
    branch = "" if facts.branch == "main" or not facts.repository else f", revision={facts.branch!r}"
    if base_is_on_hub(facts):
        base = repr(facts.base_model) + (f", revision={facts.revision!r}" if facts.revision else "")
    elif facts.base_model.endswith(".gguf"):
        base = f"'path/to/its/directory', gguf_file={PurePath(facts.base_model).name!r}"
    else:
        base = repr(f"path/to/{PurePath(facts.base_model).name}")
    generate = (
        f"{_prompt(facts)}\n"
        "output = model.generate(**inputs, max_new_tokens=100, do_sample=False)\n"
        'print(tokenizer.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True))'
    )
    if facts.adapter_type == FULL:
        return (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"place = {place!r}\n"
            f"tokenizer = AutoTokenizer.from_pretrained(place{branch})\n"
            f'model = AutoModelForCausalLM.from_pretrained(place{branch}, dtype="auto")\n\n'
            f"{generate}"
        )
    rows = "max(len(tokenizer), base.get_input_embeddings().num_embeddings)"
    resize = f"base.resize_token_embeddings({rows})\n" if facts.tokens else ""
    return (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"adapter = {place!r}\n"
        f"tokenizer = AutoTokenizer.from_pretrained(adapter{branch})\n"
        f'base = AutoModelForCausalLM.from_pretrained({base}, dtype="auto")\n'
        f"{resize}model = PeftModel.from_pretrained(base, adapter{branch})\n\n"
        f"{generate}"
    )


def _prompt(facts: Facts) -> str:
    if not facts.chat:
        return 'inputs = tokenizer("Hello", return_tensors="pt")'
    tools = named = ""
    if facts.calls:
        tools = (
            'tools = [{"type": "function", "function": {\n'
            '    "name": "weather", "description": "The weather of a city",\n'
            '    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},\n'
            "}}]\n"
        )
        named = " tools=tools,"
    return (
        f'{tools}messages = [{{"role": "user", "content": "Hello"}}]\n'
        "inputs = tokenizer.apply_chat_template(\n"
        f'    messages,{named} add_generation_prompt=True, return_tensors="pt", return_dict=True\n'
        ")"
    )


def _vllm(facts: Facts) -> list[str]:
    """Commands that serve it; what vLLM cannot take as it is, is merged into its base model first."""
    name = shlex.quote(facts.name)
    fetched = facts.repository is not None and (facts.branch != "main" or facts.own_template)
    place = shlex.quote(f"./{facts.name}" if fetched else facts.repository or LOCAL)
    commands = []
    if fetched:
        branch = f" --revision {shlex.quote(facts.branch)}" if facts.branch != "main" else ""
        commands.append(f"hf download {shlex.quote(facts.repository or '')}{branch} --local-dir {place}")
    calls = ""
    if parser := PARSERS.get(facts.calls or ""):
        calls = f" \\\n    --enable-auto-tool-choice --tool-call-parser {parser}"
    if facts.adapter_type == FULL:
        commands.append(f"vllm serve {place} --served-model-name {name}{calls}")
        return [fenced("\n".join(commands), "sh"), *_asked(facts)]
    if lacking := _lacking(facts):
        merging = 'model.merge_and_unload().save_pretrained("merged")\ntokenizer.save_pretrained("merged")'
        return [
            f"vLLM does not take it as a LoRA adapter, since {lacking}. Put it into the base model's weights first, "
            "after the code above; in 16 bits this rounds a little:",
            fenced(merging, "python"),
            fenced(f"vllm serve ./merged --served-model-name {name}{calls}", "sh"),
            *_asked(facts),
        ]
    rank = next(rank for rank in RANKS if rank >= facts.rank)
    base = shlex.quote(facts.base_model if base_is_on_hub(facts) else "path/to/the/base-model")
    revision = f" --revision {shlex.quote(facts.revision)}" if base_is_on_hub(facts) and facts.revision else ""
    template = f" \\\n    --chat-template {place}/chat_template.jinja" if facts.own_template else ""
    commands.append(
        f"vllm serve {base}{revision} \\\n"
        f"    --enable-lora --max-lora-rank {rank} --lora-modules {name}={place}{template}{calls}"
    )
    gguf = (
        "vLLM needs the base model as safetensors, from which the GGUF file was made." if _base_is_gguf(facts) else ""
    )
    return [gguf, fenced("\n".join(commands), "sh"), *_asked(facts)]


def _lacking(facts: Facts) -> str:
    """Why vLLM refuses an adapter; nothing where it takes it."""
    reasons = [
        "it is DoRA" if facts.adapter_type == "dora" else "",
        "it holds trained embeddings (`modules_to_save`)" if facts.embeddings else "",
        f"it has {facts.tokens} tokens of its own" if facts.tokens else "",
        f"its rank of {facts.rank} is above {RANKS[-1]}" if facts.rank > RANKS[-1] else "",
    ]
    return " and ".join(reason for reason in reasons if reason)


def _asked(facts: Facts) -> list[str]:
    path = "chat/completions" if facts.chat else "completions"
    what: dict[str, Any] = {"messages": [HELLO]} if facts.chat else {"prompt": "Hello"}
    body = shlex.quote(json.dumps({"model": facts.name, **what, "temperature": 0}))
    command = f"curl http://localhost:8000/v1/{path} -H 'Content-Type: application/json' \\\n    -d {body}"
    return ["It is then asked by its name:", fenced(command, "sh")]
