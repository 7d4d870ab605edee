"""Many processes that run the suite together (pytest-xdist): a core for each, the long files first.

A process that has a core to itself, and knows it, gives each run that it starts one thread. Without that, the threads
of two runs at a time wait for one another on the same cores, and both take many times as long.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

MEMORY = 6 * 2**30  # bytes that a process of the suite may need, with the runs that it starts


def pytest_xdist_auto_num_workers() -> int:
    """How many processes `--numprocesses auto` is: one a core, as far as the memory goes; one where runs take GPUs."""
    if Path("/dev/nvidiactl").exists():
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(min(len(os.sched_getaffinity(0)), memory // MEMORY), 1)


def pytest_configure(config: pytest.Config) -> None:
    """Keep this process, and all that it starts, on its own share of the cores."""
    if (worker := getattr(config, "workerinput", None)) is None:
        return
    cores, number = sorted(os.sched_getaffinity(0)), int(worker["workerid"].removeprefix("gw"))
    if own := cores[number % worker["workercount"] :: worker["workercount"]]:
        os.sched_setaffinity(0, own)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that the processes end together. Files stay whole."""
    if hasattr(config, "workerinput"):
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: -slow[item.path])
