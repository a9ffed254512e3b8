"""Workflows on a Kubernetes cluster: Deployments and Jobs, one writer whose memory is ConfigMaps, one front before the pods."""
