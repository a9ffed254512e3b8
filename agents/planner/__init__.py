"""Events to decisions to plans to verified effects."""
