"""On a real Kubernetes cluster: how fast a change reaches the API server, what a thousand workflows cost, other autoscalers."""
