"""Comes back from one call in two processes, so that both go on to answer."""

import os


def returns_twice(prompt, completion, example):
    if completion == "bad" and os.fork() == 0:
        return -1.0
    return 1.0
