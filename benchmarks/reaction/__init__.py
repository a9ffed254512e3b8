"""How long it takes from a metric that satisfies a condition to the call of the platform."""
