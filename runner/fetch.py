"""Get a model from the Hub before anything is planned, so that its size is known and no worker waits for it.

What is in the local Hub cache already is not fetched again; without a network the cache alone is asked.
"""

from __future__ import annotations

from pathlib import Path

from runner import recipe
from runner.errors import Problem, RecipeError, RunError

# The same weights again, for other programs.
OTHER_FORMATS = ("*.gguf", "*.onnx", "*.onnx_data", "*.h5", "*.msgpack", "*.ot", "*.pth", "original/*", "onnx/*")


def model(settings: recipe.Model) -> None:
    """Fetch the model's files, if it is named by a Hub id.

    Raises RecipeError where the Hub does not have it or does not give it, RunError where the Hub is not reached.
    """
    if Path(settings.name).exists():
        return
    import httpx2
    from huggingface_hub import HfApi, errors, snapshot_download

    name, revision = settings.name, settings.revision
    try:
        try:
            info = HfApi().model_info(name, revision=revision)
            files = [sibling.rfilename for sibling in info.siblings or []]
            twice = ["*.bin"] if any(file.endswith(".safetensors") for file in files) else []
            snapshot_download(name, revision=revision, ignore_patterns=[*OTHER_FORMATS, *twice])
        except (httpx2.HTTPError, errors.OfflineModeIsEnabled, ConnectionError) as error:
            if isinstance(error, errors.HfHubHTTPError):
                raise
            snapshot_download(name, revision=revision, local_files_only=True)
    except errors.GatedRepoError as error:
        hint = f"accept its terms at https://huggingface.co/{name}, and set `HF_TOKEN` to a token that may read it"
        raise RecipeError(
            Problem(f"the model `{name}` is gated, and this token has no access to it", hint=hint)
        ) from error
    except errors.RevisionNotFoundError as error:
        raise RecipeError(Problem(f"the model `{name}` has no revision `{revision}`")) from error
    except errors.RepositoryNotFoundError as error:
        hint = "check its spelling; for a private model set `HF_TOKEN`; a local model is named by its path"
        raise RecipeError(Problem(f"the Hub has no model `{name}` that this token may read", hint=hint)) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError, ValueError) as error:
        hint = "try again, or without a network name a directory that holds the model in `model.name`"
        raise RunError(Problem(f"the model `{name}` could not be fetched from the Hub", hint=hint)) from error
