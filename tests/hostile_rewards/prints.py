"""Prints a gigabyte."""


def prints(prompt, completion, example):
    if completion == "bad":
        for _ in range(1024):
            print("x" * 1024**2)
    print("scored", completion)
    return 1.0
