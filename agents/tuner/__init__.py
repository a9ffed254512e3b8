"""Searches the parameters of workflows."""
