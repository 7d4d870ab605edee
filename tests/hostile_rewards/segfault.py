"""Reads where there is nothing."""

import ctypes


def segfault(prompt, completion, example):
    if completion == "bad":
        ctypes.string_at(0)
    return 1.0
