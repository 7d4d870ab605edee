"""Samples in, token ids and what is learned of them out."""
