"""Batch workflows: steps that run to an end in the order of their needs."""
