"""Leaves a hundred threads behind."""

import threading
import time


def threads(prompt, completion, example):
    if completion == "bad":
        for _ in range(100):
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        time.sleep(600)
    return 1.0
