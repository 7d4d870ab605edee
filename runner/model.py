"""A model named in a recipe -> its tokenizer and its weights, in the precision that the plan settled.

A GGUF file is turned once into safetensors under the cache directory, and read from there ever after.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from runner import chat_templates, machine, recipe
from runner.errors import Place, Problem, RecipeError, RunError, listed
from runner.plan import Plan

NEW_TOKENS = 0  # the seed of new tokens' first embeddings: base and adapter have to meet again wherever they are loaded
HASHED_BYTES = 2**20  # of a GGUF file's start: its header, which names every tensor


def locate(settings: recipe.Model) -> str:
    """What transformers can load: a directory, or the Hub id itself. Converts a GGUF file at its first use."""
    path = Path(settings.name)
    return str(_converted(path)) if path.suffix == ".gguf" else settings.name


def tokenizer(settings: recipe.Model) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with the recipe's new tokens, and its chat template where it names one.

    Raises RecipeError where it cannot be loaded, does not tell where in a text its tokens stand, or has a new token.
    """
    try:
        loaded = AutoTokenizer.from_pretrained(
            locate(settings), revision=settings.revision, trust_remote_code=settings.trust_remote_code
        )
    except (OSError, ValueError, LookupError, ImportError, AttributeError, TypeError) as error:
        raise _unloadable(settings, error, "tokenizer") from error
    if not loaded.is_fast:
        raise RecipeError(
            Problem(
                f"the tokenizer of `{settings.name}` does not tell where its tokens stand in the text",
                hint="what is learned is marked by character positions: use a model with a `tokenizer.json`",
            )
        )
    known = [token for token in settings.add_tokens if token in loaded.get_vocab()]
    if known:
        raise RecipeError(
            Problem(f"`{known[0]}` of `model.add_tokens` is a token of `{settings.name}` already", hint="leave it out")
        )
    loaded.add_tokens(list(settings.add_tokens))
    if settings.chat_template in chat_templates.NAMES:
        loaded.chat_template = _bundled(settings, loaded)
    elif settings.chat_template != "auto":
        loaded.chat_template = _template(Path(settings.chat_template))
    if loaded.pad_token_id is None:
        loaded.pad_token = loaded.eos_token
    return loaded


def _bundled(settings: recipe.Model, loaded: PreTrainedTokenizerBase) -> str:
    name = settings.chat_template
    missing = chat_templates.missing(name, loaded.get_vocab())
    if missing:
        raise RecipeError(
            Problem(
                f"the chat template `{name}` needs {listed(missing)}, which the tokenizer of `{settings.name}` lacks",
                hint="models whose turns begin with `<|im_start|>` have them, such as Qwen and SmolLM; "
                "for others, name a template of your own: `model.chat_template: template.jinja`",
            )
        )
    return chat_templates.text(name)


def _template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(Problem("the chat template is not UTF-8 text", Place(str(path)))) from error
    except OSError as error:
        reason = (error.strerror or "input error").lower()
        raise RecipeError(Problem(f"the chat template cannot be read: {reason}", Place(str(path)))) from error


def weights(plan: Plan, device_map: Any = None, trained: Path | None = None) -> PreTrainedModel:
    """The base model, in the plan's precision or quantised; or the one in a directory that a run has trained.

    Under ZeRO-3 the caller has announced DeepSpeed's settings before, so that each process holds its part only.
    """
    settings = plan.recipe.model
    options: dict[str, Any] = {
        "dtype": getattr(torch, str(plan.precision.value)),
        "attn_implementation": plan.attention.value,
    }
    quantization = _quantization(plan)
    if quantization is not None:
        options["quantization_config"] = quantization
    if device_map is not None:
        options["device_map"] = device_map
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            locate(settings) if trained is None else str(trained),
            revision=settings.revision if trained is None else None,
            trust_remote_code=settings.trust_remote_code,
            use_safetensors=True,
            **options,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unloadable(settings, error) from error
    if settings.add_tokens:
        _make_room(loaded, len(tokenizer(settings)))
    return loaded


