"""Primitives: one file for each atomic change, one gate before them all."""
