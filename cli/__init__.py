"""The `autonomic` command."""
