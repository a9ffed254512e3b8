"""On a real Kubernetes cluster of this machine: how fast a change reaches the API, what a thousand workflows cost, and other autoscalers."""
