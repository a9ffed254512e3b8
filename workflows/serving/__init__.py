"""Models online: their format, the server that answers, the log of what it answered, and the front before all replicas."""
