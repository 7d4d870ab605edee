"""Puts other functions in the place of those that an answer goes through."""

import builtins
import json
import json.encoder
import math
import os
import socket
import struct
import sys
import time


def replaces_library(prompt, completion, example):
    def wrong(*values, **named):
        return b"wrong"

    json.dumps = json.loads = json.JSONEncoder.encode = json.JSONDecoder.decode = wrong
    os.write = os.read = os.getpid = os._exit = wrong
    struct.pack = struct.unpack = math.isfinite = time.perf_counter = wrong
    socket.socket = socket.SocketType = wrong
    sys.stdout = sys.stderr = sys.stdin = None
    sys.exit = wrong
    builtins.print = builtins.open = wrong
    return 0.25
