"""A thread that goes on to print when its call is over."""

import threading
import time


def chatter():
    for _ in range(40):
        print("still here")
        time.sleep(0.01)


def late_thread(prompt, completion, example):
    if completion == "bad":
        threading.Thread(target=chatter, daemon=True).start()
    else:
        time.sleep(0.2)
    return 1.0
