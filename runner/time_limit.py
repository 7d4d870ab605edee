"""When a run has to be over, and how long before that it has to stop so that its checkpoint is safe.

The margin is measured: the longest step so far, and the longest time between two steps, in which a run evaluates and
saves. Until a checkpoint was saved its time is guessed from its size.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner import slurm
from runner.errors import Place, Problem, RecipeError, RunError

OPTION = "--time-limit"
HINT = "write `90m`, `3h30m` or `1d12h`, or as SLURM does `3:30:00` or `1-12:00:00`"
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
RESERVE = 30.0  # seconds for processes to end, and for what nobody measured
SLACK = 1.5  # how much longer than the longest so far the next step and checkpoint may take
BYTES_A_PARAMETER = 14  # of a checkpoint: the weight, and in float32 its copy and the optimiser's two means
BYTES_A_SECOND = 100e6  # to a disk that is shared and slow, hashing included
TICK = 0.25  # seconds between two looks at the clock


@dataclass(frozen=True)
class Limit:
    """When a run has to be over, in seconds since the epoch, and what says so, such as `the time limit of ...`."""

    end: float
    name: str

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.end - time.time()


@dataclass
class Pace:
    """The longest times of a run so far, in seconds; 0 where nothing was measured. `state` is what `run.json` keeps."""

    boundary: int = 1  # steps between two at which a run can stop
    parameters: int = 0  # that are trained
    step: float = 0.0
    pause: float = 0.0
    saved: bool = False  # a checkpoint was among the pauses
    training: bool = field(default=False, compare=False)

    @property
    def state(self) -> dict[str, Any]:
        return {"step": self.step, "pause": self.pause, "saved": self.saved}

    @property
    def margin(self) -> float:
        """How many seconds before its end a run has to be told to stop."""
        if not self.training:
            return RESERVE
        guessed = 0.0 if self.saved else self.parameters * BYTES_A_PARAMETER / BYTES_A_SECOND
        return RESERVE + SLACK * (self.boundary * self.step + self.pause + guessed)

    def remember(self, state: object) -> None:
        """Begin with what an earlier session of the run measured."""
        if isinstance(state, dict):
            for name in ("step", "pause"):
                value = state.get(name)
                if isinstance(value, int | float):
                    setattr(self, name, max(float(value), getattr(self, name)))
            self.saved = self.saved or state.get("saved") is True

    def note(self, event: Mapping[str, Any]) -> None:
        """Take up what the first training process measured."""
        if event.get("event") == "pace":
            self.remember(event)


def parse(text: str) -> float:
    """Seconds of `90m`, `1h30m`, `2d`, or in SLURM's way `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`.

    Raises RecipeError. A bare number is refused: SLURM takes it for minutes, other programs for seconds.
    """
    asked = text.strip().lower()
    parts = re.fullmatch(r"(?=\d)(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", asked, re.ASCII)
    if parts:
        seconds = sum(int(count or 0) * UNITS[unit] for count, unit in zip(parts.groups(), "dhms", strict=True))
    elif re.fullmatch(r"[0-9]+", asked):
        raise _wrong(f"`{text}` has no unit", f"did you mean `{asked}m` or `{asked}h`")
    elif match := re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d\d))?(?::(\d\d))?", asked, re.ASCII):
        days, *clock = match.groups()
        if days is None and clock[2] is None:
            clock = [None, *clock[:2]]  # MM:SS
        hours, minutes, rest = (int(part or 0) for part in clock)
        if max(minutes if clock[0] else 0, rest) > 59:
            raise _wrong(f"`{text}` has more than 59 minutes or seconds", HINT)
        seconds = int(days or 0) * 86400 + hours * 3600 + minutes * 60 + rest
    else:
        raise _wrong(f"`{text}` is no length of time", HINT)
    if not seconds:
        raise _wrong(f"`{text}` leaves no time", HINT)
    return float(seconds)


def find(asked: str | None, environment: Mapping[str, str]) -> Limit | None:
    """The earlier of the limit that was asked for and the end of the SLURM job; None where there is neither.

    Raises RecipeError for a text that is no length of time.
    """
    limits = []
    if asked is not None:
        limits.append(Limit(time.time() + parse(asked), f"the time limit of `{asked.strip()}`"))
    end = slurm.end(environment)
    if end is not None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(end))
        limits.append(Limit(end, f"the SLURM job {environment.get('SLURM_JOB_ID')}, which ends at {at},"))
    return min(limits, key=lambda limit: limit.end, default=None)


def check(limit: Limit | None, pace: Pace) -> None:
    """Raise RunError where a run could do nothing but stop."""
    if limit is not None and limit.left <= pace.margin:
        raise RunError(
            Problem(
                f"{limit.name} leaves {max(limit.left, 0):.0f} seconds, "
                f"and a run stops {pace.margin:.0f} seconds before that is over",
                hint="give it more time; a job that is started again has its whole time limit",
            )
        )


def watch(limit: Limit, pace: Pace, stop: Callable[[str], None], over: threading.Event) -> None:
    """Call `stop`, with why, when no more than the margin is left. Comes back then, or once `over` is set."""
    # by a clock that nobody sets: what is left is read from the other one once
    deadline = time.monotonic() + limit.left
    while not over.wait(TICK):
        if time.monotonic() >= deadline - pace.margin:
            stop(f"stopped {max(deadline - time.monotonic(), 0):.0f} seconds before {limit.name} is over")
            return


def _wrong(message: str, hint: str) -> RecipeError:
    return RecipeError(Problem(message, Place(OPTION), hint))
