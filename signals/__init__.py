"""Signals: one file for each source of readings and events."""
