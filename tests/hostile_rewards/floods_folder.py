"""Fills its own folder."""

import time


def floods_folder(prompt, completion, example):
    if completion == "bad":
        number = 0
        while True:
            number += 1
            open(f"{number}.txt", "w").close()
            if number % 1000 == 0:
                time.sleep(0.001)
    return 1.0
