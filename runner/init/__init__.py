"""Data files in, a recipe for them out: `tunesmith init`. Nothing here imports torch."""
