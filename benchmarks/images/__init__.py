"""What `autonomic build` makes, on a real cluster."""