def _make_room(loaded: PreTrainedModel, tokens: int) -> None:
    """Embeddings for so many tokens: new ones are drawn round the mean of the others, the same for every process."""
    if loaded.get_input_embeddings().num_embeddings < tokens:
        with torch.random.fork_rng():
            torch.manual_seed(NEW_TOKENS)
            loaded.resize_token_embeddings(tokens)


def use_all_cores(plan: Plan) -> None:
    """On a CPU, let a process that is alone compute on every core."""
    if plan.device == "cpu":
        torch.set_num_threads(machine.cores())


def ends(loaded: Any, words: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end what a model writes: its own, and its tokenizer's."""
    configured = loaded.generation_config.eos_token_id
    found = {*(configured if isinstance(configured, list) else [configured]), words.eos_token_id}
    return sorted(found - {None})


def commit(settings: recipe.Model) -> str | None:
    """The commit of a Hub model that is in the cache, so that a run says exactly what it started from."""
    if Path(settings.name).exists():
        return None
    config = AutoConfig.from_pretrained(
        settings.name, revision=settings.revision, trust_remote_code=settings.trust_remote_code
    )
    return getattr(config, "_commit_hash", None)


def _quantization(plan: Plan) -> BitsAndBytesConfig | None:
    if plan.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    if plan.quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, str(plan.precision.value)),
        )
    return None


def _cache() -> Path:
    home = os.environ.get("TUNESMITH_CACHE")
    if home:
        return Path(home)
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME", "~/.cache"))) / "tunesmith"


def _converted(path: Path) -> Path:
    """The directory that holds a GGUF file's model as safetensors; made at the first call."""
    with path.open("rb") as file:
        start = hashlib.sha256(file.read(HASHED_BYTES)).hexdigest()[:16]
    target = _cache() / "gguf" / f"{path.stem}-{start}-{path.stat().st_size}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=".unfinished-"))
    try:
        _convert(path, unfinished)
        try:
            unfinished.rename(target)
        except OSError:
            if not target.is_dir():  # another process was first: its result is the same
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _convert(path: Path, target: Path) -> None:
    """GGUF -> safetensors in bfloat16: more than any quantised weight holds, and half of float32's size."""
    try:
        quantized = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        words = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise RecipeError(
            Problem(f"the GGUF file `{path}` cannot be read: {_first_line(error)}", hint="is the file whole")
        ) from error
    # Saving refuses a model that still says it is quantised.
    del quantized.config.quantization_config
    plain = AutoModelForCausalLM.from_config(quantized.config, dtype=torch.bfloat16)
    plain.load_state_dict(quantized.state_dict())
    plain.generation_config = quantized.generation_config
    plain.save_pretrained(target)
    words.save_pretrained(target)


def _unloadable(settings: recipe.Model, error: Exception, part: str = "model") -> RecipeError | RunError:
    """A sentence for what transformers raised, and what to do about it."""
    name, text = settings.name, str(error)
    if "trust_remote_code" in text:
        return RecipeError(
            Problem(
                f"`{name}` comes with Python code of its own, which is not run",
                hint="a model of a kind that transformers knows needs none; `model.trust_remote_code: true` runs it",
            )
        )
    if Path(name).exists():
        hint = None
        if part == "tokenizer" and Path(name).is_dir() and not (Path(name) / "tokenizer.json").exists():
            hint = "the directory has no `tokenizer.json`: save the model's tokenizer into it"
        return RecipeError(Problem(f"the {part} in `{name}` cannot be loaded: {_first_line(error)}", hint=hint))
    if "gated" in text or "401" in text or "403" in text:
        return RecipeError(
            Problem(
                f"the Hub does not give out `{name}`: it is gated, private or not there",
                hint="check the spelling, accept the model's terms on its page, and set `HF_TOKEN`",
            )
        )
    if "not a valid model identifier" in text or "404" in text:
        return RecipeError(Problem(f"there is no model `{name}` on the Hub", hint="a Hub id looks like `owner/name`"))
    if isinstance(error, ImportError):
        return RecipeError(Problem(f"`{name}` needs a package that is not installed: {_first_line(error)}"))
    return RunError(
        Problem(
            f"the model `{name}` cannot be loaded: {_first_line(error)}",
            hint="without a network, mount the model's directory and name that in `model.name`",
        )
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")
