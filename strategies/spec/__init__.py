"""What a user writes about a strategy."""
