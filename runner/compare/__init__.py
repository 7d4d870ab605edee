"""The files of several runs in, what differs between them out: settings, curves, scores, cost."""
