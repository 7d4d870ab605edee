"""A recipe file in, a `Recipe` or every fault of it out."""
