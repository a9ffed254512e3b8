"""Steps, runs and searches on the cluster: Jobs, and what drives them."""
