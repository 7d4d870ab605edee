"""A filter of system calls: a process gives up the calls that reach into other processes or leave memory behind.

Landlock watches signals and tracing, but not that one process of a user may lower another's limits, priority or share
of the cores, which would stop a trainer as well as a signal does. https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

SET_SECCOMP, FILTER_MODE = 22, 2

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# name: (x86_64, aarch64). Refused outright: they look into other processes, or keep memory that nobody answers for.
REFUSED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
}
# name: (x86_64, aarch64, {argument: the one value it may have}). A process may be named only as 0, which is itself.
ITSELF_ONLY: dict[str, tuple[int, int, dict[int, int]]] = {
    "prlimit64": (302, 261, {0: 0}),
    "sched_setaffinity": (203, 122, {0: 0}),
    "sched_setscheduler": (144, 119, {0: 0}),
    "sched_setparam": (142, 118, {0: 0}),
    "sched_setattr": (314, 274, {0: 0}),
    "setpriority": (141, 140, {0: 0, 1: 0}),
    "ioprio_set": (251, 30, {0: 1, 1: 0}),
    "migrate_pages": (256, 238, {0: 0}),
    "move_pages": (279, 239, {0: 0}),
}
# Landlock does not watch the modes of files, and a folder that the run can no longer read would end it. These do
# nothing and say that it went well, since copying a file ends with one of them. -1: the architecture has none.
IGNORED = {"chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)}
# Where Landlock does not keep signals inside. Ids grow, so what is older than this process has a smaller one.
SIGNALS = {"tkill": (200, 130), "pidfd_send_signal": (424, 424)}
SIGNALS_TO_YOUNGER = {
    "kill": (62, 129),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
OWNERS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "fcntl": (72, 25, (8, 10, 15)),
    "ioctl": (16, 29, (0x8901, 0x8902)),
}  # they have the kernel send signals

LOAD, EQUAL, AT_LEAST, JUMP, RETURN = 0x20, 0x15, 0x35, 0x05, 0x06
ALLOW, REFUSE, IGNORE = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
X32 = 0x40000000  # the first number of another table of calls on x86_64
NEGATIVE = 0x80000000

Instruction = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def reason_against() -> str | None:
    """Why this machine cannot filter calls; None where it can."""
    if platform.machine() not in ARCHITECTURES:
        return f"the numbers of calls are not known for `{platform.machine()}`"
    if not os.path.exists("/proc/sys/kernel/seccomp/actions_avail"):
        return "the kernel has no seccomp filters"
    return None


def restrict(with_signals: bool) -> bool:
    """From here on the calls above fail with EPERM; with signals to older processes too, if asked for.

    Needs `no_new_privs`. Returns whether the filter holds.
    """
    if reason_against() is not None:
        return False
    code = b"".join(struct.pack("=HBBI", *each) for each in program(platform.machine(), os.getpid(), with_signals))
    filter_program = _Program(len(code) // 8, code)
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(SET_SECCOMP, FILTER_MODE, ctypes.byref(filter_program), 0, 0) == 0)


def program(machine: str, process: int, with_signals: bool) -> list[Instruction]:
    """The filter for one architecture. Each block leaves the call's number loaded for the next."""
    column = list(ARCHITECTURES).index(machine)
    code: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, REFUSE),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, X32),
        (RETURN, 0, 0, REFUSE),
    ]
    for refused in [*REFUSED.values(), *(SIGNALS.values() if with_signals else ())]:
        code += _when(refused[column], [(RETURN, 0, 0, REFUSE)])
    for ignored in IGNORED.values():
        if ignored[column] >= 0:
            code += _when(ignored[column], [(RETURN, 0, 0, IGNORE)])
    for one in ITSELF_ONLY.values():
        body: list[Instruction] = []
        for argument, value in one[2].items():
            body += [(LOAD, 0, 0, FIRST_ARGUMENT + 8 * argument), (EQUAL, 1, 0, value), (RETURN, 0, 0, REFUSE)]
        code += _when(one[:2][column], [*body, (RETURN, 0, 0, ALLOW)])
    if with_signals:
        for younger in SIGNALS_TO_YOUNGER.values():
            body = [
                (LOAD, 0, 0, FIRST_ARGUMENT),
                (EQUAL, 2, 0, 0),
                (AT_LEAST, 2, 0, NEGATIVE),
                (AT_LEAST, 0, 1, process),
                (RETURN, 0, 0, ALLOW),
                (RETURN, 0, 0, REFUSE),
            ]
            code += _when(younger[column], body)
        for owner in OWNERS.values():
            body = [(LOAD, 0, 0, FIRST_ARGUMENT + 8)]
            for command in owner[2]:
                body += [(EQUAL, 0, 1, command), (RETURN, 0, 0, REFUSE)]
            code += _when(owner[:2][column], [*body, (RETURN, 0, 0, ALLOW)])
    return [*code, (RETURN, 0, 0, ALLOW)]


def _when(number: int, body: list[Instruction]) -> list[Instruction]:
    """The body for one call, which it ends; any other call passes by it."""
    return [(EQUAL, 0, len(body), number), *body]
