"""Rows with tools and calls, as others write them, in; one canonical conversation each out, with every call checked."""
