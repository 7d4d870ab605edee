"""Data files in, checked samples with their places out."""
