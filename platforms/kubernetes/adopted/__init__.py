"""Workloads that somebody else made: sizes, scalers and whose each field is."""
