"""Workflows: their YAML, their runs and services, and the platforms that carry them."""
