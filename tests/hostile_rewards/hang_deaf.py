"""Never comes back, burns a core, and listens to no signal that can be ignored."""

import signal


def hang_deaf(prompt, completion, example):
    if completion == "bad":
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_IGN)
        while True:
            pass
    return 1.0
