"""The documents as Kubernetes custom resources: their definitions, made from the models."""
