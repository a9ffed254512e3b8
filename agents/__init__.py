"""The services: monitor, planner and tuner, and what they share."""
