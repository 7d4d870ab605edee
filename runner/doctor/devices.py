"""Devices, their driver, and whether torch's build goes with both.

In: what the driver lists and what torch's own process told. Out: findings, each with what to install or pass.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from runner import image, nvidia
from runner.doctor.facts import Facts
from runner.doctor.finding import Finding, Surroundings, size, wrong
from runner.doctor.needs import Needs
from runner.machine import Machine

GROUP = "devices"
LONGEST_REASON = 300  # characters of a library's own words
# How libraries put it that the driver knows no CUDA as new as the one that they were built for.
OLD_DRIVER = re.compile(r"driver version is insufficient|driver on your system is too old|\bError 803\b|\bError 35\b")
NO_DEVICES = "`nvidia-smi` has to list them: install NVIDIA's driver; a container gets them by `--gpus all`, for which "
NO_DEVICES += "the host needs the NVIDIA container toolkit"
IMPORTED = {"flash_attn": "flash-attn", "bitsandbytes": "bitsandbytes"}  # modules that torch's process tries


def found_by_driver(surroundings: Surroundings, needs: Needs, machine: Machine) -> list[Finding]:
    """What the driver lists: the devices that this process may use, and the driver itself."""
    works, answer = nvidia.answered()
    device_files = sorted((surroundings.root / "dev").glob("nvidia[0-9]*"))
    if machine.devices:
        return [Finding(GROUP, "devices", "ok", kinds(machine)), driver(answer if works else "")]
    visible = surroundings.environment.get("CUDA_VISIBLE_DEVICES")
    if works and visible is not None:
        hint = "unset it, or name devices of `nvidia-smi -L`"
        text = f"none: `CUDA_VISIBLE_DEVICES` is `{visible}`"
        return [Finding(GROUP, "devices", wrong(needs.devices), text, hint), driver(answer)]
    if works:
        hint = "one in MIG mode needs parts (`nvidia-smi mig -cgi 0 -C`), or the mode off (`nvidia-smi -mig 0`)"
        text = "none of those that `nvidia-smi` lists can be used"
        return [Finding(GROUP, "devices", wrong(needs.devices), text, hint), driver(answer)]
    if device_files:
        hint = "let the container have it with `NVIDIA_DRIVER_CAPABILITIES=compute,utility`; after an update of the "
        hint += "driver, restart the host"
        text = f"{len(device_files)} that cannot be asked: {_short(answer)}"
        return [Finding(GROUP, "devices", wrong(needs.devices), text, hint)]
    if needs.devices:
        return [Finding(GROUP, "devices", "fault", "none, and this recipe needs CUDA devices", NO_DEVICES)]
    return [Finding(GROUP, "devices", "missing", "none: training runs on the CPU")]


def kinds(machine: Machine) -> str:
    """The devices for a person: how many of each kind."""
    counted = Counter((device.name, size(device.memory)) for device in machine.devices)
    return ", ".join(f"{count} × {name} ({memory})" for (name, memory), count in counted.items())


def driver(answer: str) -> Finding:
    """The driver's version and the newest CUDA that it knows, from the head of `nvidia-smi`."""
    version, cuda = (
        re.search(rf"{name}:\s*(\d[\d.]*)", answer) for name in ("Driver Version", r"CUDA(?: UMD)? Version")
    )
    if version is None:
        return Finding(GROUP, "driver", "warning", "`nvidia-smi` does not tell its version")
    return Finding(GROUP, "driver", "ok", version[1] + (f", for CUDA up to {cuda[1]}" if cuda else ""))


