"""Workflows and strategies that are Kubernetes objects: watched, put in force, and told about in their status."""
