"""Takes more memory than there is: at once, or in shared pieces that no limit of the kernel counts."""

import mmap
import os
import time


def memory(prompt, completion, example):
    if completion == "bad":
        return len(bytearray(10 * 1024**3))
    if completion == "shared":
        kept = []
        while True:
            piece = mmap.mmap(-1, 16 * 1024**2)
            piece.write(b"x" * len(piece))
            kept.append(piece)
            time.sleep(0.01)
    if completion == "unnamed":
        kept = []
        while True:
            descriptor = os.memfd_create("kept")
            os.write(descriptor, b"x" * 16 * 1024**2)
            kept.append(descriptor)
            time.sleep(0.01)
    return 1.0
