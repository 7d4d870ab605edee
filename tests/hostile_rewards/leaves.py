"""Ends its process without a word."""

import os


def leaves(prompt, completion, example):
    if completion == "bad":
        os._exit(7)
    return 1.0
