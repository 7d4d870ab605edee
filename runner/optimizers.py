"""What an optimizer needs of DeepSpeed and of a checkpoint, by its name in transformers."""

from __future__ import annotations

# Modules that are installed by another name than they are imported by.
PACKAGES = {
    "optimi": "torch-optimi",
    "lomo_optim": "lomo-optim",
    "galore_torch": "galore-torch",
    "apollo_torch": "apollo-torch",
}
OWN_BACKWARD = ("lomo", "adalomo")
ON_CUDA = ("galore_adamw_8bit",)  # its package waits for CUDA after each step
OWN_PARAMETERS = ("adagrad", "apollo_")
WHOLE_PARAMETERS = ("galore_", "apollo_", "adagrad")  # optimizers that go by a parameter's own tensor


def unusable(name: str) -> tuple[str, str] | None:
    """Why no run can use an optimizer, to go on from its name, and what to do; None for one that works."""
    if name in OWN_BACKWARD or name.endswith("_layerwise"):
        reason = "steps in the middle of the backward pass, which is DeepSpeed's here"
        return reason, "use `sgd` or `adafactor`, which hold as little in memory"
    if name.startswith("schedule_free_"):
        return (
            "learns with other weights than it evaluates with, and DeepSpeed does not tell it when",
            "use `adamw_torch`",
        )
    if name == "grokadamw":
        return "keeps its state where no checkpoint finds it, so that no run could go on", "use `adamw_torch`"
    return None
