"""What a user writes about a workflow."""
