"""Two steps of a workflow: ordinary functions, runnable and testable without autonomic."""

import random
from collections import Counter
from typing import TypedDict


class Text(TypedDict):
    """What `write` gives."""

    text: str


class Counts(TypedDict):
    """What `count` gives."""

    counts: dict[str, int]
    most_common: str


def write(words: int, seed: int = 0) -> Text:
    """Writes a text of so many words."""
    generator = random.Random(seed)
    print(f"writing {words} words")
    return {"text": " ".join(generator.choices(["hello", "autonomic", "world"], [5, 3, 1], k=words))}


def count(text: str, top: int) -> Counts:
    """Counts the words of a text and keeps the most common ones."""
    counts = Counter(text.split()).most_common(top)
    return {"counts": dict(counts), "most_common": counts[0][0]}