def found_by_torch(facts: Facts, driver_found: str, needs: Needs, machine: Machine) -> list[Finding]:
    """What torch's own process told. `driver_found` is the driver's line, for a message about both."""
    torch, cuda = facts.told.get("torch"), facts.told.get("cuda", {})
    if torch is None or "error" in torch:
        reason = torch["error"] if torch else facts.trouble or "it told nothing"
        hint = "`python -c 'import torch'` says more; `make setup`, or `pip install 'tunesmith[train]'`"
        hint = "`docker run --entrypoint python IMAGE -c 'import torch'` says more" if image.is_here() else hint
        return [Finding(GROUP, "torch", "fault", f"cannot be imported: {_short(reason)}", hint)]
    found = [_build(torch, cuda, driver_found, machine)]
    if machine.devices and torch["cuda"]:
        found += [_nccl(facts.told.get("nccl", {}), machine), *_kernels(cuda)]
    for module, package in IMPORTED.items():
        fact = facts.told.get(module)
        if fact is not None and "error" in fact:
            hint = f"`pip install --no-build-isolation --force-reinstall --no-deps {package}` builds it for this torch"
            text = f"installed, and cannot be imported: {_short(fact['error'])}"
            found.append(Finding(GROUP, package, wrong(package in needs.packages), text, hint))
        elif fact is not None:
            found.append(Finding(GROUP, package, "ok", f"{fact['version']} can be imported"))
    if facts.trouble is not None:
        text = f"{_short(facts.trouble)}; it had told of {', '.join(facts.told)}"
        found.append(Finding(GROUP, "torch's process", "warning", text, "`python -c 'import torch'` says more"))
    return found


def _build(torch: Mapping[str, Any], cuda: Mapping[str, Any], driver_found: str, machine: Machine) -> Finding:
    version, built_for = torch["version"], torch["cuda"]
    if built_for is None:
        if not machine.devices:
            return Finding(GROUP, "torch", "ok", f"{version}, built for CPUs")
        return built_for_cpus(version)
    text = f"{version}, built for CUDA {built_for}"
    if not machine.devices:
        return Finding(GROUP, "torch", "ok", text)
    reason = str(cuda.get("error", ""))
    if OLD_DRIVER.search(reason):
        hint = (
            f"update the host's driver to one for CUDA {built_for}, or install torch's build for an older CUDA, such "
        )
        hint += "as `pip install torch --index-url https://download.pytorch.org/whl/cu126`"
        told = f"CUDA driver version is insufficient: {text}, and the driver is {driver_found}"
        return Finding(GROUP, "torch", "fault", told, hint)
    if reason or len(cuda.get("devices", ())) != len(machine.devices):
        reason = _short(reason) or f"it sees {len(cuda.get('devices', ()))} of {len(machine.devices)} devices"
        hint = "`python -c 'import torch; torch.cuda.init()'` says more; look for another program that holds the device"
        return Finding(GROUP, "torch", "fault", f"{text}, and cannot use the devices: {reason}", hint)
    return Finding(GROUP, "torch", "ok", f"{text}, has used each device")


def built_for_cpus(version: str) -> Finding:
    """The fault of a build of torch for CPUs on a machine with CUDA devices."""
    hint = "`pip install --force-reinstall torch` in the version that is asked for takes a build with CUDA; "
    hint += "here `make setup ACCELERATOR=cuda`"
    hint = image.other() or hint
    return Finding(GROUP, "torch", "fault", f"{version}, built for CPUs, beside CUDA devices", hint)


def _kernels(cuda: Mapping[str, Any]) -> list[Finding]:
    """A fault for each kind of device that this build of torch holds no kernels for."""
    kernels = cuda.get("kernels") or []
    lacking = {
        device["name"]: device["capability"]
        for device in cuda.get("devices", ())
        if kernels and not _has_kernels(tuple(device["capability"]), kernels)
    }
    hint = "install a build of torch that has it: older devices are in the builds for an older CUDA"
    return [
        Finding(GROUP, "kernels", "fault", f"torch has none for {name} ({major}.{minor})", hint)
        for name, (major, minor) in lacking.items()
    ]


def _has_kernels(capability: tuple[int, ...], kernels: list[str]) -> bool:
    """A kernel runs on devices of its own generation that are not older; PTX, on all that are not older."""
    for kernel in kernels:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", kernel)
        if found is None:
            continue
        kind, made_for = found[1], (int(found[2]), int(found[3]))
        if made_for <= capability and (kind == "compute" or made_for[0] == capability[0]):
            return True
    return False


def _nccl(fact: Mapping[str, Any], machine: Machine) -> Finding:
    several = len(machine.devices) > 1
    if fact.get("version"):
        return Finding(GROUP, "NCCL", "ok", fact["version"])
    reason = f"cannot be loaded: {_short(fact['error'])}" if "error" in fact else "not in this build of torch"
    hint = "several devices need it: `pip install --force-reinstall torch` brings it along"
    return Finding(GROUP, "NCCL", "fault", reason, hint) if several else Finding(GROUP, "NCCL", "missing", reason)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST_REASON else f"{flat[:LONGEST_REASON]}…"
