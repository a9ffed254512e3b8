"""Services on the cluster: Deployments of their replicas, what stands before them, and their drift detectors."""
