"""What tests of the light half plan with: a recipe with every default filled in, machines, and well-known shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from runner import machine, plan, recipe
from runner.architecture import Architecture, Matrix
from runner.choices import Rows
from runner.plan import Plan
from runner.reading import check

RECIPE = Path(__file__).parent.parent / "recipes" / "sft_instruction.yaml"
CPU = machine.named("cpu:8:32")


def recipe_of(*overrides: str) -> recipe.Recipe:
    """A sound recipe for an owner's model that is not on this machine, with these overrides such as `name=x`."""
    return check.read(str(RECIPE), ["model.name=owner/model", "dataset.evaluation=null", *overrides])


def machine_without(*modules: str) -> machine.Machine:
    """A machine without a GPU and without these packages."""
    return replace(CPU, missing=frozenset(modules))


def plan_of(
    *overrides: str,
    where: machine.Machine | str = CPU,
    shape: Architecture | None = None,
    rows: Rows | None = None,
) -> Plan:
    """The plan of such a recipe."""
    found = machine.named(where) if isinstance(where, str) else where
    return plan.make(recipe_of(*overrides), found, shape, rows)


def llama(layers: int, hidden: int, inner: int, keys: int, vocabulary: int, context: int = 8192) -> Architecture:
    """The shape of a Llama with untied embeddings, as its files would tell it."""
    sizes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (hidden, keys),
        "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }
    matrices = tuple(Matrix(name, inputs, outputs, layers) for name, (inputs, outputs) in sizes.items())
    inside = sum(matrix.inputs * matrix.outputs * matrix.count for matrix in matrices)
    parameters = inside + 2 * vocabulary * hidden + (2 * layers + 1) * hidden
    return Architecture("llama", layers, hidden, vocabulary, context, parameters, matrices, tied=False)


LLAMA_8B = llama(layers=32, hidden=4096, inner=14336, keys=1024, vocabulary=128256)
LLAMA_70B = llama(layers=80, hidden=8192, inner=28672, keys=1024, vocabulary=128256)
