"""Reward functions: read what they take, run them where they can hurt nothing, and tell what they gave and printed."""
