"""Takes another process's share instead of its life: limits, priority, cores."""

import os
import resource


def starves(prompt, completion, example):
    done = 0
    for process in example["processes"]:
        for act in (
            lambda pid: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1)),
            lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19),
            lambda pid: os.sched_setaffinity(pid, {0}),
            lambda pid: os.setpriority(os.PRIO_USER, 0, 19),
        ):
            try:
                act(process)
                done += 1
            except OSError:
                pass
    return float(done)
