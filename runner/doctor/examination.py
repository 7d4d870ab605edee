"""All findings in order, and the few that are cheap enough for the start of every run."""

from __future__ import annotations

from runner.doctor import account, devices, enclosure, facts, network, packages, room
from runner.doctor.facts import Facts
from runner.doctor.finding import Finding, Surroundings
from runner.doctor.needs import Needs
from runner.machine import Machine, importable

NAMED_AT_START = ("torch", "transformers", "trl", "peft", "deepspeed")


def ask_torch() -> Facts:
    """What torch's own process tells of it and of the modules here that are compiled for it. Takes seconds."""
    return facts.ask([module for module in devices.IMPORTED if importable(module)])


def findings(
    surroundings: Surroundings, machine: Machine, needs: Needs, facts: Facts, reach_hub: bool
) -> tuple[Finding, ...]:
    """Everything there is to say, in the order in which it is shown; `reach_hub` lets the Hub's address be tried."""
    drivers = devices.found_by_driver(surroundings, needs, machine)
    driver = next((finding.found for finding in drivers if finding.name == "driver"), "not known")
    job = enclosure.job(surroundings.environment)
    return (
        packages.python(),
        *packages.needed((*packages.asked(None), *packages.asked("train"))),
        *packages.optional([each for extra in packages.OPTIONAL for each in packages.asked(extra)], needs, machine),
        *packages.compilers(surroundings.environment),
        *drivers,
        *devices.found_by_torch(facts, driver, needs, machine),
        room.cores(machine),
        room.memory(machine),
        room.shared_memory(surroundings, needs),
        room.output(needs),
        *room.caches(surroundings, needs, machine),
        account.user(surroundings),
        account.home(surroundings),
        account.root(surroundings),
        account.open_files(),
        account.locked_memory(surroundings, needs),
        enclosure.container(surroundings),
        *([job] if job else []),
        *network.findings(surroundings.environment, needs, reach_hub),
        *enclosure.rewards(needs),
    )


def at_start(surroundings: Surroundings, machine: Machine, needs: Needs) -> tuple[list[str], list[Finding]]:
    """Three lines about the machine, its room and the packages, and the findings that the run will suffer from.

    No process is started and no network is used; it takes some milliseconds.
    """
    container, job = enclosure.container(surroundings), enclosure.job(surroundings.environment, asks=False)
    shared, output = room.shared_memory(surroundings, needs), room.output(needs)
    required = packages.needed(packages.asked("train"))
    place = [
        devices.kinds(machine) or "no CUDA device",
        f"{machine.cores} {'core' if machine.cores == 1 else 'cores'}",
        *([f"in a container ({container.found})"] if container.status == "ok" else []),
        *([f"SLURM {job.found}"] if job else []),
    ]
    versions = [f"{each.name} {each.found.partition(',')[0]}" for each in required if each.name in NAMED_AT_START]
    lines = [
        f"machine: {', '.join(place)}",
        f"memory: {room.memory(machine).found}; shared: {shared.found}; disk: {output.found}",
        f"packages: {', '.join(sorted(versions, key=_as_named))}",
    ]
    looked_at = [*required, shared, output, room.writable(room.temporary(surroundings)), account.open_files()]
    torch = next((each.found for each in required if each.name == "torch"), "")
    if machine.devices and torch.endswith("+cpu"):  # a build tells itself by its version
        looked_at.append(devices.built_for_cpus(torch))
    return lines, [finding for finding in looked_at if finding.status in ("warning", "fault")]


def _as_named(version: str) -> int:
    return NAMED_AT_START.index(version.split()[0])
