"""What the three agents cost."""
