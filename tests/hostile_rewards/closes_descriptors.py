"""Closes every descriptor, the connection to the pool among them."""

import os


def closes_descriptors(prompt, completion, example):
    if completion == "bad":
        os.closerange(0, 1 << 16)
    return 1.0
