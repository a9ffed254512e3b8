"""Ours against Ray Serve's autoscaler on the same service, the same traces, in one run."""
