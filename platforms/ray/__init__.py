"""Workflows on a Ray cluster: one detached actor, the host, is the only writer; everybody else speaks HTTP with it."""
