"""Never comes back."""

import time


def hang(prompt, completion, example):
    if completion == "bad":
        while True:
            time.sleep(60)
    return 1.0
