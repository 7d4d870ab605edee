"""Tunesmith: one YAML recipe in, one trained adapter out."""

__version__ = "0.1.0"
