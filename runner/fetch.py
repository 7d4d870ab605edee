"""Get a model from the Hub before anything is planned, so that its size is known and no worker waits for it.

What is in the local Hub cache already is not fetched again; without a network the cache alone is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from runner import recipe, weights
from runner.errors import Problem, RecipeError, RunError

# The same weights again, for other programs.
OTHER_FORMATS = ("*.gguf", "*.onnx", "*.onnx_data", "*.h5", "*.msgpack", "*.ot", "original/*", "onnx/*")


# What belongs to an adapter.
ADAPTER_FILES = (
    "adapter_config.json",
    "adapter_model*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer*",
    "*.model",
    "merges.txt",
)


def needed(settled: recipe.Recipe) -> None:
    """Fetch what a run begins with: its model, and the adapter that it goes on with. Raises as `model` does."""
    model(settled.model)
    if settled.adapter.continue_from:
        adapter(settled.adapter.continue_from)


def model(settings: recipe.Model, named: str = "in `model.name`") -> None:
    """Fetch the model's files, if it is named by a Hub id; `named` says where another one could be named.

    Raises RecipeError where the Hub does not have it or does not give it, RunError where the Hub is not reached.
    """
    if Path(settings.name).exists():
        return
    from huggingface_hub import HfApi, snapshot_download

    name, revision = settings.name, settings.revision

    def fetched() -> str:
        info = HfApi().model_info(name, revision=revision)
        files = [sibling.rfilename for sibling in info.siblings or []]
        if pickled := weights.only_pickled(files):
            raise RecipeError(Problem(f"`{name}` has its weights as a pickle, `{pickled}`", hint=weights.HINT))
        return str(snapshot_download(name, revision=revision, ignore_patterns=[*OTHER_FORMATS, *weights.PICKLED]))

    _get("model", name, revision, fetched, f"name a directory that holds the model {named}")


def adapter(name: str) -> Path:
    """The directory of an adapter: the one that is named, or the files of a Hub id. Raises as `model` does."""
    if Path(name).is_dir():
        if pickled := weights.pickled_in(name):
            raise RecipeError(Problem(f"`{name}` has its weights as a pickle, `{pickled}`", hint=weights.HINT))
        return Path(name).resolve()
    from huggingface_hub import HfApi, snapshot_download

    def fetched() -> str:
        info = HfApi().model_info(name)  # which says why there is none; `snapshot_download` only that it has no files
        if pickled := weights.only_pickled(sibling.rfilename for sibling in info.siblings or []):
            raise RecipeError(Problem(f"`{name}` has its weights as a pickle, `{pickled}`", hint=weights.HINT))
        return str(snapshot_download(name, allow_patterns=ADAPTER_FILES))

    return Path(_get("adapter", name, None, fetched, "name its directory"))


def _get(what: str, name: str, revision: str | None, fetched: Callable[[], str], without: str) -> str:
    """What `fetched` gives; where the Hub is not reached, what is in its cache. `without` says what to do else."""
    import httpx2
    from huggingface_hub import errors, snapshot_download

    try:
        try:
            return fetched()
        except (httpx2.HTTPError, errors.OfflineModeIsEnabled, ConnectionError) as error:
            if isinstance(error, errors.HfHubHTTPError):
                raise
            return str(snapshot_download(name, revision=revision, local_files_only=True))
    except errors.GatedRepoError as error:
        hint = f"accept its terms at https://huggingface.co/{name}, and set `HF_TOKEN` to a token that may read it"
        raise RecipeError(
            Problem(f"the {what} `{name}` is gated, and this token has no access to it", hint=hint)
        ) from error
    except errors.RevisionNotFoundError as error:
        raise RecipeError(Problem(f"the {what} `{name}` has no revision `{revision}`")) from error
    except errors.RepositoryNotFoundError as error:
        private = "a private model" if what == "model" else "a private one"
        hint = f"check its spelling; for {private} set `HF_TOKEN`; a local {what} is named by its path"
        raise RecipeError(Problem(f"the Hub has no {what} `{name}` that this token may read", hint=hint)) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError, ValueError) as error:
        hint = f"try again, or without a network {without}"
        raise RunError(Problem(f"the {what} `{name}` could not be fetched from the Hub", hint=hint)) from error
