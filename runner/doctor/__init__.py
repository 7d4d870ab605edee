"""Surroundings in, findings out: whether a run can live on this machine, in this container, as this user."""
