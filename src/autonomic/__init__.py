"""A multi-agent autonomic supervisor for machine-learning workflows."""


__version__ = "0.1.0"
