"""Raises what it likes, an exception that cannot be shown among it."""


class Unshowable(Exception):
    def __str__(self):
        raise RuntimeError("no")


def raises(prompt, completion, example):
    if completion == "bad":
        return int("four")
    if completion == "exit":
        raise SystemExit(3)
    if completion == "interrupt":
        raise KeyboardInterrupt
    if completion == "unshowable":
        raise Unshowable
    if completion == "deep":
        return raises(prompt, completion, example)
    return 1.0
