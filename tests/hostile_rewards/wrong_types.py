"""Gives what is no score."""

import math


def wrong_types(prompt, completion, example):
    return {
        "text": "1.0",
        "none": None,
        "nan": math.nan,
        "infinite": math.inf,
        "list": [1.0],
        "huge": 10**400,
        "complex": 1j,
        "true": True,
        "whole": 3,
    }.get(completion, 1.0)
