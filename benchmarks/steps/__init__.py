"""What it costs to start a step."""
