"""Handwritten digits: a classifier in production, its drift, its labels, its retraining and its judging."""
