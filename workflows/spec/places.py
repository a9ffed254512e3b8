"""Where something stands: inside a document, and in its file."""

Keys = tuple[str | int, ...]
"""The way to a value inside a document: keys and list indexes."""
Place = tuple[int, int]
"""(line, column), both from 1."""
