"""A run's files in, one HTML page out, which needs no network."""
