"""Measurements: an open-loop load generator, one harness, one report."""
