"""Starts processes that leave their session and their parents, and those start others."""

import os
import time


def forks(prompt, completion, example):
    if completion == "bad":
        for _ in range(5):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.setsid()
                    time.sleep(600)
                os._exit(0)
        time.sleep(600)
    return 1.0
