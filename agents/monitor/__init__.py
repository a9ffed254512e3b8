"""The monitor: signals → readings → triggers → events."""
